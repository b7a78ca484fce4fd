"""Forms by name: what a file must say of a form so that its few stored numbers unfold again."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.forms.bases import bases
from ddjax.forms.composed import composed
from ddjax.forms.latents import latents
from ddjax.forms.multi_formation import multi_formation
from ddjax.forms.stored import stored
from ddjax.forms.textures import textures
from ddjax.types import Form, Images, PyTree

IMAGES: Mapping[str, Callable[..., Images]] = {
    build.__name__: build for build in (bases, latents, multi_formation, stored, textures)
}
"""The images that a form can be composed of, by the name of the function that makes them."""

_FOR_THE_START = "initial_images"
"""The argument that only says where a distillation starts from."""

_MOST = 2**20
"""The largest number in the settings of a file, so that no loop or small array of a form grows large."""


def named(form: Form) -> dict[str, Any]:
    """The description of a form from which `by_name` builds the form again.

    Args:
        form: a form that `ddjax.forms.composed` made of the images of `IMAGES`.

    Returns:
        The `settings` of the composition, and the name and settings of the `images`, as JSON can hold them.

    Raises:
        ValueError: the form was made in another way.
    """
    settings = dict(form.made.arguments) if form.made is not None and form.made.by == "composed" else {}
    images = settings.pop("images", None)
    if images is None or images.made is None or images.made.by not in IMAGES:
        raise ValueError(
            f"form: expected one of ddjax.forms.composed, of {', '.join(IMAGES)}; got {form.name!r}, which "
            "has no smaller storage that a file could name. Save all of its images."
        )
    own = {name: value for name, value in images.made.arguments.items() if name != _FOR_THE_START}
    return {"images": {"name": images.made.by, "settings": own}, "settings": settings}


def is_named(form: Form) -> bool:
    """Whether a form can be built again from its description.

    Args:
        form: the form.

    Returns:
        Whether `named` describes the form.
    """
    try:
        named(form)
    except ValueError:
        return False
    return True


def by_name(described: Any, *, limit: int) -> Form:
    """The form of a description, which may be of any origin; nothing large is computed.

    Args:
        described: what `named` returned, after its way through JSON.
        limit: the most bytes that the images, the labels, and every array on the way from code to images may
            take.

    Returns:
        The form, with the start of no images.

    Raises:
        ValueError: no such description, settings that no form has, or a form beyond the limit.
    """
    outer = _fields(described, ("images", "settings"), "form")
    inner = _fields(outer["images"], ("name", "settings"), "form: images")
    checks.choice("form: images: name", inner["name"], IMAGES)
    build = IMAGES[inner["name"]]
    arguments = _settings(composed, outer["settings"], leave_out="images")
    settings = _settings(build, inner["settings"], leave_out=_FOR_THE_START)
    try:
        images = build(**settings)
        _check_size(images, arguments, limit)
        return composed(images, **arguments)
    except TypeError as error:  # a setting that is missing, or of another kind than any
        raise ValueError(
            f"form: settings: expected those of {inner['name']}; {error}. Save it again."
        ) from error


def params_like(form: Form, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Parameters of a form from arrays by name.

    Args:
        form: the form.
        arrays: the arrays by the names that `arrays_of` gives.

    Returns:
        The parameters.

    Raises:
        ValueError: an array is missing, unknown, or of another shape.
    """
    start = jax.eval_shape(form.init, jax.random.key(0))
    wanted = arrays_of(start)
    shapes = [{name: tuple(one.shape) for name, one in some.items()} for some in (arrays, wanted)]
    checks.equal("form: arrays", shapes[0], shapes[1], remedy="Save it again.")
    return jax.tree.unflatten(jax.tree.structure(start), [jnp.asarray(arrays[name]) for name in wanted])


def arrays_of(params: PyTree) -> dict[str, Any]:
    """The leaves of parameters by name.

    Args:
        params: the parameters of a form.

    Returns:
        The leaves in their order, by names such as `"code.bases"`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _fields(value: Any, names: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or set(value) != set(names):
        raise ValueError(
            f"{what}: expected the fields {', '.join(names)}; got {value!r:.200}. Save it again."
        )
    return value


def _settings(build: Callable[..., Any], given: Any, *, leave_out: str) -> dict[str, Any]:
    """Settings from a file that a function takes, all numbers in them of moderate size."""
    known = set(inspect.signature(build).parameters) - {leave_out}
    if not isinstance(given, Mapping) or not set(given) <= known:
        raise ValueError(
            f"form: settings: expected some of {', '.join(sorted(known))}; got {given!r:.200}. Save it again."
        )
    numbers = [one for one in jax.tree.leaves(dict(given)) if isinstance(one, (int, float))]
    if any(not abs(number) <= _MOST for number in numbers):
        raise ValueError(
            f"form: settings: expected numbers up to {_MOST}; got {given!r:.200}. Save it again."
        )
    return dict(given)


def _check_size(images: Images, arguments: Mapping[str, Any], limit: int) -> None:
    """Refuse what would take more bytes than the limit, before any of it is computed."""
    num_classes, per_class = images.shape[:2]
    steps, epochs = (arguments.get(name) or 1 for name in ("inner_steps", "inner_epochs"))
    labels, rates = num_classes**2 * per_class, steps * epochs
    sizes = {"images": 4 * math.prod(images.shape), "labels": 8 * labels, "rates": 8 * rates}
    for what, size in sizes.items():
        _check_bytes(what, size, limit)
    code = jax.eval_shape(images.init, jax.random.key(0))
    program = jax.make_jaxpr(images.decode)(code)
    _check_bytes("decoding", max(_bytes_of(program.jaxpr), default=0), limit)


def _check_bytes(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(
            f"form: expected {what} of at most {limit:,} bytes; got {size:,}. Raise `limit` where that is "
            "right."
        )


def _bytes_of(jaxpr: Any) -> list[int]:
    """The bytes of every array that a program makes on its way."""
    found = []
    for eqn in jaxpr.eqns:
        found += [math.prod(var.aval.shape) * var.aval.dtype.itemsize for var in eqn.outvars]
        for inner in jax.tree.leaves(
            eqn.params, is_leaf=lambda one: hasattr(one, "eqns") or hasattr(one, "jaxpr")
        ):
            nested = getattr(inner, "jaxpr", inner)
            if hasattr(nested, "eqns"):
                found += _bytes_of(nested)
    return found
