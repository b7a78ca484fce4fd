"""Networks by name, and a default network for each shape of images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ddjax import checks
from ddjax.networks.alexcifar import alexcifar
from ddjax.networks.alexnet import alexnet
from ddjax.networks.alexnet32 import alexnet32
from ddjax.networks.convnet import convnet
from ddjax.networks.kernels import infinite_convnet, infinite_mlp, myrtle
from ddjax.networks.lenet import lenet
from ddjax.networks.mlp import mlp
from ddjax.networks.resnet import resnet18
from ddjax.networks.settings import plain, text_of
from ddjax.networks.vgg import vgg11
from ddjax.types import FROM_ELSEWHERE, Network

_BUILDERS: dict[str, Callable[..., Network]] = {
    "alexcifar": alexcifar,
    "alexnet": alexnet,
    "alexnet32": alexnet32,
    "convnet": convnet,
    "infinite_convnet": infinite_convnet,
    "infinite_mlp": infinite_mlp,
    "lenet": lenet,
    "mlp": mlp,
    "myrtle": myrtle,
    "resnet18": resnet18,
    "vgg11": vgg11,
}
NAMES = tuple(_BUILDERS)


@checks.entry
def by_name(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    conv_form: str = "auto",
    **settings: Any,
) -> Network:
    """The network with a given name.

    Args:
        name: the name of the network, `"alexcifar"`, `"alexnet"`, `"alexnet32"`, `"convnet"`, `"lenet"`,
            `"mlp"`, `"resnet18"` or `"vgg11"`; or that of a kernel, an infinitely wide network,
            `"infinite_convnet"`, `"infinite_mlp"` or `"myrtle"`.
        image_shape: height, width and channels of the images, `(H, W, C)`.
        num_classes: the number of classes, K.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`; `"mlp"` ignores
            this.
        **settings: the settings of the network, e.g. `depth=2` for `"convnet"`.

    Returns:
        The network.

    Raises:
        ValueError: an unknown name (the message suggests the nearest one), an unknown setting, or images that
            do not fit the network.
    """
    checks.choice("network", name, _BUILDERS)
    accepted = set(inspect.signature(_BUILDERS[name]).parameters) - {"image_shape", "num_classes"}
    for setting in settings:
        checks.choice(f"settings of {name}", setting, accepted)
    if "conv_form" in accepted:
        settings["conv_form"] = conv_form
    return _BUILDERS[name](image_shape, num_classes, **settings)


def as_text(name: str, settings: Mapping[str, Any]) -> str:
    """The text of a network, the inverse of `by_text`: its name, and the settings that are not defaults.

    Args:
        name: the name of the network, one of `NAMES`.
        settings: the settings of the network.

    Returns:
        The text, e.g. `"convnet:depth=2:width=32"`.
    """
    parameters = inspect.signature(_BUILDERS[name]).parameters.values()
    own = [one for one in parameters if one.default is not one.empty and one.name not in FROM_ELSEWHERE]
    defaults = {one.name: plain(one.default) for one in own}
    given = {key: value for key, value in settings.items() if plain(value) != defaults.get(key)}
    return ":".join([name, *(f"{key}={text_of(value)}" for key, value in given.items())])


def by_text(text: str, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """The network of a text, as command lines have them.

    Args:
        text: `"name"` or `"name:setting=value:setting=value"`, e.g. `"convnet:depth=2:width=64"`. A value is
            a number, several whole numbers with `x` between them, or a name.
        image_shape: `(H, W, C)`.
        num_classes: K.

    Returns:
        The network.

    Raises:
        ValueError: there is no such network or setting, or the network does not fit the images.
    """
    name, *given = text.split(":")
    settings = {}
    for one in given:
        setting, _, value = one.partition("=")
        if setting in FROM_ELSEWHERE or not value:
            raise ValueError(
                f"networks: {text}: expected settings as in convnet:depth=2:width=64; got {one!r}. Give the "
                "network's own, each with its value."
            )
        settings[setting] = _value(value)
    try:
        return by_name(name, image_shape, num_classes, **settings)
    except ValueError as error:
        raise ValueError(f"networks: {text}: {error}") from error


def _value(text: str) -> float | str | tuple[int, ...]:
    """`64`, `(64, 32)` of `"64x32"`, `(64,)` of `"64x"`, `()` of `"x"`, `0.5`, or the text itself."""
    if text == "x":
        return ()
    whole, point, rest = text.partition(".")
    if point and whole.isdecimal() and rest.isdecimal():
        return float(text)
    parts = text.removesuffix("x").split("x")
    if not all(part.isdecimal() for part in parts):
        return text
    numbers = tuple(int(part) for part in parts)
    return numbers if "x" in text else numbers[0]


@checks.entry
def default_for(image_shape: tuple[int, int, int]) -> tuple[str, dict[str, Any]]:
    """The name and settings of the network that fits images of this shape.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`.

    Returns:
        The name and the settings, as arguments of `by_name`. The first row that applies is chosen:

        | images | network |
        |---|---|
        | a side below 4 | mlp |
        | a side below 12 (digits) | convnet, depth 2, width 32 |
        | grey, sides multiples of 4, at most 32 (MNIST, Fashion-MNIST, USPS) | lenet |
        | colour, sides 24 to 40 (CIFAR-10, SVHN) | alexcifar |
        | any other | convnet, so deep that the last feature map has a side of 4 to 7 pixels |

    Raises:
        ValueError: `image_shape` is no shape `(H, W, C)`.
    """
    height, width, channels = checks.image_shape(image_shape)
    small, large = min(height, width), max(height, width)
    if small < 4:
        return "mlp", {}
    if small < 12:
        return "convnet", {"depth": 2, "width": 32}
    if channels == 1 and large <= 32 and height % 4 == width % 4 == 0:
        return "lenet", {}
    if channels == 3 and small >= 24 and large <= 40:
        return "alexcifar", {}
    return "convnet", {"depth": small.bit_length() - 3}


@checks.entry
def default_network(
    image_shape: tuple[int, int, int], num_classes: int, *, conv_form: str = "auto"
) -> Network:
    """The network that `default_for` chooses.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`.
        num_classes: the number of classes, K.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network.
    """
    name, settings = default_for(image_shape)
    return by_name(name, image_shape, num_classes, conv_form=conv_form, **settings)


def num_weights(network: Network) -> int:
    """The number of weights of a network, P.

    Args:
        network: the network; its weights are not drawn.

    Returns:
        The sum over all leaves.
    """
    weights = jax.eval_shape(network.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(weights))
