"""The methods: what φ is asked to minimise, one file per family."""

from ddjax.methods.distribution_matching import MatchingInfo, distribution_matching
from ddjax.methods.unrolled import Objective, UnrolledInfo, cross_entropy, relabelled, unrolled

__all__ = [
    "MatchingInfo",
    "Objective",
    "UnrolledInfo",
    "cross_entropy",
    "distribution_matching",
    "relabelled",
    "unrolled",
]
