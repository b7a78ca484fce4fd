"""The forms of a distilled data set, each with the schedule of gradient steps that the form unfolds into.

| form | inputs | labels | learning rates |
|---|---|---|---|
| `pixels` | learned | hard, softmax or free | learned or none |
| `labels` | fixed | learned, on the simplex or softmax | learned or none |
| `constant` | learned | fixed | fixed or none |
| `decoded` | made from those of another form | those of that form | those of that form |
| `composed` | decoded from what is stored of them | hard, softmax or free | learned or none |
| `augmented` | those of another form, under learned transforms | of that form | of that form |

`composed` takes images that are stored as less than their pixels: `multi_formation` (parts of an image, each
enlarged), `bases` (combinations of a few images that all share), `textures` (cuts of canvases without edges).
"""

from ddjax.forms.augmented import AugmentedParams, augmented
from ddjax.forms.bases import BasesCode, bases, bases_for_budget
from ddjax.forms.composed import ComposedParams, composed
from ddjax.forms.decoded import DecodedParams, decoded
from ddjax.forms.drawn import drawn, one_by_one
from ddjax.forms.groups import FROZEN, REST, freeze, groups_of, has_frozen, optimizer_for
from ddjax.forms.labels import LabelParams, labels, onto_simplex
from ddjax.forms.mixtures import mixtures
from ddjax.forms.multi_formation import multi_formation, shrunk
from ddjax.forms.pixels import PixelParams, by_step, pixels
from ddjax.forms.schedule import constant
from ddjax.forms.targets import LabelForm, inverse_softplus
from ddjax.forms.textures import textures

__all__ = [
    "FROZEN",
    "REST",
    "AugmentedParams",
    "BasesCode",
    "ComposedParams",
    "DecodedParams",
    "LabelForm",
    "LabelParams",
    "PixelParams",
    "augmented",
    "bases",
    "bases_for_budget",
    "by_step",
    "composed",
    "constant",
    "decoded",
    "drawn",
    "freeze",
    "groups_of",
    "has_frozen",
    "inverse_softplus",
    "labels",
    "mixtures",
    "multi_formation",
    "one_by_one",
    "onto_simplex",
    "optimizer_for",
    "pixels",
    "shrunk",
    "textures",
]
