"""Label noise: its matrices, its draws, and what is no task."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ddjax.data import corrupt, transition
from ddjax.data.noise import with_training_split


def test_symmetric_noise_takes_every_other_class_alike():
    matrix = transition("symmetric", 0.6, 4)
    np.testing.assert_allclose(np.diag(matrix), 0.4)
    np.testing.assert_allclose(matrix[~np.eye(4, dtype=bool)], 0.2)


def test_pair_noise_takes_the_next_class_and_goes_round():
    np.testing.assert_allclose(
        transition("pair", 0.25, 3), [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]]
    )


def test_class_dependent_noise_has_the_rate_on_average():
    matrix = transition("class_dependent", 0.3, 5)
    np.testing.assert_allclose(1 - np.diag(matrix), [0, 0.15, 0.3, 0.45, 0.6])
    np.testing.assert_allclose(matrix.sum(1), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pair", 0.5, 10), "got 0.5 for class 0, and 0.5 for class 1: nothing says which"),
        (("symmetric", 0.9, 10), "got 0.1 for class 0, and 0.1 for class 1"),
        (("class_dependent", 0.46, 10), "got 0.08 for class 9, and 0.102 for class 0"),
        (("class_dependent", 0.6, 10), "expected a class-dependent rate below 0.5"),
        (("symetric", 0.1, 10), "noise: kind: expected one of .*Did you mean 'symmetric'"),
        (("pair", 1.0, 10), "noise: rate: expected"),
        (("pair", 0.1, 1), "noise: num_classes: expected .* >= 2"),
    ],
)
def test_noise_that_is_no_task_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        transition(*arguments)


def test_matrices_of_a_user_are_checked(few_digits):
    for matrix, message in (
        (np.eye(2), "transition: shape: expected"),
        (np.full((3, 3), 0.5), "expected rows of probabilities that sum to one"),
        (np.array([[0.4, 0.6, 0], [0, 1, 0], [0, 0, 1]]), "got 0.4 for class 0, and 0.6 for class 1"),
    ):
        with pytest.raises(ValueError, match=message):
            corrupt(few_digits.train, matrix, seed=0)


def test_draws_have_the_probabilities_of_the_matrix(digits):
    matrix = transition("pair", 0.4, 10)
    noisy = corrupt(digits.train, matrix, seed=3)
    truth = digits.train.labels
    # 5 standard deviations of a mean of n draws.
    assert abs(noisy.clean.mean() - 0.6) < 5 * np.sqrt(0.24 / len(truth))
    np.testing.assert_array_equal(noisy.clean, noisy.split.labels == truth)
    np.testing.assert_array_equal(noisy.split.labels[~noisy.clean], (truth[~noisy.clean] + 1) % 10)
    assert noisy.split.raw is digits.train.raw
    again = corrupt(digits.train, matrix, seed=3)
    np.testing.assert_array_equal(again.split.labels, noisy.split.labels)
    assert (corrupt(digits.train, matrix, seed=4).split.labels != noisy.split.labels).any()


def test_no_noise_changes_no_label(few_digits):
    assert corrupt(few_digits.train, transition("symmetric", 0.0, 3), seed=0).clean.all()


def test_data_with_another_training_split_are_no_known_source(few_digits):
    kept = few_digits.train.at(np.arange(5))
    data = with_training_split(few_digits, kept, name="three digits, kept")
    assert (data.name, len(data.train), data.origin.kind) == ("three digits, kept", 5, "arrays")
    assert dataclasses.replace(data, train=few_digits.train).test is few_digits.test
