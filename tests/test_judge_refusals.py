"""Bad evaluations, baselines and coresets: what was expected, what was got, what to do."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from problems import CLASSES
from refusals import PLAIN, Cases, Refuses, small_net, without_lrs

import ddjax
from ddjax import baselines, coresets, data
from ddjax.judge import Judge

REFUSED: Cases = {
    "a function as network": (lambda g: g.train(network=abs), "network: expected", "ddjax.networks"),
    "a key as p(θ0)": (lambda g: g.train(inits=g.key), "inits: expected", "ddjax.inits"),
    "a seed as key, training": (lambda g: g.train(key=3), "got int 3", "jax.random.key"),
    "a seed as key, evaluating": (lambda g: g.evaluate(key=3), "got int 3", "jax.random.key"),
    "a network for other images": (
        lambda g: g.train(network=small_net(image_shape=(9, 9, 1))),
        "expected (8, 8, 1); got (9, 9, 1)",
        "Build the network for the distilled images",
    ),
    "a network for other classes": (
        lambda g: g.evaluate(network=small_net(num_classes=5)),
        "expected 3; got 5",
        "distilled labels",
    ),
    "a data set to test on": (lambda g: g.evaluate(split=g.data), "a Split; got Dataset", "data.test"),
    "test images of another shape": (
        lambda g: g.evaluate(split=data.Split(np.zeros((3, 9, 9, 1), np.uint8), np.arange(3), PLAIN)),
        "expected (8, 8, 1); got (9, 9, 1)",
        "Test mlp on images",
    ),
    "test images of more classes": (
        lambda g: g.evaluate(split=data.Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4), PLAIN)),
        "at most the 3 classes of mlp; got 4",
        "distilled from",
    ),
    "no initial weights to evaluate": (lambda g: g.evaluate(num_inits=0), "num_inits", "1 or more"),
    "nothing at once": (lambda g: g.evaluate(runs_per_chunk=0), "runs_per_chunk: expected", "1 or more"),
    "a schedule that φ has not": (
        lambda g: g.train(distilled=without_lrs(g)),
        "φ has none",
        "Recipe('train')",
    ),
    "several keys to train": (lambda g: g.train(key=jax.random.split(g.key)), "shape (2,)", "jax.random.key"),
    "a name as recipe to score": (
        lambda g: Judge(g.network, g.inits, "train", g.data.test),  # type: ignore[arg-type]
        "a Recipe; got str 'train'",
        "ddjax.Recipe",
    ),
    "a baseline of arrays": (lambda g: g.baseline(data=np.zeros(3)), "a Dataset; got ndarray", "ddjax.data"),
    "a baseline of no network": (lambda g: g.baseline(network=abs), "network: expected", "ddjax.networks"),
    "a baseline for other images": (
        lambda g: g.baseline(network=small_net(image_shape=(9, 9, 1))),
        "expected (9, 9, 1); got (8, 8, 1)",
        "Test mlp on images",
    ),
    "a baseline of no steps": (lambda g: g.baseline(inner_steps=0), "inner_steps: expected", "1 or more"),
    "a baseline of a seed": (
        lambda g: baselines.measure(g.baseline(), key=0, seed=0),  # type: ignore[arg-type]
        "one key; got int 0",
        "jax.random.key",
    ),
    "a baseline that there is not": (
        lambda g: baselines.measure(g.baseline(), key=g.key, seed=0, names=["k-meens"]),
        "got 'k-meens'",
        "Did you mean 'k-means'",
    ),
    "a ceiling under a schedule": (
        lambda g: baselines.all_data(
            g.data, g.network, g.inits, key=g.key, num_inits=1, recipe=ddjax.Recipe("schedule")
        ),
        "expected train; got schedule",
        "ddjax.Recipe('train', ...)",
    ),
    "more images than a class has": (
        lambda g: coresets.random_real(g.data.train, per_class=10**6, num_classes=CLASSES, seed=0),
        "got 1000000",
        "Ask for fewer",
    ),
    "a coreset of arrays": (
        lambda g: coresets.class_means(np.zeros(3), num_classes=3),  # type: ignore[arg-type]
        "a Split; got ndarray",
        "data.train",
    ),
    "a coreset of fewer classes": (
        lambda g: coresets.class_means(g.data.train, num_classes=2),
        "num_classes: expected",
        "data.num_classes",
    ),
    "centroids of a negative seed": (
        lambda g: coresets.k_means(g.data.train, per_class=1, num_classes=CLASSES, seed=-1),
        "seed: expected",
        "0 or more",
    ),
    "no images of a class": (
        lambda g: coresets.random_real(g.data.train, per_class=0, num_classes=CLASSES, seed=0),
        "images per class: expected",
        "1 or more",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])
