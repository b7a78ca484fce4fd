"""Label distillation: against the original code's values, its loop in plain Python, and on digits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import CLASSES, SHAPE, relative

import ddjax
from ddjax import forms, inits, methods, networks
from ddjax.methods import restarts
from ddjax.methods.label_distillation import LearnerState
from ddjax.methods.restarts import observe, start
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
    method = methods.label_distillation(network, inits.random(network), inner_batch=10, examples_per_chunk=7)
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
    assert float(info.info.accuracy) == pytest.approx(100 - float(golden["error_rate"]), rel=1e-12)
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
        network, inits.random(network), inner_batch=10, examples_per_chunk=7
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
    assert float(info.info.accuracy) == pytest.approx(100 - float(golden["error_rate"]), rel=1e-12)
    assert relative(grads, golden["grad_labels"][golden["inner_index"]]) < 1e-9
    assert relative(golden.labels_after(grads), golden["labels_after"]) < 1e-9
    assert relative(inner, golden["feature_loss"]) < 1e-9
    assert relative(after.classifier, golden["classifier_after"]) < 1e-9
    assert relative(after.scale[None], golden["scale_after"]) < 1e-9
    wanted = golden.params("model_after")
    assert relative(some_of(after.params, wanted), wanted) < 1e-9


def as_the_original_counts(errors: np.ndarray, window: int) -> list[int]:
    """The steps after which the published loop takes a new network, in its own words."""
    ends, last, least, patience = [], [], None, 0
    for step, error in enumerate(errors):
        last = [*last, error][-window:]
        if len(last) < window:
            continue
        if least is None or sum(last) < least:
            least, patience = sum(last), 0
        elif patience < window:
            patience += 1
        else:
            ends.append(step)
            last, least, patience = [], None, 0
    return ends


def test_restarts_are_those_of_the_original_loop(rng):
    errors = np.round(np.abs(np.sin(np.arange(400) / 29)) * 40 + rng.normal(0, 5, 400))
    state, ends = start(6), []
    step = jax.jit(observe)
    for index, error in enumerate(errors):
        state, is_over = step(state, jnp.float32(error))
        if is_over:
            ends.append(index)
            state = start(6)
    assert ends == as_the_original_counts(errors, 6)
    assert len(ends) > 5


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_gradient_is_one_forward_mode_product(rng):
    """The note's formula beside reverse mode through the step, and finite differences in the labels."""
    network = networks.mlp(SHAPE, CLASSES, widths=(7,))
    method = methods.label_distillation(network, inits.random(network), inner_batch=6, inner_lr=0.3)
    state = method.init(jax.random.key(0))
    labels = jnp.asarray(rng.dirichlet(np.ones(CLASSES), (1, 6)))
    inputs = jnp.asarray(rng.normal(size=(1, 6, *SHAPE)))
    real = Batch(jnp.asarray(rng.normal(size=(5, *SHAPE))), jnp.arange(5) % CLASSES)

    def loss(labels):
        return method.loss(Schedule(inputs, labels, None), state, real, jax.random.key(0))[0]

    def inner(params):
        log = jax.nn.log_softmax(network.apply(params, inputs[0]))
        return -(labels[0] * log).sum(-1).mean()

    def outer(params):
        log = jax.nn.log_softmax(network.apply(params, real.inputs))
        return -log[jnp.arange(5), real.labels].mean()

    def log_softmax(params):
        return jax.nn.log_softmax(network.apply(params, inputs[0]))

    # As one program: its dozens of operations would each be compiled.
    @jax.jit
    def forward_mode(params):
        ahead = jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(inner)(params))
        return jax.jvp(log_softmax, (params,), (jax.grad(outer)(ahead),))[1]

    product = forward_mode(state.learner.params)
    grads = jax.jit(jax.grad(loss))(labels)
    assert relative(grads[0], 0.3 / 6 * product) < 1e-12
    way, size = jnp.asarray(rng.normal(size=labels.shape)), 1e-6
    value = jax.jit(loss)
    slope = (value(labels + size * way) - value(labels - size * way)) / (2 * size)
    assert float((grads * way).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net, p: methods.label_distillation(net, p, inner_batch=0), "inner_batch: expected"),
        (lambda net, p: methods.label_distillation(net, p, window=0), "window: expected"),
        (lambda net, p: methods.label_distillation(net, p, inner_lr=0.0), "inner_lr: expected"),
        (lambda net, p: methods.ridge_label_distillation(net, p, momentum=1.5), "share of at most 1"),
        (lambda net, p: methods.ridge_label_distillation(net, p, penalty=0.0), "penalty: expected"),
        (
            lambda net, p: methods.ridge_label_distillation(
                dataclasses.replace(net, embed=None), inits.random(net)
            ),
            "expected a network with features",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    net = networks.mlp(SHAPE, CLASSES, widths=(4,))
    with pytest.raises(ValueError, match=message):
        make(net, inits.random(net))


@pytest.mark.parametrize("labels", [np.full((1, 3, CLASSES), 0.5), np.array([[[1.5, -0.5, 0.0]] * 3])])
def test_labels_off_the_simplex_are_refused(labels, few_digits):
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    form = forms.pixels(
        SHAPE, CLASSES, inner_steps=1, inner_lr=None, initial_labels=labels, label_form="free"
    )
    method = methods.label_distillation(network, inits.random(network), batch_size=8)
    with pytest.raises(ValueError, match="expected probabilities, at least 0 and with a sum of 1"):
        ddjax.distill(few_digits, method, key=jax.random.key(0), num_outer_steps=1, form=form)
    with pytest.raises(ValueError, match="initial_labels: expected probabilities"):
        forms.labels(np.zeros((1, 3, *SHAPE), np.float32), CLASSES, initial_labels=labels)
