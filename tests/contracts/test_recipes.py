"""Every recipe keeps the contract of recipes; ridge regression against its closed form."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative, small_form

from ddjax import artifact, forms, inits, methods, networks, recipes, testing
from ddjax.encodings import Channels
from ddjax.inits import random
from ddjax.judge import Judge, check_fits, choose_steps
from ddjax.recipes import Regress, Replay, Ridge, Train, TrainHead
from ddjax.testing import RECIPE_CHECKS, RecipeCase
from ddjax.types import Distilled, Fitted, Network, Recipe, Schedule

MLP = networks.mlp(SHAPE, CLASSES, widths=(8,))


def gaussian(x: jax.Array, y: jax.Array) -> jax.Array:
    distances = jnp.sum((x[:, None] - y[None]) ** 2, (2, 3, 4))
    return jnp.exp(-distances / 100)


KERNEL = networks.from_kernel(gaussian, SHAPE, CLASSES)
SCHEDULE = small_form(inner_lr=0.1).unfold(small_form(inner_lr=0.1).init(jax.random.key(0)))
TABLE: dict[str, tuple[Recipe, Network]] = {
    "replay": (Replay(), MLP),
    "replay, adam": (Replay("adam"), MLP),
    "train": (Train(lr=0.1, epochs=3, batch_size=4), MLP),
    "train, augmented": (Train(lr=0.1, epochs=2, augmentation="flip"), MLP),
    "train, as published": (Train(lr=0.1, epochs=2, batch_size=4, protocol="condensation"), MLP),
    "train, at the learned rate": (
        Train(lr=None, epochs=2, batch_size=4, protocol="condensation", augmentation="flip"),
        MLP,
    ),
    "train, as IDC": (Train(lr=0.1, epochs=3, batch_size=4, protocol="idc", mix="cutmix"), MLP),
    "train, batch norm": (
        Train(lr=0.1, epochs=2),
        networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="batch"),
    ),
    "regress": (Regress(lr=0.01, steps=7, warmup=2, batch_size=4), MLP),
    "regress, centred, augmented": (
        Regress(lr=0.01, steps=3, label_scale=4.0, centre=True, augmentation="flip"),
        MLP,
    ),
    "train in steps, adam": (
        Train(lr=0.01, batch_size=4, protocol="constant", optimizer="adam", steps=5),
        MLP,
    ),
    "train at a temperature": (Train(lr=0.1, epochs=3, batch_size=4, temperature=4.0), MLP),
    "train a ridge head": (TrainHead(momentum=0.1, steps=5, batch_size=4), MLP),
    "ridge on features": (Ridge(1e-2), MLP),
    "ridge in a kernel": (Ridge(1e-4), KERNEL),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", RECIPE_CHECKS)
@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_keeps_its_contract(name, check):
    RECIPE_CHECKS[check](RecipeCase(*TABLE[name], SCHEDULE))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("epochs", "falls"), [(12, (8, 10)), (7, (4, 5)), (2, (1, 1))])
def test_idc_lowers_the_rate_to_a_fifth_twice(epochs, falls):
    """A network of biases, trained on one example with momentum and decay, step by step in NumPy."""
    biases = networks.from_functions(
        lambda key: {"bias": jnp.zeros(CLASSES)},
        lambda params, x: jnp.broadcast_to(params["bias"], (len(x), CLASSES)),
        SHAPE,
        CLASSES,
    )
    label = np.array([0.7, 0.2, 0.1])
    schedule = Schedule(jnp.ones((1, 1, *SHAPE)), jnp.asarray(label)[None, None], None)
    recipe = Train(lr=0.5, momentum=0.9, weight_decay=0.1, epochs=epochs, protocol="idc")
    found = recipe.fit(biases, {"bias": jnp.zeros(CLASSES)}, schedule, jax.random.key(0)).params["bias"]
    bias, trace = np.zeros(CLASSES), np.zeros(CLASSES)
    for epoch in range(epochs):
        trace = 0.9 * trace + np.exp(bias) / np.exp(bias).sum() - label + 0.1 * bias
        bias = bias - 0.5 * 0.2 ** sum(epoch >= fall for fall in falls) * trace
    np.testing.assert_allclose(found, bias, rtol=1e-12)


def test_a_mixture_is_refused_where_it_has_no_meaning():
    with pytest.raises(ValueError, match="recipe: mix: expected one of cutmix"):
        Train(mix="mixup").check(MLP)
    with pytest.raises(ValueError, match="mix: expected none where steps are counted"):
        Train(mix="cutmix", protocol="constant", steps=3).check(MLP)


def test_recipes_without_a_mixture_are_written_as_they_were():
    assert "mix" not in recipes.as_dict(Train())
    whole = Train(mix="cutmix", protocol="idc")
    assert recipes.from_dict(recipes.as_dict(whole), SHAPE, where="file") == whole
    with pytest.raises(ValueError, match="file: the recipe: mix: expected one of cutmix"):
        recipes.from_dict({"kind": "train", "mix": ["x"]}, SHAPE, where="file")


@dataclasses.dataclass(frozen=True)
class Lucky(Recipe):
    """Draws, and does not say so."""

    kind = "lucky"

    def fit(self, network, params, schedule, key):
        shift = jax.random.normal(key, ())
        return Fitted(params, lambda inputs: network.apply(params, inputs) + shift)

    def check(self, network):
        del network


@pytest.mark.slow
def test_a_recipe_that_draws_in_silence_fails():
    with pytest.raises(testing.ContractError, match="Set is_random = True"):
        testing.check_recipe(RecipeCase(Lucky(), MLP, SCHEDULE))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_ridge_is_the_closed_form(rng):
    features = rng.normal(size=(6, 8, 8, 1))
    labels, new = np.eye(3)[np.arange(6) % 3], rng.normal(size=(5, 8, 8, 1))
    flat = networks.from_functions(
        lambda key: {"kernel": jnp.zeros((64, 3))},
        lambda params, x: x.reshape(len(x), -1) @ params["kernel"],
        SHAPE,
        3,
        embed=lambda params, x: x.reshape(len(x), -1),
    )
    schedule = SCHEDULE._replace(inputs=jnp.asarray(features)[None], labels=jnp.asarray(labels)[None])

    @jax.jit
    def predict(key, inputs):
        return Ridge(0.1).fit(flat, flat.init(key), schedule, key).predict(inputs)

    # The primal solution: (XᵀX + λ I)⁻¹ Xᵀ Y, the other formulation of the same regression.
    x = features.reshape(6, -1)
    penalty = 0.1 * np.trace(x @ x.T) / 6
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(64), x.T @ labels)
    assert relative(predict(jax.random.key(0), new), new.reshape(5, -1) @ weights) < 1e-10


@pytest.mark.slow
def test_a_kernel_is_judged_by_ridge_alone(digits):
    kept = digits.train.at(digits.train.labels < CLASSES)
    split = dataclasses.replace(kept, num_classes=CLASSES)
    images = np.stack([split.encoded()[split.labels == k][:2] for k in range(CLASSES)])
    inits = random(KERNEL, scheme="network")
    labels = jnp.repeat(jnp.eye(CLASSES), 2, axis=0)[None]
    phi = Schedule(jnp.asarray(images.reshape(1, -1, *SHAPE)), labels, None)
    judge = Judge(KERNEL, inits, Ridge(1e-4), split)
    assert float(judge.score(phi, key=jax.random.key(0), num_inits=1)[0]) > 80
    with pytest.raises(ValueError, match="a kernel has none to train"):
        Judge(KERNEL, inits, Train(epochs=1), split).score(phi, key=jax.random.key(0), num_inits=1)
    blind = networks.from_functions(MLP.init, MLP.apply, SHAPE, CLASSES, name="blind")
    with pytest.raises(ValueError, match="blind: expected a network with features"):
        Judge(blind, random(blind), Ridge(), split)


def test_a_ridge_artifact_is_version_three_and_comes_back(tmp_path):
    encoding = Channels(jnp.full(1, 0.5), jnp.full(1, 0.25))
    phi = Distilled(SCHEDULE, forms.constant(SCHEDULE), encoding, Ridge(0.5))
    loaded = artifact.load(artifact.save(tmp_path / "ridge.npz", phi))
    assert loaded.recipe == Ridge(0.5)
    with np.load(tmp_path / "ridge.npz") as file:
        assert sorted(file) == ["encoding.mean", "encoding.std", "inputs", "labels", "lrs", "metadata"]


def test_a_recipe_by_name_refuses_what_its_kind_does_not_have():
    assert recipes.recipe("train", epochs=3) == Train(epochs=3)
    with pytest.raises(ValueError, match=r"kind: expected one of .*; got 'trian'. Did you mean 'train'"):
        recipes.recipe("trian")


@pytest.mark.parametrize(
    ("protocol", "epochs", "batch_size", "boundary", "total"),
    [
        ("plain", 1, 6, 1, 1),
        ("plain", 1, 2, 2, 3),
        ("plain", 3, 6, 2, 3),
        ("plain", 3, 2, 5, 9),
        ("plain", 4, 2, 6, 12),
        ("condensation", 1, 6, 2, 2),
        ("condensation", 4, 2, 12, 15),
        ("condensation", 5, 6, 4, 6),
    ],
)
@pytest.mark.usefixtures("x64")
def test_the_rate_falls_where_the_protocol_says(protocol, epochs, batch_size, boundary, total):
    """The last bias alone learns, from equal labels in every minibatch, so that the order does not matter."""
    labels = np.array([0.7, 0.2, 0.1])
    schedule = Schedule(jnp.zeros((1, 6, *SHAPE)), jnp.broadcast_to(labels, (1, 6, 3)), None)
    network = networks.from_functions(
        lambda key: jnp.zeros(3), lambda bias, x: jnp.broadcast_to(bias, (len(x), 3)), SHAPE, 3
    )
    recipe = Train(lr=0.5, epochs=epochs, batch_size=batch_size, protocol=protocol)
    ours = jax.jit(lambda key: recipe.fit(network, jnp.zeros(3), schedule, key).params)(jax.random.key(0))
    bias, momentum = np.zeros(3), np.zeros(3)
    for step in range(total):
        if step == boundary and protocol == "condensation":
            momentum = np.zeros(3)
        slope = np.exp(bias) / np.exp(bias).sum() - labels + 5e-4 * bias
        momentum = 0.9 * momentum + slope
        bias = bias - (0.5 if step < boundary else 0.05) * momentum
    np.testing.assert_allclose(ours, bias, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"epochs": 3}, {"steps": 4, "protocol": "constant"}])
def test_the_learned_rate_is_the_mean_of_the_schedule_s(settings):
    assert SCHEDULE.lrs is not None
    schedule = SCHEDULE._replace(lrs=SCHEDULE.lrs * jnp.asarray([[0.5, 1.0], [1.5, 1.0]]))
    params = MLP.init(jax.random.key(0))

    def trained(lr: float | None) -> Any:
        recipe = Train(lr=lr, batch_size=4, **settings)
        return jax.jit(lambda key: recipe.fit(MLP, params, schedule, key).params)(jax.random.key(1))

    own, learned = trained(0.1), trained(None)
    for ours, theirs in zip(jax.tree.leaves(learned), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert not Train(lr=0.1).needs_lrs
    record = recipes.as_dict(Train(lr=None))
    assert record["lr"] is None
    assert recipes.from_dict(record, SHAPE, where="file") == Train(lr=None)
    with pytest.raises(ValueError, match="the recipe's lr: expected"):
        recipes.from_dict(recipes.as_dict(Regress()) | {"lr": None}, SHAPE, where="file")


def test_a_record_without_a_protocol_is_plain():
    """As every file of earlier versions; the published one is said, so that those do not read it as plain."""
    plain, published = (recipes.as_dict(Train(protocol=one)) for one in ("plain", "condensation"))
    assert "protocol" not in plain
    assert published == {**plain, "protocol": "condensation"}
    for record in (plain, published):
        assert recipes.as_dict(recipes.from_dict(record, SHAPE, where="file")) == record
    with pytest.raises(ValueError, match="the recipe's protocol: expected one of condensation, constant"):
        recipes.from_dict({**plain, "protocol": "condensed"}, SHAPE, where="file")
    with pytest.raises(ValueError, match="recipe: protocol"):
        Judge(MLP, random(MLP), Train(protocol="other"), None)  # type: ignore[arg-type] (the recipe is refused first)


def test_a_temperature_is_written_where_it_is_not_one_and_only_training_has_one():
    warm = recipes.as_dict(Train(temperature=4.0))
    assert warm == {**recipes.as_dict(Train()), "temperature": 4.0}
    assert recipes.from_dict(warm, SHAPE, where="file") == Train(temperature=4.0)
    with pytest.raises(ValueError, match="file: the recipe's temperature: expected a finite number > 0"):
        recipes.from_dict({**warm, "temperature": 0.0}, SHAPE, where="file")
    with pytest.raises(ValueError, match="recipe: temperature: expected a finite number > 0"):
        Train(temperature=-1.0).check(MLP)
    with pytest.raises(ValueError, match="settings of 'schedule': expected one of optimizer; got 'temp"):
        recipes.recipe("schedule", temperature=2.0)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [None, 1])
def test_a_step_at_a_temperature_follows_the_tempered_loss(steps):
    """One full step of plain SGD from known logits, in epochs and in steps: -η T (softmax(z / T) - y)."""
    labels, start = np.array([0.7, 0.2, 0.1]), np.array([0.5, -1.0, 2.0])
    schedule = Schedule(jnp.zeros((1, 6, *SHAPE)), jnp.broadcast_to(labels, (1, 6, 3)), None)
    network = networks.from_functions(
        lambda key: jnp.zeros(3), lambda bias, x: jnp.broadcast_to(bias, (len(x), 3)), SHAPE, 3
    )
    recipe = Train(
        lr=0.5, momentum=0, weight_decay=0, epochs=1, protocol="constant", steps=steps, temperature=4.0
    )
    ours = recipe.fit(network, jnp.asarray(start), schedule, jax.random.key(0)).params
    soft = np.exp(start / 4) / np.exp(start / 4).sum()
    np.testing.assert_allclose(ours, start - 0.5 * 4 * (soft - labels), rtol=1e-12)


@pytest.mark.parametrize("recipe", [Train(), Replay(), Regress()])
def test_a_recipe_that_trains_refuses_a_kernel(recipe):
    with pytest.raises(ValueError, match=r"a kernel has none to train. Give ddjax.Recipe\('ridge'\)"):
        recipe.check(KERNEL)


def test_cross_entropy_refuses_centred_labels_and_says_what_to_do():
    """Users of the originals trained on such labels by cross-entropy, which trains nothing."""
    recipe = Train(epochs=1)
    centred = SCHEDULE._replace(labels=SCHEDULE.labels - 1 / CLASSES)
    encoding = Channels(jnp.full(1, 0.5), jnp.full(1, 0.25))
    phi = Distilled(centred, forms.constant(centred), encoding, recipe)
    with pytest.raises(ValueError, match=r"got centred labels.*recipe=ddjax.Recipe\('regress'\)"):
        check_fits(phi, MLP)
    check_fits(dataclasses.replace(phi, recipe=Regress()), MLP)
    # A learned label that leaves the simplex a little, and weights of examples, are none of those.
    recipe.check_labels(np.array([[[1.1, -0.05, 0.0], [0.0, 3.0, 0.0]]]))


def test_steps_that_were_learned_may_take_labels_of_any_sum():
    """Free labels leave the simplex while they are learned under the very loss that the steps use."""
    free = SCHEDULE._replace(labels=SCHEDULE.labels - 2.0)
    phi = Distilled(free, forms.constant(free), Channels(jnp.full(1, 0.5), jnp.full(1, 0.25)), Replay())
    check_fits(phi, MLP)
    method = methods.unrolled(MLP, inits.random(MLP), batch_size=8)
    assert method.check_labels is not None
    with pytest.raises(ValueError, match="got centred labels"):
        method.check_labels(np.asarray(SCHEDULE.labels - 1 / CLASSES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "recipe: lr: expected"),
        ({"label_scale": -1.0}, "recipe: label_scale: expected"),
        ({"steps": 0}, "recipe: steps: expected"),
        ({"augmentation": "spin"}, "augmentation: expected"),
    ],
)
def test_settings_of_a_regression_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Regress(**settings).check(MLP)


def test_centred_outputs_need_a_network_without_batch_norm():
    network = networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="batch")
    with pytest.raises(ValueError, match="centre: expected a network without batch norm"):
        Regress(centre=True).check(network)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_regression_reaches_the_scaled_labels_from_centred_outputs():
    """Trained to the end, a network says s times the labels of its own images."""
    labels = jnp.asarray([[0.7, -0.5, -0.2], [-0.4, 0.9, -0.5]])
    schedule = Schedule(jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, *SHAPE))), labels[None], None)
    wide = networks.mlp(SHAPE, CLASSES, widths=(32,))
    recipe = Regress(lr=0.01, steps=400, warmup=20, label_scale=3.0, centre=True)

    @jax.jit
    def predicted(key):
        return recipe.fit(wide, wide.init(key), schedule, key).predict(schedule.inputs[0])

    np.testing.assert_allclose(predicted(jax.random.key(0)), 3 * labels, atol=1e-3)


def test_steps_and_epochs_do_not_mix(tmp_path):
    with pytest.raises(ValueError, match="steps: expected none under the protocol 'plain'"):
        Train(steps=3).check(MLP)
    with pytest.raises(ValueError, match="recipe: optimizer: expected one of"):
        Train(optimizer="adamm").check(MLP)
    record = recipes.as_dict(Train(protocol="constant", optimizer="adam", steps=3))
    assert recipes.from_dict(record, SHAPE, where="file").steps == 3  # type: ignore[attr-defined] (a Train)
    for wrong, message in (({"steps": 0}, "steps"), ({"steps": 10**9}, "at most"), ({"optimizer": "x"}, "x")):
        with pytest.raises(ValueError, match=message):
            recipes.from_dict({**record, **wrong}, SHAPE, where="file")
    assert {"optimizer", "steps"}.isdisjoint(recipes.as_dict(Train()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train in steps, adam", "train a ridge head"])
def test_steps_are_chosen_along_one_training(name, few_digits):
    """The scores on the way are those of trainings that end there."""
    recipe, network = TABLE[name]
    judge = Judge(network, random(network), recipe, few_digits.validation)
    chosen, scores = choose_steps(judge, SCHEDULE, (7, 2, 7), key=jax.random.key(0), num_inits=2)
    assert list(scores) == [2, 7]
    assert scores[chosen].mean == max(score.mean for score in scores.values())
    for steps, score in scores.items():
        whole = dataclasses.replace(judge, recipe=dataclasses.replace(recipe, steps=steps))  # type: ignore[call-arg] (both count)
        alone = whole.evaluation(SCHEDULE, key=jax.random.key(0), num_inits=2)
        np.testing.assert_allclose(score.values, alone.values, atol=0.5)
    side_by_side = dataclasses.replace(judge, runs_per_chunk=2)
    _, beside = choose_steps(side_by_side, SCHEDULE, (2, 7), key=jax.random.key(0), num_inits=3)
    _, alone = choose_steps(judge, SCHEDULE, (2, 7), key=jax.random.key(0), num_inits=3)
    for steps in (2, 7):
        np.testing.assert_allclose(beside[steps].values, alone[steps].values, atol=0.5)


def test_a_choice_of_steps_refuses_what_counts_none(few_digits):
    judge = Judge(MLP, random(MLP), Ridge(1e-2), few_digits.validation)
    with pytest.raises(ValueError, match="recipe: expected one that counts steps; 'ridge' does not"):
        choose_steps(judge, SCHEDULE, (1,), key=jax.random.key(0))
    counting = dataclasses.replace(judge, recipe=TABLE["train in steps, adam"][0])
    for choices, message in (((), "steps: expected one or more"), ((0, 3), "steps: expected")):
        with pytest.raises(ValueError, match=message):
            choose_steps(counting, SCHEDULE, choices, key=jax.random.key(0))


@pytest.mark.parametrize("recipe", [Ridge(), Regress()])
def test_a_regression_needs_labels_of_two_classes(recipe):
    with pytest.raises(ValueError, match=r"got class 1 alone. Give examples of each class"):
        recipe.check_labels(np.eye(3)[[[1, 1]]] - 1 / 3)
    recipe.check_labels(np.eye(3)[[[1, 2]]] - 1 / 3)
