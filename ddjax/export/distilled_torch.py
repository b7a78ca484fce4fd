"""Train PyTorch networks on data that ddjax distilled: one file that needs NumPy and PyTorch alone.

    import distilled_torch

    distilled = distilled_torch.load("distilled.npz")
    predict = distilled.fit(network)                      # trains the network in place
    print(distilled.accuracy(predict, images, labels))    # images uint8 [n, H, W, C], labels [n]

`fit` does what the recipe of the file says: it replays the distilled gradient steps with their learned
rates, or trains with the recipe's augmentation, by cross-entropy or by squared error, or solves a ridge
regression on the network's features. The network maps images `[n, C, H, W]`, normalised as `encode` does, to
scores `[n, K]`.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Predict = Callable[[Tensor], Tensor]
"""Scores `[n, K]` of encoded images `[n, C, H, W]`; the largest score is the predicted class."""

OLD_NAMES = {"dc_crop_scale_rotate": "crop_zoom_rotate"}
"""Names of augmentations in older files, and the names that they have now."""


@dataclasses.dataclass(frozen=True)
class Distilled:
    """Distilled data φ: S gradient steps of B images of K classes, and how to train on them.

    Attributes:
        images: `[S, B, C, H, W]` float32, encoded.
        labels: `[S, B, K]` float32: probabilities times the weight of the image, or free numbers where the
            recipe is a regression.
        lrs: `[E, S]` float32, the learned rate of each gradient step; None where the recipe has its own rate.
        encoding: the arrays of the encoding by name: `mean [C]` and `std [C]` of pixel / 255; for whitened
            images `mean [F]`, `matrix [F, F]`, `inverse [F, F]`, F = H·W·C.
        recipe: the kind of training and its settings.
        class_names: the names of the classes in the order of the labels; empty where the file has none.
        metadata: all that the file says about itself.
    """

    images: Tensor
    labels: Tensor
    lrs: Tensor | None
    encoding: dict[str, Tensor]
    recipe: dict[str, Any]
    class_names: list[str]
    metadata: dict[str, Any]

    def encode(self, images: Any) -> Tensor:
        """What networks see of pixels: (pixel / 255 - mean) / std, or whitened.

        Args:
            images: `[n, H, W, C]` or, with one channel, `[n, H, W]` uint8, an array or a tensor.

        Returns:
            `[n, C, H, W]` float32.

        Raises:
            ValueError: the images are not of this type and shape.
        """
        pixels = torch.as_tensor(images)
        height, width = self.images.shape[-2:]
        channels = self.images.shape[-3]
        if pixels.ndim == 3 and channels == 1:
            pixels = pixels[..., None]
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != (height, width, channels):
            raise ValueError(
                f"images: expected uint8 [n, {height}, {width}, {channels}]; got {pixels.dtype} "
                f"{list(pixels.shape)}. Give the pixels as they are, with the channels last."
            )
        values = pixels.to(torch.float32) / 255
        mean = self.encoding["mean"]
        if "matrix" in self.encoding:
            flat = (values.reshape(len(values), -1) - mean) @ self.encoding["matrix"]
            values = flat.reshape(values.shape)
        else:
            values = (values - mean) / self.encoding["std"]
        return values.permute(0, 3, 1, 2).contiguous()

    def pixels(self) -> Tensor:
        """The distilled images as float pixels, where 0 is black and 1 white; some lie outside.

        Returns:
            `[S, B, C, H, W]` float32.
        """
        values = self.images.permute(0, 1, 3, 4, 2)
        if "matrix" in self.encoding:
            flat = values.reshape(*values.shape[:2], -1) @ self.encoding["inverse"] + self.encoding["mean"]
            values = flat.reshape(values.shape)
        else:
            values = values * self.encoding["std"] + self.encoding["mean"]
        return values.permute(0, 1, 4, 2, 3).contiguous()

    def normalised(self, mean: Sequence[float], std: Sequence[float]) -> Distilled:
        """The same images under another normalisation, for networks and loaders that have their own.

        Args:
            mean: the mean of pixel / 255 in each channel.
            std: the standard deviation of pixel / 255 in each channel.

        Returns:
            The distilled data, whose `encode` is (pixel / 255 - mean) / std. Learned rates were learned
            under the old normalisation: only training in epochs can be expected to do as well.

        Raises:
            ValueError: the numbers are not one for each channel, or a deviation is not positive.
        """
        own = [torch.as_tensor(numbers, dtype=torch.float32) for numbers in (mean, std)]
        channels = self.images.shape[2]
        if any(tuple(numbers.shape) != (channels,) for numbers in own) or not (own[1] > 0).all():
            raise ValueError(
                f"mean, std: expected {channels} number(s) each, std above 0; got {mean} and {std}. Give one "
                "for each channel."
            )
        shape = (channels, 1, 1)
        images = (self.pixels() - own[0].reshape(shape)) / own[1].reshape(shape)
        return dataclasses.replace(self, images=images, encoding={"mean": own[0], "std": own[1]})

    def fit(
        self,
        network: torch.nn.Module,
        *,
        features: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> Predict:
        """Train a network on φ by the file's recipe, in place.

        Args:
            network: the network, on any one device; its weights are the initial weights θ0.
            features: the features `[n, F]` of images, for a recipe of ridge regression, which leaves the
                weights as they are; other recipes do not use it.
            seed: the seed of the order of the images and of their augmentation.

        Returns:
            The function that predicts; the network is in evaluation mode.

        Raises:
            ValueError: the recipe is of a kind that this file does not know, or a ridge regression has no
                features.
        """
        kind = self.recipe.get("kind", "schedule")
        device = next((one.device for one in network.parameters()), self.images.device)
        own = self._on(device)
        if kind == "ridge":
            return _ridge(own, features)
        if kind not in _TRAININGS:
            raise ValueError(
                f"recipe: expected one of {', '.join((*_TRAININGS, 'ridge'))}; got {kind!r}. Take the "
                "distilled_torch.py of the ddjax that wrote the file."
            )
        network.train()
        predict = _TRAININGS[kind](own, network, torch.Generator(device="cpu").manual_seed(seed))
        _calibrate(network, own.images.flatten(0, 1))
        network.eval()
        return predict

    def _on(self, device: Any) -> Distilled:
        lrs = None if self.lrs is None else self.lrs.to(device)
        return dataclasses.replace(
            self, images=self.images.to(device), labels=self.labels.to(device), lrs=lrs
        )

    @torch.no_grad()
    def accuracy(self, predict: Predict, images: Any, labels: Any, *, batch_size: int = 500) -> float:
        """The part of images whose largest score is at their class.

        Args:
            predict: the function that `fit` returned.
            images: `[n, H, W, C]` uint8, the pixels.
            labels: `[n]`, the numbers of the classes.
            batch_size: the number of images that are scored at once.

        Returns:
            A number from 0 to 1. A score that is not finite counts as wrong.
        """
        right = 0
        classes = torch.as_tensor(labels)
        for start in range(0, len(classes), batch_size):
            inputs = self.encode(images[start : start + batch_size])
            scores = predict(inputs.to(self.images.device)).cpu()
            finite = scores.isfinite().all(-1)
            right += int(((scores.argmax(-1) == classes[start : start + batch_size]) & finite).sum())
        return right / len(classes)


def load(path: Any) -> Distilled:
    """Read a `distilled.npz` of images; nothing in the file is executed.

    Args:
        path: the file.

    Returns:
        The distilled data.

    Raises:
        ValueError: the file holds no images under a normalisation or a whitening, such as texts.
    """
    with np.load(path, allow_pickle=False) as members:
        arrays = {name: members[name] for name in members.files}
    metadata = json.loads(str(arrays.pop("metadata")))
    images = arrays.pop("images", None)
    if images is None:
        images = arrays.pop("inputs", np.zeros(0))
    encoding = {name.removeprefix("encoding."): value for name, value in arrays.items()}
    if images.ndim != 5 or "mean" not in encoding or not encoding.keys() & {"std", "matrix"}:
        raise ValueError(
            f"{path}: expected images [S, B, H, W, C] and their mean and std, or whitening; got an array "
            f"{list(images.shape)} and {', '.join(sorted(arrays))}. Load it with ddjax."
        )
    labels, lrs = encoding.pop("labels"), encoding.pop("lrs", None)
    return Distilled(
        _tensor(np.moveaxis(images, -1, 2)),
        _tensor(labels),
        None if lrs is None else _tensor(lrs),
        {name: _tensor(value) for name, value in encoding.items()},
        dict(metadata.get("recipe", {})),
        list(metadata.get("class_names") or []),
        metadata,
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))


# Trainings.


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """`[n]`, -Σ_k y_k log softmax(s)_k; the labels are any numbers."""
    return -(labels * functional.log_softmax(scores, -1)).sum(-1)


def _replay(distilled: Distilled, network: torch.nn.Module, generator: torch.Generator) -> Predict:
    """The E·S gradient steps with their rates: θ ← θ + η u, u from the optimiser at rate one."""
    del generator
    assert distilled.lrs is not None, "a schedule has learned rates"
    weights = [one for one in network.parameters() if one.requires_grad]
    update = _UPDATES[distilled.recipe.get("optimizer", "sgd")](weights)
    for rates in distilled.lrs:
        for images, labels, rate in zip(distilled.images, distilled.labels, rates, strict=True):
            loss = _cross_entropy(network(images), labels).mean()
            update(torch.autograd.grad(loss, weights), rate)
    return network


Update = Callable[[Sequence[Tensor], Tensor], None]
"""Moves the weights in place by given gradients at a given rate."""


def _sgd(weights: Sequence[Tensor]) -> Update:
    return functools.partial(_momentum_step, weights, None)


def _momentum(weights: Sequence[Tensor]) -> Update:
    return functools.partial(_momentum_step, weights, [torch.zeros_like(one) for one in weights])


@torch.no_grad()
def _momentum_step(
    weights: Sequence[Tensor], traces: list[Tensor] | None, grads: Sequence[Tensor], rate: Tensor
) -> None:
    for i, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
        move = grad if traces is None else traces[i].mul_(0.9).add_(grad)
        weight.sub_(rate * move)


def _adam(weights: Sequence[Tensor]) -> Update:
    """Adam with a tiny number under the root, as ddjax differentiated through it."""
    first, second = ([torch.zeros_like(one) for one in weights] for _ in range(2))
    count = 0

    @torch.no_grad()
    def update(grads: Sequence[Tensor], rate: Tensor) -> None:
        nonlocal count
        count += 1
        for weight, grad, m, v in zip(weights, grads, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * grad)
            v.mul_(0.999).add_(0.001 * grad * grad)
            root = torch.sqrt(v / (1 - 0.999**count) + 1e-12) + 1e-8
            weight.sub_(rate * (m / (1 - 0.9**count)) / root)

    return update


_UPDATES: dict[str, Callable[[Sequence[Tensor]], Update]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "adam": _adam,
}


def _minibatches(
    distilled: Distilled, epochs: int, steps: int | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """The positions of the images of each step: epochs in an order of their own, or draws of their own."""
    count = distilled.labels.shape[0] * distilled.labels.shape[1]
    size = min(distilled.recipe["batch_size"], count)
    if steps is not None:
        yield from (torch.randperm(count, generator=generator)[:size] for _ in range(steps))
        return
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).split(size)


def _steps_of_epoch(distilled: Distilled) -> int:
    count = distilled.labels.shape[0] * distilled.labels.shape[1]
    return -(-count // min(distilled.recipe["batch_size"], count))


def _descend(
    distilled: Distilled,
    network: Predict,
    generator: torch.Generator,
    *,
    batches: Iterator[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer_at: Callable[[int], torch.optim.Optimizer],
) -> None:
    """One step for each minibatch, augmented, by the optimiser of that step on the mean of `loss`."""
    images, labels = distilled.images.flatten(0, 1), distilled.labels.flatten(0, 1)
    name = distilled.recipe.get("augmentation", "")
    height, width = images.shape[-2:]
    augmentation = augmentation_by_name(name, (height, width)) if name else None
    mix = distilled.recipe.get("mix", "")
    if mix not in _MIXES:
        raise ValueError(
            f"recipe: mix: expected one of {', '.join(filter(None, _MIXES))}; got {mix!r}. Take the "
            "distilled_torch.py of the ddjax that wrote the file."
        )
    for step, rows in enumerate(batches):
        inputs, targets = images[rows], labels[rows]
        if augmentation is not None:
            inputs = augmentation.apply(augmentation.sample(generator, len(inputs)), inputs)
        inputs, targets = _MIXES[mix](generator, inputs, targets)
        optimizer = optimizer_at(step)
        optimizer.zero_grad()
        loss(network(inputs), targets).mean().backward()
        optimizer.step()


def _train(distilled: Distilled, network: torch.nn.Module, generator: torch.Generator) -> Predict:
    """SGD or Adam; the protocol says how many steps, and when the rate falls by what factor.

    The loss is T² times the cross-entropy of the logits divided by the temperature T.
    """
    recipe, rate = distilled.recipe, distilled.recipe["lr"]
    if rate is None:  # the learned one
        assert distilled.lrs is not None, "training at the learned rate has one"
        rate = float(distilled.lrs.mean())
    protocol, epochs = recipe.get("protocol", "plain"), recipe.get("epochs", 0)
    published, steps = protocol == "condensation", _steps_of_epoch(distilled)
    falls: dict[str, list[tuple[int, float]]] = {
        "condensation": [(steps * (epochs // 2 + 2), 0.1)],
        "plain": [(-(-steps * epochs // 2), 0.1)],
        "constant": [],
        "idc": [(steps * (2 * epochs // 3), 0.2), (steps * (5 * epochs // 6), 0.2)],
    }
    if protocol not in falls:
        raise ValueError(
            f"recipe: protocol: expected one of {', '.join(falls)}; got {protocol!r}. Take the "
            "distilled_torch.py of the ddjax that wrote the file."
        )

    def fresh(lr: float) -> torch.optim.Optimizer:
        weights, decay = network.parameters(), recipe["weight_decay"]
        if recipe.get("optimizer", "sgd") == "adam":
            return torch.optim.Adam(weights, lr, weight_decay=decay)
        return torch.optim.SGD(weights, lr, momentum=recipe["momentum"], weight_decay=decay)

    optimizer = fresh(rate)

    def optimizer_at(step: int) -> torch.optim.Optimizer:
        nonlocal optimizer
        factor = math.prod(factor for first, factor in falls[protocol] if step == first)
        if factor != 1 and published:
            optimizer = fresh(rate * factor)
        elif factor != 1:
            optimizer.param_groups[0]["lr"] *= factor
        return optimizer

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        temperature = recipe.get("temperature", 1.0)
        return temperature**2 * _cross_entropy(scores / temperature, labels)

    batches = _minibatches(distilled, epochs + published, recipe.get("steps"), generator)
    _descend(distilled, network, generator, batches=batches, loss=loss, optimizer_at=optimizer_at)
    return network


def _regress(distilled: Distilled, network: torch.nn.Module, generator: torch.Generator) -> Predict:
    """Adam on the squared error of scaled labels; the rate rises linearly, then falls along a cosine.

    Where the recipe centres, the outputs are those of the network less those under the initial weights.
    """
    start = copy.deepcopy(network).requires_grad_(False)

    def centred(images: Tensor) -> Tensor:
        return network(images) - start(images)

    predict = centred if distilled.recipe["centre"] else network
    recipe, of_epoch = distilled.recipe, _steps_of_epoch(distilled)
    epochs = -(-recipe["steps"] // of_epoch)
    total = epochs * of_epoch
    rise = min(recipe["warmup"], total // 2)
    optimizer = torch.optim.Adam(network.parameters(), recipe["lr"])

    def optimizer_at(step: int) -> torch.optim.Optimizer:
        fallen = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))
        share = step / rise if step < rise else 0.99 * fallen + 0.01
        optimizer.param_groups[0]["lr"] = recipe["lr"] * share
        return optimizer

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return 0.5 * (scores - recipe["label_scale"] * labels).square().sum(-1)

    batches = _minibatches(distilled, epochs, None, generator)
    _descend(distilled, predict, generator, batches=batches, loss=loss, optimizer_at=optimizer_at)
    return predict


_TRAININGS: dict[str, Callable[[Distilled, torch.nn.Module, torch.Generator], Predict]] = {
    "schedule": _replay,
    "train": _train,
    "regress": _regress,
}


@torch.no_grad()
def _ridge(distilled: Distilled, features: Callable[[Tensor], Tensor] | None) -> Predict:
    """Scores k(x, X) (K + λ tr(K)/n I)⁻¹ Y with the kernel of the features; solved in float64."""
    if features is None:
        raise ValueError(
            "features: expected the function of the network's features; got none. Give features=."
        )
    images, labels = distilled.images.flatten(0, 1), distilled.labels.flatten(0, 1)
    own = features(images).double()
    gram = own @ own.T
    penalty = distilled.recipe.get("penalty", 1e-6) * gram.trace() / len(gram)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = own.T @ torch.linalg.solve(gram + penalty * eye, labels.double())
    return lambda new: (features(new).double() @ weights).to(new.dtype)


@torch.no_grad()
def _calibrate(network: torch.nn.Module, images: Tensor, *, batch_size: int = 500) -> None:
    """The running statistics of batch norms become those of φ's images: what training normalised by."""
    norms = [one for one in network.modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [one.momentum for one in norms]
    for one in norms:
        one.reset_running_stats()
        one.momentum = None  # the plain mean over batches
    count = -(-len(images) // batch_size)
    for start in range(count):
        network(images[: len(images) // count * count][start::count])
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum


# Augmentation, as in `ddjax.augment`.


def cutmix(generator: torch.Generator, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """CutMix: every other minibatch gets a rectangle of other images, and labels mixed by its share.

    Args:
        generator: the source of the draws.
        images: `[n, C, H, W]`, the images.
        labels: `[n, K]`, the label probabilities.

    Returns:
        `[n, C, H, W]` and `[n, K]`.
    """
    if torch.rand((), generator=generator) < 0.5:
        return images, labels
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    side = math.sqrt(1 - float(torch.rand((), generator=generator)))
    inside = []
    for length in images.shape[2:]:
        centre, half = int(_whole(generator, 1, 0, length)), int(side * length) // 2
        places = torch.arange(length, device=images.device)
        inside.append((places >= centre - half) & (places < centre + half))
    box = inside[0][:, None] & inside[1]
    share = float(box.float().mean())
    return torch.where(box, images[partners], images), (1 - share) * labels + share * labels[partners]


_MIXES: dict[str, Callable[[torch.Generator, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "": lambda generator, images, labels: (images, labels),
    "cutmix": cutmix,
}


class Operation(NamedTuple):
    """A random transform of images.

    Attributes:
        sample: `(generator, n) -> params`, whose leaves are `[n]`.
        apply: `(params, images [n, C, H, W]) -> [n, C, H, W]`.
    """

    sample: Callable[[torch.Generator, int], Any]
    apply: Callable[[Any, Tensor], Tensor]


def _uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _whole(generator: torch.Generator, n: int, low: int, high: int) -> Tensor:
    """Whole numbers from low to high - 1."""
    return torch.randint(low, high, (n,), generator=generator)


def _column(numbers: Tensor, like: Tensor) -> Tensor:
    """`[n, 1, 1, 1]`, on the device of the images."""
    return numbers.to(like)[:, None, None, None]


def _bilinear(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The images read at rows and columns `[n, H, W]` between pixels; 0 outside."""
    height, width = images.shape[-2:]
    places = torch.stack((2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1), -1)
    return functional.grid_sample(images, places.to(images), mode="bilinear", align_corners=True)


def _gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The images read at whole rows `[n, H]` and columns `[n, W]` inside."""
    n = torch.arange(len(images), device=images.device)[:, None, None]
    return images[n, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """`[H]` and `[W]`, the places of rows and columns from the centre."""
    rows, columns = (
        torch.arange(size, device=images.device, dtype=images.dtype) - (size - 1) / 2
        for size in images.shape[-2:]
    )
    return rows, columns


def _read(images: Tensor, rows: Tensor, columns: Tensor, outside: Tensor | float) -> Tensor:
    """The pixels at whole rows `[n, H]` and columns `[n, W]`; another value for those outside."""
    height, width = images.shape[-2:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    found = _gathered(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    return torch.where(
        inside[:, None], found, torch.as_tensor(outside, device=images.device).to(images.dtype)
    )


def _pair(draw: Callable[[int], Tensor]) -> tuple[Tensor, Tensor]:
    return draw(0), draw(1)


def color() -> Operation:
    """DSA's change of brightness, saturation, contrast."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        ranges = ((-0.5, 0.5), (0.0, 2.0), (0.5, 1.5))
        b, s, c = (_uniform(generator, n, low, high) for low, high in ranges)
        return b, s, c

    def apply(params: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
        b, s, c = (_column(one, images) for one in params)
        images = images + b
        grey = images.mean(1, keepdim=True)
        images = s * (images - grey) + grey
        mean = images.mean((1, 2, 3), keepdim=True)
        return c * (images - mean) + mean

    return Operation(sample, apply)


def jitter() -> Operation:
    """FRePo's change of brightness, saturation, contrast."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        b, s, c = (_uniform(generator, n, -0.25, 0.25) for _ in range(3))
        return b, s.exp(), c.exp()

    return Operation(sample, color().apply)


def crop(shift: tuple[int, int]) -> Operation:
    """A move by whole pixels; 0 fills the border."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return _pair(lambda axis: _whole(generator, n, -shift[axis], shift[axis] + 1))

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        rows, columns = _moved(params, images)
        return _read(images, rows, columns, 0.0)

    return Operation(sample, apply)


def _moved(params: tuple[Tensor, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """`[n, H]` and `[n, W]`, the rows and columns that moved images show."""
    rows, columns = (
        torch.arange(size, device=images.device) + moves.to(images.device)[:, None]
        for size, moves in zip(images.shape[-2:], params, strict=True)
    )
    return rows, columns


def pad_crop(padding: int) -> Operation:
    """A move by whole pixels; the mirror image fills the border."""

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        places = zip(_moved(params, images), images.shape[-2:], strict=True)
        rows, columns = (size - 1 - (size - 1 - place.abs()).abs() for place, size in places)
        return _gathered(images, rows, columns)

    return Operation(crop((padding, padding)).sample, apply)


def cutout(extent: tuple[int, int], size: tuple[int, int], *, whole: bool = False) -> Operation:
    """A rectangle of zeros around a random centre; the whole of it inside, or a part."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        def draw(axis: int) -> Tensor:
            if whole:
                first = extent[axis] // 2
                return _whole(generator, n, first, first + size[axis] - extent[axis] + 1)
            return _whole(generator, n, 0, size[axis] + 1 - extent[axis] % 2)

        return _pair(draw)

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        def inside(centres: Tensor, axis: int) -> Tensor:
            first = centres.to(images.device)[:, None] - extent[axis] // 2
            places = torch.arange(size[axis], device=images.device)
            return (places >= first) & (places < first + extent[axis])

        rows, columns = inside(params[0], 0), inside(params[1], 1)
        return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)

    return Operation(sample, apply)


def flip() -> Operation:
    """Left and right exchanged, with probability 1/2."""

    def sample(generator: torch.Generator, n: int) -> Tensor:
        return torch.rand(n, generator=generator) < 0.5

    def apply(flipped: Tensor, images: Tensor) -> Tensor:
        return torch.where(flipped.to(images.device)[:, None, None, None], images.flip(-1), images)

    return Operation(sample, apply)


def stretched(draw: Callable[[torch.Generator, int], Tensor]) -> Operation:
    """Height and width read at steps of their own about the centre, bilinear; steps below 1 magnify."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return _pair(lambda axis: draw(generator, n))

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        y, x = _grid(images)
        rows = (height - 1) / 2 + params[0].to(images)[:, None] * y
        columns = (width - 1) / 2 + params[1].to(images)[:, None] * x
        return _bilinear(
            images,
            rows[:, :, None].expand(-1, -1, width),
            columns[:, None].expand(-1, height, -1),
        )

    return Operation(sample, apply)


def _continued(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The images at rows `[n, H]` and columns `[n, W]`, bilinear, edge pixels continued outwards."""
    height, width = images.shape[-2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return _bilinear(images, rows[:, :, None].expand(-1, -1, width), columns[:, None].expand(-1, height, -1))


def zoomed_crop(lowest: float, highest: float) -> Operation:
    """FRePo's window: a magnification, and a place within reach; the params are a step and two distances."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        factor = _uniform(generator, n, math.log(lowest), math.log(highest)).exp()
        reach = (factor - 1).abs() / (2 * factor)
        rows, columns = _pair(lambda axis: reach * _uniform(generator, n, -1.0, 1.0))
        return 1 / factor, rows, columns

    def apply(params: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
        step, *places = (one.to(images)[:, None] for one in params)
        rows, columns = (
            (size - 1) / 2 + step * middle + place * size
            for place, middle, size in zip(places, _grid(images), images.shape[-2:], strict=True)
        )
        return _continued(images, rows, columns)

    return Operation(sample, apply)


def translate(ratio: float) -> Operation:
    """A move by any part of the side; edge pixels continue outwards."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return _pair(lambda axis: _uniform(generator, n, -ratio, ratio))

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        sizes = images.shape[-2:]
        rows, columns = _moved((params[0] * sizes[0], params[1] * sizes[1]), images)
        return _continued(images, rows.to(images), columns.to(images))

    return Operation(sample, apply)


def rotate(degrees: float, *, continued: bool = False) -> Operation:
    """A turn about the centre, bilinear; the params are angles in radians. Zeros or edges lie outside."""
    limit = math.radians(degrees)

    def apply(angles: Tensor, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        y, x = (one[None] for one in _grid(images))
        sine, cosine = (one.to(images)[:, None, None] for one in (angles.sin(), angles.cos()))
        y, x = y[:, :, None], x[:, None]
        rows = cosine * y + sine * x + (height - 1) / 2
        columns = cosine * x - sine * y + (width - 1) / 2
        if continued:
            rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        return _bilinear(images, rows, columns)

    return Operation(lambda generator, n: _uniform(generator, n, -limit, limit), apply)


def crop_in_mean(padding: int) -> Operation:
    """DC's move; the channel means of the batch fill the border."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return _pair(lambda axis: _whole(generator, n, 0, 2 * padding))

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        rows, columns = _moved((params[0] - padding, params[1] - padding), images)
        return _read(images, rows, columns, images.mean((0, 2, 3))[:, None, None])

    return Operation(sample, apply)


def resize(change: float, size: tuple[int, int]) -> Operation:
    """DC's new height and width by nearest neighbour, about the centre; 0 fills the border."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        def draw(axis: int) -> Tensor:
            factors = _uniform(generator, n, 1 - change, 1 + change)
            return (factors * size[axis]).long().clamp(min=1)

        return _pair(draw)

    def apply(params: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
        canvas = torch.maximum(*params).clamp(min=max(size))

        def shown(new: Tensor, length: int) -> Tensor:
            offset = (canvas - length) // 2 - (canvas - new) // 2
            places = torch.arange(length) + offset[:, None]
            step = (torch.tensor(float(length)) / new)[:, None]  # float32, as the published code rounds
            read = torch.floor(places.to(torch.float32) * step).long().clamp(max=length - 1)
            return torch.where((places >= 0) & (places < new[:, None]), read, -1).to(images.device)

        return _read(images, shown(params[0], size[0]), shown(params[1], size[1]), 0.0)

    return Operation(sample, apply)


def rotate_cubic(degrees: int, size: tuple[int, int]) -> Operation:
    """DC's turn by whole degrees with cubic splines; the mean of the batch fills the border."""
    height, width = size
    filters = [torch.from_numpy(_spline_filter(length)) for length in size]

    def apply(angles: Tensor, images: Tensor) -> Tensor:
        radians = torch.deg2rad(angles.double())
        cosine, sine = radians.cos(), radians.sin()
        extents = (
            height * cosine.abs() + width * sine.abs(),
            height * sine.abs() + width * cosine.abs(),
        )
        top, left = (
            torch.trunc((torch.floor(extent + 0.5) - n) / 2) - (torch.floor(extent + 0.5) - 1) / 2
            for extent, n in zip(extents, size, strict=True)
        )
        y = (top[:, None] + torch.arange(height))[:, :, None]
        x = (left[:, None] + torch.arange(width))[:, None]
        cosine, sine = cosine[:, None, None], sine[:, None, None]
        rows = cosine * y + sine * x + (height - 1) / 2
        columns = cosine * x - sine * y + (width - 1) / 2
        inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        own = [one.to(images) for one in filters]
        turned = _spline_at(
            torch.einsum("ih,nchw,jw->ncij", own[0], images, own[1]), rows.to(images), columns.to(images)
        )
        return torch.where(inside.to(images.device)[:, None], turned, images.mean())

    return Operation(lambda generator, n: _whole(generator, n, -degrees, degrees), apply)


def _spline_filter(length: int) -> np.ndarray:
    """`[length + 3, length]`, the coefficients of the cubic spline through pixels, mirrored about the ends.

    The coefficients c solve (c[i-1] + 4 c[i] + c[i+1]) / 6 = f[i].
    """
    if length == 1:
        return np.ones((4, 1))
    system = 4 * np.eye(length) + np.eye(length, k=1) + np.eye(length, k=-1)
    system[0, 1] = system[-1, -2] = 2
    return 6 * np.linalg.inv(system)[np.pad(np.arange(length), (1, 2), mode="reflect")]


def _cubic(fraction: Tensor) -> Sequence[Tensor]:
    """The weights of a cubic B-spline's four coefficients around a place between two pixels."""
    t, u = fraction, 1 - fraction
    return [one / 6 for one in (u**3, 4 - 3 * t * t * (1 + u), 4 - 3 * u * u * (1 + t), t**3)]


def _spline_at(coefficients: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The splines `[n, C, H + 3, W + 3]` at rows and columns `[n, H, W]`."""
    count, channels, height, width = coefficients.shape
    places = zip((rows, columns), (height, width), strict=True)
    starts = [place.floor().clamp(0, length - 4) for place, length in places]
    along = [_cubic(place - start) for place, start in zip((rows, columns), starts, strict=True)]
    first = (starts[0] * width + starts[1]).long().flatten(1)
    flat = coefficients.flatten(2)
    found = torch.zeros(count, channels, first.shape[1], dtype=flat.dtype, device=flat.device)
    for i in range(4):
        for j in range(4):
            taken = flat.gather(2, (first + i * width + j)[:, None].expand(-1, channels, -1))
            found += (along[0][i] * along[1][j]).flatten(1)[:, None] * taken
    return found.reshape(count, channels, *rows.shape[1:])


def all_of(operations: Sequence[Operation]) -> Operation:
    """All operations, one after the other; the params are those of each."""

    def apply(params: Sequence[Any], images: Tensor) -> Tensor:
        for one, own in zip(operations, params, strict=True):
            images = one.apply(own, images)
        return images

    return Operation(lambda generator, n: tuple(one.sample(generator, n) for one in operations), apply)


def one_of(operations: Sequence[Operation], *, per_image: bool = False) -> Operation:
    """One operation, drawn for the batch or for each image; the params are its number and those of each."""

    def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Any]:
        which = _whole(generator, n if per_image else 1, 0, len(operations))
        return which, all_of(operations).sample(generator, n)

    def apply(params: tuple[Tensor, Any], images: Tensor) -> Tensor:
        which, every = params
        if not per_image:
            return operations[int(which)].apply(every[int(which)], images)
        found = torch.zeros_like(images)
        for i, (one, own) in enumerate(zip(operations, every, strict=True)):
            chosen = (which == i).to(images.device)[:, None, None, None]
            found = torch.where(chosen, one.apply(own, images), found)
        return found

    return Operation(sample, apply)


def frepo(size: tuple[int, int], *first: Operation) -> Operation:
    """One of FRePo's operations, the same for all images, or one of those that are given."""
    quarter = cutout((size[0] // 4, size[1] // 4), size, whole=True)
    mild = (jitter(), zoomed_crop(0.8, 1.25), rotate(15.0, continued=True), translate(0.125), quarter)
    return one_of((*first, *mild))


def augmentation_by_name(name: str, size: tuple[int, int]) -> Operation:
    """The augmentation that a recipe names.

    Args:
        name: the name: `dc`, `crop_zoom_rotate`, `pad_crop_flip`, `frepo`, `frepo_flip`, or names of DSA's
            operations, joined by _ for one of them at random and by + for all of them, where a part in
            parentheses is one of several.
        size: the height and width of the images.

    Returns:
        The operation.

    Raises:
        ValueError: an unknown name.
    """

    def part(ratio: float) -> tuple[int, int]:
        return int(size[0] * ratio + 0.5), int(size[1] * ratio + 0.5)

    published = {
        "color": color,
        "crop": lambda: crop(part(0.125)),
        "cutout": lambda: cutout(part(0.5), size),
        "flip": flip,
        "scale": lambda: stretched(lambda generator, n: _uniform(generator, n, 1 / 1.2, 1.2)),
        "rotate": lambda: rotate(15.0),
    }
    whole = {
        "dc": lambda: one_of((crop_in_mean(4), resize(0.2, size), rotate_cubic(45, size)), per_image=True),
        "crop_zoom_rotate": lambda: one_of(
            (
                crop((4, 4)),
                stretched(lambda generator, n: 1 / _uniform(generator, n, 0.8, 1.2)),
                rotate(45.0),
            ),
            per_image=True,
        ),
        "pad_crop_flip": lambda: all_of((pad_crop(4), flip())),
        "frepo": lambda: frepo(size),
        "frepo_flip": lambda: frepo(size, flip()),
    }
    own = OLD_NAMES.get(name, name)
    if own in whole:
        return whole[own]()
    parts = own.split("+")
    single = [[part] for part in parts] if len(parts) > 1 else [own.split("_")]
    groups = [
        part[1:-1].split("_") if part.startswith("(") and part.endswith(")") else group
        for part, group in zip(parts, single, strict=True)
    ]
    unknown = [one for group in groups for one in group if one not in published]
    if unknown:
        raise ValueError(
            f"augmentation: expected {', '.join(whole)}, or names out of {', '.join(published)}; got "
            f"{name!r}. Take the distilled_torch.py of the ddjax that wrote the file."
        )
    built = [[published[one]() for one in group] for group in groups]
    if len(built) == 1:
        return one_of(built[0])
    return all_of([group[0] if len(group) == 1 else one_of(group) for group in built])
