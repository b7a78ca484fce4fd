"""Label distillation: against the original code's values, its loop in plain Python, and on digits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative

from ddjax import forms, inits, methods, networks
from ddjax.methods import restarts
from ddjax.methods.label_distillation import LearnerState
from ddjax.ridge_head import RidgeHead
from ddjax.types import Batch, Network, Schedule

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")


@dataclasses.dataclass
class Golden:
    """One recorded step: the network, θ, base examples, labels, real examples and the results."""

    values: dict[str, np.ndarray]

    @classmethod
    def load(cls, reference, name: str) -> Golden:
        return cls(dict(np.load(reference / f"{name}.npz")))

    def __getitem__(self, name: str) -> jax.Array:
        value = jnp.asarray(self.values[name])
        return value.astype(float) if jnp.issubdtype(value.dtype, jnp.floating) else value

    @property
    def network(self) -> Network:
        return networks.lenet((28, 28, 1), 10)

    def params(self, group: str = "param") -> dict[str, dict[str, jax.Array]]:
        """The recorded leaves; a ridge head's network has a last layer of zeros."""
        tree = {
            layer: {
                ours: self[f"{group}/{layer}.{theirs}"]
                for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
                if f"{group}/{layer}.{theirs}" in self.values
            }
            for layer in LAYERS
        }
        if group == "param" and not tree["fc3"]:
            tree["fc3"] = {"kernel": jnp.zeros((84, 10)), "bias": jnp.zeros(10)}
        return tree

    def schedule(self, labels: str = "labels") -> Schedule:
        """The inner batch as a φ of its own: all of it is the base examples of a step."""
        rows = self["inner_index"]
        return Schedule(self["base_images"][rows][None], self[labels][rows][None], None)

    @property
    def real(self) -> Batch:
        return Batch(self["real_images"], self["real_labels"])

    def labels_after(self, grads: jax.Array) -> jax.Array:
        """All labels after an update of the form by the method's published outer optimiser."""
        form = forms.labels(
            np.asarray(self["base_images"])[None], 10, initial_labels=np.full((1, 20, 10), 0.1)
        )
        params = form.init(jax.random.key(0))._replace(labels=self["labels"][None])
        whole = jnp.zeros((20, 10)).at[self["inner_index"]].set(grads)
        grads = params._replace(inputs=jnp.zeros_like(params.inputs), labels=whole[None])
        method = methods.label_distillation(self.network, inits.random(self.network))
        optimizer = forms.optimizer_for(form, method.outer(1))
        moves, _ = optimizer.update(grads, optimizer.init(params), params)
        assert form.project is not None
        return form.project(optax.apply_updates(params, moves)).labels[0]


def some_of(tree: dict, like: dict) -> dict:
    return {layer: {name: tree[layer][name] for name in like[layer]} for layer in like}


def state_of(learner) -> LearnerState:
    return LearnerState(learner, jnp.uint32(0), restarts.start(50))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_replays_a_second_order_step_of_the_original(reference):
    golden = Golden.load(reference, "ld_second_order")
    network = golden.network
    method = methods.label_distillation(network, inits.random(network), inner_batch=10, examples_per_chunk=20)
    learner = method.init(jax.random.key(0)).learner
    state = state_of(learner._replace(params=golden.params()))

    @jax.jit
    def step(schedule: Schedule):
        def loss(labels):
            return method.loss(schedule._replace(labels=labels), state, golden.real, jax.random.key(0))

        (value, info), grads = jax.value_and_grad(loss, has_aux=True)(schedule.labels)
        # The labels before the update, as the original has them.
        after = method.advance(schedule, state, golden.real, info, jax.random.key(0))
        return value, info, grads[0], after.learner.params

    value, info, grads, after = step(golden.schedule())
    assert relative(value, golden["loss"]) < 1e-9
    assert float(info.accuracy) == pytest.approx(100 - float(golden["error_rate"]), rel=1e-12)
    assert relative(grads, golden["grad_labels"][golden["inner_index"]]) < 1e-9
    assert relative(golden.labels_after(grads), golden["labels_after"]) < 1e-9
    wanted = golden.params("model_after")
    assert relative(some_of(after, wanted), wanted) < 1e-9


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_replays_a_ridge_step_of_the_original(reference):
    golden = Golden.load(reference, "ld_ridge")
    network = golden.network
    settings = RidgeHead(float(golden["ridge"]), float(golden["momentum"]))
    method = methods.ridge_label_distillation(
        network, inits.random(network), inner_batch=10, examples_per_chunk=20
    )
    head = settings.init(network, golden.params())
    head = head._replace(classifier=golden["classifier"], scale=golden["scale"])

    @jax.jit
    def step(before: Schedule, targets: jax.Array):
        def loss(labels):
            schedule = before._replace(labels=labels)
            return method.loss(schedule, state_of(head), golden.real, jax.random.key(0))

        (value, info), grads = jax.value_and_grad(loss, has_aux=True)(before.labels)
        after, inner = settings.step(network, head, before.inputs[0], before.labels[0], targets)
        return value, info, grads[0], after, inner

    value, info, grads, after, inner = step(golden.schedule(), golden.schedule("labels_after").labels[0])
    assert relative(value, golden["loss"]) < 1e-9
    assert float(info.accuracy) == pytest.approx(100 - float(golden["error_rate"]), rel=1e-12)
    assert relative(grads, golden["grad_labels"][golden["inner_index"]]) < 1e-9
    assert relative(golden.labels_after(grads), golden["labels_after"]) < 1e-9
    assert relative(inner, golden["feature_loss"]) < 1e-9
    assert relative(after.classifier, golden["classifier_after"]) < 1e-9
    assert relative(after.scale[None], golden["scale_after"]) < 1e-9
    wanted = golden.params("model_after")
    assert relative(some_of(after.params, wanted), wanted) < 1e-9
