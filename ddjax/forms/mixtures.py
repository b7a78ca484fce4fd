"""Starts for any number of images in a step: one class each, or mixtures where there are more classes."""

from __future__ import annotations

import numpy as np

from ddjax import checks


def mixtures(images: np.ndarray, inner_steps: int, per_step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of S steps of B images each, of all K classes in every step as far as there is room.

    With B ≥ K the images of a step belong to the classes 0, ..., K - 1, 0, 1, ... in turn. With B < K image b
    is the mean of one image of each of the classes b, b + B, b + 2 B, ..., and its label is shared evenly by
    these classes.

    Args:
        images: `[K, S * ⌈B / K⌉, *input_shape]`, the images of each class.
        inner_steps: the number S of steps.
        per_step: the number B of images in a step.

    Returns:
        The images, `[S, B, *input_shape]`, and the labels, `[S, B, K]` float64 with rows that sum to one.

    Raises:
        ValueError: a count is below one, or there are not as many images of each class.
    """
    checks.at_least("inner_steps", inner_steps, 1)
    checks.at_least("images_per_step", per_step, 1)
    num_classes = len(images)
    depth = -(-per_step // num_classes)
    checks.equal(
        "images of each class", images.shape[1], inner_steps * depth, remedy="Give so many of each class."
    )
    steps = np.moveaxis(images.reshape(num_classes, inner_steps, depth, *images.shape[2:]), 0, 1)
    classes = np.arange(num_classes)
    if per_step >= num_classes:
        order = np.arange(per_step)
        labels = np.eye(num_classes)[order % num_classes]
        chosen = steps[:, order % num_classes, order // num_classes]
    else:
        shares = np.stack([classes % per_step == place for place in range(per_step)]).astype(np.float64)
        labels = shares / shares.sum(1, keepdims=True)
        chosen = np.einsum("bk,sk...->sb...", labels, steps[:, :, 0]).astype(images.dtype)
    return chosen, np.broadcast_to(labels, (inner_steps, *labels.shape))
