"""Trajectory matching: training on φ is to move a network as real data did (MTT, TESLA, DATM)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import augment, checks
from ddjax.augment import Augmentation
from ddjax.experts import Experts, Flat
from ddjax.facts import noted
from ddjax.optimizers import trajectory_outer
from ddjax.recipes import Train
from ddjax.types import Info, Method, Network, Params, PyTree, RealData, Recipe, Schedule
from ddjax.unroll import STRATEGIES, Memory, cross_entropy, unroll_drawn


class Window(NamedTuple):
    """The checkpoints at which a segment of an expert may start; grows with the outer steps where wanted.

        U(t) = min(grows_from + ⌊(last - grows_from) · t / over⌋, last)
        start ~ uniform{first, ..., U(t) - 1}

    Attributes:
        first: the first checkpoint to start at.
        last: the end of the window, one above the last checkpoint to start at.
        grows_from: the end of the window at the first outer step; None for a window of one size.
        over: the number of outer steps until the window ends at `last`; with `grows_from` only.

    References:
        Guo et al. 2024, arXiv 2310.05773 (DATM), "sequential generation".
    """

    first: int = 0
    last: int = 20
    grows_from: int | None = None
    over: int = 0

    def end(self, outer_step: jax.Array) -> jax.Array:
        """The end of the window at an outer step.

        Args:
            outer_step: `[...]` int32, the number of outer steps done.

        Returns:
            `[...]` int32.
        """
        if self.grows_from is None:
            return jnp.full(outer_step.shape, self.last, outer_step.dtype)
        # The cap comes first, so that the product stays within 32 bits however long a run is.
        done = jnp.minimum(outer_step, self.over)
        return self.grows_from + (self.last - self.grows_from) * done // self.over


WINDOW = Window()
"""The window of checkpoints 0 to 19, that of CIFAR-10 with ten images per class as published."""


class Segment(NamedTuple):
    """A part of an expert that the student is to follow.

    Attributes:
        start: `[P]`, the weights θ_0 that the student starts from.
        target: `[P]`, the weights θ* that the student should come to.
    """

    start: jax.Array
    target: jax.Array


class Steps(NamedTuple):
    """The minibatches of the student.

    Attributes:
        rows: `[T, B]` int32, the positions of each step's images among all S·B images of φ; None where each
            step takes all images.
        keys: `[T]`, the source of each step's draw of the augmentation.
    """

    rows: jax.Array | None
    keys: jax.Array

    @classmethod
    def draw(cls, key: jax.Array, *, steps: int, batch_size: int | None, count: int) -> Steps:
        """Minibatches of the images in a random order, a new one after all have been taken.

        Args:
            key: the source of the orders and of the keys. Consumed.
            steps: T, the number of steps.
            batch_size: B, the number of images of a step; None for all.
            count: the number of all images.

        Returns:
            The minibatches. One that begins with the last images of an order ends with the first of the next.
        """
        order_key, key = jax.random.split(key)
        keys = jax.random.split(key, steps)
        if batch_size is None or batch_size >= count:
            return cls(None, keys)
        passes = jax.random.split(order_key, -(-steps * batch_size // count))
        orders = jax.vmap(lambda one: jax.random.permutation(one, count))(passes)
        return cls(orders.ravel()[: steps * batch_size].reshape(steps, batch_size), keys)


class TrajectoryInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        start: `[]` float, the checkpoint at which the segment started.
        window: `[]` float, the end of the window.
        distance: `[]`, ‖θ_0 - θ*‖, the way that the expert went.
        kept: `[]` float, 1 where the loss was not above `max_loss`, else 0.
        inner_losses: `[T]`, the student's loss on φ before each of its steps.
    """

    start: jax.Array
    window: jax.Array
    distance: jax.Array
    kept: jax.Array
    inner_losses: jax.Array


def student_loss(
    network: Network,
    schedule: Schedule,
    segment: Segment,
    steps: Steps,
    *,
    memory: Memory = STRATEGIES["mixed"],
    augmentation: Augmentation | None = None,
) -> tuple[jax.Array, tuple[Params, jax.Array]]:
    """How far a student that trains on φ ends from the expert's later weights.

        θ_{t+1} = θ_t - η ∇_θ CE(f(A(x̃_b); θ_t), ỹ_b),  t < T,    L = ‖θ_T - θ*‖² / ‖θ_0 - θ*‖²

    Args:
        network: the network f.
        schedule: φ as a schedule, of which all S·B images are one set; η is the mean of the learning rates.
        segment: θ_0 and θ*.
        steps: the minibatches b of the student.
        memory: the strategy for differentiating the student's training.
        augmentation: A, with a draw of its own for each image; None for none.

    Returns:
        L, `[]`; θ_T, `[P]`; and the losses on φ before each step, `[T]`.

    References:
        Cazenavette et al. 2022, arXiv 2203.11932, equations 2 and 3.
    """
    checks.schedule(schedule, needs_lrs=True)
    assert schedule.lrs is not None
    images, labels = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
    phi = images, labels, schedule.lrs.mean()

    def draw(phi: Any, now: Steps) -> tuple[jax.Array, jax.Array, jax.Array]:
        images, labels, lr = phi
        if now.rows is not None:
            images, labels = images[now.rows], labels[now.rows]
        if augmentation is not None:
            images = augmentation.of_minibatch(now.keys, images, jnp.ones(len(images), images.dtype))
        return images, labels, lr

    flat = Flat.of(network)
    start, target = (vector.astype(images.dtype) for vector in segment)
    trained, losses = unroll_drawn(
        cross_entropy(network.apply), flat.params(start), phi, steps, draw=draw, memory=memory
    )
    end = flat.vector(trained)
    return jnp.sum((end - target) ** 2) / jnp.sum((start - target) ** 2), (end, losses)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _TrajectoryMatching:
    """See `trajectory_matching`; its callables are those of a `Method`.

    Attributes:
        network: the network of experts and student.
        weights: `[n, Q, P]` float32, the checkpoints from the window's first on.
        inner_steps: T, the number of the student's steps.
        batch_size: B, the number of images of a step; None for all.
        span: the number of checkpoints from the start of a segment to its target.
        window: the checkpoints at which a segment may start.
        memory: the strategy for differentiating the student's training.
        augmentation: the augmentation of φ's images; None for none.
        max_loss: the loss above which a segment moves nothing; None for no bound.
    """

    network: Network
    weights: np.ndarray
    inner_steps: int
    batch_size: int | None
    span: int
    window: Window
    memory: Memory
    augmentation: Augmentation | None
    max_loss: float | None

    def init(self, key: jax.Array) -> jax.Array:
        """`[]` int32, the number of outer steps done."""
        del key
        return jnp.zeros((), jnp.int32)

    def sample(self, data: RealData, key: jax.Array) -> jax.Array:
        """The checkpoints of all experts, `[n, Q, P]`; real examples are not looked at."""
        del key
        checks.network_fits(self.network, data)
        return data.assets if len(jax.tree.leaves(data.assets)) else jnp.asarray(self.weights)

    def segment(self, weights: jax.Array, first: jax.Array, key: jax.Array) -> tuple[Segment, jax.Array]:
        """A segment of a random expert, and the checkpoint at which it starts. Consumes the key.

        Args:
            weights: `[n, Q, P]`, the checkpoints from the window's first on.
            first: `[]` int32, the end of the window.
            key: the source of the draw.
        """
        expert_key, start_key = jax.random.split(key)
        expert = jax.random.randint(expert_key, (), 0, len(weights))
        start = jax.random.randint(start_key, (), self.window.first, first)
        at = start - self.window.first
        return Segment(weights[expert, at], weights[expert, at + self.span]), start

    def loss(
        self, schedule: Schedule, state: jax.Array, batch: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, TrajectoryInfo]:
        """The loss of a student on a random segment, and the diagnostics. Consumes the key."""
        segment_key, key = jax.random.split(key)
        end = self.window.end(state)
        segment, start = self.segment(batch, end, segment_key)
        count = schedule.labels.shape[0] * schedule.labels.shape[1]
        steps = Steps.draw(key, steps=self.inner_steps, batch_size=self.batch_size, count=count)
        value, (_, losses) = student_loss(
            self.network, schedule, segment, steps, memory=self.memory, augmentation=self.augmentation
        )
        kept = jnp.ones_like(value)
        if self.max_loss is not None:
            kept = (value <= self.max_loss).astype(value.dtype)
            value = jnp.where(kept > 0, value, jax.lax.stop_gradient(value))
        distance = jnp.linalg.norm(segment.start - segment.target)
        start, end = (one.astype(value.dtype) for one in (start, end))
        return value, TrajectoryInfo(start, end, distance, kept, losses)

    def advance(
        self, schedule: Schedule, state: jax.Array, batch: PyTree, info: Info, key: jax.Array
    ) -> jax.Array:
        """One outer step more."""
        del schedule, batch, info, key
        return state + 1


@noted
def trajectory_matching(
    network: Network,
    experts: Experts,
    *,
    inner_steps: int,
    batch_size: int | None = None,
    span: int = 2,
    window: Window = WINDOW,
    memory: Memory = STRATEGIES["mixed"],
    augmentation: Augmentation | None = None,
    max_loss: float | None = None,
    recipe: Recipe | None = None,
) -> Method:
    """The distance of a student, after T steps on φ, from an expert that started where the student did.

        L(φ) = E_{expert, start} ‖θ_T - θ*‖² / ‖θ_0 - θ*‖²,   θ_0 = expert[start],  θ* = expert[start + span]

    θ_T is θ_0 after T gradient steps at the learned rate η on random minibatches of φ, see `student_loss`.
    Experts and starts are drawn with replacement by each slot at each outer step, where the published code
    goes through the experts in a random order; M slots are M segments in a step, and one was published. η is
    kept above zero by the form, where the published η is a free number that may become negative.

    Args:
        network: the network of the experts and the student.
        experts: the trainings on the real data.
        inner_steps: T, the number of the student's steps; published are 10 to 100.
        batch_size: B, the number of φ's images in a step; None for all.
        span: the number of checkpoints from the start to the target; with one checkpoint an epoch, the epochs
            of the expert that a student is to catch up with.
        window: the checkpoints at which a segment may start.
        memory: the strategy by which the student's training is differentiated; by default the exact gradient
            with T·P + A numbers. `Memory(mixed=True, first_order=True)` is TESLA's gradient, an
            approximation with P + A.
        augmentation: the augmentation of φ's images in each step, one draw for each image; published is that
            of DSA.
        max_loss: the loss above which a segment has no gradient, 1 to 1.1 in DATM; the outer optimiser's
            momentum moves φ all the same, where the published code leaves the whole step out. None for no
            bound.
        recipe: the training on the result; by default the published protocol at the learned rate, with the
            augmentation.

    Returns:
        A method whose state is the number of outer steps done, and which learns a learning rate. All images
        and learning rates of the form are one set and one rate, whatever S and E are.

    Raises:
        ValueError: the experts are of another network or lack checkpoints of the window, a number is out of
            range, or the recipe does not fit the network.

    References:
        MTT: Cazenavette et al. 2022, arXiv 2203.11932. TESLA: Cui et al. 2023, arXiv 2211.10586. DATM: Guo et
        al. 2024, arXiv 2310.05773.
    """
    checks.kind("experts", experts, Experts, remedy="Load some with ddjax.experts.load.")
    experts.fit(network)
    _check_numbers(inner_steps, batch_size, span, max_loss)
    _check_window(window, span, experts)
    checks.kind("memory", memory, Memory, remedy="Give one of ddjax.unroll.STRATEGIES.")
    augment.check(augmentation, network)
    kept = experts.window(window.first, window.last - 1 + span)
    own = _TrajectoryMatching(
        network=network,
        weights=kept.stacked(),
        inner_steps=inner_steps,
        batch_size=batch_size,
        span=span,
        window=window,
        memory=memory,
        augmentation=augmentation,
        max_loss=max_loss,
    )
    named = "" if augmentation is None else augmentation.name
    recipe = recipe or Train(lr=None, epochs=1000, augmentation=named, protocol="condensation")
    checks.kind("recipe", recipe, Recipe, remedy="Give ddjax.Recipe('train', lr=None, ...).")
    recipe.check(network)
    return Method(
        sample=own.sample,
        loss=own.loss,
        name="trajectory_matching",
        recipe=recipe,
        outer=trajectory_outer,
        init=own.init,
        advance=own.advance,
        assets=own.weights,
        facts={"network": network.name, "network_settings": dict(network.settings)},
    )


def _check_numbers(inner_steps: int, batch_size: int | None, span: int, max_loss: float | None) -> None:
    checks.at_least("inner_steps", inner_steps, 1)
    checks.at_least("span", span, 1)
    if batch_size is not None:
        checks.at_least("batch_size", batch_size, 1)
    if max_loss is not None:
        checks.positive("max_loss", max_loss)


def _check_window(window: Window, span: int, experts: Experts) -> None:
    """Refuse a window that is none, or one whose targets lie behind the experts' last checkpoint."""
    checks.kind("window", window, Window, remedy="Give ddjax.methods.trajectory_matching.Window(...).")
    checks.at_least("window.first", window.first, 0)
    start = window.last if window.grows_from is None else window.grows_from
    checks.at_least("window.last", window.last, start, remedy="End where the window grows to.")
    name = "window.last" if window.grows_from is None else "window.grows_from"
    checks.at_least(name, start, window.first + 1, remedy="Let at least one checkpoint be in the window.")
    if window.grows_from is not None:
        checks.at_least("window.over", window.over, 1, remedy="Say in how many outer steps the window grows.")
    if window.last - 1 + span >= experts.num_checkpoints:
        raise ValueError(
            f"window: expected starts below {max(experts.num_checkpoints - span, 0)}, because the experts "
            f"have {experts.num_checkpoints} checkpoints and targets lie {span} later; got a window up to "
            f"{window.last}. End the window earlier, shorten the span, or train the experts longer."
        )
