"""Storage: every number counts, whatever it is for."""

from __future__ import annotations

import numpy as np
import pytest

from ddjax import forms

FORMS = {
    "pixels": (
        forms.pixels((28, 28, 1), 10, inner_steps=1, inner_epochs=3, label_confidence=0.9),
        {"data": 7840, "lrs": 3, "labels": 100},
        10,
    ),
    "multi-formation": (
        forms.composed(forms.multi_formation((28, 28, 1), 10), label_confidence=0.9),
        {"data": 7840, "labels": 400},
        40,
    ),
    "bases": (
        forms.composed(
            forms.bases((28, 28, 1), 10, num_bases=32, per_class=160),
            inner_steps=20,
            inner_epochs=40,
            inner_lr=0.1,
        ),
        {"data": 32 * 784, "coefficients": 51_200, "lrs": 800},
        1600,
    ),
    "styles": (
        forms.composed(
            forms.latents(
                (32, 32, 3), 10, codes_per_class=1, code_shape=(32, 32, 3), num_decoders=5, decoder="style"
            )
        ),
        {"data": 30_720, "decoder": 27_840},  # HaBa's count: five styles are 9.06 images of CIFAR-10
        50,
    ),
    "labels of given images": (
        forms.labels(np.zeros((1, 4, 8, 8, 1)), 3, inner_lr=0.1),
        {"frozen": 256, "labels": 12, "lrs": 1},
        4,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_number_counts(name):
    form, numbers, images = FORMS[name]
    found = forms.storage(form)
    assert dict(found.numbers) == numbers
    assert found.images == images
    assert found.as_dict()["images_per_class"] == sum(numbers.values()) / (
        found.num_classes * found.image_size
    )
