"""Time one outer step of label distillation, written plainly in PyTorch.

Stands beside `scripts/bench.py --items=LD,LDRR`; needs PyTorch, which ddjax does not.

    taskset -c 0 python scripts/torch_labels.py --json=torch-labels.json

LeNet, 1,024 random images of 28 by 28, 50 of 100 base images, one thread. `LD` is the second-order method, by
a graph of the gradient as its authors' code has it; `LDRR` solves the last layer by ridge regression. Prints
CPU milliseconds of a step: median and quartiles over groups of four steps after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

BASE, INNER, REAL, CLASSES = 100, 50, 1024, 10
RATE, MOMENTUM, PENALTY = 0.01, 0.01, 1.0
SHAPES = ((6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,))


def features(weights: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """LeNet's last features but one, `[n, 84]`."""
    x = functional.max_pool2d(
        functional.relu(functional.conv2d(images, weights[0], weights[1], padding=2)), 2
    )
    x = functional.max_pool2d(functional.relu(functional.conv2d(x, weights[2], weights[3])), 2)
    x = functional.relu(functional.linear(x.flatten(1), weights[4], weights[5]))
    return functional.relu(functional.linear(x, weights[6], weights[7]))


def soft_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy under labels that are probabilities, `[]`."""
    return -(labels * functional.log_softmax(logits, 1)).sum(1).mean()


class Labels:
    """The labels `[100, 10]`, learned by Adam and kept on the simplex, and their base images."""

    def __init__(self) -> None:
        self.images = torch.randn(BASE, 1, 28, 28)
        self.values = torch.full((BASE, CLASSES), 1 / CLASSES, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.values])

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The base images of a step and their labels."""
        rows = torch.randperm(BASE)[:INNER]
        return self.images[rows], self.values[rows]

    def move(self, grads: torch.Tensor) -> None:
        """One update by the gradient."""
        self.values.grad = grads
        self.optimizer.step()
        with torch.no_grad():
            self.values.clamp_(0, 1)
            self.values.div_(self.values.sum(1, keepdim=True))


def fresh_weights() -> list[torch.Tensor]:
    """LeNet's weights, random."""
    return [(0.1 * torch.randn(shape)).requires_grad_() for shape in SHAPES]


def update(optimizer: torch.optim.Optimizer, tensors: list[torch.Tensor], grads: Any) -> None:
    """One update of a network's tensors."""
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = grad.detach()
    optimizer.step()


def second_order() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """The step of the second-order method."""
    labels, weights = Labels(), fresh_weights()
    optimizer = torch.optim.Adam(weights)

    def logits(weights: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        return functional.linear(features(weights, images), weights[8], weights[9])

    def step(real: torch.Tensor, classes: torch.Tensor) -> None:
        images, targets = labels.draw()
        loss = soft_cross_entropy(logits(weights, images), targets)
        grads = torch.autograd.grad(loss, weights, create_graph=True)
        ahead = [weight - RATE * grad for weight, grad in zip(weights, grads, strict=True)]
        outer = functional.cross_entropy(logits(ahead, real), classes)
        (of_labels,) = torch.autograd.grad(outer, labels.values, retain_graph=True)
        labels.move(of_labels)
        update(optimizer, weights, grads)

    return step


def ridge() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """The step of the method that solves the last layer."""
    labels, weights = Labels(), fresh_weights()[:8]
    scale = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.Adam(weights)
    of_scale = torch.optim.Adam([scale], lr=0.01)
    classifier = torch.zeros(85, CLASSES)

    def with_one(found: torch.Tensor) -> torch.Tensor:
        return torch.cat([found, torch.ones(len(found), 1)], 1)

    def step(real: torch.Tensor, classes: torch.Tensor) -> None:
        nonlocal classifier
        images, targets = labels.draw()
        own = with_one(features(weights, images))
        solved = own.T @ torch.linalg.solve(own @ own.T + PENALTY * torch.eye(INNER), targets)
        new = (1 - MOMENTUM) * classifier + MOMENTUM * solved
        outer = functional.cross_entropy(with_one(features(weights, real)) @ (scale * new), classes)
        (of_labels,) = torch.autograd.grad(outer, labels.values, retain_graph=True)
        labels.move(of_labels)
        loss = soft_cross_entropy(own @ (scale * new), targets.detach())
        *of_weights, of_one = torch.autograd.grad(loss, [*weights, scale])
        update(optimizer, weights, of_weights)
        update(of_scale, [scale], [of_one])
        classifier = new.detach()

    return step


def timed(step: Callable[[torch.Tensor, torch.Tensor], None], seconds: float) -> dict[str, float]:
    """CPU milliseconds of a step: median and quartiles, and the number of groups of steps."""
    real, classes = torch.randn(REAL, 1, 28, 28), torch.randint(0, CLASSES, (REAL,))
    samples: list[float] = []
    end = time.monotonic() + seconds
    step(real, classes)
    while len(samples) < 5 or time.monotonic() < end:
        began = time.process_time()
        for _ in range(4):
            step(real, classes)
        samples.append(250 * (time.process_time() - began))
    q1, median, q3 = statistics.quantiles(samples, n=4)
    return {"median": median, "q1": q1, "q3": q3, "n": len(samples)}


def main() -> None:
    """Time both methods."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="the duration of the timed steps of a method"
    )
    parser.add_argument("--json", type=Path, help="the file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    items = {name: {"cpu_ms_per_step": timed(make(), given.seconds)} for name, make in METHODS.items()}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    record = {
        "command": sys.argv,
        "hardware": {"platform": platform.platform()},
        "versions": versions,
        "items": items,
    }
    text = json.dumps(record, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


METHODS = {"LD": second_order, "LDRR": ridge}

if __name__ == "__main__":
    main()
