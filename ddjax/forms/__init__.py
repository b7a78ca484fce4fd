"""The forms of a distilled data set, each with the schedule of gradient steps that the form unfolds into.

| form | inputs | labels | learning rates |
|---|---|---|---|
| `pixels` | learned | hard, softmax or free | learned or none |
| `labels` | fixed | learned, on the simplex or softmax | learned or none |
| `constant` | learned | fixed | fixed or none |
| `subspace` | in the principal subspaces of their classes | as `pixels` | as `pixels` |
| `decoded` | made from those of another form | those of that form | those of that form |
| `composed` | decoded from what is stored of them | hard, softmax or free | learned or none |
| `augmented` | those of another form, under learned transforms | of that form | of that form |

`composed` takes images that are stored as less than their pixels: `multi_formation` (parts of an image, each
enlarged), `bases` (combinations of a few images that all share), `latents` (codes times decoders that all
classes share), `textures` (cuts of canvases without edges); `stored` are plain pixels. `storage` counts what
a form stores, `by_name` builds a form again from what `named` says of it.
"""

from ddjax.forms.augmented import AugmentedParams, augmented
from ddjax.forms.bases import BasesCode, bases, bases_for_budget
from ddjax.forms.composed import ComposedParams, composed
from ddjax.forms.decoded import DecodedParams, decoded
from ddjax.forms.drawn import drawn, one_by_one
from ddjax.forms.groups import FROZEN, REST, freeze, groups_of, has_frozen, optimizer_for
from ddjax.forms.labels import LabelParams, labels, onto_simplex
from ddjax.forms.latents import LatentsCode, latents
from ddjax.forms.mixtures import mixtures
from ddjax.forms.multi_formation import multi_formation, shrunk
from ddjax.forms.named import arrays_of, by_name, is_named, named, params_like
from ddjax.forms.pixels import PixelParams, by_step, pixels
from ddjax.forms.schedule import constant
from ddjax.forms.storage import Storage, storage
from ddjax.forms.stored import stored
from ddjax.forms.subspace import subspace
from ddjax.forms.targets import DECAYS, LabelForm, inverse_softplus
from ddjax.forms.textures import textures

__all__ = [
    "DECAYS",
    "FROZEN",
    "REST",
    "AugmentedParams",
    "BasesCode",
    "ComposedParams",
    "DecodedParams",
    "LabelForm",
    "LabelParams",
    "LatentsCode",
    "PixelParams",
    "Storage",
    "arrays_of",
    "augmented",
    "bases",
    "bases_for_budget",
    "by_name",
    "by_step",
    "composed",
    "constant",
    "decoded",
    "drawn",
    "freeze",
    "groups_of",
    "has_frozen",
    "inverse_softplus",
    "is_named",
    "labels",
    "latents",
    "mixtures",
    "multi_formation",
    "named",
    "one_by_one",
    "onto_simplex",
    "optimizer_for",
    "params_like",
    "pixels",
    "shrunk",
    "storage",
    "stored",
    "subspace",
    "textures",
]
