"""Recipes for training on φ: replay of its steps, training by cross-entropy or squared error, regression.

Every user of φ calls `recipe.fit`, and no other code depends on the kind of the recipe.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import augment, checks, ridge, ridge_head, updates
from ddjax.chunks import MeanLoss
from ddjax.networks import norms
from ddjax.ridge_head import RidgeHead
from ddjax.training import Examples, fit, steps_of_epoch, weighted_loss
from ddjax.types import Fitted, Network, Params, PyTree, Recipe, Schedule, as_image_shape
from ddjax.unroll import OPTIMIZERS, cross_entropy, unroll

PROTOCOLS = ("plain", "condensation", "constant", "idc")
"""The ways in which `Train` counts epochs and lowers its rate; see there. `plain` was the only one once."""

TRAINERS = ("sgd", "adam")
"""The optimisers of `Train`; `sgd` was the only one once."""

MOST_EPOCHS = 1_000_000
"""The most epochs that the recipe of a file may have, so that no file keeps a machine busy."""


class Stepwise(NamedTuple):
    """A training step by step, whose number of steps is still open.

    Attributes:
        start: the state before the first step.
        step: `(state, key) -> state`, one step. Consumes the key.
        fitted: `state -> Fitted`, what a state predicts.
    """

    start: PyTree
    step: Callable[[PyTree, jax.Array], PyTree]
    fitted: Callable[[PyTree], Fitted]

    def between(self, state: PyTree, key: jax.Array, first: Any, last: Any) -> PyTree:
        """The state after some steps; the numbers of the steps may be traced.

        Args:
            state: the state before step `first`.
            key: the key of the whole training, from which the key of each step is folded.
            first: the number of steps done.
            last: the number of steps done after.

        Returns:
            The state before step `last`.
        """
        return jax.lax.fori_loop(
            first, last, lambda i, state: self.step(state, jax.random.fold_in(key, i)), state
        )

    def run(self, key: jax.Array, steps: int) -> Fitted:
        """The whole training.

        Args:
            key: the source of the random draws. Consumed.
            steps: the number of steps.

        Returns:
            The trained weights and the function that predicts with them.
        """
        return self.fitted(self.between(self.start, key, 0, steps))


class Counting(Recipe):
    """A recipe whose training can go step by step, to be tested after several numbers of steps.

    Its dataclass has the field `steps`, the number of steps of `fit`.
    """

    @abc.abstractmethod
    def stepwise(self, network: Network, params: Params, schedule: Schedule) -> Stepwise:
        """The training step by step.

        Args:
            network: the network to train.
            params: the initial weights θ0.
            schedule: φ as a schedule.

        Returns:
            The training.
        """

    def with_steps(self, steps: int) -> Self:
        """The same recipe with another number of steps.

        Args:
            steps: the number of steps.

        Returns:
            The recipe.
        """
        return dataclasses.replace(cast("Any", self), steps=steps)


def counting(recipe: Recipe) -> Counting:
    """A recipe, known to count steps.

    Args:
        recipe: the recipe.

    Returns:
        The same recipe.

    Raises:
        ValueError: the recipe counts no steps.
    """
    if not isinstance(recipe, Counting):
        raise ValueError(
            f"recipe: expected one that counts steps; {recipe.kind!r} does not. Give "
            "ddjax.Recipe('train', protocol='constant', steps=300)."
        )
    return recipe


def _drawn(examples: Examples, key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Some examples without replacement, or all where there are no more. Consumes the key."""
    return examples.take(jax.random.permutation(key, examples.count)[: min(size, examples.count)])


@dataclasses.dataclass(frozen=True)
class Replay(Recipe):
    """The S·E gradient steps of the schedule, with its learned rates.

    Attributes:
        optimizer: the optimiser whose updates η scales, a name from `ddjax.unroll.OPTIMIZERS`.

    References:
        Wang et al. 2018, arXiv 1811.10959, algorithm 1.
    """

    kind = "schedule"
    needs_lrs = True

    optimizer: str = "sgd"

    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Train by the gradient steps of the schedule; see `ddjax.types.Recipe.fit`.

        Args:
            network: the network to train.
            params: the initial weights θ0.
            schedule: φ as a schedule, with learning rates.
            key: a key that is not used.

        Returns:
            The weights after the last step, and the function that predicts with them.
        """
        del key
        loss = cross_entropy(network.apply)
        trained, _ = unroll(loss, params, schedule, optimizer=OPTIMIZERS[self.optimizer])
        return _fitted(network, trained, schedule)

    def check(self, network: Network) -> None:
        """Refuse an unknown optimiser or a network without weights; see `ddjax.types.Recipe.check`.

        Args:
            network: the network to train.

        Raises:
            ValueError: the network is a kernel, or there is no optimiser of this name.
        """
        _check_trains(self.kind, network)
        checks.choice("recipe: optimizer", self.optimizer, OPTIMIZERS)


@dataclasses.dataclass(frozen=True)
class Train(Counting):
    """An ordinary training in epochs or in steps, on all S·B examples as one small training set.

    The protocol `"condensation"` is the training behind the numbers that DC, DSA and DM published: E + 1
    epochs, after ⌊E / 2⌋ + 2 of which the rate falls to a tenth and a new optimiser starts, whose momentum is
    zero. Under `"plain"` there are E epochs, and the rate falls to a tenth after half of their steps, rounded
    up, while the momentum is kept; no published number was measured so. Under `"constant"` there are E
    epochs, or a given number of steps, at one rate; label distillation is measured so, by Adam. Under `"idc"`
    there are E epochs, and the rate falls to a fifth after ⌊2E / 3⌋ of these and again after ⌊5E / 6⌋, while
    the momentum is kept; IDC's numbers were measured so, by 1,000 epochs in minibatches of 64.

    Attributes:
        lr: the learning rate at the start; None for the rate that φ has learned, the mean of the schedule's
            learning rates.
        momentum: the momentum of SGD; not used by Adam.
        weight_decay: the factor of θ that is added to the gradient.
        epochs: E, the number of passes over the S·B examples; not used where `steps` is given.
        batch_size: the number of examples in one step.
        augmentation: the augmentation of every minibatch, with a draw of its own for each image: the name of
            a strategy that `ddjax.augment.by_name` knows, or the empty text for no augmentation.
        protocol: the count of the epochs and the fall of the rate, one of `PROTOCOLS`.
        optimizer: the optimiser, `"sgd"` or `"adam"` (β 0.9 and 0.999).
        steps: the number of steps in place of E epochs, for the protocol `"constant"`; None for E epochs.
        mix: the mixture of the images of every minibatch after the augmentation: the name of one of
            `ddjax.augment.MIXES`, or the empty text for none.
        temperature: T, by which logits are divided in training: the loss is T² times the cross-entropy of the
            labels and softmax(z / T), where the labels are a teacher's probabilities at the same T. Scores
            are the logits as they are; 1 is ordinary training.

    References:
        Zhao et al. 2021, arXiv 2006.05929; `evaluate_synset` in `utils.py` of the authors' repository,
        github.com/VICO-UoE/DatasetCondensation. Adam and steps: Bohdal et al. 2020, arXiv 2006.08572. At the
        learned rate: Cazenavette et al. 2022, arXiv 2203.11932. IDC: Kim et al. 2022, arXiv 2205.14959, and
        `train.py` of the authors' repository, github.com/snu-mllab/Efficient-Dataset-Condensation.
        Temperature: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """

    kind = "train"
    is_random = True

    lr: float | None = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    epochs: int = 300
    batch_size: int = 256
    augmentation: str = ""
    protocol: str = "plain"
    optimizer: str = "sgd"
    steps: int | None = None
    mix: str = ""
    temperature: float = 1.0

    @property
    def needs_lrs(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] (depends on lr here)
        """Whether training is at the rate that φ has learned."""
        return self.lr is None

    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Train for all epochs; see `ddjax.types.Recipe.fit`.

        Args:
            network: the network to train.
            params: the initial weights θ0.
            schedule: φ as a schedule; the learning rates are used where the recipe has none of its own.
            key: the source of the order of each epoch and of the augmentation. Consumed.

        Returns:
            The weights after all epochs, and the function that predicts with them.
        """
        if self.steps is not None:
            return self.stepwise(network, params, schedule).run(key, self.steps)
        steps = steps_of_epoch(schedule.labels.shape[0] * schedule.labels.shape[1], self.batch_size)
        is_published = self.protocol == "condensation"
        trained, _ = fit(
            weighted_loss(network, temperature=self.temperature),
            params,
            key,
            examples=Examples.of_schedule(schedule),
            optimizer=self._optimizer(steps, self._rate(schedule)),
            epochs=self.epochs + is_published,
            batch_size=self.batch_size,
            augmentation=_augmentation(self.augmentation, network),
            mix=augment.mix_by_name(self.mix, network.input_shape),
        )
        return _fitted(network, trained, schedule)

    def stepwise(self, network: Network, params: Params, schedule: Schedule) -> Stepwise:
        """The same training step by step, for the protocol `"constant"`.

        Args:
            network: the network to train.
            params: the initial weights θ0.
            schedule: φ as a schedule; the learning rates are used where the recipe has none of its own.

        Returns:
            The training. Each step draws its examples anew, without replacement.
        """
        examples = Examples.of_schedule(schedule)
        optimizer = self._optimizer(1, self._rate(schedule))
        augmentation = _augmentation(self.augmentation, network)
        loss = cross_entropy(network.apply, temperature=self.temperature)

        def step(state: tuple[Params, Any], key: jax.Array) -> tuple[Params, Any]:
            own_key, draw_key = jax.random.split(key)
            inputs, labels = _drawn(examples, own_key, self.batch_size)
            if augmentation is not None:
                inputs = augmentation.apply(augmentation.sample(draw_key, len(inputs)), inputs)
            grads = jax.grad(loss)(state[0], inputs, labels)
            moves, after = updates.update(optimizer, grads, state[1], state[0])
            return optax.apply_updates(state[0], moves), after

        start = params, updates.init(optimizer, params)
        return Stepwise(start, step, lambda state: _fitted(network, state[0], schedule))

    def _rate(self, schedule: Schedule) -> float | jax.Array:
        """The learning rate at the start."""
        if self.lr is not None:
            return self.lr
        checks.schedule(schedule, needs_lrs=True)
        return jnp.mean(jnp.asarray(schedule.lrs))

    def _optimizer(self, steps: int, lr: Any) -> optax.GradientTransformation:
        """The optimiser under the protocol, where an epoch has so many steps and the rate starts at `lr`."""
        moving = optax.scale_by_adam() if self.optimizer == "adam" else optax.trace(self.momentum)
        decay = optax.add_decayed_weights(self.weight_decay)
        if self.protocol == "constant":
            return optax.chain(decay, moving, optax.scale_by_learning_rate(lr))
        falls = self._falls(steps)
        rate = optax.piecewise_constant_schedule(lr, falls)
        moved = _restarted(moving, *falls) if self.protocol == "condensation" else moving
        return optax.chain(decay, moved, optax.scale_by_learning_rate(rate))

    def _falls(self, steps: int) -> dict[int, float]:
        """The factors on the rate under the protocol, by the number of the step from which they hold."""
        epochs = self.epochs
        if self.protocol == "condensation":
            return {steps * (epochs // 2 + 2): 0.1}
        if self.protocol == "plain":
            return {-(-steps * epochs // 2): 0.1}
        first, second = steps * (2 * epochs // 3), steps * (5 * epochs // 6)
        return {first: 0.2, second: 0.2} if first < second else {first: 0.2**2}

    def check(self, network: Network) -> None:
        """Refuse an unknown protocol or optimiser, an unfitting augmentation; see `ddjax.types.Recipe.check`.

        Args:
            network: the network to train.

        Raises:
            ValueError: the network is a kernel, the protocol, optimiser, augmentation or mixture is unknown,
                the augmentation or the mixture does not fit the inputs of the network, steps are given under
                a protocol that counts epochs, or the temperature is not above zero.
        """
        _check_trains(self.kind, network)
        checks.positive("recipe: temperature", self.temperature)
        checks.choice("recipe: protocol", self.protocol, PROTOCOLS)
        checks.choice("recipe: optimizer", self.optimizer, TRAINERS)
        _check_steps(self.steps, self.protocol, "recipe")
        _augmentation(self.augmentation, network)
        _check_mix(self.mix, self.steps, network.input_shape, "recipe")

    def check_labels(self, labels: np.ndarray) -> None:
        """Refuse centred labels; see `ddjax.types.Recipe.check_labels`.

        Args:
            labels: `[S, B, K]`, the labels of φ.

        Raises:
            ValueError: the rows sum to about zero.
        """
        check_probabilities(self.kind, labels)


def _augmentation(name: str, network: Network) -> augment.Augmentation | None:
    """The augmentation of that name for the inputs of a network; None for the empty name."""
    return augment.by_name(name, network.image_shape) if name else None


def _check_steps(steps: Any, protocol: str, where: object) -> None:
    if steps is None:
        return
    checks.at_least(f"{where}: steps", steps, 1)
    if steps > MOST_EPOCHS:
        raise ValueError(f"{where}: steps: expected at most {MOST_EPOCHS:,}; got {steps:,}. Give fewer.")
    if protocol != "constant":
        raise ValueError(
            f"{where}: steps: expected none under the protocol {protocol!r}, which counts epochs; got "
            f"{steps}. Give protocol='constant', or epochs."
        )


def _check_mix(mix: Any, steps: Any, input_shape: tuple[int, ...], where: object) -> None:
    """Refuse a mixture that is unknown, of inputs that are no images, or of a training that counts steps."""
    try:
        augment.mix_by_name(mix, input_shape)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if mix and steps is not None:
        raise ValueError(
            f"{where}: mix: expected none where steps are counted; got {mix!r} with steps={steps}. Give "
            "epochs, or no mixture."
        )


def _restarted(transform: optax.GradientTransformation, boundary: int) -> optax.GradientTransformation:
    """The transformation, in its initial state again once it has seen `boundary` updates."""

    def init(params: Any) -> Any:
        return jnp.zeros((), jnp.int32), transform.init(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count, own = state
        fresh = transform.init(updates)
        own = jax.tree.map(lambda new, old: jnp.where(count == boundary, new, old), fresh, own)
        updates, own = transform.update(updates, own, params)
        return updates, (count + 1, own)

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True)
class Ridge(Recipe):
    """Ridge regression on the features of θ0, or with the kernel of a network that has a kernel.

        α = (K + λ tr(K)/n · I)⁻¹ Y,   scores(x) = k(x, X) α,   K = k(X, X)

    X are the n = S·B distilled inputs, Y their labels, k(x, x') = ⟨embed(x), embed(x')⟩ or the kernel.

    Attributes:
        penalty: the weight λ of the penalty, relative to the mean of K's diagonal.
    """

    kind = "ridge"

    penalty: float = 1e-6

    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Leave the weights as they are and solve the regression; see `ddjax.types.Recipe.fit`.

        Args:
            network: the network whose features or kernel are used.
            params: the weights θ0 of the features.
            schedule: φ as a schedule; the learning rates are not used.
            key: a key that is not used.

        Returns:
            θ0, and the function that predicts by the regression.
        """
        del key
        kernel = kernel_of(network)
        inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        labels = schedule.labels.reshape(len(inputs), -1)
        weights = ridge.solve(kernel(params, inputs, None), labels, penalty=self.penalty)
        return Fitted(params, lambda new: ridge.predict(kernel(params, new, inputs), weights))

    def check(self, network: Network) -> None:
        """Refuse a network that has neither features nor a kernel; see `ddjax.types.Recipe.check`.

        Args:
            network: the network to use.

        Raises:
            ValueError: the network has neither features nor a kernel, or the penalty is not positive.
        """
        checks.positive("recipe: penalty", self.penalty)
        kernel_of(network)

    def check_labels(self, labels: np.ndarray) -> None:
        """Refuse labels of one class; see `ddjax.types.Recipe.check_labels`.

        Args:
            labels: `[S, B, K]`, the labels of φ.

        Raises:
            ValueError: all labels are of one class.
        """
        check_classes(self.kind, labels)


@dataclasses.dataclass(frozen=True)
class Regress(Recipe):
    """A training by squared error on real-valued labels, with Adam, on all S·B examples.

        ℓ(θ) = mean_j ½ Σ_k (g_θ(x̃_j)_k - s ỹ_jk)²,   scores(x) = g_θ(x)

    where g_θ = f_θ, or g_θ = f_θ - f_θ0 where the outputs are centred.

    The rate rises linearly from zero to `lr` in the first `warmup` steps, or in the first half of fewer than
    twice as many steps, and falls along a cosine to a hundredth. Labels of kernel methods are learned with
    this loss in mind; their rows sum to about zero, and no cross-entropy can be trained on them.

    Attributes:
        lr: the largest learning rate.
        steps: the number of steps; whole passes over the examples are trained, the last one to its end.
        warmup: the number of steps in which the rate rises.
        batch_size: the number of examples in one step.
        label_scale: s, the factor on the labels. A network of finite width follows the kernel's prediction
            the closer, the larger the labels are against its outputs at the start.
        centre: whether the outputs at the start are subtracted, as the kernel of a network's training
            assumes.
        augmentation: the augmentation of every minibatch, with a draw of its own for each image: the name of
            a strategy that `ddjax.augment.by_name` knows, or the empty text for no augmentation.

    References:
        Zhou et al. 2022, arXiv 2206.00719 (FRePo), the evaluation of the authors' code, where the defaults
        are those of ten images. Scale and centre: Loo et al. 2022, arXiv 2210.12067 (RFAD).
    """

    kind = "regress"
    is_random = True

    lr: float = 3e-4
    steps: int = 1000
    warmup: int = 500
    batch_size: int = 500
    label_scale: float = 1.0
    centre: bool = False
    augmentation: str = ""

    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Train for all steps; see `ddjax.types.Recipe.fit`.

        Args:
            network: the network to train.
            params: the initial weights θ0.
            schedule: φ as a schedule; the learning rates are not used.
            key: the source of the order of each epoch and of the augmentation. Consumed.

        Returns:
            The weights after all steps, and the function that predicts with them.
        """
        count = schedule.labels.shape[0] * schedule.labels.shape[1]
        of_epoch = steps_of_epoch(count, self.batch_size)
        epochs = -(-self.steps // of_epoch)
        total = epochs * of_epoch
        rise = min(self.warmup, total // 2)
        rates = optax.warmup_cosine_decay_schedule(0.0, self.lr, rise, total, end_value=0.01 * self.lr)
        scaled = schedule._replace(labels=self.label_scale * schedule.labels)
        judged = self._centred(network, params) if self.centre else network
        trained, _ = fit(
            squared_error(judged),
            params,
            key,
            examples=Examples.of_schedule(scaled),
            optimizer=optax.adam(rates),
            epochs=epochs,
            batch_size=self.batch_size,
            augmentation=_augmentation(self.augmentation, network),
        )
        return _fitted(judged, trained, schedule)

    @staticmethod
    def _centred(network: Network, start: Params) -> Network:
        """The network less its outputs under the initial weights."""

        def apply(params: Params, inputs: jax.Array) -> jax.Array:
            return network.apply(params, inputs) - network.apply(start, inputs)

        return dataclasses.replace(network, apply=apply)

    def check(self, network: Network) -> None:
        """Refuse a setting out of its range or a network without weights; see `ddjax.types.Recipe.check`.

        Args:
            network: the network to train.

        Raises:
            ValueError: the network is a kernel, a number is out of its range, outputs are to be centred that
                depend on a batch, or the augmentation is unknown or does not fit the inputs of the network.
        """
        _check_trains(self.kind, network)
        for name in ("lr", "label_scale"):
            checks.positive(f"recipe: {name}", getattr(self, name))
        for name, low in (("steps", 1), ("warmup", 0), ("batch_size", 1)):
            checks.at_least(f"recipe: {name}", getattr(self, name), low)
        if self.centre and norms.has_batch_norm(network):
            raise ValueError(
                f"recipe: centre: expected a network without batch norm; {network.name!r} has batch norm. "
                "Give another norm, or centre=False."
            )
        _augmentation(self.augmentation, network)

    def check_labels(self, labels: np.ndarray) -> None:
        """Refuse labels of one class; see `ddjax.types.Recipe.check_labels`.

        Args:
            labels: `[S, B, K]`, the labels of φ.

        Raises:
            ValueError: all labels are of one class.
        """
        check_classes(self.kind, labels)


@dataclasses.dataclass(frozen=True)
class TrainHead(Counting):
    """A training of features under a last layer that is an average of ridge regressions on small batches.

    Every step solves a ridge regression on the features of some examples, moves the average of the solutions
    by a little, and moves the features by Adam on the cross-entropy; see `ddjax.ridge_head`.

    Attributes:
        penalty: the weight λ of the penalty of each regression, absolute.
        momentum: the share of the newest regression in the average.
        lr: the learning rate of the features, by Adam.
        lr_of_scale: the learning rate of the factor on the logits, by Adam.
        steps: the number of steps.
        batch_size: the number of examples in one step, drawn without replacement.

    References:
        Bohdal, Yang and Hospedales 2020, Flexible Dataset Distillation, arXiv 2006.08572, algorithm 2.
    """

    kind = "train_head"
    is_random = True

    penalty: float = 1.0
    momentum: float = 0.01
    lr: float = 1e-3
    lr_of_scale: float = 0.01
    steps: int = 300
    batch_size: int = 50

    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Train for all steps; see `ddjax.types.Recipe.fit`.

        Args:
            network: the network to train, with features.
            params: the initial weights θ0.
            schedule: φ as a schedule; the learning rates are not used.
            key: the source of the examples of each step. Consumed.

        Returns:
            The weights after all steps, and the function that predicts with the averaged last layer.
        """
        return self.stepwise(network, params, schedule).run(key, self.steps)

    def stepwise(self, network: Network, params: Params, schedule: Schedule) -> Stepwise:
        """The same training step by step.

        Args:
            network: the network to train, with features.
            params: the initial weights θ0.
            schedule: φ as a schedule; the learning rates are used where the recipe has none of its own.

        Returns:
            The training. Each step draws its examples anew, without replacement.
        """
        examples, settings = Examples.of_schedule(schedule), self._settings
        embed = ridge_head.embedding(network)

        def step(head: ridge_head.Head, key: jax.Array) -> ridge_head.Head:
            inputs, labels = _drawn(examples, key, self.batch_size)
            return settings.step(network, head, inputs, labels, labels)[0]

        def fitted(head: ridge_head.Head) -> Fitted:
            def predict(inputs: jax.Array) -> jax.Array:
                return ridge_head.with_one(embed(head.params, inputs)) @ head.classifier

            return Fitted(head.params, predict)

        return Stepwise(settings.init(network, params), step, fitted)

    def check(self, network: Network) -> None:
        """Refuse a network without features of each example; see `ddjax.types.Recipe.check`.

        Args:
            network: the network to train.

        Raises:
            ValueError: the network has no features or has batch norm, or a number is out of range.
        """
        ridge_head.check(self._settings)
        _check_steps(self.steps, "constant", "recipe")
        ridge_head.embedding(network)

    @property
    def _settings(self) -> RidgeHead:
        return RidgeHead(self.penalty, self.momentum, self.lr, self.lr_of_scale)


def squared_error(network: Network) -> MeanLoss:
    """The weighted squared error of n examples, (1/n) Σ_i w_i ½ Σ_k (f(x_i)_k - y_ik)².

    Args:
        network: the network to train.

    Returns:
        `(params, (inputs [n, *input_shape], labels [n, K], weights [n])) -> (loss [], ())`.
    """

    def loss(params: Params, batch: Any) -> tuple[jax.Array, tuple[()]]:
        inputs, labels, weights = batch
        errors = 0.5 * jnp.sum(jnp.square(network.apply(params, inputs) - labels), -1)
        return jnp.mean(weights * errors), ()

    return loss


def _check_trains(kind: str, network: Network) -> None:
    if network.kernel is not None:
        raise ValueError(
            f"recipe: expected a network with weights to train for {kind!r}; {network.name!r} is a kernel, "
            "and a kernel has none to train. Give ddjax.Recipe('ridge')."
        )


def check_probabilities(kind: str, labels: np.ndarray) -> None:
    """Refuse labels that no cross-entropy can be trained on: those that cancel within their rows.

    Args:
        kind: the name of the recipe's kind, for the message.
        labels: `[S, B, K]`, the labels.

    Raises:
        ValueError: labels below zero take more than half from the sum of the others, as in rows that sum to
            zero.
    """
    if np.sum(labels) < 0.5 * np.sum(np.abs(labels)):
        raise ValueError(
            f"recipe: expected labels for cross-entropy, probabilities whose rows sum to one, for {kind!r}; "
            "got centred labels, whose rows sum to about zero: they were learned for regression. Train on "
            "them by squared error, recipe=ddjax.Recipe('regress'), or solve, ddjax.Recipe('ridge')."
        )


def check_classes(kind: str, labels: np.ndarray) -> None:
    """Refuse labels that are all of one class, from which a regression learns nothing else.

    Args:
        kind: the name of the recipe's kind, for the message.
        labels: `[S, B, K]`, the labels.

    Raises:
        ValueError: the largest number of every row is that of the same class.
    """
    classes = np.unique(np.argmax(labels, -1))
    if len(classes) < 2:
        raise ValueError(
            f"recipe: expected labels of two classes or more for {kind!r}; got class {classes[0]} alone. "
            "Give examples of each class."
        )


def kernel_of(network: Network) -> Callable[[Params, jax.Array, jax.Array | None], jax.Array]:
    """The kernel that ridge regression uses with a network: its own kernel, or the product of its features.

    Args:
        network: the network.

    Returns:
        `(params, inputs [n, ...], others [m, ...] or None for the inputs themselves) -> [n, m]`.

    Raises:
        ValueError: the network has neither a kernel nor features.
    """
    if network.kernel is not None:
        return network.kernel
    embed = network.embed
    if embed is None:
        raise ValueError(
            f"{network.name}: expected a network with features (embed) or a kernel, for ridge regression; it "
            "has neither. Give its adapter `embed=`, or another recipe."
        )

    def product(params: Params, inputs: jax.Array, others: jax.Array | None) -> jax.Array:
        features = embed(params, inputs)
        return ridge.products(features, features if others is None else embed(params, others))

    return product


def _fitted(network: Network, params: Params, schedule: Schedule) -> Fitted:
    """A trained network, whose batch norms, if any, normalise by the statistics of φ's images from now on."""
    if norms.has_batch_norm(network):
        images = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        params = norms.calibrate(network, params, images)
    return Fitted(params, lambda inputs: network.apply(params, inputs))


KINDS: Mapping[str, Any] = {one.kind: one for one in (Replay, Train, Ridge, Regress, TrainHead)}
"""The recipes that artifacts know, by name."""

_ONLY_ONCE: Mapping[str, Any] = {
    "protocol": "plain",
    "optimizer": "sgd",
    "steps": None,
    "mix": "",
    "temperature": 1.0,
}
"""The values of settings of `Train` that were the only ones once, and are not written to files."""

_LEGACY: Mapping[str, Any] = {
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "epochs": 300,
    "batch_size": 256,
    "optimizer": "sgd",
    "augmentation": "",
}
"""The settings that files of ddjax 0.1 state for both of their kinds, used by the kind or not."""


@checks.entry
def recipe(kind: str = "schedule", **settings: Any) -> Recipe:
    """A recipe by the name of its kind, e.g. `ddjax.Recipe("train", epochs=300)`.

    Args:
        kind: the name of the kind: `"schedule"` (`Replay`), `"train"` (`Train`), `"ridge"` (`Ridge`),
            `"regress"` (`Regress`) or `"train_head"` (`TrainHead`).
        **settings: the fields of that kind.

    Returns:
        The recipe.

    Raises:
        ValueError: an unknown kind, or a setting that the kind does not have.
    """
    checks.choice("recipe: kind", kind, KINDS)
    names = [field.name for field in dataclasses.fields(KINDS[kind])]
    for name in settings:
        checks.choice(f"recipe: settings of {kind!r}", name, names)
    return KINDS[kind](**settings)


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON: its kind and its settings.

    Args:
        recipe: the recipe, of one of the `KINDS`.

    Returns:
        The dictionary that `from_dict` reads, with the settings that this recipe uses: of its own kind, and
        of `Train` neither the momentum beside Adam nor the epochs beside steps.

    Raises:
        ValueError: the recipe is of an unknown kind.
    """
    checks.choice("recipe: kind", recipe.kind, KINDS)
    assert dataclasses.is_dataclass(recipe)
    own = dataclasses.asdict(recipe)
    if isinstance(recipe, Train):
        unused = {"momentum": recipe.optimizer != "sgd", "epochs": recipe.steps is not None}
        known = {name: own[name] == once for name, once in _ONLY_ONCE.items()}  # as in older files
        own = {name: value for name, value in own.items() if not (unused | known).get(name)}
    return {"kind": recipe.kind, **own}


def check_storable(recipe: Recipe, input_shape: tuple[int, ...], *, where: object) -> None:
    """Refuse a recipe that an artifact could not hold, before a distillation and not after.

    Args:
        recipe: the recipe; a user's own kind, which artifacts do not know, is not checked.
        input_shape: the shape of φ's inputs.
        where: the name of the recipe's owner, for messages.

    Raises:
        ValueError: see `from_dict`.
    """
    if recipe.kind in KINDS:
        from_dict(as_dict(recipe), input_shape, where=where)


def from_dict(record: Mapping[str, Any], input_shape: tuple[int, ...], *, where: object) -> Recipe:
    """The recipe of a record that may be of any origin.

    Args:
        record: the kind and the settings, as `as_dict` gives them.
        input_shape: the shape of φ's inputs, which an augmentation must fit.
        where: the name of the file, for messages.

    Returns:
        The recipe, without the settings that its kind does not use.

    Raises:
        ValueError: an unknown kind, setting, optimiser or augmentation, or a number that is out of range.
    """
    given = dict(record)
    kind = given.pop("kind", Replay.kind)
    remedy = "Install a newer ddjax."
    checks.choice(f"{where}: the recipe's kind", kind, KINDS, remedy=remedy)
    names = {field.name for field in dataclasses.fields(KINDS[kind])}
    for name in given.keys() - names - {*_LEGACY}:
        checks.choice(f"{where}: expected a recipe as ddjax writes it: settings", name, names, remedy=remedy)
    _check_numbers(kind, given, where)
    if "optimizer" in given:
        known = TRAINERS if kind == Train.kind else OPTIMIZERS
        checks.choice(f"{where}: the recipe's optimizer", given["optimizer"], known, remedy=remedy)
    if "protocol" in given:
        what = f"{where}: the recipe's protocol"
        checks.choice(what, given["protocol"], PROTOCOLS, remedy=remedy)
    if kind == Train.kind:
        _check_steps(given.get("steps"), given.get("protocol", "plain"), f"{where}: the recipe")
        _check_mix(given.get("mix", ""), given.get("steps"), input_shape, f"{where}: the recipe")
    _check_augmentation(given.get("augmentation", ""), input_shape, where, is_known="augmentation" in names)
    return KINDS[kind](**{name: value for name, value in given.items() if name in names})


def _check_augmentation(name: str, input_shape: tuple[int, ...], where: object, *, is_known: bool) -> None:
    if name and not is_known:
        raise ValueError(
            f"{where}: recipe: augmentation: expected none, a schedule is replayed on inputs as they are; "
            f"got {str(name)[:80]!r}. Write it again without."
        )
    try:
        if name:
            augment.by_name(name, as_image_shape(input_shape, "the distilled inputs"))
    except ValueError as error:
        raise ValueError(f"{where}: recipe: {error} Or install a newer ddjax.") from error


def _check_numbers(kind: str, given: Mapping[str, Any], where: object) -> None:
    for name in ("lr", "momentum", "weight_decay", "penalty", "label_scale", "warmup", "lr_of_scale"):
        learned = kind == Train.kind and name == "lr"  # the rate of the schedule, where none is given
        if name in given and not (learned and given[name] is None):
            checks.at_least(f"{where}: the recipe's {name}", given[name], 0, integer=False)
    if "temperature" in given:
        checks.positive(f"{where}: the recipe's temperature", given["temperature"])
    for name in ("epochs", "steps", "batch_size"):
        if given.get(name) is not None:
            checks.at_least(f"{where}: the recipe's {name}", given[name], 1)
    for name in ("epochs", "steps"):
        if (given.get(name) or 0) > MOST_EPOCHS:
            raise ValueError(
                f"{where}: the recipe's {name}: expected at most {MOST_EPOCHS:,}; got {given[name]}. Write "
                "it again."
            )
    if "centre" in given:
        checks.kind(f"{where}: the recipe's centre", given["centre"], bool, remedy="Write it again.")
