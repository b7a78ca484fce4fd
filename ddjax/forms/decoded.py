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
    Where `form` draws its schedules, those are decoded too.

    Args:
        form: the form of the codes.
        decode: `Schedule -> Schedule`, differentiable; with `init`, `(decoder, Schedule) -> Schedule`.
        init: `key -> decoder`, the starting point of a learned decoder, whose leaves are the group "decoder".
            Consumes the key. None for a decoder without parameters.
        name: the name of the form in artifacts and records.

    Returns:
        A form with the parameters of `form`, or with `DecodedParams`.

    Raises:
        ValueError: while a schedule is drawn, `decode` changes the number of examples that the order of the
            schedule is about.
    """
    drawing = form.draw
    if init is None:

        def draw_codes(params: PyTree, key: jax.Array) -> Schedule:
            assert drawing is not None
            return _in_order(drawing(params, key), decode)

        return Form(
            form.init,
            lambda params: decode(form.unfold(params)),
            name,
            form.groups,
            form.project,
            draw=draw_codes if drawing else None,
        )
    start = init

    def init_both(key: jax.Array) -> DecodedParams:
        codes_key, decoder_key = jax.random.split(key)
        return DecodedParams(form.init(codes_key), start(decoder_key))

    def unfold(params: DecodedParams) -> Schedule:
        return decode(params.decoder, form.unfold(params.codes))

    def draw(params: DecodedParams, key: jax.Array) -> Schedule:
        assert drawing is not None
        return _in_order(drawing(params.codes, key), lambda schedule: decode(params.decoder, schedule))

    def groups(params: DecodedParams) -> Any:
        decoder = jax.tree.map(lambda leaf: "decoder", params.decoder)
        return DecodedParams(groups_of(form, params.codes), decoder)

    def project(params: DecodedParams) -> DecodedParams:
        assert form.project is not None
        return params._replace(codes=form.project(params.codes))

    return Form(
        init_both,
        unfold,
        name,
        groups,
        project if form.project else None,
        draw=draw if drawing else None,
    )


def _in_order(codes: Schedule, decode: Callable[[Schedule], Schedule]) -> Schedule:
    """A drawn schedule, decoded."""
    found = decode(codes)
    if codes.order is not None and found.inputs.shape[:2] != codes.inputs.shape[:2]:
        raise ValueError(
            "decode: expected as many examples as are encoded, whose order is drawn; got "
            f"{list(found.inputs.shape[:2])} of {list(codes.inputs.shape[:2])}. Decode inside the images of "
            "ddjax.forms.composed."
        )
    return found
