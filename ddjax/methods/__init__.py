"""The methods, which define the loss that φ minimises; one file for each family."""

from ddjax.methods.distribution_matching import MatchingInfo, distribution_matching
from ddjax.methods.feature_regression import FeatureInfo, feature_regression
from ddjax.methods.gradient_matching import (
    DISTANCES,
    GradientMatchingInfo,
    Loops,
    RealTraining,
    gradient_matching,
    schedule_for,
)
from ddjax.methods.idc import IDCSettings, idc, idc_settings
from ddjax.methods.implicit_regression import ImplicitInfo, ImplicitState, implicit_regression
from ddjax.methods.kernel_inducing_points import InducingInfo, centred, kernel_inducing_points
from ddjax.methods.label_distillation import LabelInfo, label_distillation, ridge_label_distillation
from ddjax.methods.online_pool import PoolState
from ddjax.methods.unrolled import Objective, UnrolledInfo, cross_entropy, relabelled, unrolled

__all__ = [
    "DISTANCES",
    "FeatureInfo",
    "GradientMatchingInfo",
    "IDCSettings",
    "ImplicitInfo",
    "ImplicitState",
    "InducingInfo",
    "LabelInfo",
    "Loops",
    "MatchingInfo",
    "Objective",
    "PoolState",
    "RealTraining",
    "UnrolledInfo",
    "centred",
    "cross_entropy",
    "distribution_matching",
    "feature_regression",
    "gradient_matching",
    "idc",
    "idc_settings",
    "implicit_regression",
    "kernel_inducing_points",
    "label_distillation",
    "relabelled",
    "ridge_label_distillation",
    "schedule_for",
    "unrolled",
]
