"""Bad networks, and adapters of bad ones: what was expected, what was got, what to do."""

from __future__ import annotations

import pytest
from problems import CLASSES, SHAPE
from refusals import Cases, Refuses, small_net

from ddjax import networks

REFUSED: Cases = {
    "a network's name misspelt": (
        lambda g: networks.by_name("lennet", SHAPE, CLASSES),
        "got 'lennet'",
        "Did you mean 'lenet'",
    ),
    "a setting that the network has not": (
        lambda g: networks.by_name("mlp", SHAPE, CLASSES, depth=3),
        "got 'depth'",
        "expected one of",
    ),
    "images too small for LeNet": (lambda g: networks.lenet((8, 8, 1), 10), "got 8x8", "take convnet or mlp"),
    "an image shape of two numbers": (
        lambda g: networks.by_name("convnet", *[(8, 8), 3]),
        "got (8, 8)",
        "one channel",
    ),
    "a number as image shape": (lambda g: networks.lenet(28, 10), "got 28", "one channel"),  # type: ignore[arg-type]
    "an image of no pixels": (lambda g: networks.convnet((0, 8, 1), 3), "got (0, 8, 1)", "one channel"),
    "no classes": (lambda g: networks.convnet((32, 32, 3), 0), "num_classes: expected", "1 or more"),
    "half a class": (lambda g: networks.alexcifar((32, 32, 3), 9.5), "got 9.5", "whole number"),  # type: ignore[arg-type]
    "no blocks": (lambda g: networks.convnet(SHAPE, 3, depth=0), "depth: expected", "1 or more"),
    "blocks without end": (
        lambda g: networks.convnet(SHAPE, 3, depth=10**9, pooling="none"),
        "expected at most 100 blocks",
        "Give fewer",
    ),
    "more pools than pixels": (lambda g: networks.convnet(SHAPE, 3, depth=4), "at least 16x16", "depth=3"),
    "a norm misspelt": (lambda g: networks.convnet(SHAPE, 3, norm="instanse"), "'instanse'", "'instance'"),
    "groups that do not divide": (
        lambda g: networks.convnet(SHAPE, 3, depth=1, norm="group", width=6),
        "a multiple of 4",
        "got 6",
    ),
    "a width as widths": (lambda g: small_net(widths=5), "widths: expected whole numbers", "Give a tuple"),
    "a layer of nothing": (lambda g: small_net(widths=(4, 0)), "widths: expected", "1 or more"),
    "a form of convolution misspelt": (
        lambda g: networks.by_name("convnet", SHAPE, 3, conv_form="bandet"),
        "got 'bandet'",
        "Did you mean 'banded'",
    ),
    "a function as linen module": (lambda g: networks.from_linen(abs, SHAPE, 3), "a Module; got", "linen"),  # type: ignore[arg-type]
    "a number as nnx module": (lambda g: networks.from_nnx(5, SHAPE, 3), "a function; got int 5", "nnx.Rngs"),  # type: ignore[arg-type]
    "weights in place of init": (
        lambda g: networks.from_functions({}, g.network.apply, SHAPE, 3),  # type: ignore[arg-type]
        "init: expected a function; got dict {}",
        "pair of functions",
    ),
    "a network that gives other logits": (
        lambda g: networks.from_functions(g.network.init, g.network.apply, SHAPE, 7),
        "expected (2, 7); got (2, 3)",
        "one score for each class",
    ),
    "a network without a name": (
        lambda g: networks.from_functions(g.network.init, g.network.apply, SHAPE, 3, name=""),
        "name: expected a text",
        "artifacts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])
