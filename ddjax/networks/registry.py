"""Networks by name, and a default network for each shape of inputs."""

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
from ddjax.networks.textconv import textconv
from ddjax.networks.textrnn import bilstm
from ddjax.networks.transformer import transformer
from ddjax.networks.vgg import vgg11
from ddjax.types import FROM_ELSEWHERE, Network

_BUILDERS: dict[str, Callable[..., Network]] = {
    "alexcifar": alexcifar,
    "alexnet": alexnet,
    "alexnet32": alexnet32,
    "bilstm": bilstm,
    "convnet": convnet,
    "infinite_convnet": infinite_convnet,
    "infinite_mlp": infinite_mlp,
    "lenet": lenet,
    "mlp": mlp,
    "myrtle": myrtle,
    "resnet18": resnet18,
    "textconv": textconv,
    "transformer": transformer,
    "vgg11": vgg11,
}
NAMES = tuple(_BUILDERS)


@checks.entry
def by_name(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    conv_form: str = "auto",
    **settings: Any,
) -> Network:
    """The network with a given name.

    Args:
        name: the name of the network: for images `"alexcifar"`, `"alexnet"`, `"alexnet32"`, `"convnet"`,
            `"lenet"`, `"mlp"`, `"resnet18"` or `"vgg11"`; for texts `"bilstm"`, `"textconv"` or
            `"transformer"`; or that of a kernel, an infinitely wide network, `"infinite_convnet"`,
            `"infinite_mlp"` or `"myrtle"`.
        input_shape: height, width and channels of the images, `(H, W, C)`, or the number of words of a text
            and of numbers in a word's vector, `(L, F)`.
        num_classes: the number of classes, K.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`; networks
            without convolutions of images ignore this.
        **settings: the settings of the network, e.g. `depth=2` for `"convnet"`.

    Returns:
        The network.

    Raises:
        ValueError: an unknown name (the message suggests the nearest one), an unknown setting, or inputs that
            do not fit the network.
    """
    checks.choice("network", name, _BUILDERS)
    of_data = {"image_shape", "input_shape", "num_classes"}
    accepted = set(inspect.signature(_BUILDERS[name]).parameters) - of_data
    for setting in settings:
        checks.choice(f"settings of {name}", setting, accepted)
    if "conv_form" in accepted:
        settings["conv_form"] = conv_form
    return _BUILDERS[name](input_shape, num_classes, **settings)


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


def by_text(text: str, input_shape: tuple[int, ...], num_classes: int) -> Network:
    """The network of a text, as command lines have them.

    Args:
        text: `"name"` or `"name:setting=value:setting=value"`, e.g. `"convnet:depth=2:width=64"`. A value is
            a number, several whole numbers with `x` between them, or a name.
        input_shape: `(H, W, C)`, or `(L, F)` for texts.
        num_classes: K.

    Returns:
        The network.

    Raises:
        ValueError: there is no such network or setting, or the network does not fit the inputs.
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
        return by_name(name, input_shape, num_classes, **settings)
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
def default_for(input_shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """The name and settings of the network that fits inputs of this shape.

    Args:
        input_shape: height, width and channels of the images, `(H, W, C)`, or the number of words of a text
            and of numbers in a word's vector, `(L, F)`.

    Returns:
        The name and the settings, as arguments of `by_name`. The first row that applies is chosen:

        | inputs | network |
        |---|---|
        | texts | textconv; bilstm where texts have fewer than five words |
        | a side below 4 | mlp |
        | a side below 12 (digits) | convnet, depth 2, width 32 |
        | grey or colour, sides multiples of 4, at most 32 (MNIST, USPS, CIFAR-10, SVHN) | lenet |
        | any other | convnet, so deep that the last feature map has a side of 4 to 7 pixels |

    Raises:
        ValueError: `input_shape` is no shape `(H, W, C)` or `(L, F)`.
    """
    if len(checks.input_shape(input_shape)) == 2:
        return ("textconv" if input_shape[0] >= 5 else "bilstm"), {}
    height, width, channels = checks.image_shape(input_shape)
    small, large = min(height, width), max(height, width)
    if small < 4:
        return "mlp", {}
    if small < 12:
        return "convnet", {"depth": 2, "width": 32}
    if channels in (1, 3) and large <= 32 and height % 4 == width % 4 == 0:
        return "lenet", {}
    return "convnet", {"depth": small.bit_length() - 3}


@checks.entry
def default_network(input_shape: tuple[int, ...], num_classes: int, *, conv_form: str = "auto") -> Network:
    """The network that `default_for` chooses.

    Args:
        input_shape: the shape of an input, `(H, W, C)` or `(L, F)`.
        num_classes: the number of classes, K.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network.
    """
    name, settings = default_for(input_shape)
    return by_name(name, input_shape, num_classes, conv_form=conv_form, **settings)


def num_weights(network: Network) -> int:
    """The number of weights of a network, P.

    Args:
        network: the network; its weights are not drawn.

    Returns:
        The sum over all leaves.
    """
    weights = jax.eval_shape(network.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(weights))
