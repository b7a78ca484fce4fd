"""p(θ0) of an artifact: the distribution of initial weights that its metadata name, built again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, inits
from ddjax.types import InitDistribution, Network

KINDS = ("random", "fixed", "pretrained", "loaded")
"""The kinds of p(θ0): drawn anew, one draw, members of a pool, weights of a file."""

_REMEDY = "Write it again."
_NAMED = re.compile(r"(fixed\()?(?P<scheme>\w+?)(\(gain=(?P<gain>[-+.\de]+)\))?\)?")


class Recorded(NamedTuple):
    """p(θ0) as an artifact names it.

    Attributes:
        kind: one of `KINDS`; empty where the artifact does not say, or says it of a user's own distribution.
        name: the name of the distribution; empty where there is none.
        settings: the settings of the distribution; of an older artifact those that the name tells.
        is_whole: whether the settings say all that `rebuilt` needs.
    """

    kind: str
    name: str
    settings: Mapping[str, Any]
    is_whole: bool


def recorded(metadata: Mapping[str, Any], *, where: object) -> Recorded:
    """The p(θ0) that the metadata of an artifact name.

    Args:
        metadata: the metadata, which may be of any origin.
        where: the name of the file, for messages.

    Returns:
        p(θ0), as far as the metadata name it.

    Raises:
        ValueError: the settings are none that `InitDistribution.settings` has.
    """
    name, settings = metadata.get("init", ""), metadata.get("init_settings", {})
    checks.kind(f"{where}: metadata: init", name, str, remedy=_REMEDY)
    checks.kind(f"{where}: metadata: init_settings", settings, Mapping, remedy=_REMEDY)
    if not settings:
        return _by_name(name)
    kind = settings.get("kind")
    checks.choice(f"{where}: metadata: init_settings: kind", kind, KINDS, remedy=_REMEDY)
    if kind in ("random", "fixed"):
        _check_drawn(where, settings)
    is_whole = kind == "random" or (kind == "fixed" and "key" in settings)
    return Recorded(str(kind), name, settings, is_whole)


def _check_drawn(where: object, settings: Mapping[str, Any]) -> None:
    what = f"{where}: metadata: init_settings"
    checks.choice(f"{what}: scheme", settings.get("scheme"), inits.SCHEMES, remedy=_REMEDY)
    checks.positive(f"{what}: gain", settings.get("gain"), remedy=_REMEDY)
    if settings["scheme"] == "network":
        checks.equal(f"{what}: gain", settings["gain"], 1, remedy=_REMEDY)
    if "key" in settings:
        try:
            _key(settings)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{what}: key: expected the numbers of a key; got {error}. {_REMEDY}") from error


def _by_name(name: str) -> Recorded:
    """p(θ0) of an artifact without settings of it, by the name that `ddjax.inits` gave the distribution."""
    if name.startswith(("pretrained(", "loaded(")):
        return Recorded(name.partition("(")[0], name, {}, is_whole=False)
    found = _NAMED.fullmatch(name)
    try:
        gain = float(found["gain"] or 1) if found else 0.0
    except ValueError:
        gain = 0.0
    if not found or found["scheme"] not in inits.SCHEMES or not 0 < gain < float("inf"):
        return Recorded("", name, {}, is_whole=False)
    kind = "fixed" if name.startswith("fixed(") else "random"
    return Recorded(kind, name, {"scheme": found["scheme"], "gain": gain}, is_whole=kind == "random")


def _key(settings: Mapping[str, Any]) -> jax.Array:
    numbers = np.array(settings["key"])
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer) or numbers.size > 16:
        raise ValueError(f"{numbers.dtype}{list(numbers.shape)}")
    if numbers.min() < 0 or numbers.max() >= 2**32:
        raise ValueError("numbers that are not of 32 bits")
    algorithm = settings.get("algorithm", "threefry2x32")
    return jax.random.wrap_key_data(jnp.asarray(numbers.astype(np.uint32)), impl=algorithm)


def rebuilt(own: Recorded, network: Network) -> InitDistribution:
    """The distribution that an artifact names.

    Args:
        own: p(θ0) of the artifact, of the kind `"random"` or, with a key, `"fixed"`.
        network: the network that the weights belong to.

    Returns:
        The same distribution as in the distillation, where the network is the same.

    Raises:
        ValueError: the artifact does not say enough, or the network has no such weights.
    """
    if not own.is_whole:
        raise ValueError(
            f"init: expected a p(θ0) that an artifact names whole; got {own.name or 'none'!r}. Give the "
            "initial weights."
        )
    scheme, gain = own.settings["scheme"], own.settings["gain"]
    if own.kind == "fixed":
        return inits.fixed(network, _key(own.settings), scheme=scheme, gain=gain)
    return inits.random(network, scheme=scheme, gain=gain)


def fresh(own: Recorded, network: Network) -> InitDistribution:
    """Fresh draws by the scheme and gain that an artifact names, also where its θ0 was a single draw.

    Args:
        own: p(θ0) of the artifact, of the kind `"random"` or `"fixed"`.
        network: the network that the weights belong to.

    Returns:
        The distribution.

    Raises:
        ValueError: the artifact names no scheme.
    """
    checks.choice("init: kind", own.kind, ("random", "fixed"), remedy="Give the initial weights.")
    return inits.random(network, scheme=own.settings["scheme"], gain=own.settings["gain"])
