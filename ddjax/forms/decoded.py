"""Composition of forms: a schedule of codes, decoded into the schedule that networks are trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ddjax.facts import noted
from ddjax.forms.groups import groups_of
from ddjax.types import Form, PyTree, Schedule


class DecodedParams(NamedTuple):
    """The parameters of `decoded` with a decoder that is learned.

    Attributes:
        codes: the parameters of the form that is decoded.
        decoder: the parameters of the decoder.
    """

    codes: PyTree
    decoder: PyTree


@noted
def decoded(
    form: Form,
    decode: Callable[..., Schedule],
    *,
    init: Callable[[jax.Array], PyTree] | None = None,
    name: str,
) -> Form:
    """A form whose schedule is decoded: more images from the same numbers, or images from codes.

        schedule(φ) = decode(form.unfold(φ)),   or decode(ψ, form.unfold(φ)) with a decoder ψ that is learned

    Labels and learning rates stay those of `form` unless `decode` changes them, so that decoded inputs can be
    combined with hard, softmax and free labels and with learned rates. Decoded forms can be decoded again.

    Args:
        form: the form of the codes.
        decode: `Schedule -> Schedule`, differentiable; with `init`, `(decoder, Schedule) -> Schedule`.
        init: `key -> decoder`, the starting point of a learned decoder, whose leaves are the group "decoder".
            Consumes the key. None for a decoder without parameters.
        name: the name of the form in artifacts and records.

    Returns:
        A form with the parameters of `form`, or with `DecodedParams`.
    """
    if init is None:
        return Form(form.init, lambda params: decode(form.unfold(params)), name, form.groups, form.project)
    start = init

    def init_both(key: jax.Array) -> DecodedParams:
        codes_key, decoder_key = jax.random.split(key)
        return DecodedParams(form.init(codes_key), start(decoder_key))

    def unfold(params: DecodedParams) -> Schedule:
        return decode(params.decoder, form.unfold(params.codes))

    def groups(params: DecodedParams) -> Any:
        decoder = jax.tree.map(lambda leaf: "decoder", params.decoder)
        return DecodedParams(groups_of(form, params.codes), decoder)

    def project(params: DecodedParams) -> DecodedParams:
        assert form.project is not None
        return params._replace(codes=form.project(params.codes))

    return Form(init_both, unfold, name, groups, project if form.project else None)
