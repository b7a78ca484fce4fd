"""Coresets: a few images selected from, or averaged over, the real training set.

A selection looks at a row of numbers for each image: the pixels, the features of a trained network
(`embeddings`), the gradient of the image's loss (`last_layer_gradients`), or the number of times that the
image was forgotten (`forgetting`). `by_class` applies a selection to each class:

    points = coresets.embeddings(network, params, data.train)
    rows = coresets.by_class(coresets.herding, points, data.train, per_class=10)

`select` does all of that for a selection's name:

    learned = coresets.Learned(data.train, network, inits, theta_key, key, epochs=10, lr=0.05)
    images = coresets.select("herding", learned, per_class=10, seed=0).sets[0]

The same points give the same rows. CRAIG is `facility_location` on gradients, with `cluster_sizes` as the
weights of the images that a network is trained on (`weighted_schedule`).

Under noisy labels (`ddjax.data.corrupt`) selections that cover the data collect wrong labels, and central
ones refuse them: `central` is the selection that CRUST's code was released with. `ddjax.coresets.robust`
trains with a selection in every minibatch (`ddjax.coresets.scores`) or before every epoch;
`ddjax.coresets.once` selects once, after a short training.
"""

from ddjax.coresets.by_name import BY_FEATURES, SELECTIONS, Coreset, Learned, select
from ddjax.coresets.features import (
    embeddings,
    feature_gradients,
    last_layer_gradients,
    last_layer_kernel,
)
from ddjax.coresets.forgetting import Forgetting, forgetting
from ddjax.coresets.images import (
    INITIAL_IMAGES,
    check_enough,
    class_means,
    images_at,
    k_means,
    random_real,
    real_images,
)
from ddjax.coresets.selection import (
    by_class,
    by_class_share,
    central,
    cluster_sizes,
    facility_location,
    herding,
    k_center,
    most_forgotten,
    nearest,
    neighbours,
)
from ddjax.coresets.weighted import weighted_schedule

__all__ = [
    "BY_FEATURES",
    "INITIAL_IMAGES",
    "SELECTIONS",
    "Coreset",
    "Forgetting",
    "Learned",
    "by_class",
    "by_class_share",
    "central",
    "check_enough",
    "class_means",
    "cluster_sizes",
    "embeddings",
    "facility_location",
    "feature_gradients",
    "forgetting",
    "herding",
    "images_at",
    "k_center",
    "k_means",
    "last_layer_gradients",
    "last_layer_kernel",
    "most_forgotten",
    "nearest",
    "neighbours",
    "random_real",
    "real_images",
    "select",
    "weighted_schedule",
]
