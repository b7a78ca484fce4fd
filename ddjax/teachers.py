"""Teachers: soft labels of trained networks, over views and over networks, and the losses that use them.

A student trains on soft labels as on any others, by a recipe at the teacher's temperature:

    soft = teachers.soft_labels(network, params, inputs, temperature=4.0)
    recipe = ddjax.Recipe("train", temperature=4.0)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks, forms
from ddjax.recipes import Train
from ddjax.types import Distilled, InitDistribution, Network, Params, Recipe, Schedule
from ddjax.unroll import tempered_cross_entropy

View = Callable[[jax.Array], jax.Array]
"""`inputs [n, *input_shape] -> inputs [n, *input_shape]`, a change of the inputs that keeps their classes."""

CHUNK = 256
"""The number of inputs that a teacher sees at once."""


@dataclasses.dataclass(frozen=True)
class Shift:
    """A view: images moved by whole pixels, where the border's pixels fill what becomes free.

    Attributes:
        down: the number of pixels that images move down; negative moves them up.
        right: the number of pixels that images move to the right; negative moves them to the left.
    """

    down: int = 0
    right: int = 0

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The images, moved.

        Args:
            inputs: `[n, H, W, C]`, the images.

        Returns:
            `[n, H, W, C]`.
        """
        height, width = inputs.shape[1:3]
        rows = jnp.clip(jnp.arange(height) - self.down, 0, height - 1)
        columns = jnp.clip(jnp.arange(width) - self.right, 0, width - 1)
        return inputs[:, rows][:, :, columns]


def shifts(reach: int = 1) -> tuple[Shift, ...]:
    """All moves by at most a number of pixels: nine views for one pixel.

    Args:
        reach: the largest number of pixels, in each direction.

    Returns:
        The (2 reach + 1)² views, the images as they are in the middle.

    Raises:
        ValueError: the reach is below zero.
    """
    checks.at_least("reach", reach, 0)
    steps = range(-reach, reach + 1)
    return tuple(Shift(down, right) for down in steps for right in steps)


def soft_labels(
    network: Network,
    params: Params,
    inputs: jax.Array | np.ndarray,
    *,
    temperature: float = 1.0,
    views: tuple[View, ...] = (),
) -> jax.Array:
    """The probabilities that a trained network gives to inputs, (1/V) Σ_v softmax(f(v(x)) / T).

    Args:
        network: the teacher's network.
        params: the teacher's weights.
        inputs: `[n, *input_shape]`, the encoded inputs.
        temperature: T, by which logits are divided; above 1 the labels are softer.
        views: the views v of each input, whose probabilities are averaged; none for the input itself. The
            same objects compile once.

    Returns:
        `[n, K]`, rows that sum to one.

    Raises:
        ValueError: the temperature is not above zero, or the inputs have another shape than the network's.

    References:
        Hinton, Vinyals and Dean 2015, arXiv 1503.02531, for the temperature; Radosavovic et al. 2018, Data
        Distillation, arXiv 1712.04440, for the mean over views.
    """
    checks.positive("temperature", temperature)
    inputs = jnp.asarray(inputs)
    checks.same_inputs("inputs", tuple(inputs.shape[1:]), network)
    return _soft_labels(params, inputs, network=network, temperature=float(temperature), views=views)


@functools.partial(jax.jit, static_argnames=("network", "temperature", "views"))
def _soft_labels(
    params: Params, inputs: jax.Array, *, network: Network, temperature: float, views: tuple[View, ...]
) -> jax.Array:
    def of_one(one: jax.Array) -> jax.Array:
        seen = jnp.stack([view(one[None])[0] for view in views] or [one])
        return mean_probabilities(network.apply(params, seen), temperature=temperature)

    return jax.lax.map(of_one, inputs, batch_size=min(CHUNK, len(inputs)))


def mean_probabilities(logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """The mean of probabilities over the leading axis, (1/V) Σ_v softmax(z_v / T).

    Args:
        logits: `[V, ..., K]`, the logits for V views, or of V networks.
        temperature: T, by which logits are divided.

    Returns:
        `[..., K]`.
    """
    return jax.nn.softmax(logits / temperature).mean(0)


def hardened(soft: jax.Array) -> jax.Array:
    """The labels that are one for the likeliest class and zero for the others.

    Args:
        soft: `[..., K]`, the probabilities.

    Returns:
        `[..., K]`, in the same dtype.
    """
    return jax.nn.one_hot(jnp.argmax(soft, -1), soft.shape[-1], dtype=soft.dtype)


def mix(labels: jax.Array | np.ndarray, soft: jax.Array | np.ndarray, weight: float | jax.Array) -> jax.Array:
    """The targets between given labels and a teacher's, λ y + (1 - λ) s.

    Args:
        labels: `[..., K]`, y, the given labels.
        soft: `[..., K]`, s, the teacher's probabilities.
        weight: λ, the share of the given labels; a number, or `[..., 1]`.

    Returns:
        `[..., K]`.

    References:
        Li et al. 2017, Learning from Noisy Labels with Distillation, arXiv 1703.02391.
    """
    return jnp.asarray(weight * labels + (1 - weight) * soft)


class Risks(NamedTuple):
    """The mean squared distances of given and a teacher's labels from the true ones.

    Attributes:
        labels: R_y = E ‖y - y*‖².
        teacher: R_s = E ‖s - y*‖².
        covariance: c = E ⟨y - y*, s - y*⟩; zero where the errors of both are independent and unbiased.
    """

    labels: float
    teacher: float
    covariance: float

    @classmethod
    def of(cls, labels: np.ndarray, soft: np.ndarray, truth: np.ndarray) -> Risks:
        """The risks on examples whose true labels are known.

        Args:
            labels: `[n, K]`, y, the given labels.
            soft: `[n, K]`, s, the teacher's probabilities.
            truth: `[n, K]`, y*, the true labels.

        Returns:
            The risks.
        """
        own, other = (np.asarray(one, np.float64) - np.asarray(truth) for one in (labels, soft))
        products = ((own * own), (other * other), (own * other))
        return cls(*(float(one.sum(-1).mean()) for one in products))


def hedge(risks: Risks) -> float:
    """The share λ of the given labels at which the mixed targets are nearest to the true labels.

        E ‖λ y + (1 - λ) s - y*‖² is least at λ = (R_s - c) / (R_y + R_s - 2 c), in [0, 1]

    Args:
        risks: R_y, R_s and c, measured on the clean examples.

    Returns:
        λ, for `mix`; a half where both are equally right for every example.

    References:
        Li et al. 2017, arXiv 1703.02391, section 3, where c is taken as zero.
    """
    spread = risks.labels + risks.teacher - 2 * risks.covariance
    if spread <= 0:
        return 0.5
    return float(np.clip((risks.teacher - risks.covariance) / spread, 0, 1))


def consensus(logits: jax.Array) -> jax.Array:
    """The mean of the logits of several networks.

    Args:
        logits: `[networks, n, K]`.

    Returns:
        `[n, K]`.

    References:
        Li and Wang 2019, FedMD, arXiv 1910.03581, algorithm 1.
    """
    return logits.mean(0)


def absolute_error(logits: jax.Array, target: jax.Array) -> jax.Array:
    """The mean absolute difference of logits, by which a client of FedMD learns the consensus.

    Args:
        logits: `[n, K]`, the client's.
        target: `[n, K]`, the consensus.

    Returns:
        `[]`.

    References:
        Li and Wang 2019, FedMD, arXiv 1910.03581, in the authors' code.
    """
    return jnp.abs(logits - target).mean()


def distillation_loss(
    student: jax.Array, teacher: jax.Array, labels: jax.Array, *, temperature: float, alpha: float
) -> jax.Array:
    """The loss of knowledge distillation.

        α T² CE(softmax(v / T), softmax(z / T)) + (1 - α) CE(y, softmax(z))

    Args:
        student: `[n, K]`, z, the student's logits.
        teacher: `[n, K]`, v, the teacher's logits.
        labels: `[n]` whole numbers in [0, K), y.
        temperature: T, by which both logits are divided.
        alpha: α, the weight of the teacher.

    Returns:
        `[]`, the mean over the n examples.

    References:
        Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.
    """
    soft = tempered_cross_entropy(student, jax.nn.softmax(teacher / temperature), temperature=temperature)
    hard = optax.softmax_cross_entropy_with_integer_labels(student, labels)
    return alpha * soft.mean() + (1 - alpha) * hard.mean()


def train(
    network: Network, inits: InitDistribution, recipe: Recipe, schedule: Schedule, *, keys: jax.Array
) -> Params:
    """Networks trained on given inputs and labels, one compiled program for equal shapes.

    Args:
        network: the network to train.
        inits: p(θ0), the distribution of initial weights.
        recipe: the recipe of the training.
        schedule: the inputs and labels; `of_examples` makes one.
        keys: `[n]`, the source of each network's θ0 and of the order of the examples. Consumed.

    Returns:
        The trained weights, each leaf `[n, ...]`.

    Raises:
        ValueError: the recipe cannot train this network or on these labels.
    """
    checks.network_and_inits(network, inits)
    recipe.check(network)
    recipe.check_labels(np.asarray(schedule.labels))
    return _train(schedule, keys, network=network, inits=inits, recipe=recipe)


@functools.partial(jax.jit, static_argnames=("network", "inits", "recipe"))
def _train(
    schedule: Schedule, keys: jax.Array, *, network: Network, inits: InitDistribution, recipe: Recipe
) -> Params:
    def one(key: jax.Array) -> Params:
        init_key, train_key = jax.random.split(key)
        return recipe.fit(network, inits.sample(init_key), schedule, train_key).params

    return jax.lax.map(one, keys)


def of_examples(inputs: jax.Array | np.ndarray, labels: jax.Array | np.ndarray) -> Schedule:
    """Examples as a schedule of one step, for recipes that train in epochs.

    Args:
        inputs: `[n, *input_shape]`, the encoded inputs.
        labels: `[n, K]`, the labels.

    Returns:
        The schedule, without learning rates.

    Raises:
        ValueError: the numbers of inputs and labels differ.
    """
    checks.equal("labels: how many", len(labels), len(inputs), remedy="Give a row for each input.")
    return Schedule(jnp.asarray(inputs)[None], jnp.asarray(labels)[None], None)


def relabelled(
    distilled: Distilled, labels: jax.Array | np.ndarray, *, temperature: float = 1.0
) -> Distilled:
    """Distilled data under other labels.

    Args:
        distilled: the distilled data φ, whose recipe is an ordinary training.
        labels: `[S, B, K]`, the labels from now on, softened by the temperature.
        temperature: T of the training on them.

    Returns:
        φ with the labels, and its recipe at the temperature.

    Raises:
        ValueError: φ has another recipe, e.g. learned rates, which belong to its labels, or the labels have
            another shape.
    """
    if not isinstance(distilled.recipe, Train):
        raise ValueError(
            f"relabel: expected data that networks are trained on by the recipe 'train'; got "
            f"{distilled.recipe.kind!r}, whose learned rates or regression belong to the labels. Give the "
            "artifact of a matching method, or replace its recipe by ddjax.Recipe('train')."
        )
    schedule = distilled.schedule
    checks.equal(
        "labels: shape",
        tuple(labels.shape),
        tuple(schedule.labels.shape),
        remedy="Give a row for each input.",
    )
    new = schedule._replace(labels=jnp.asarray(labels, schedule.inputs.dtype), lrs=None)
    recipe = dataclasses.replace(distilled.recipe, temperature=float(temperature))
    return dataclasses.replace(distilled, params=new, form=forms.constant(new), recipe=recipe)
