"""A run is what makes φ: another's directory is refused with the facts that differ, the own one goes on."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ddjax
from ddjax import data, forms, identity, inits, methods, networks, program
from ddjax.data import Dataset
from ddjax.types import Method, Outer

pytestmark = pytest.mark.slow

SHAPE, CLASSES = (4, 4, 1), 2


def spots(seed: int = 0, **changed: Any) -> Dataset:
    """60 images of 4 by 4, as in the fault's smallest input."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (60, *SHAPE)).astype(np.uint8), np.arange(60) % CLASSES
    given: dict[str, Any] = {"name": "spots"} | changed
    return data.from_arrays(images, labels, images, labels, **given)


class Pull(NamedTuple):
    distance: jax.Array


def pulling(strength: float = 1.0, *, outer: Any = None) -> Method:
    """Pulls every image towards a real one: a method of a user's own, which compiles in no time."""

    def loss(schedule, state, batch, key):
        del state, key
        distance = jnp.sum((schedule.inputs - batch.inputs.mean(0)[None, None]) ** 2)
        return strength * distance, Pull(distance)

    constant = Outer(optax.sgd(0.01), None, {"outer_optimizer": "sgd"})
    return Method(
        sample=lambda real, key: data.minibatch(real, key, size=4),
        loss=loss,
        name="pulling",
        recipe=ddjax.recipes.Train(),
        outer=outer or (lambda steps, *, lr=None: constant),
    )


def cosine(steps: int, *, lr: float | None = None) -> Outer:
    del lr
    return Outer(optax.sgd(optax.cosine_decay_schedule(0.01, steps)), None, {"outer_optimizer": "cosine"})


def form(**changed: Any) -> ddjax.Form:
    return forms.pixels(SHAPE, CLASSES, **({"inner_steps": 1, "inner_lr": None} | changed))


def run(workdir: Path | None, **changed: Any) -> ddjax.Run:
    everything = {"data": spots(), "method": pulling(), "form": form(), "key": jax.random.key(0)}
    everything |= {"num_outer_steps": 2, "reporting": ddjax.Reporting(every=1), "workdir": workdir}
    return ddjax.distill(**(everything | changed))


def phi(outcome: ddjax.Run) -> bytes:
    return np.asarray(outcome.distilled.schedule.inputs).tobytes()


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Path:
    """The directory of a finished run, which no test changes."""
    workdir = tmp_path_factory.mktemp("started")
    run(workdir)
    return workdir


@pytest.fixture
def copied(started, tmp_path) -> Path:
    for path in started.rglob("*"):
        if path.is_file():
            place = tmp_path / path.relative_to(started)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shifted_labels() -> Dataset:
    whole = spots()
    return dataclasses.replace(whole, train=dataclasses.replace(whole.train, labels=1 - whole.train.labels))


def another_encoding() -> Dataset:
    whole = spots()
    encoding = jax.tree.map(lambda leaf: 2 * leaf, whole.train.encoding)
    return dataclasses.replace(whole, train=dataclasses.replace(whole.train, encoding=encoding))


NETWORK = networks.mlp(SHAPE, CLASSES, widths=(4,))
MATCHING = functools.partial(methods.distribution_matching, NETWORK, inits.random(NETWORK))

ANOTHER = {
    "images": (lambda: {"data": spots(seed=1)}, r"data\.train was .*, is "),
    "labels": (lambda: {"data": shifted_labels()}, r"data\.train was"),
    "mean and std": (lambda: {"data": another_encoding()}, r"data\.train was"),
    "name": (lambda: {"data": spots(name="dots")}, "data.name was 'spots', is 'dots'"),
    "classes": (lambda: {"data": spots(class_names=("a", "b"))}, "data.classes was"),
    "method": (lambda: {"method": MATCHING()}, "method was pulling, is distribution_matching"),
    "a number inside a method of one's own": (
        lambda: {"method": pulling(2.0)},
        "the program of `loss` is another",
    ),
    "the outer optimiser": (
        lambda: {"method": pulling(outer=cosine)},
        r"outer\.outer_optimizer was 'sgd', is 'cosine'",
    ),
    "a given optimiser": (lambda: {"optimizer": optax.sgd(0.01)}, "outer was .*, is 'given'"),
    "form": (lambda: {"form": form(inner_steps=2)}, r"form\.inner_steps was 1, is 2"),
    "images to start from": (
        lambda: {"form": form(initial_images=np.ones((1, CLASSES, *SHAPE), np.float32))},
        r"form\.initial_images was None, is 'float32\[1, 2, 4, 4, 1\] ",
    ),
    "key": (lambda: {"key": jax.random.key(1)}, "key was .*, is "),
    "M": (lambda: {"num_inits": 2}, "num_inits was 1, is 2"),
    "clip_norm": (lambda: {"clip_norm": 1.0}, "clip_norm was None, is 1.0"),
    "validation": (
        lambda: {"validation": ddjax.Validation(lambda schedule: 1.0, every=1)},
        "validate_every was None, is 1",
    ),
    "fewer steps": (lambda: {"num_outer_steps": 1}, "num_outer_steps: expected at least the 2 outer steps"),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_another_run_is_refused_with_the_facts_that_differ(started, name):
    """F1: all of these gave the first run's φ, under the second one's names, mean and std."""
    changed, message = ANOTHER[name]
    before = contents(started)
    with pytest.raises(ValueError, match=message):
        run(started, **changed())
    assert contents(started) == before


SAME = {
    "nothing": dict,
    "save_seconds": lambda: {"save_seconds": 0.0, "save_every": 1},
    "reporting": lambda: {"reporting": ddjax.Reporting(every=7, listener=lambda record: None)},
    "devices": lambda: {"devices": jax.devices()[1:2]},
    "metadata": lambda: {"metadata": {"note": 1}},
    "slots_per_chunk": lambda: {"slots_per_chunk": 2},
    "on_nonfinite": lambda: {"on_nonfinite": "rollback", "max_rollbacks": 1},
}


@pytest.mark.parametrize("name", SAME)
def test_what_only_watches_may_change(copied, name):
    before = contents(copied)
    again = run(copied, **SAME[name]())
    assert phi(again) == phi(run(None))
    assert contents(copied) == before
    assert [record["step"] for record in again.history] == [1, 2]  # F19: [] before


def test_the_history_of_a_run_is_whole_after_a_stop(tmp_path):
    """F19: it was the tail alone. A longer run under constant rates is the run that went on."""
    run(tmp_path, num_outer_steps=3)
    longer = run(tmp_path, num_outer_steps=5)
    whole = run(None, num_outer_steps=5)
    assert longer.history == whole.history
    assert longer.num_outer_steps == 5
    assert phi(longer) == phi(whole)
    assert 0 < longer.seconds["earlier"] < longer.seconds["distil"]
    assert whole.seconds["earlier"] == 0
    assert run(tmp_path, num_outer_steps=5).seconds["earlier"] == longer.seconds["distil"]


def test_a_best_phi_that_a_longer_run_would_not_have_looked_at_is_no_start(tmp_path):
    """The last step is always validated, also where it is no multiple of `every`."""
    scores = {1: 1.0, 2: 2.0, 3: 3.0, 4: 0.0}

    def validated(workdir: Path | None, steps: int) -> ddjax.Run:
        seen = iter([2, steps] if steps > 2 else [2])
        return run(
            workdir,
            num_outer_steps=steps,
            validation=ddjax.Validation(lambda schedule: scores[next(seen)], every=2),
        )

    assert validated(tmp_path, 3).best_step == 3
    with pytest.raises(ValueError, match="expected 3, the last step of the run"):
        validated(tmp_path, 4)
    assert validated(tmp_path / "even", 2).best_step == 2
    again = run(
        tmp_path / "even", num_outer_steps=4, validation=ddjax.Validation(lambda schedule: 0.0, every=2)
    )
    assert phi(again) == phi(validated(None, 4))
    assert again.best_step == 2


@pytest.mark.parametrize("versions", ["the same", "others"])
def test_a_longer_run_is_refused_where_the_rates_follow_from_its_length(tmp_path, monkeypatch, versions):
    run(tmp_path, method=pulling(outer=cosine))
    if versions == "others":
        under = program.traced_under() | {"jax": "0.0"}
        monkeypatch.setattr(program, "traced_under", lambda: under)
    with pytest.raises(ValueError, match="was 2, is 4, and the rates of the outer optimiser follow from it"):
        run(tmp_path, method=pulling(outer=cosine), num_outer_steps=4)


def test_a_newer_jax_continues_a_run_by_its_facts(copied, monkeypatch):
    under = program.traced_under() | {"jax": "0.0"}
    monkeypatch.setattr(program, "traced_under", lambda: under)
    monkeypatch.setattr(program, "parts", lambda *arguments: dict.fromkeys(["start", "loss"], "another text"))
    assert run(copied).num_outer_steps == 2
    assert run(copied, num_outer_steps=3).num_outer_steps == 3
    with pytest.raises(ValueError, match=r"data\.train was"):
        run(copied, data=spots(seed=1))
    found = json.loads((copied / "checkpoints" / identity.FILE).read_text())
    assert (found["num_outer_steps"], found["traced_under"]["jax"]) == (3, "0.0")


def test_a_given_optimiser_of_other_versions_goes_on_for_the_same_number_of_steps_alone(
    tmp_path, monkeypatch
):
    run(tmp_path, optimizer=optax.sgd(0.01))
    assert run(tmp_path, optimizer=optax.sgd(0.01), num_outer_steps=3).num_outer_steps == 3
    with pytest.raises(ValueError, match="its rates follow from that number, or are others"):
        run(tmp_path, optimizer=optax.sgd(0.02), num_outer_steps=4)
    under = program.traced_under() | {"jax": "0.0"}
    monkeypatch.setattr(program, "traced_under", lambda: under)
    assert run(tmp_path, optimizer=optax.sgd(0.01), num_outer_steps=3).num_outer_steps == 3
    with pytest.raises(ValueError, match="nothing tells whether the rates of the given optimiser follow"):
        run(tmp_path, optimizer=optax.sgd(0.01), num_outer_steps=4)


def test_a_run_of_an_older_ddjax_goes_on_and_is_known_from_then_on(copied):
    path = copied / "checkpoints" / identity.FILE
    path.unlink()
    with pytest.warns(UserWarning, match="a run of an older ddjax, without identity.json"):
        longer = run(copied, num_outer_steps=3)
    assert phi(longer) == phi(run(None, num_outer_steps=3))
    assert path.exists()
    with pytest.raises(ValueError, match=r"data\.train was"):
        run(copied, data=spots(seed=1), num_outer_steps=3)


def test_a_finished_run_of_an_older_ddjax_is_known_from_then_on(copied):
    (copied / "checkpoints" / identity.FILE).unlink()
    with pytest.warns(UserWarning, match="a run of an older ddjax"):
        run(copied)
    with pytest.raises(ValueError, match=r"data\.train was"):
        run(copied, data=spots(seed=1))


def test_without_a_checkpoint_there_is_nothing_of_another_run(tmp_path):
    def dies(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, reporting=ddjax.Reporting(every=1, listener=dies))
    assert (tmp_path / "checkpoints" / identity.FILE).exists()  # before the first step
    assert phi(run(tmp_path, data=spots(seed=1))) == phi(run(None, data=spots(seed=1)))


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_a_damaged_identity_is_no_identity(copied, text):
    (copied / "checkpoints" / identity.FILE).write_text(text)
    with pytest.raises(ValueError, match=r"identity\.json: expected .* Remove it to continue"):
        run(copied)


def test_own_facts_of_a_caller_count(tmp_path):
    run(tmp_path, own_facts={"split": "a"})
    assert run(tmp_path, own_facts={"split": "a"}).num_outer_steps == 2
    with pytest.raises(ValueError, match=r"own\.split was 'a', is 'b'"):
        run(tmp_path, own_facts={"split": "b"})


CHOICES = {
    "seed": (0, 1),
    "name": ("spots", "dots"),
    "strength": (1.0, 1.5),
    "schedule": ("constant", "cosine"),
    "start": (0.0, 0.5),
    "key": (0, 1),
    "steps": (1, 2, 3),
    "clip_norm": (None, 1e-3),
}
BASES = tuple({name: values[at] for name, values in CHOICES.items()} | {"steps": 2} for at in (0, 1))
"""The settings of the first run in a directory: between them, both values of every choice."""


def chosen(workdir: Path | None, made: dict[str, Any]) -> bytes:
    """φ of the run with the settings that were drawn."""
    outer = cosine if made["schedule"] == "cosine" else None
    images = np.full((1, CLASSES, *SHAPE), made["start"], np.float32)
    outcome = run(
        workdir,
        data=spots(seed=made["seed"], name=made["name"]),
        method=pulling(made["strength"], outer=outer),
        form=form(initial_images=images),
        key=jax.random.key(made["key"]),
        num_outer_steps=made["steps"],
        clip_norm=made["clip_norm"],
    )
    return phi(outcome)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> list[Path]:
    """The directory of each finished first run."""
    places = [tmp_path_factory.mktemp("base") for _ in BASES]
    for workdir, first in zip(places, BASES, strict=True):
        chosen(workdir, first)
    return places


@functools.cache
def alone(*values: Any) -> bytes:
    return chosen(None, dict(zip(CHOICES, values, strict=True)))


def is_own(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether the second run is the first one, or goes on from where it ended."""
    longer = first["schedule"] == "constant" and first["steps"] < second["steps"]
    return second == first | {"steps": second["steps"]} and (first["steps"] == second["steps"] or longer)


CHANGES = st.dictionaries(st.sampled_from(list(CHOICES)), st.integers(0, 2), max_size=2)


@given(base=st.sampled_from(range(len(BASES))), changes=CHANGES)
@example(base=0, changes={})
@example(base=0, changes={"steps": 2})
@example(base=1, changes={})
@example(base=1, changes={"steps": 2})
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_never_another_s_phi(bases, tmp_path_factory, base, changes):
    """Two runs in one directory: the second has its own φ, as if alone, or is refused."""
    first = BASES[base]
    second = first | {name: CHOICES[name][at % len(CHOICES[name])] for name, at in changes.items()}
    if is_own(first, second):
        workdir = shutil.copytree(bases[base], tmp_path_factory.mktemp("two"), dirs_exist_ok=True)
        assert chosen(workdir, second) == alone(*(second[name] for name in CHOICES))
        return
    before = contents(bases[base])
    refused = r" was .*, is |the program of `loss` is another|num_outer_steps: expected at least"
    with pytest.raises(ValueError, match=refused):
        chosen(bases[base], second)
    assert contents(bases[base]) == before
