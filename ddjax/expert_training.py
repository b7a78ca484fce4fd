"""Training experts: many runs on the same real data, each recorded at equal steps, one after the other.

A killed process goes on where the last checkpoint was written, inside an expert too, and ends with the same
bytes as one that was never killed.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import augment, checks, experts, files, platforms
from ddjax.checkpoint import Store
from ddjax.chunks import mean_over_chunks
from ddjax.data import Dataset, to_device
from ddjax.engine import compiler_options
from ddjax.experts import Directory, Entry, Experts, Flat
from ddjax.judge import Judge, check_split
from ddjax.recipes import Train
from ddjax.training import (
    Descent,
    Examples,
    Gradient,
    Minibatch,
    Passes,
    Places,
    Progress,
    ValueAndAux,
    plain_gradient,
    steps_of_epoch,
    weighted_class_loss,
)
from ddjax.types import InitDistribution, Network, Params, PyTree, RealData

EXAMPLES_PER_CHUNK = 16
"""The number of images in a chunk on CPU, where the activations of more would not stay in the cache."""

UNFINISHED = "unfinished"
"""The folder, inside that of the experts, with the checkpoint of the expert that is being trained."""


class Gsam(NamedTuple):
    """The settings of GSAM, a training that looks for flat minima; FTD trains its experts so.

    Attributes:
        rho: ρ, the size of the step to the point whose gradient is taken, relative to the weights.
        alpha: α, the weight of the part of the plain gradient across that gradient, which is taken off.

    References:
        Zhuang et al. 2022, arXiv 2203.08065. Du et al. 2023, arXiv 2211.11004 (FTD).
    """

    rho: float = 0.01
    alpha: float = 0.4


def gsam_gradient(settings: Gsam) -> Gradient:
    """The direction of a step of GSAM; two gradients a step.

        ε = ρ θ² g / ‖|θ| g‖,   g = ∇ℓ(θ),  h = ∇ℓ(θ + ε)
        direction = h - α (g - ⟨g, h⟩ h / ‖h‖²)

    Args:
        settings: ρ and α.

    Returns:
        The direction, for `ddjax.training.Descent`.
    """

    def direction(loss: ValueAndAux, params: Params, batch: Minibatch) -> tuple[Params, PyTree]:
        plain, aux = plain_gradient(loss, params, batch)
        scaled = optax.tree.norm(jax.tree.map(lambda p, g: p * g, params, plain))
        step = settings.rho / jnp.where(scaled > 0, scaled, 1)
        moved = jax.tree.map(lambda p, g: p + step.astype(p.dtype) * p * p * g, params, plain)
        flat, _ = plain_gradient(loss, moved, batch)
        squared = jnp.square(jnp.asarray(optax.tree.norm(flat)))
        along = optax.tree.vdot(plain, flat) / jnp.where(squared > 0, squared, 1)
        return jax.tree.map(lambda h, g: h - settings.alpha * (g - along * h), flat, plain), aux

    return direction


@dataclasses.dataclass(frozen=True)
class ExpertTraining:
    """The settings of an expert's training: SGD at one rate, on all examples in a new order in each epoch.

    Attributes:
        checkpoints: the number of checkpoints after the initial weights; an expert has Q = checkpoints + 1.
        record_every: the number of gradient steps from one checkpoint to the next; None for one epoch.
        lr: the learning rate.
        momentum: the momentum.
        weight_decay: the factor of θ that is added to the gradient.
        batch_size: the number of images in one step; the last minibatch of an epoch may be incomplete.
        augmentation: the name of the augmentation of the images, one that `ddjax.augment.by_name` knows, with
            a draw of its own for each image; empty for none.
        gsam: the settings of GSAM, with which FTD and DATM train; None for plain gradients.

    Raises:
        ValueError: a count below one, a rate that is not positive, or another number out of its range.
    """

    checkpoints: int
    record_every: int | None = None
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 256
    augmentation: str = ""
    gsam: Gsam | None = None

    def __post_init__(self) -> None:
        checks.at_least("checkpoints", self.checkpoints, 1)
        if self.record_every is not None:
            checks.at_least("record_every", self.record_every, 1)
        checks.at_least("batch_size", self.batch_size, 1)
        checks.positive("lr", self.lr)
        checks.fraction("momentum", self.momentum)
        checks.at_least("weight_decay", self.weight_decay, 0, integer=False)
        if self.gsam is not None:
            checks.positive("gsam: rho", self.gsam.rho)
            checks.at_least("gsam: alpha", self.gsam.alpha, 0, integer=False)

    def steps(self, num_examples: int) -> np.ndarray:
        """The number of gradient steps at each checkpoint.

        Args:
            num_examples: the number of training examples.

        Returns:
            `[Q]` int64, from 0 on.
        """
        every = self.record_every or steps_of_epoch(num_examples, self.batch_size)
        return every * np.arange(self.checkpoints + 1, dtype=np.int64)

    def passes(self, network: Network, data: RealData) -> Passes:
        """The minibatches of the training.

        Args:
            network: the network to train.
            data: the real data on the device.

        Returns:
            The passes over the data.
        """
        named = self.augmentation
        augmentation = augment.by_name(named, network.image_shape) if named else None
        return Passes(Examples.of_data(data), self.batch_size, augmentation)

    def descent(self, network: Network) -> Descent:
        """The steps of the training.

        Args:
            network: the network to train.

        Returns:
            The steps.
        """
        is_cpu = platforms.current() == "cpu"
        loss = weighted_class_loss(network)
        return Descent(
            mean_over_chunks(loss, size=EXAMPLES_PER_CHUNK) if is_cpu else loss,
            self.optimizer,
            gradient=plain_gradient if self.gsam is None else gsam_gradient(self.gsam),
        )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser, with its rate."""
        sgd = optax.sgd(self.lr, momentum=self.momentum or None)
        return optax.chain(optax.add_decayed_weights(self.weight_decay), sgd) if self.weight_decay else sgd


class Unfinished(NamedTuple):
    """An expert in the middle of its training.

    Attributes:
        number: `[]` int32, the number of the expert.
        recorded: `[]` int32, the number of checkpoints that are recorded.
        weights: `[Q, P]` float32, the recorded checkpoints; zeros where there is none yet.
        progress: the training after the last recorded checkpoint.
    """

    number: np.ndarray
    recorded: np.ndarray
    weights: np.ndarray
    progress: Progress


def _unfinished(number: int, recorded: int, weights: np.ndarray, progress: Progress) -> Unfinished:
    return Unfinished(np.asarray(number, np.int32), np.asarray(recorded, np.int32), weights, progress)


class _Programs(NamedTuple):
    """The compiled parts of an expert's training.

    Attributes:
        start: `key -> progress`, the training before its first step.
        places: `(key, data) -> places`, the minibatches of an epoch.
        advance: `(progress, places, first, last, data) -> progress`, the steps from `first` to `last` of an
            epoch.
        vector: `params -> [P]`.
    """

    start: Callable[..., Progress]
    places: Callable[..., Places]
    advance: Callable[..., Progress]
    vector: Callable[[Params], jax.Array]


@functools.lru_cache(maxsize=4)
def _programs(network: Network, inits: InitDistribution, training: ExpertTraining) -> _Programs:
    def start(key: jax.Array) -> Progress:
        return training.descent(network).start(inits.sample(key))

    def places(key: jax.Array, data: RealData) -> Places:
        return training.passes(network, data).places(key)

    def advance(now: Progress, places: Places, first: jax.Array, last: jax.Array, data: RealData) -> Progress:
        passes, descent = training.passes(network, data), training.descent(network)

        def step(index: jax.Array, now: Progress) -> Progress:
            place = jax.tree.map(lambda leaf: leaf[index], places)
            return descent.step(now, place.rows, passes.at(place))

        return jax.lax.fori_loop(first, last, step, now)

    options = compiler_options(platforms.current())
    return _Programs(
        jax.jit(start),
        jax.jit(places),
        jax.jit(advance, compiler_options=options),
        jax.jit(Flat.of(network).vector),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Trainer:
    """The training of one expert after the other.

    Attributes:
        network: the network to train.
        inits: p(θ0).
        data: the training split on the device.
        training: the settings of each training.
        seed: the seed of initial weights, orders and augmentations; expert i depends on seed and i alone.
        store: the checkpoint of the expert that is being trained.
        save_seconds: the seconds between two writings of that checkpoint.
    """

    network: Network
    inits: InitDistribution
    data: RealData
    training: ExpertTraining
    seed: int
    store: Store
    save_seconds: float

    @functools.cached_property
    def programs(self) -> _Programs:
        """The compiled parts."""
        return _programs(self.network, self.inits, self.training)

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """`[Q]`, the number of gradient steps at each checkpoint."""
        return self.training.steps(len(self.data.labels))

    def keys(self, number: int) -> tuple[jax.Array, jax.Array]:
        """The keys of an expert's initial weights and of its epochs."""
        init_key, epochs_key = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), number))
        return init_key, epochs_key

    def begun(self, number: int) -> Unfinished:
        """The expert before its first step."""
        progress = self.programs.start(self.keys(number)[0])
        weights = np.zeros((len(self.steps), Flat.of(self.network).size), np.float32)
        weights[0] = self.programs.vector(progress.params)
        return _unfinished(number, 1, weights, progress)

    def found(self, number: int) -> Unfinished:
        """The expert where an earlier start left it, or before its first step."""
        fresh = self.begun(number)
        kept = self.store.restore(fresh)
        return kept if kept is not None and int(kept.number) == number else fresh

    def trained(self, number: int, listener: Callable[[int, int], None]) -> tuple[np.ndarray, Params]:
        """The checkpoints `[Q, P]` of an expert, and its last weights; the rest of a training that was begun.

        Args:
            number: the number of the expert.
            listener: called with the number of the expert and of its recorded checkpoints.
        """
        now, saved = self.found(number), time.monotonic()
        weights = np.array(now.weights)
        progress = now.progress
        places = functools.lru_cache(maxsize=1)(functools.partial(self._places, number))
        for recorded in range(int(now.recorded), len(self.steps)):
            progress = self._stretch(progress, places, *self.steps[recorded - 1 : recorded + 1].tolist())
            weights[recorded] = self.programs.vector(progress.params)
            listener(number, recorded)
            if recorded + 1 < len(self.steps) and time.monotonic() - saved >= self.save_seconds:
                tree = _unfinished(number, recorded + 1, weights, progress)
                self.store.save(number * len(self.steps) + recorded, tree)
                saved = time.monotonic()
        return weights, progress.params

    def _places(self, number: int, epoch: int) -> Places:
        return self.programs.places(jax.random.fold_in(self.keys(number)[1], epoch), self.data)

    def _stretch(
        self, progress: Progress, places: Callable[[int], Places], first: int, last: int
    ) -> Progress:
        """The training from one checkpoint to the next, which may be in another epoch."""
        per_epoch = steps_of_epoch(len(self.data.labels), self.training.batch_size)
        while first < last:
            epoch, at = divmod(first, per_epoch)
            end = min(last - epoch * per_epoch, per_epoch)
            progress = self.programs.advance(progress, places(epoch), at, end, self.data)
            first = epoch * per_epoch + end
        return progress


def train_experts(
    network: Network,
    inits: InitDistribution,
    data: Dataset,
    training: ExpertTraining,
    *,
    seed: int,
    total: int,
    directory: Path,
    facts: Mapping[str, Any] | None = None,
    save_seconds: float = 60.0,
    listener: Callable[[int, int], None] = lambda number, recorded: None,
    finished: Callable[[Sequence[Entry]], None] = lambda entries: None,
) -> Experts:
    """Train experts one after the other, each written when it is finished; go on where a killed start ended.

    Args:
        network: the network to train.
        inits: p(θ0).
        data: the real data; trained on the training split, scored on the validation split.
        training: the settings of each training.
        seed: the seed of initial weights, orders and augmentations; expert i depends on seed and i alone.
        total: the number of experts.
        directory: the directory of the experts; a directory with fewer experts of the same training is added
            to.
        facts: further facts for `experts.json`; None for none.
        save_seconds: the seconds between two checkpoints of the expert that is being trained.
        listener: called at each recorded checkpoint with the number of the expert and of the checkpoint.
        finished: called after each expert with the entries of all that are finished.

    Returns:
        The experts.

    Raises:
        ValueError: the data do not fit the network, the directory holds other experts or a damaged file, or a
            training diverged.
        OSError: a file could not be written, or the disk has no room for all experts; this is said before
            the first step.
    """
    checks.at_least("total", total, 1)
    check_split(data.train, network)
    steps = training.steps(len(data.train))
    metadata = {
        **(facts or {}),
        **experts.described(network, data),
        "training": dataclasses.asdict(training),
        "seed": seed,
        "init": inits.name,
    }
    place = Directory(directory, steps.tolist(), metadata)
    entries = place.open()
    files.remove_temporaries(directory)
    if len(entries) < total:
        check_room(directory, network, count=total - len(entries), checkpoints=len(steps))
        judge = Judge(network, inits, Train(), data.validation)
        store = Store(directory / UNFINISHED, keep=1)
        trainer = _Trainer(network, inits, to_device(data.train), training, seed, store, save_seconds)
        while len(entries) < total:
            weights, params = trainer.trained(len(entries), listener)
            one = jax.tree.map(lambda leaf: leaf[None], params)
            entries = place.add(entries, weights, judge.untrained(one).mean)
            for path in store.paths():
                path.unlink()
            finished(entries)
    return experts.load(directory)


def check_room(directory: Path, network: Network, *, count: int, checkpoints: int) -> None:
    """Refuse a disk that has no room for experts, before any is trained.

    Args:
        directory: the directory of the experts, which exists.
        network: the network.
        count: the number of experts that are still to be written.
        checkpoints: Q, the number of checkpoints of each.

    Raises:
        OSError: the directory cannot be written, or has too little room.
    """
    size = Flat.of(network).size
    # One more, for the checkpoint of the expert that is being trained.
    needed = (count + 1) * (4 * size * checkpoints + 1024) + 8 * size
    try:
        files.check_room(directory, needed)
    except files.WriteError as error:
        raise files.WriteError(
            f"{error} {count} experts of {checkpoints} checkpoints of {size:,} weights are to be written: "
            "fewer experts or checkpoints take less."
        ) from error


__all__ = [
    "EXAMPLES_PER_CHUNK",
    "ExpertTraining",
    "Gsam",
    "check_room",
    "gsam_gradient",
    "train_experts",
]
