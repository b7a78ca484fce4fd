"""The contract of `ddjax.types.Encoding`: the promises of every encoding, as checks for users' own encodings.

Every check takes an `EncodingCase` and raises a `ContractError` where the promise is not kept.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import encodings
from ddjax.testing.report import Checks, all_finite, distance, require, run
from ddjax.types import Encoding


@dataclasses.dataclass(frozen=True, eq=False)
class EncodingCase:
    """An encoding with raw examples to check.

    Attributes:
        encoding: the encoding to check.
        raw: `[n, *raw_shape]`, raw examples that the encoding is made for.
        scale: the factor that turns decoded examples into raw ones: 255 for pixels, 1 for tokens.
    """

    encoding: Encoding
    raw: np.ndarray
    scale: float = 255.0


def encodes_into_its_shape(case: EncodingCase) -> None:
    """`encode` gives finite floats of the shape that `input_shape` gives."""
    case.encoding.check(case.raw)
    inputs = case.encoding.encode(jnp.asarray(case.raw))
    wanted = (len(case.raw), *case.encoding.input_shape(case.raw.shape[1:]))
    remedy = "input_shape must be the shape of one encoded example."
    require(inputs.shape == wanted, f"inputs {wanted}", found=inputs.shape, remedy=remedy)
    is_float = jnp.issubdtype(inputs.dtype, jnp.floating)
    require(is_float, "floats", found=inputs.dtype, remedy="Divide pixels, look tokens up.")
    require(all_finite(inputs), "finite inputs", found="NaN or infinity", remedy="Look at the arrays.")


def decodes_what_it_encodes(case: EncodingCase) -> None:
    """`decode` is the inverse of `encode` on raw examples, to within half a unit."""
    back = case.scale * np.asarray(case.encoding.decode(case.encoding.encode(jnp.asarray(case.raw))))
    found = float(np.abs(back - case.raw).max())
    remedy = "decode must be the inverse of encode on real examples."
    require(found < 0.5, "the raw examples from decode", found=f"{found:.2f} away", remedy=remedy)


def is_a_pytree(case: EncodingCase) -> None:
    """The encoding can be an argument of a jitted function, and gives the same with NumPy as with JAX."""
    inputs = case.encoding.encode(jnp.asarray(case.raw))
    jitted = jax.jit(lambda encoding, raw: encoding.encode(raw))(case.encoding, jnp.asarray(case.raw))
    remedy = "Register the dataclass with jax.tree_util.register_dataclass, its arrays as data fields."
    found = distance(jitted, inputs)
    require(found < 1e-5, "the same inputs under jit", found=f"a distance of {found:.1e}", remedy=remedy)
    has_arrays = len(jax.tree.leaves(case.encoding)) > 0
    require(has_arrays, "arrays as leaves", found="none", remedy=remedy)
    on_host = jax.tree.map(np.asarray, case.encoding)
    found = distance(on_host.encode(case.raw), inputs)
    remedy = "Use operators that NumPy and JAX share."
    require(found < 1e-5, "the same inputs from NumPy", found=f"a distance of {found:.1e}", remedy=remedy)


def refuses_other_examples(case: EncodingCase) -> None:
    """`check` raises a ValueError for examples of another rank."""
    try:
        case.encoding.check(case.raw[..., None])
    except ValueError:
        return
    require(
        False, "a ValueError for examples of another rank", found="none", remedy="Compare shapes in check."
    )


def survives_an_artifact(case: EncodingCase) -> None:
    """An encoding of a kind that artifacts know is the same after it was saved and loaded."""
    if case.encoding.kind not in encodings.KINDS:
        return
    parts, tokenizer = encodings.members(case.encoding), encodings.tokenizer_of(case.encoding)
    back = encodings.from_members(case.encoding.kind, parts, tokenizer=tokenizer)
    found = distance(back, case.encoding)
    require(found < 1e-6, "the same arrays", found=f"a distance of {found:.1e}", remedy="Keep them float32.")


ENCODING_CHECKS: Checks[EncodingCase] = {
    check.__name__: check
    for check in (
        encodes_into_its_shape,
        decodes_what_it_encodes,
        is_a_pytree,
        refuses_other_examples,
        survives_an_artifact,
    )
}
"""The checks of all promises of an encoding, by name."""


def check_encoding(case: EncodingCase) -> None:
    """Check every promise of an encoding.

    Args:
        case: the encoding to check, with raw examples.

    Raises:
        ContractError: a promise is not kept.
    """
    run(ENCODING_CHECKS, case)
