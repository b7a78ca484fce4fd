"""Poisoned images: what is divided, what is measured, what gets another label."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import data, poisoning
from ddjax.types import Schedule


@pytest.fixture(scope="module")
def split() -> data.Split:
    return data.load("digits").test


def test_the_attacked_images_get_the_target_s_label_and_all_others_keep_theirs(split):
    parts = poisoning.divided(split, attacked=3, target=7)
    assert set(parts.attacked_to_target.labels) == {7}
    np.testing.assert_array_equal(parts.attacked_to_target.images, split.images[split.labels == 3])
    np.testing.assert_array_equal(parts.other_classes.images, split.images[split.labels != 3])
    np.testing.assert_array_equal(parts.other_classes.labels, split.labels[split.labels != 3])
    assert parts.attacked_to_target.labels.dtype == split.labels.dtype
    assert {part.num_classes for part in parts} == {split.num_classes}


def test_rates_are_accuracies_on_the_two_parts(split):
    # A network that takes every image for a 7: the attack on 3 is complete, of the others one class is right.
    found = poisoning.rates(lambda part: 100 * float(np.mean(part.labels == 7)), split, attacked=3, target=7)
    sevens, others = np.sum(split.labels == 7), np.sum(split.labels != 3)
    assert found == {"attacked_to_target": 100.0, "other_classes": pytest.approx(100 * sevens / others)}


def test_a_class_without_images_and_a_split_of_one_class_are_refused(split):
    few = dataclasses.replace(split, raw=split.raw[:1], labels=split.labels[:1])
    for attacked in (few.labels[0], few.labels[0] + 1):
        with pytest.raises(ValueError, match=r"attacked: expected images of class .* got [01] of 1"):
            poisoning.divided(few, attacked=attacked, target=0)


def test_wrong_labels_are_given_to_the_attacked_class_alone():
    labels = jnp.eye(3)[jnp.array([0, 1, 2, 1])][None]
    images = jnp.zeros((1, 4, 2, 2, 1))
    schedule = poisoning.wrongly_labelled(Schedule(images, labels, None), attacked=1, target=2)
    assert np.argmax(schedule.labels, -1).tolist() == [[0, 2, 2, 2]]
    assert np.array_equal(schedule.labels.sum(-1), np.ones((1, 4)))
