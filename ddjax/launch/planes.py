"""What a comparison of distilled images and class subspaces measures, changes and draws."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddjax import figures, forms, report
from ddjax.data import Dataset
from ddjax.launch.types import Parts
from ddjax.methods.penalised import penalised
from ddjax.subspaces import (
    Discriminant,
    Plane,
    Subspaces,
    class_subspaces,
    discriminant,
    errors,
    own_error,
    principal_plane,
)
from ddjax.types import Schedule

INNER_LR = 0.02
"""η at the start for the form inside the subspaces, as for `ddjax.forms.pixels`."""


class Look(NamedTuple):
    """Real data, and the subspaces and planes fitted on their training split.

    Attributes:
        data: the real data.
        subspaces: the principal subspace of each class.
        plane: the plane of the first two principal directions.
        lda: linear discriminant analysis.
    """

    data: Dataset
    subspaces: Subspaces
    plane: Plane
    lda: Discriminant

    @classmethod
    def of(cls, data: Dataset, *, dims: int) -> Look:
        """Fit all on the training split.

        Args:
            data: the real data.
            dims: the number of directions of each class.

        Returns:
            The subspaces and planes.

        Raises:
            ValueError: a class has too few examples for so many directions.
        """
        train = data.train
        return cls(data, class_subspaces(train, dims=dims), principal_plane(train), discriminant(train))

    def near(self, weight: float) -> Callable[[Parts], Parts]:
        """The change of a distillation that penalises the error in the own class's subspace.

        Args:
            weight: β.

        Returns:
            The change of a launcher's parts.
        """
        penalty = functools.partial(own_error, self.subspaces)

        def change(parts: Parts) -> Parts:
            return dataclasses.replace(parts, method=penalised(parts.method, penalty, weight=weight))

        return change

    def inside(self, parts: Parts) -> Parts:
        """The change of a distillation to images inside the subspaces, from random places there.

        Args:
            parts: a launcher's parts.

        Returns:
            The parts with the form `ddjax.forms.subspace`.
        """
        layout = parts.facts.layout
        mean, directions, scales = map(np.asarray, self.subspaces)
        form = forms.subspace(
            mean,
            directions,
            scales,
            self.data.input_shape,
            inner_steps=layout.inner_steps,
            inner_epochs=layout.inner_epochs,
            images_per_class_per_step=layout.per_class_per_step,
            inner_lr=INNER_LR if parts.method.needs_lrs else None,
        )
        return dataclasses.replace(parts, form=form)

    def facts(self, schedule: Schedule) -> dict[str, Any]:
        """What subspaces and planes say of φ.

        Args:
            schedule: φ as a schedule.

        Returns:
            The mean error in the own class's subspace, the shares of images, in percent, that LDA and the
            nearest subspace name as their labels do, the places in both planes, and the classes.
        """
        inputs = np.asarray(schedule.inputs).reshape(-1, *schedule.inputs.shape[2:])
        classes = np.argmax(np.asarray(schedule.labels).reshape(len(inputs), -1), -1)
        nearest = np.argmin(np.asarray(errors(self.subspaces, jax.numpy.asarray(inputs))), -1)
        return {
            "own_error": float(own_error(self.subspaces, schedule)),
            "named_by_lda": 100 * float(np.mean(self.lda.named(inputs) == classes)),
            "named_by_subspace": 100 * float(np.mean(nearest == classes)),
            "pca": self.plane.places(inputs).tolist(),
            "lda": self.lda.plane.places(inputs).tolist(),
            "classes": classes.tolist(),
        }

    def real(self, count: int, *, seed: int) -> dict[str, Any]:
        """The same of real images, those of the validation split, which no subspace was fitted on.

        Args:
            count: the number of images, drawn.
            seed: the seed of the draw.

        Returns:
            See `facts`.
        """
        split = self.data.validation
        split = split.at(np.random.default_rng(seed).permutation(len(split))[:count])
        labels = np.eye(self.data.num_classes, dtype=np.float32)[split.labels]
        inputs, targets = map(jax.numpy.asarray, (split.encoded()[None], labels[None]))
        return self.facts(Schedule(inputs, targets, None))


def table(result: Mapping[str, Any]) -> str:
    """A row for each distillation and one for real images.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    rows = [
        (
            name,
            report.format_score(one) if "mean" in one else "",
            f"{one['own_error']:.3f}",
            f"{one['named_by_subspace']:.0f}",
            f"{one['named_by_lda']:.0f}",
        )
        for name, one in {**result["distilled"], "real images": result["real"]}.items()
    ]
    return report.table(
        rows, ("images", "test accuracy, %", "own error", "subspace names, %", "LDA names, %")
    )


def draw(path: Path, result: Mapping[str, Any], *, plane: str) -> None:
    """Draw real images as points, and each distilled image as a line over the weights of the error.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
        plane: the plane, `pca` or `lda`.
    """
    real, steps = result["real"], [one for name, one in result["distilled"].items() if name.startswith("β")]
    series = []
    for k in sorted(set(real["classes"])):
        own = [place for place, label in zip(real[plane], real["classes"], strict=True) if label == k]
        x, y = map(list, zip(*own, strict=True))
        series.append(figures.Line(f"{k}", x, y, drawn=False))
        # The first image of the class: a line for each would hide the points.
        paths = [one[plane][one["classes"].index(k)] for one in steps if k in one["classes"]]
        if paths:
            x, y = map(list, zip(*paths, strict=True))
            series.append(figures.Line(f"{k}, distilled", x, y))
    name = plane.upper()
    figures.lines(path, series, x_label=f"{name} 1", y_label=f"{name} 2", title=result["dataset"])


PICTURES = {f"{plane}.png": functools.partial(draw, plane=plane) for plane in ("pca", "lda")}
"""The figures: φ among real images in both planes."""
