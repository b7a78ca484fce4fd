"""The methods: what φ is asked to minimise, one file per family."""

from ddjax.methods.distribution_matching import MatchingInfo, distribution_matching
from ddjax.methods.unrolled import UnrolledInfo, unrolled

__all__ = ["MatchingInfo", "UnrolledInfo", "distribution_matching", "unrolled"]
