"""Label distillation: labels of fixed real images, learned beside a network that trains on them (LD)."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import augment, checks, platforms, ridge_head, updates
from ddjax.augment import Augmentation
from ddjax.chunks import mean_and_rest, mean_of_chunks, mean_over_chunks
from ddjax.facts import noted
from ddjax.methods import restarts
from ddjax.methods.restarts import Restarts
from ddjax.methods.starts import WithPool, assets_of, parted, real_minibatch, theta, with_pool
from ddjax.optimizers import adam_outer
from ddjax.recipes import Train, TrainHead
from ddjax.ridge_head import Head, RidgeHead
from ddjax.types import (
    Aside,
    Batch,
    InitDistribution,
    Method,
    Network,
    Params,
    PyTree,
    RealData,
    Recipe,
    Schedule,
    start_of,
)
from ddjax.unroll import cross_entropy, mixed_value_and_grad

LR = 1e-3
"""The published rate of the labels, by Adam without a schedule."""
CPU_CHUNK = 32
"""The number of examples that pass through a network at once on a CPU: LeNet's activations of 64 leave a
cache of 2 MiB, and the step takes half as long again."""


class LabelInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        accuracy: `[]`, the percent of the real minibatch that the network classifies correctly: the
            second-order method's network after the step on the base examples, the ridge method's with its
            newest classifier.
        age: `[]` float, the number of steps since the network was drawn.
    """

    accuracy: jax.Array
    age: jax.Array


class LearnerState(NamedTuple):
    """The state of a slot from one outer step to the next.

    Attributes:
        learner: the network in training: its weights and the state of its optimiser, or a `Head`.
        seed: `[]` uint32, the seed of the draw of the next base examples.
        restarts: what the rule of restarts remembers of the network.
    """

    learner: PyTree
    seed: jax.Array
    restarts: Restarts


class Learner(NamedTuple):
    """A network that trains by gradient steps.

    Attributes:
        params: the weights θ.
        optimizer: the state of the optimiser.
    """

    params: Params
    optimizer: optax.OptState


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Online(abc.ABC):
    """What the two versions share: the draws, and a network that is replaced once it stops getting better.

    Attributes:
        network: the network that trains beside φ.
        inits: the distribution p(θ0) of its initial weights.
        batch_size: the number of real examples in an outer step.
        inner_batch: the number of base examples in an outer step.
        window: the number of steps that the rule of restarts looks back.
        examples_per_chunk: the number of examples that pass through the network at once.
        augmentation: the augmentation of each real example; None for none.
    """

    network: Network
    inits: InitDistribution
    batch_size: int
    inner_batch: int
    window: int
    examples_per_chunk: int | None
    augmentation: Augmentation | None

    def __post_init__(self) -> None:
        checks.network_and_inits(self.network, self.inits)
        for name in ("batch_size", "inner_batch", "window"):
            checks.at_least(name, getattr(self, name), 1)
        if self.examples_per_chunk is not None:
            checks.at_least("examples_per_chunk", self.examples_per_chunk, 1)
        augment.check(self.augmentation)

    @abc.abstractmethod
    def fresh(self, params: Params) -> PyTree:
        """The learner with given initial weights."""

    @abc.abstractmethod
    def trained(self, schedule: Schedule, state: LearnerState, kept: PyTree) -> PyTree:
        """The learner after one step on the base examples, from what `loss` kept for the training."""

    @property
    def chunk(self) -> int:
        """The number of real examples that pass through the network at once."""
        return self.examples_per_chunk or (CPU_CHUNK if platforms.current() == "cpu" else self.batch_size)

    def sample(self, data: RealData, key: jax.Array) -> Batch | WithPool:
        """The real examples of a step, with the pool where p(θ0) has one. Consumes the key."""
        checks.network_fits(self.network, data)
        real = real_minibatch(data, key, size=self.batch_size, augmentation=self.augmentation)
        return with_pool(self.inits, data, real)

    def draw(self, key: jax.Array, pool: Params | None = None) -> LearnerState:
        """A slot with a network that was just drawn. Consumes the key."""
        own_key, seed_key = jax.random.split(key)
        learner = self.fresh(theta(self.inits, pool, own_key))
        return LearnerState(learner, _seed(seed_key), restarts.start(self.window))

    def base(self, schedule: Schedule, state: LearnerState) -> tuple[jax.Array, jax.Array]:
        """The base examples of the step and their labels, the same in `loss` and in `advance`."""
        inputs, labels = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
        if self.inner_batch >= len(inputs):
            return inputs, labels
        order = jax.random.permutation(jax.random.key(state.seed), len(inputs))
        rows = order[: self.inner_batch]
        return inputs[rows], labels[rows]

    def advance(
        self, schedule: Schedule, state: LearnerState, batch: Any, info: Aside, key: jax.Array
    ) -> LearnerState:
        """The slot after the step: its network trained on φ, or a new network. Consumes the key."""
        _, pool = parted(batch)
        diagnostics, kept = info
        init_key, seed_key = jax.random.split(key)
        remembered, is_over = restarts.observe(state.restarts, 100 - diagnostics.accuracy)

        def go_on() -> LearnerState:
            learner = self.trained(schedule, state, kept)
            return LearnerState(learner, _seed(seed_key), remembered)

        return jax.lax.cond(is_over, lambda: self.draw(init_key, pool), go_on)

    def info(self, state: LearnerState, accuracy: jax.Array) -> LabelInfo:
        """The diagnostics of a step."""
        return LabelInfo(accuracy, state.restarts.steps.astype(accuracy.dtype))

    def method(self, name: str, recipe: Recipe, loss: Any) -> Method:
        """The method of this name."""
        return Method(
            sample=self.sample,
            loss=loss,
            name=name,
            recipe=recipe,
            outer=adam_outer(LR),
            init=self.draw,
            advance=self.advance,
            assets=assets_of(self.inits),
            check_labels=check_probabilities,
            facts=start_of(self.network, self.inits),
        )


def _seed(key: jax.Array) -> jax.Array:
    return jax.random.bits(key, (), jnp.uint32)


def _scores(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean cross-entropy of real examples, `[]`, and their accuracy in percent, `[]`."""
    is_right = jnp.argmax(logits, -1).astype(labels.dtype) == labels
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), 100.0 * jnp.mean(is_right, dtype=logits.dtype)


def check_probabilities(labels: Any) -> None:
    """Refuse labels that are no probabilities.

    Args:
        labels: `[S, B, K]`, the labels of the starting φ.

    Raises:
        ValueError: a label is below zero, or the labels of an example do not sum to one.
    """
    lowest, sums = labels.min(), labels.sum(-1)
    if lowest < 0 or abs(sums - 1).max() > 1e-3:
        raise ValueError(
            "the form's labels: expected probabilities, at least 0 and with a sum of 1 for each example; got "
            f"{lowest:.3g} as the least and sums from {sums.min():.3g} to {sums.max():.3g}. Divide by the "
            "sums, or build the form with ddjax.forms.labels."
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _SecondOrder(_Online):
    """See `label_distillation`.

    Attributes:
        inner_lr: the rate of the step that the labels are judged by.
        lr: the rate of the network's own training.
    """

    inner_lr: float
    lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("inner_lr", self.inner_lr)
        checks.positive("lr", self.lr)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of the network's own training."""
        return optax.adam(self.lr)

    def fresh(self, params: Params) -> Learner:
        """See the base class."""
        return Learner(params, updates.init(self.optimizer, params))

    def trained(self, schedule: Schedule, state: LearnerState, kept: Params) -> Learner:
        """See the base class; kept is ∇_θ ℓ, as the labels were before they moved."""
        del schedule
        learner = state.learner
        moves, optimizer = updates.update(self.optimizer, kept, learner.optimizer, learner.params)
        return Learner(optax.apply_updates(learner.params, moves), optimizer)

    def loss(
        self, schedule: Schedule, state: LearnerState, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, Aside]:
        """The loss on real examples after one step, `[]`, the diagnostics, and the gradient of that step.

        The key is not used.
        """
        del key
        real, _ = parted(batch)
        params = state.learner.params
        slope = mixed_value_and_grad(cross_entropy(self.network.apply))
        base = self.base(schedule, state)
        grads = mean_of_chunks(lambda some: slope(params, *some)[1], base, self.chunk)
        ahead = jax.tree.map(lambda leaf, grad: leaf - self.inner_lr * grad, params, grads)

        def score(params: Params, some: Batch) -> tuple[jax.Array, jax.Array]:
            return _scores(self.network.apply(params, some.inputs), some.labels)

        value, accuracy = mean_over_chunks(score, size=self.chunk)(ahead, real)
        return value, Aside(self.info(state, accuracy), grads)


@noted
def label_distillation(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 1024,
    inner_batch: int = 50,
    inner_lr: float = 0.01,
    lr: float = 1e-3,
    window: int = 50,
    examples_per_chunk: int | None = None,
    augmentation: Augmentation | None = None,
    recipe: Recipe | None = None,
) -> Method:
    """The loss on real data after one gradient step on base examples, of a network that trains on them (LD).

        L(ỹ) = CE(f_θ'(x), y),   θ' = θ - α ∇_θ ℓ(θ; x̃, ỹ),   ℓ = mean_b -Σ_k ỹ_bk log softmax_k(f_θ(x̃_b))

    x̃, ỹ are a few of φ's examples, the same for the step and for the training of θ, which goes on by Adam
    with the same ∇_θ ℓ: as published, θ trains on the labels before they move. Because θ' is linear in ỹ,
    ∂L/∂ỹ needs no Hessian:

        ∂L/∂ỹ_bk = α / n · (the derivative of log softmax_k(f_θ(x̃_b)) in θ, along ∇_θ' L)

    which is one forward-mode product. Once the error on real examples has stopped falling (see
    `ddjax.methods.restarts`), a new θ is drawn. Slots are networks of ages of their own.

    Args:
        network: the network that trains beside φ.
        inits: the distribution p(θ0) of initial weights; the published one is that of
            `ddjax.inits.random(network, scheme="pytorch")`.
        batch_size: N, the number of real examples in an outer step, drawn uniformly and shared by all slots.
        inner_batch: n, the number of base examples in an outer step, drawn without replacement; all where φ
            has no more. Published: 10 of 10 and 20, 25 of 50, 50 of 100, 200 and 500.
        inner_lr: α, the rate of the step that the labels are judged by.
        lr: the rate of θ's training, by Adam.
        window: the number of steps that the rule of restarts looks back; published: 50, and 200 for more
            than 100 base examples.
        examples_per_chunk: the number of examples, real or base, that pass through the network at once; the
            result stays the same. By default 32 on CPU, and all elsewhere.
        augmentation: the augmentation of the real minibatch, with a draw for each example; None, the default,
            is no augmentation. Base examples are not augmented.
        recipe: the training on the result; by default 300 steps of Adam in batches of `inner_batch`.
            `ddjax.judge.choose_steps` finds a better number.

    Returns:
        A method whose state is a `LearnerState` and which learns no learning rates. Labels must be
        probabilities; `ddjax.forms.labels` keeps them so.

    Raises:
        ValueError: a count is below one, or a rate is not positive.

    References:
        Bohdal, Yang and Hospedales 2020, Flexible Dataset Distillation, arXiv 2006.08572, algorithm 1.
    """
    own = _SecondOrder(
        network=network,
        inits=inits,
        batch_size=batch_size,
        inner_batch=inner_batch,
        window=window,
        examples_per_chunk=examples_per_chunk,
        augmentation=augmentation,
        inner_lr=inner_lr,
        lr=lr,
    )
    default = Train(
        lr=lr, weight_decay=0.0, batch_size=inner_batch, protocol="constant", optimizer="adam", steps=300
    )
    return own.method("label_distillation", recipe or default, own.loss)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Ridge(_Online):
    """See `ridge_label_distillation`.

    Attributes:
        head: the settings of the last layer and of the training.
    """

    head: RidgeHead

    def __post_init__(self) -> None:
        super().__post_init__()
        ridge_head.check(self.head)
        ridge_head.embedding(self.network)

    def fresh(self, params: Params) -> Head:
        """See the base class."""
        return self.head.init(self.network, params)

    def trained(self, schedule: Schedule, state: LearnerState, kept: PyTree) -> Head:
        """See the base class; nothing is kept."""
        del kept
        inputs, labels = self.base(schedule, state)
        return self.head.step(self.network, state.learner, inputs, labels, labels)[0]

    def features(self, params: Params, inputs: jax.Array) -> jax.Array:
        """The features of real examples, which no gradient flows through, `[N, F + 1]`."""
        embed = ridge_head.embedding(self.network)
        _, found = mean_and_rest(lambda some: ((), embed(params, some)), inputs, self.chunk)
        return jax.lax.stop_gradient(ridge_head.with_one(found))

    def loss(
        self, schedule: Schedule, state: LearnerState, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, Aside]:
        """The loss on real examples under the newest classifier, `[]`, and the diagnostics."""
        del key
        real, _ = parted(batch)
        learner, embed = state.learner, ridge_head.embedding(self.network)
        inputs, labels = self.base(schedule, state)
        own = ridge_head.with_one(embed(learner.params, inputs))
        classifier = self.head.renewed(learner.classifier, own, labels)
        logits = self.features(learner.params, real.inputs) @ (learner.scale * classifier)
        value, accuracy = _scores(logits, real.labels)
        return value, Aside(self.info(state, accuracy), ())


@noted
def ridge_label_distillation(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 1024,
    inner_batch: int = 50,
    penalty: float = 1.0,
    momentum: float = 0.01,
    lr: float = 1e-3,
    lr_of_scale: float = 0.01,
    window: int = 50,
    examples_per_chunk: int | None = None,
    augmentation: Augmentation | None = None,
    recipe: Recipe | None = None,
) -> Method:
    """The loss on real data of a last layer that is solved from the labels, on features in training (LD RR).

        L(ỹ) = CE([h(x), 1] · s w, y),   w = (1 - μ) sg(w) + μ Xᵀ(X Xᵀ + λ I)⁻¹ ỹ,   X = [h(x̃), 1]

    No gradient passes through the training of θ. θ and s go on by Adam on the labels that have just moved;
    the published code solves w from the labels before (`ddjax.ridge_head`). Restarts are those of
    `label_distillation`.

    Args:
        network: the network that trains beside φ, with features (`Network.embed`) and without batch norm.
        inits: the distribution p(θ0) of initial weights.
        batch_size: N, the number of real examples in an outer step, drawn uniformly and shared by all slots.
        inner_batch: n, the number of base examples in an outer step, drawn without replacement; all where φ
            has no more.
        penalty: λ, the weight of the penalty, absolute.
        momentum: μ, the share of the newest regression in w.
        lr: the rate of θ's training, by Adam.
        lr_of_scale: the rate of s, by Adam.
        window: the number of steps that the rule of restarts looks back.
        examples_per_chunk: the number of the N examples that pass through the network at once; the result
            stays the same. By default 32 on CPU, and all elsewhere.
        augmentation: the augmentation of the real minibatch, with a draw for each example; None, the default,
            is no augmentation. Base examples are not augmented.
        recipe: the training on the result; by default 300 steps of the same training, `TrainHead`.

    Returns:
        A method whose state is a `LearnerState` and which learns no learning rates.

    Raises:
        ValueError: a count is below one, a rate or the penalty is not positive, the momentum is above one,
            or the network has no features or has batch norm.

    References:
        Bohdal, Yang and Hospedales 2020, Flexible Dataset Distillation, arXiv 2006.08572, algorithm 2.
    """
    own = _Ridge(
        network=network,
        inits=inits,
        batch_size=batch_size,
        inner_batch=inner_batch,
        window=window,
        examples_per_chunk=examples_per_chunk,
        augmentation=augmentation,
        head=RidgeHead(penalty, momentum, lr, lr_of_scale),
    )
    default = TrainHead(penalty, momentum, lr, lr_of_scale, batch_size=inner_batch)
    return own.method("ridge_label_distillation", recipe or default, own.loss)
