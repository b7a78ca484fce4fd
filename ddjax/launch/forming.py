"""The form of φ that the flags choose, where it is not plain pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ddjax import coresets, forms
from ddjax.data import Dataset
from ddjax.encodings import Channels, Tokens
from ddjax.launch.settings import Formed
from ddjax.types import Form, Images


@dataclasses.dataclass(frozen=True)
class Steps:
    """The labels and steps of a composed form.

    Attributes:
        inner_steps: S, the number of steps.
        inner_epochs: E, the number of passes over these steps.
        inner_lr: the learning rate at the start; None for a form without learning rates.
        max_lr: the bound on the learned learning rates; None for none.
        label_form: the form of the labels; None for the form's own default.
        label_confidence: the probability of an image's own class at the start of softmax labels.
        label_scale: the factor on free and centred labels at the start.
    """

    inner_steps: int = 1
    inner_epochs: int = 1
    inner_lr: float | None = None
    max_lr: float | None = None
    label_form: Any = None
    label_confidence: float | None = None
    label_scale: float = 1.0


def decoded_per_class(config: Formed, data: Dataset, stored: int, *, label_numbers: int = 0) -> int:
    """The number of decoded images of each class in the storage of some plain ones.

    Args:
        config: the settings.
        data: the real data.
        stored: the number of plain images of each class that φ may store. Multi-formation stores as many,
            and learned labels besides; other forms leave room for the labels.
        label_numbers: the numbers of an image's label: 0 for hard labels, K for learned ones.

    Returns:
        The number m.

    Raises:
        ValueError: the shared numbers of the form leave no room for one image of each class, or canvases do
            not fill the storage.
    """
    if config.form == "multi_formation":
        return stored * config.factor**2
    if config.form == "bases":
        return forms.bases_for_budget(
            stored,
            data.image_shape,
            data.num_classes,
            num_bases=config.num_bases,
            downsample=config.downsample,
            label_numbers=label_numbers,
        )
    if config.form == "latents":
        return _codes_for(config, data, stored, label_numbers) * config.num_decoders
    if config.form == "textures":
        return _canvases_for(config, stored) * config.cuts
    return stored


def _canvases_for(config: Formed, stored: int) -> int:
    """The number of canvases of each class in the storage of some plain images."""
    found, rest = divmod(stored, config.canvas**2)
    if rest or not found:
        raise ValueError(
            f"images_per_class: expected a multiple of {config.canvas**2}, the number of images whose place "
            f"a canvas takes; got {stored}. Give one, or another --canvas."
        )
    return found


def _codes_for(config: Formed, data: Dataset, stored: int, label_numbers: int) -> int:
    """The number of codes of each class in the storage of some plain images."""
    height, width, channels = data.image_shape
    shared = forms.storage(forms.composed(latents_of(config, data, codes=1))).numbers["decoder"]
    size = math.prod(_code_shape(config, data)) + config.num_decoders * label_numbers
    found = (stored * data.num_classes * height * width * channels - shared) // (data.num_classes * size)
    if found < 1:
        raise ValueError(
            f"num_decoders: expected a code of each class to fit beside the decoders, in {stored} image(s) "
            f"of each class; got decoders of {shared:,} numbers. Give fewer or smaller ones."
        )
    return found


def _code_shape(config: Formed, data: Dataset) -> tuple[int, int, int]:
    if config.decoder == "style":
        return data.image_shape
    sides = (-(-side // config.code_scale) for side in data.image_shape[:2])
    height, width = sides
    return height, width, config.code_channels


def latents_of(
    config: Formed, data: Dataset, *, codes: int, initial_images: np.ndarray | None = None
) -> Images:
    """Codes times decoders, by the flags.

    Args:
        config: the settings.
        data: the real data.
        codes: the number of codes of each class.
        initial_images: `[K, codes · D, H, W, C]`, the images to start near to; None for noise.

    Returns:
        The images.

    Raises:
        ValueError: settings that do not fit the data.
    """
    kind: Any = config.decoder  # one of the choices of the flag
    return forms.latents(
        data.image_shape,
        data.num_classes,
        codes_per_class=codes,
        code_shape=_code_shape(config, data),
        num_decoders=config.num_decoders,
        decoder=kind,
        width=config.decoder_width,
        initial_images=initial_images,
    )


def images_of(config: Formed, data: Dataset, per_class: int, *, initial: str, seed: int) -> Images:
    """The images of φ by the flags, started from real images where the flags say so.

    Args:
        config: the settings, whose form is not pixels.
        data: the real data.
        per_class: the number m of decoded images of each class.
        initial: the choice of `--initial_images`.
        seed: the seed of a random choice of images.

    Returns:
        The images.

    Raises:
        ValueError: the data are texts, m is no number of images that the form can have, or a class has too
            few images to start from.
    """
    if isinstance(data.encoding, Tokens):
        raise ValueError(f"form: expected pixels for texts; got {config.form}. Leave --form out.")
    shape, num_classes = data.image_shape, data.num_classes
    select = coresets.INITIAL_IMAGES[initial]
    start = None
    if select is not None:
        start = select(data.train, per_class=per_class, num_classes=num_classes, seed=seed)
    if config.form == "bases":
        return forms.bases(
            shape,
            num_classes,
            num_bases=config.num_bases,
            per_class=per_class,
            downsample=config.downsample,
            initial_images=start,
        )
    parts = {
        "multi_formation": config.factor**2,
        "latents": config.num_decoders,
        "textures": config.cuts,
    }
    each = parts.get(config.form, 1)
    if per_class % each:
        raise ValueError(
            f"form: expected a multiple of {each} images of each class, which is what {config.form} makes of "
            f"one; got {per_class}. Change the number of images, --factor, --num_decoders or --cuts."
        )
    if config.form == "textures":
        return _canvases(config, data, per_class // each, initial)
    if config.form == "latents":
        return latents_of(config, data, codes=per_class // each, initial_images=start)
    if config.form == "multi_formation":
        return forms.multi_formation(
            shape,
            num_classes,
            stored_per_class=per_class // each,
            factor=config.factor,
            pad=_grey(data),
            initial_images=start,
        )
    return forms.stored(shape, num_classes, per_class=per_class, initial_images=start)


def _canvases(config: Formed, data: Dataset, count: int, initial: str) -> Images:
    """Canvases with joined edges, by the flags; they start from noise, for an image has edges."""
    if initial != "noise":
        raise ValueError(
            f"initial_images: expected noise with --form=textures, images have edges; got {initial}. Give "
            "--initial_images=noise."
        )
    return forms.textures(
        data.image_shape,
        data.num_classes,
        canvas=config.canvas,
        canvases_per_class=count,
        cuts=config.cuts,
    )


def _grey(data: Dataset) -> list[float]:
    """The middle between black and white, one number for each channel, in encoded images."""
    encoding = data.encoding
    if not isinstance(encoding, Channels):
        return [0.0] * data.image_shape[2]
    return ((0.5 - np.asarray(encoding.mean, float)) / np.asarray(encoding.std, float)).tolist()


def composed(config: Formed, data: Dataset, per_class: int, steps: Steps, *, initial: str, seed: int) -> Form:
    """The form of φ by the flags: decoded images, labels and learning rates.

    Args:
        config: the settings, whose form is not pixels.
        data: the real data.
        per_class: the number m of decoded images of each class.
        steps: the labels and steps.
        initial: the choice of `--initial_images`.
        seed: the seed of a random choice of images.

    Returns:
        The form.

    Raises:
        ValueError: the settings do not fit each other or the data.
    """
    images = images_of(config, data, per_class, initial=initial, seed=seed)
    drawn = {"drawn_per_class": config.drawn_per_class, "lr_decay": config.inner_lr_decay}
    return forms.composed(images, **dataclasses.asdict(steps), **drawn)
