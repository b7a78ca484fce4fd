"""The forms of a distilled data set, each with the schedule of gradient steps that the form unfolds into.

| form | inputs | labels | learning rates |
|---|---|---|---|
| `pixels` | learned | hard, softmax or free | learned or none |
| `labels` | fixed | learned, on the simplex or softmax | learned or none |
| `constant` | learned | fixed | fixed or none |
| `subspace` | in the principal subspaces of their classes | as `pixels` | as `pixels` |
| `decoded` | made from those of another form | those of that form | those of that form |
"""

from ddjax.forms.decoded import DecodedParams, decoded
from ddjax.forms.groups import FROZEN, REST, freeze, groups_of, has_frozen, optimizer_for
from ddjax.forms.labels import LabelParams, labels, onto_simplex
from ddjax.forms.mixtures import mixtures
from ddjax.forms.pixels import PixelParams, by_step, inverse_softplus, pixels
from ddjax.forms.schedule import constant
from ddjax.forms.subspace import subspace

__all__ = [
    "FROZEN",
    "REST",
    "DecodedParams",
    "LabelParams",
    "PixelParams",
    "by_step",
    "constant",
    "decoded",
    "freeze",
    "groups_of",
    "has_frozen",
    "inverse_softplus",
    "labels",
    "mixtures",
    "onto_simplex",
    "optimizer_for",
    "pixels",
    "subspace",
]
