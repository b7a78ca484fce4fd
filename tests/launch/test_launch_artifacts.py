"""Evaluations start from what an artifact says of itself: data, form of the images, network, p(θ0)."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, small_run, three_digits, write_npz

from ddjax import Recipe, artifact, data, forms, inits, methods, networks, pool, recorded_inits
from ddjax.data import provenance
from ddjax.encodings import Channels
from ddjax.launch import Keys, artifacts, matrix, memories
from ddjax.launch.choices import converted_by
from ddjax.launch.evaluating import initial_weights
from ddjax.launch.settings import DataChoice
from ddjax.types import Distilled, Network, Schedule, start_of
from experiments import attack, cross_architecture, evaluate

MLP = networks.mlp(SHAPE, CLASSES, widths=(4,))


def phi(shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES, **metadata: Any) -> Distilled:
    """Blank images under a training, with the given metadata."""
    images, labels = jnp.zeros((1, num_classes, *shape)), jnp.eye(num_classes)[None]
    schedule = Schedule(images, labels, None)
    encoding = Channels(jnp.full(shape[2], 0.5), jnp.full(shape[2], 0.3))
    return Distilled(schedule, forms.constant(schedule), encoding, Recipe("train", epochs=1), metadata)


def open_it(path: Path, **settings: Any) -> artifacts.Opened:
    flags = {"dataset": None, "data_dir": None, "form": DataChoice()} | settings
    return artifacts.opened(str(path), **flags)


def same(one: Any, two: Any) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), one, two))


@pytest.fixture
def saved(tmp_path):
    def save(*args: Any, **metadata: Any) -> Path:
        return artifact.save(tmp_path / "distilled.npz", phi(*args, **metadata))

    return save


# What an artifact says.


@pytest.mark.slow
def test_the_library_s_artifacts_name_data_network_and_inits():
    real = three_digits()
    own = small_run(real, num_outer_steps=1).distilled.metadata
    assert own["data"] == {
        "source": "arrays",
        "name": "",
        "split": {"seed": 0, "fraction": 0.1},
        "form": [],
        "digests": data.digests(real),
        "input_shape": [8, 8, 1],
    }
    assert own["class_names"] == ["0", "1", "2"]
    assert (own["network"], own["network_settings"]) == ("mlp", {"widths": [16]})
    assert own["init_settings"] == {"kind": "random", "scheme": "xavier_normal", "gain": 1.0}


@pytest.mark.parametrize(
    "build",
    [
        lambda p: methods.unrolled(MLP, p),
        lambda p: methods.distribution_matching(MLP, p),
        lambda p: methods.gradient_matching(MLP, p),
    ],
)
def test_every_method_names_its_network_and_inits(build):
    p = inits.random(MLP, scheme="pytorch", gain=2)
    assert build(p).facts == start_of(MLP, p)
    assert start_of(MLP, p) == {
        "network": "mlp",
        "network_settings": {"widths": [4]},
        "init": "pytorch(gain=2)",
        "init_settings": {"kind": "random", "scheme": "pytorch", "gain": 2.0},
    }


def test_conversions_are_recorded_in_their_order_with_the_digests_from_before():
    digits = data.load("digits")
    few = data.with_classes(digits, [3, 1, 2])
    small = converted_by(converted_by(converted_by(few, "channels", 3), "resize", 4), "pixels", "imagenet")
    own = provenance.facts(small)["data"]
    assert own["form"] == [
        {"classes": [3, 1, 2]},
        {"channels": 3},
        {"resize": [4, 4]},
        {"pixels": "imagenet"},
    ]
    assert own["digests"] == data.digests(digits)
    assert (own["source"], own["name"]) == ("built-in", "digits")


# The data (F6, F11, F14).


def test_an_artifact_of_a_file_never_opens_the_built_in_set_of_that_name(saved, tmp_path, rng):
    path = write_npz(tmp_path / "digits.npz", rng)
    mine = data.load(path)
    kept = saved(**provenance.facts(mine))
    with pytest.raises(ValueError, match=r"from the file 'digits\.npz'.*Give --dataset=path/to/digits\.npz"):
        open_it(kept)
    found = open_it(kept, dataset=str(path))
    assert found.notes == ("as in the artifact: the file digits.npz, with the same digests",)
    other = write_npz(tmp_path / "other.npz", np.random.default_rng(9))
    assert open_it(kept, dataset=str(other)).notes[0].startswith("differs: tested on the file other.npz")


def test_nothing_is_downloaded_because_an_artifact_names_it(saved):
    facts = provenance.facts(three_digits())
    facts["data"] |= {"source": "built-in", "name": "hf:me/digits"}
    with pytest.raises(ValueError, match=r"nothing is downloaded .*Give --dataset=hf:me/digits"):
        open_it(saved(**facts))


def test_arrays_in_memory_have_no_name_to_open(saved):
    with pytest.raises(ValueError, match="distilled from arrays in memory"):
        open_it(saved(**provenance.facts(three_digits())))


def test_a_built_in_set_that_has_changed_is_refused_unless_it_is_asked_for(saved):
    facts = provenance.facts(data.load("digits", seed=3))
    assert open_it(saved(SHAPE, 10, **facts)).notes == (
        "as in the artifact: the built-in set digits, with the same digests",
    )
    facts["data"]["digests"]["test"] = "0" * 64
    with pytest.raises(ValueError, match=r"its test split has another digest now.*--dataset=digits"):
        open_it(saved(SHAPE, 10, **facts))
    assert open_it(saved(SHAPE, 10, **facts), dataset="digits").notes[0].startswith("differs: tested on")


def test_an_artifact_of_an_older_version_says_what_is_assumed(saved):
    names = [str(k) for k in range(10)]
    found = open_it(saved(SHAPE, 10, dataset="digits", class_names=names))
    assert found.notes == ("assumed: the data that the artifact calls 'digits' are the built-in set digits",)
    for name in ("../digits.npz", "./digits", "x.NPZ", ""):
        with pytest.raises(ValueError, match="expected the name of a data set"):
            open_it(saved(SHAPE, 10, dataset=name))


def test_the_images_come_in_the_form_of_the_artifact(saved):
    digits = data.load("digits")
    small = converted_by(converted_by(digits, "channels", 3), "resize", 4)
    kept = saved((4, 4, 3), 10, **provenance.facts(small))
    found = open_it(kept)
    np.testing.assert_array_equal(found.data.test.images, small.test.images)
    assert len(found.notes) == 1
    with pytest.raises(ValueError, match=r"expected \(8, 8, 3\); got \(4, 4, 3\).*--resize=4"):
        open_it(kept, form=DataChoice(resize=8))
    asked = open_it(kept, form=DataChoice(pixels="imagenet"))
    assert asked.notes[1] == "differs: --pixels=imagenet; the artifact has none"
    np.testing.assert_allclose(asked.data.mean, (0.485, 0.456, 0.406), rtol=1e-6)


@pytest.mark.parametrize("classes", [[3, 1], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]])
def test_the_classes_come_in_the_order_of_the_artifact(classes, saved):
    some = data.with_classes(data.load("digits"), classes)
    found = open_it(saved(SHAPE, len(classes), **provenance.facts(some))).data
    np.testing.assert_array_equal(found.test.labels, some.test.labels)
    assert found.class_names == some.class_names


def test_an_older_artifact_in_another_form_gets_the_remedy_that_works(saved):
    kept = saved((4, 4, 3), 10, dataset="digits")
    with pytest.raises(ValueError, match=r"bring these to its form: --channels=3 --resize=4\."):
        open_it(kept)
    assert open_it(kept, form=DataChoice(channels=3, resize=4)).data.image_shape == (4, 4, 3)


def test_the_pixels_of_the_artifact_are_normalised_as_then(saved):
    shown = converted_by(converted_by(data.load("digits"), "channels", 3), "pixels", "imagenet")
    found = open_it(saved((8, 8, 3), 10, **provenance.facts(shown)))
    np.testing.assert_array_equal(found.data.mean, shown.mean)


def renamed(names: str) -> list[str]:
    return list(names)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("9876543210", r"classes of the artifact in its order, 9, 8,.*with_classes\(data, \[9, 8, 7, 6, 5"),
        ("abcdefghij", None),
        ("0123456789", ""),
    ],
)
def test_the_order_of_the_classes_is_compared(saved, own, message):
    facts = provenance.facts(data.load("digits")) | {"class_names": renamed(own)}
    if message:
        with pytest.raises(ValueError, match=message):
            open_it(saved(SHAPE, 10, **facts))
    else:
        notes = open_it(saved(SHAPE, 10, **facts)).notes
        assert any("does not name them" in note for note in notes) == (message is None)


def test_classes_of_other_names_are_refused_and_the_remedy_for_an_order_works():
    digits = dataclasses.replace(data.load("digits"), class_names=tuple("abcdefghij"))
    with pytest.raises(ValueError, match="expected data with the classes k, l"):
        provenance.check_classes("x", list("klmnopqrst"), digits)
    turned = data.with_classes(digits, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    assert provenance.check_classes("x", list("jihgfedcba"), turned) == ""


# p(θ0) (F5).


def start(kept: Path, network: Network = MLP, **settings: Any) -> artifacts.Start:
    config = evaluate.Config(artifact=str(kept), **settings)
    return initial_weights(config, network, artifact.load(kept))


KEY = jax.random.key(7)
OWN = {
    "random": inits.random(MLP, scheme="kaiming_uniform", gain=1.5),
    "network": inits.random(MLP, scheme="network"),
    "fixed": inits.fixed(MLP, jax.random.key(3), scheme="pytorch"),
    "fixed by another generator": inits.fixed(MLP, jax.random.key(3, impl="rbg")),
}


@pytest.mark.parametrize("case", OWN)
def test_an_evaluation_starts_from_the_artifact_s_own_weights(case, saved):
    own = OWN[case]
    found = start(saved(**start_of(MLP, own)))
    assert found.note == f"as in the artifact: initial weights: {own.name}"
    assert (found.inits.name, found.inits.fixed) == (own.name, own.fixed)
    assert same(found.inits.sample(KEY), own.sample(KEY))


@pytest.mark.parametrize(
    ("name", "expected", "note"),
    [
        ("kaiming_normal", "kaiming_normal", "as in the artifact"),
        ("pytorch(gain=2)", "pytorch(gain=2)", "as in the artifact"),
        ("fixed(pytorch)", "pytorch", "assumed: fresh weights from pytorch: .*--fixed with the --seed"),
        ("pretrained(mnist, train)", "xavier_normal", "assumed: .*'pretrained"),
        ("my own", "xavier_normal", "assumed: .*'my own'"),
        ("", "xavier_normal", "assumed: .*names none"),
        ("xavier_normal(gain=nan)", "xavier_normal", "assumed"),
        ("xavier_normal(gain=1e999)", "xavier_normal", "assumed"),
    ],
)
def test_an_older_artifact_s_weights_are_known_by_their_name_or_assumed_aloud(name, expected, note, saved):
    found = start(saved(init=name))
    assert found.inits.name == expected
    assert re.match(note, found.note), found.note


def test_flags_override_and_say_so(saved):
    kept = saved(**start_of(MLP, OWN["fixed"]))
    found = start(kept, init="lecun_normal")
    assert found.note == (
        "differs: initial weights from lecun_normal; the artifact was distilled for fixed(pytorch)"
    )
    assert start(kept, init_gain=2.0).inits.name == "pytorch(gain=2)"
    assert start(kept, fixed=True, seed=1).note.startswith("differs: initial weights: the one θ0 of --seed=1")
    theta = inits.fixed(MLP, Keys.of(1).theta, scheme="pytorch")
    own = start(saved(**start_of(MLP, theta)), fixed=True, seed=1)
    assert own.note.startswith("as in the artifact")
    assert same(own.inits.sample(KEY), theta.sample(KEY))


def test_one_theta_belongs_to_one_network(saved):
    kept = saved(**start_of(MLP, OWN["fixed"]))
    wider = networks.mlp(SHAPE, CLASSES, widths=(5,))
    found = start(kept, wider)
    assert (found.inits.name, found.inits.fixed) == ("pytorch", False)
    assert found.note.startswith("differs: fresh weights from pytorch")


def make_pool(**metadata: Any) -> pool.Pool:
    params = jax.vmap(inits.random(MLP).sample)(jax.random.split(jax.random.key(0), 3))
    facts = {"dataset": "digits", "network": "mlp", "network_settings": {"widths": [4]}, **metadata}
    return pool.Pool(jax.device_get(params), 2, np.zeros(3, np.float32), facts)


def test_weights_of_a_pool_are_asked_for_and_compared(saved, tmp_path):
    members = make_pool()
    path = str(pool.save(tmp_path / "pool.npz", members))
    kept = saved(**start_of(MLP, inits.pretrained(members)))
    with pytest.raises(ValueError, match=r"pretrained\(digits, train\), which are not in.*--pool"):
        start(kept)
    assert start(kept, init="pytorch").note.startswith("differs")
    found = start(kept, pool=path)
    assert found.note.startswith("as in the artifact: the same pool")
    assert found.inits.name == "pretrained(digits, held_out)"
    one = start(saved(**start_of(MLP, inits.pretrained(members, member=1))), pool=path)
    assert one.inits.name == "pretrained(digits, train 1)"
    other = dataclasses.replace(members, params=jax.tree.map(lambda leaf: leaf + 1, members.params))
    assert pool.digest(other) != pool.digest(members) == pool.digest(pool.load(path))
    again = str(pool.save(tmp_path / "other.npz", other))
    assert start(kept, pool=again).note.startswith("differs: initial weights: pretrained")


def test_what_is_not_whole_is_not_rebuilt():
    with pytest.raises(ValueError, match="expected a p"):
        recorded_inits.rebuilt(recorded_inits.recorded({"init": "fixed(pytorch)"}, where="x"), MLP)


# Others that open artifacts, or pools.


def test_the_name_of_a_network_alone_stands_for_the_artifact_s_settings(saved, tmp_path):
    small = networks.convnet(SHAPE, 10, depth=2, width=4)
    facts = provenance.facts(data.load("digits")) | start_of(small, inits.random(small))
    kept = saved(SHAPE, 10, **facts)
    wide = networks.convnet(SHAPE, 10, depth=2, width=8)
    other = artifact.save(
        tmp_path / "other.npz", phi(SHAPE, 10, **facts | start_of(wide, inits.random(wide)))
    )
    config = cross_architecture.Config(artifact=str(kept), networks="convnet,mlp,convnet:depth=1:width=4")
    asked = matrix.prepare(config)
    assert list(asked.columns) == ["convnet:depth=2:width=4", "mlp", "convnet:depth=1:width=4"]
    assert networks.num_weights(asked.columns["convnet:depth=2:width=4"]) == networks.num_weights(small)
    assert {one.name for one in asked.inits.values()} == {"xavier_normal"}
    assert asked.notes == (
        f"{kept}: as in the artifact: the built-in set digits, with the same digests",
        f"{kept}: as in the artifact: initial weights: xavier_normal",
    )
    both = dataclasses.replace(config, artifact=f"{kept},{other}")
    with pytest.raises(ValueError, match=r"networks: convnet: expected one .*width=4; .*width=8\. Name the"):
        matrix.prepare(both)
    asked = matrix.prepare(dataclasses.replace(both, networks="mlp"))
    assert asked.inits["mlp", str(kept)] is asked.inits["mlp", str(other)]


def test_a_column_starts_from_the_one_theta_of_its_artifact(saved):
    small = networks.convnet(SHAPE, 10, depth=2, width=4)
    theta = inits.fixed(small, jax.random.key(5))
    kept = str(saved(SHAPE, 10, **provenance.facts(data.load("digits")), **start_of(small, theta)))
    asked = matrix.prepare(cross_architecture.Config(artifact=kept, networks="convnet,mlp"))
    own, others = (asked.inits[title, kept] for title in asked.columns)
    assert same(own.sample(KEY), theta.sample(KEY))
    assert (others.fixed, others.name) == (False, "xavier_normal")
    given = cross_architecture.Config(artifact=kept, networks="mlp", init="pytorch")
    assert matrix.prepare(given).inits["mlp", kept].name == "pytorch"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("convnet", {"depth": 2, "width": 32}),
        ("convnet", {"norm": "none", "pooling": "max"}),
        ("mlp", {"widths": (64, 32)}),
        ("mlp", {"widths": (8,)}),
        ("mlp", {"widths": ()}),
        ("resnet18", {"width": 8}),
        ("lenet", {}),
    ],
)
def test_a_network_s_settings_build_it_again(name, settings):
    network = networks.by_name(name, (28, 28, 1), 10, **settings)
    text = networks.as_text(name, network.settings)
    again = networks.by_text(text, (28, 28, 1), 10)
    assert again.settings == network.settings
    assert networks.num_weights(again) == networks.num_weights(network)
    assert text.count(":") == len(settings)
    assert networks.by_name(name, (28, 28, 1), 10, **network.settings).settings == network.settings


def test_a_memory_of_other_data_is_refused(tmp_path):
    digits = data.load("digits")
    own = provenance.facts(digits)
    memories._check_same_data(tmp_path, own, digits)
    memories._check_same_data(tmp_path, {"dataset": "digits"}, digits)  # of an older version
    with pytest.raises(ValueError, match=r"expected a memory of the data at hand; .* another digests, split"):
        memories._check_same_data(tmp_path, own, data.load("digits", seed=1))


def test_an_attack_is_on_networks_of_the_same_data(tmp_path):
    digits = data.load("digits")
    facts = provenance.facts(digits)
    for wrong, message in (
        ({"digests": dict.fromkeys(facts["data"]["digests"], "0" * 64)}, "its data of that name were others"),
        ({"digests": {"test": "x"}}, "digests: expected 64 hexadecimal digits"),
    ):
        members = make_pool(**facts | {"data": facts["data"] | wrong})
        path = str(pool.save(tmp_path / "pool.npz", members))
        config = attack.Config(dataset="digits", pool=path)
        with pytest.raises(ValueError, match=message):
            attack.build(config, digits, Keys.of(0), None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_evaluate_tells_and_records_what_it_started_from(saved, capsys):
    facts = provenance.facts(data.load("digits"))
    own = networks.mlp(SHAPE, 10, widths=(4,))
    kept = saved(SHAPE, 10, **facts, **start_of(own, inits.fixed(own, KEY)))
    result = evaluate.run(evaluate.Config(artifact=str(kept), num_eval_inits=1, baselines=False))
    assert result["init"] == "fixed(xavier_normal)"
    assert result["notes"] == [
        "as in the artifact: the built-in set digits, with the same digests",
        "as in the artifact: initial weights: fixed(xavier_normal)",
    ]
    assert all(note in capsys.readouterr().out for note in result["notes"][:1])
    other = evaluate.run(
        evaluate.Config(artifact=str(kept), network="convnet", num_eval_inits=1, baselines=False)
    )
    assert other["notes"][1].startswith(
        "differs: trained convnet:depth=2; the artifact was distilled with mlp"
    )
