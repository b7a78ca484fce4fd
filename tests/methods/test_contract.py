"""The contract of methods: every method in one table, every promise of `ddjax.testing` tried on each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, label_form, small_form, three_digits, trained_experts

import ddjax
from ddjax import augment, forms, inits, methods, networks, parallel, testing
from ddjax.data import Dataset, to_device
from ddjax.engine import Problem, build_dispatch, init_state
from ddjax.methods.moment_matching import moment_matching
from ddjax.methods.penalised import penalised
from ddjax.methods.trajectory_matching import Window, trajectory_matching
from ddjax.pool import Pool
from ddjax.recipes import Ridge, Train
from ddjax.testing import METHOD_CHECKS, MethodCase
from ddjax.testing.report import distance, double
from ddjax.types import Form, InitDistribution, Method, Network, Outer, Schedule

Build = Callable[[Network, InitDistribution], Method]
SHORT = Train(lr=0.1, epochs=60)


def from_a_pool(p: InitDistribution) -> InitDistribution:
    """A finite p(θ0): a hundred draws of another one."""
    params = jax.jit(jax.vmap(p.sample))(jax.random.split(jax.random.key(11), 100))
    return inits.pretrained(Pool(jax.device_get(params), 100, np.zeros(100, np.float32)))


def size_of_images(schedule: Schedule) -> jax.Array:
    """A penalty."""
    return jnp.mean(schedule.inputs**2)


TABLE: dict[str, Build] = {
    "unrolled": lambda net, p: methods.unrolled(net, p, batch_size=64),
    "unrolled from a pool": lambda net, p: methods.unrolled(net, from_a_pool(p), batch_size=64),
    "distribution_matching": lambda net, p: methods.distribution_matching(
        net, p, batch_size=32, recipe=SHORT
    ),
    "distribution_matching, augmented": lambda net, p: methods.distribution_matching(
        net, p, batch_size=32, recipe=SHORT, augmentation=augment.by_name("cutout_flip", SHAPE)
    ),
    "gradient_matching": lambda net, p: methods.gradient_matching(
        net, p, batch_size=32, matches=2, lr_net=0.1, recipe=SHORT
    ),
    "gradient_matching, augmented": lambda net, p: methods.gradient_matching(
        net, p, batch_size=32, recipe=SHORT, augmentation=augment.by_name("cutout", SHAPE)
    ),
    "gradient_matching, as IDC": lambda net, p: methods.gradient_matching(
        net,
        p,
        batch_size=32,
        layers="matrices",
        matches=2,
        training=methods.RealTraining(images=24, batch_size=12, lr=0.1, mix="cutmix"),
        recipe=SHORT,
    ),
    "kernel_inducing_points": lambda net, p: methods.kernel_inducing_points(
        net, p, batch_size=32, penalty=1e-2, networks=2
    ),
    "feature_regression": lambda net, p: methods.feature_regression(
        net, p, batch_size=32, pool=2, reset=3, penalty=1e-2, online_lr=1e-3, recipe=Ridge(1e-2)
    ),
    # Without the bound on the implicit part, and solved to the end: then the gradient is that of the loss.
    "implicit_regression": lambda net, p: methods.implicit_regression(
        net,
        p,
        batch_size=32,
        pool=2,
        reset=3,
        penalty=1e-2,
        online_lr=1e-3,
        online_steps=2,
        solver_steps=40,
        clip=False,
        recipe=Ridge(1e-2),
    ),
    "label_distillation": lambda net, p: methods.label_distillation(
        net, p, batch_size=64, inner_batch=6, lr=0.01
    ),
    "ridge_label_distillation": lambda net, p: methods.ridge_label_distillation(
        net, p, batch_size=64, inner_batch=6, lr=0.01, momentum=0.1
    ),
    "moment_matching": lambda net, p: moment_matching(net, p, batch_size=32, recipe=SHORT),
    "trajectory_matching": lambda net, p: trajectory_matching(
        net,
        trained_experts(net, p),
        inner_steps=6,
        batch_size=4,
        span=1,
        window=Window(0, 3),
        recipe=Train(lr=None, epochs=60),
    ),
    "penalised matching": lambda net, p: penalised(
        methods.distribution_matching(net, p, batch_size=32, recipe=SHORT), size_of_images, weight=0.01
    ),
}
"""`(network, p(θ0)) -> method`: a row is all that a method adds."""


def mlp() -> Network:
    return networks.mlp(SHAPE, CLASSES, widths=(16,))


def built(name: str) -> Method:
    """A row with a small network."""
    net = mlp()
    return TABLE[name](net, inits.random(net))


def kinkless(name: str) -> Method:
    """A row with a network whose gradient finite differences can find."""
    net = networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="none", activation="tanh")
    return TABLE[name](net, inits.random(net))


def form_for(method: Method) -> Form:
    if "label" in method.name:
        return label_form()
    return small_form(inner_lr=0.1 if method.needs_lrs else None)


@functools.cache
def case(name: str) -> MethodCase:
    """A row as the suite takes it; what one check computes the next one finds."""
    make = functools.partial(built, name)
    return MethodCase(make, form_for(make()), three_digits(), functools.partial(kinkless, name))


@pytest.fixture(params=TABLE)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def toy() -> Dataset:
    return three_digits()


PLAIN = [name for name in TABLE if "augmented" not in name]
# The dearest checks, each of which compiles outer steps of its own: an augmented row differs from its plain
# one by draws alone, which the other checks look at.
DEAR = ("is_the_same_in_batches_of_slots", "resumes_bit_for_bit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "check"),
    [(row, check) for row in TABLE for check in METHOD_CHECKS if row in PLAIN or check not in DEAR],
)
def test_a_method_keeps_its_contract(row, check):
    METHOD_CHECKS[check](case(row))


@functools.cache
def drawing(name: str) -> MethodCase:
    """The case of a row with minibatches that every slot draws from combinations of bases."""
    plain = case(name)
    images = forms.bases(SHAPE, CLASSES, num_bases=3, per_class=4)
    rate, epochs = (0.1, 2) if plain.method.needs_lrs else (None, 1)
    form = forms.composed(images, inner_epochs=epochs, inner_lr=rate, drawn_per_class=2)
    return dataclasses.replace(plain, form=form)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "check"),
    [
        ("unrolled", "agrees_with_finite_differences"),
        ("unrolled", "is_the_same_on_several_devices"),
        ("unrolled", "resumes_bit_for_bit"),
        ("gradient_matching", "agrees_with_finite_differences"),
    ],
)
def test_a_method_keeps_its_contract_with_drawn_minibatches(row, check):
    METHOD_CHECKS[check](drawing(row))


@pytest.mark.slow
def test_all_slots_vmapped_at_once_equal_slots_one_by_one():
    one = case("unrolled")
    with double():
        all_four = one.distilled(devices=1, slots_per_chunk=4)
        assert distance(all_four, one.scanned) < 1e-12


@pytest.mark.slow
def test_learns_a_toy_problem(name, toy):
    # For ridge regression on random features sixteen of them are too few, of any image. Feature regression
    # and the implicit one are judged by it here, on networks as young as those of their pools; three images
    # train no new network.
    is_ridge = name in ("kernel_inducing_points", "feature_regression", "implicit_regression")
    net = networks.mlp(SHAPE, CLASSES, widths=(128,)) if is_ridge else mlp()
    distribution = inits.random(net)
    method = TABLE[name](net, distribution)
    adam, sgd = ddjax.optimizers.adam_cosine(100, lr=0.1), ddjax.optimizers.sgd_momentum(lr=0.1)
    run = ddjax.distill(
        toy,
        method,
        key=jax.random.key(0),
        num_outer_steps=100,
        form=form_for(method),
        optimizer=sgd if "matching" in name and not method.needs_lrs else adam,
        reporting=ddjax.Reporting(every=1),
    )
    start = dataclasses.replace(run.distilled, params=form_for(method).init(jax.random.key(7)))
    scores = [
        ddjax.evaluate(phi, net, distribution, toy.test, key=jax.random.key(8), num_inits=5)
        for phi in (start, run.distilled)
    ]
    losses = [record["loss"] for record in run.history]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    assert scores[1].mean > 80
    assert scores[0].mean < 60


@pytest.mark.slow
@pytest.mark.parametrize("plain", PLAIN)
def test_accepts_every_form(plain, toy):
    method = case(plain).method
    pixels = small_form(inner_lr=0.1 if method.needs_lrs else None)
    start = pixels.unfold(pixels.init(jax.random.key(0)))
    settings = {"inner_lr": 0.1 if method.needs_lrs else None}
    # Not of zeros, at which relu units without a bias have no derivative.
    from_images = small_form(initial_images=np.ones(start.inputs.shape, np.float32), **settings)

    given = forms.constant(start)
    run = ddjax.distill(toy, method, key=jax.random.key(0), num_outer_steps=1, form=given)
    assert not np.array_equal(run.distilled.schedule.inputs, start.inputs)
    # That a run moves noise is what the contract's other checks see.
    loss, params = dataclasses.replace(case(plain), form=from_images).loss(method)
    assert np.any(jax.jit(jax.grad(lambda p: loss(p)[0]))(params).images)


# A user's own, by the same suite.


def towards_zero(**changed) -> Method:
    """The smallest method there is: pulls the images towards those of the real minibatch's mean."""

    def loss(schedule, state, batch, key):
        del state, key
        return jnp.sum((schedule.inputs - jnp.mean(batch)) ** 2), ()

    parts = {
        "sample": lambda data, key: data.inputs_at(jax.random.randint(key, (4,), 0, len(data.labels))),
        "loss": loss,
        "name": "towards_zero",
        "recipe": SHORT,
        "outer": lambda steps, *, lr=None: Outer(ddjax.optimizers.sgd_momentum(lr=lr or 0.1)),
    }
    return Method(**(parts | changed))


@pytest.mark.slow
def test_a_user_s_method_passes():
    testing.check_method(MethodCase(towards_zero, small_form(inner_lr=None), three_digits()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"loss": lambda schedule, state, batch, key: (jnp.sum(jnp.sqrt(schedule.inputs * 0)), ())},
            "expected a finite gradient at .images; got NaN or infinity. Look for divisions by zero",
        ),
        (
            {"loss": lambda schedule, state, batch, key: (jnp.sum(batch), ())},
            "expected a gradient at .images; got zeros. The loss does not depend on this leaf",
        ),
        (
            {
                "init": lambda key: jnp.zeros(2),
                "advance": lambda schedule, state, batch, info, key: state[:1],
            },
            "expected a state .*; got .*. advance must return what init makes",
        ),
        (
            {
                "loss": lambda schedule, state, batch, key: (
                    jnp.sum(jax.lax.stop_gradient(schedule.inputs) * schedule.inputs),
                    (),
                )
            },
            "expected the directional derivative .* of finite differences; got .* from the gradient",
        ),
    ],
)
def test_a_broken_method_fails_and_says_why(broken, message):
    broken_case = MethodCase(
        functools.partial(towards_zero, **broken), small_form(inner_lr=None), three_digits()
    )
    with pytest.raises(testing.ContractError, match=message):
        testing.check_method(broken_case)


@pytest.mark.slow
def test_advance_sees_the_batch_and_the_slot_s_own_diagnostics(toy):
    """A network that restarts by its own error: what each slot drew reaches its own next state."""

    def loss(schedule, state, batch, key):
        drawn = jax.random.normal(key, ())
        return jnp.sum(schedule.inputs**2), (drawn, jnp.mean(batch))

    def advance(schedule, state, batch, info, key):
        drawn, seen = info
        same = jnp.abs(seen - jnp.mean(batch)) < 1e-6
        return jnp.where(same, drawn, jnp.nan)

    watching = towards_zero(loss=loss, init=lambda key: jnp.zeros(()), advance=advance)
    problem = Problem(watching, small_form(inner_lr=None), ddjax.optimizers.sgd_momentum(lr=0.1), num_inits=4)
    mesh = parallel.make_mesh(jax.devices()[:2])
    state = init_state(problem, jax.random.key(0)).on(mesh)
    data = parallel.place(to_device(toy.train), parallel.replicated(mesh))
    done, infos, finite = build_dispatch(problem, mesh, capacity=1)(
        state, data, jax.random.key(1), jnp.int32(1)
    )
    assert bool(finite)
    slots = np.asarray(done.slots)
    assert len(np.unique(slots)) == 4
    np.testing.assert_allclose(infos.method[0][0], slots.mean(), rtol=1e-5)


def test_distribution_matching_refuses_a_network_without_embedding():
    def init(key):
        return {"kernel": jax.random.normal(key, (64, CLASSES))}

    blind = networks.from_functions(
        init, lambda params, x: x.reshape(len(x), -1) @ params["kernel"], SHAPE, CLASSES, name="blind"
    )
    with pytest.raises(ValueError, match="'blind' has none"):
        methods.distribution_matching(blind, inits.random(blind))
