"""Checkpoints: whole or not at all, and damage is noticed."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative, small_run, three_digits

from ddjax import Reporting, files
from ddjax.checkpoint import Saver, Store


def tree(value: float) -> dict:
    return {"a": np.full((3, 4), value, np.float32), "b": (np.int32(value), np.array([True, False]))}


def restored(store: Store, *templates) -> Any:
    """What the store gives, which is something."""
    found = store.restore(*templates)
    assert found is not None
    return found


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "checkpoints")
    store.save(1, tree(1))
    store.save(2, tree(2))
    return store


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    position = data.index(np.full(12, 2, np.float32).tobytes())
    data[position + 5] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "bit flipped": flip_a_bit,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "emptied": lambda path: path.write_bytes(b""),
}


def test_the_newest_comes_back_bit_for_bit(store):
    back = restored(store, tree(0))
    assert back["a"].dtype == np.float32
    assert np.array_equal(back["a"], tree(2)["a"])
    assert back["b"][0] == 2
    assert back["b"][1].tolist() == [True, False]


def test_only_the_newest_are_kept(store):
    store.save(10, tree(10))
    assert [path.stem for path in store.paths()] == ["step_00000010", "step_00000002"]


def test_an_empty_directory_has_nothing(tmp_path):
    assert Store(tmp_path / "none").restore(tree(0)) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_the_one_before_is_used(store, damage):
    DAMAGE[damage](store.paths()[0])
    with pytest.warns(UserWarning, match="step_00000002.npz is damaged"):
        back = restored(store, tree(0))
    assert np.array_equal(back["a"], tree(1)["a"])


def test_all_damaged_is_an_error_and_nothing_is_overwritten(store):
    for path in store.paths():
        path.write_bytes(b"rot")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(OSError, match="every checkpoint"):
        restored(store, tree(0))
    assert [path.read_bytes() for path in store.paths()] == [b"rot", b"rot"]


@pytest.mark.parametrize(
    "template",
    [
        {"a": np.zeros((3, 5), np.float32), "b": (np.int32(0), np.zeros(2, bool))},
        {"a": np.zeros((3, 4), np.float64), "b": (np.int32(0), np.zeros(2, bool))},
        {"a": np.zeros((3, 4), np.float32)},
        {"a": np.zeros((3, 4), np.float32), "b": (np.int32(0), np.zeros(2, bool)), "c": np.zeros(1)},
    ],
)
def test_another_structure_is_refused(store, template):
    with pytest.raises(ValueError, match="run with other settings"):
        restored(store, template)


def test_the_template_that_fits_is_filled(store):
    other = {"a": np.zeros(1)}
    assert restored(store, other, tree(0))["b"][0] == 2
    assert restored(store, tree(0), other)["b"][0] == 2


def test_every_dtype_comes_back(tmp_path):
    store = Store(tmp_path)
    saved = {
        "bfloat16": jnp.full((2, 3), 1 / 3, jnp.bfloat16),
        "float64": np.array(1 / 3),
        "empty": np.zeros((0, 4), np.int16),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.uint8(7),
        "flags": np.array([True, False]),
    }
    store.save(1, saved)
    back = restored(store, saved)
    for name, array in saved.items():
        assert back[name].dtype == array.dtype, name
        assert back[name].shape == array.shape, name
        assert back[name].tobytes() == np.asarray(array).tobytes(), name


@pytest.mark.slow
def test_any_flipped_bit_is_noticed_or_does_not_matter(store, rng):
    """In headers, names, data, the archive's directory: what comes back is what was written, or nothing."""
    newest, previous = store.paths()
    previous.unlink()
    good = newest.read_bytes()
    noticed = 0
    for position in rng.integers(0, len(good), 400):
        damaged = bytearray(good)
        damaged[position] ^= 1 << int(rng.integers(8))
        newest.write_bytes(damaged)
        try:
            with pytest.warns(UserWarning, match=r"step_00000002\.npz is damaged"):
                restored(store, tree(0))
        except OSError:
            noticed += 1
        except pytest.fail.Exception:  # no warning: then all is as it was
            back = restored(store, tree(0))
            assert np.array_equal(back["a"], tree(2)["a"])
            assert back["b"][0] == 2
            assert back["b"][1].tolist() == [True, False]
    assert noticed > 200


def test_another_version_is_refused_and_not_taken_for_damage(store):
    path = store.paths()[0]
    with np.load(path) as members:
        everything = dict(members)
    manifest = json.loads(str(everything["manifest"])) | {"version": 1}
    changed: dict[str, Any] = everything | {"manifest": np.array(json.dumps(manifest))}
    np.savez(path, **changed)
    with pytest.raises(ValueError, match="expected a checkpoint of version 2; got 1"):
        restored(store, tree(0))


def test_later_checkpoints_are_of_a_past_that_was_left(store):
    store.save(20, tree(20))
    store.save(10, tree(10))
    assert [path.stem for path in store.paths()] == ["step_00000010", "step_00000002"]


def test_preparing_removes_what_killed_writers_left(store):
    (store.directory / ".step_00000003.npz.0123abcd.tmp").write_bytes(b"half")
    (store.directory / ".mine.tmp").write_bytes(b"")
    store.prepare(tree(0))
    names = {path.name for path in store.directory.iterdir()}
    assert names == {"step_00000001.npz", "step_00000002.npz", ".mine.tmp"}


# In the background.


def test_what_a_checkpoint_refers_to_is_on_disk_before_it(tmp_path):
    store, there = Store(tmp_path), []
    saver = Saver(store, before=lambda: there.append(store.paths()))
    saver.save(1, tree(1))
    saver.wait()
    assert there == [[]]


def test_what_cannot_be_brought_to_disk_is_an_error_and_no_checkpoint(tmp_path):
    def full() -> None:
        raise files.WriteError("full")

    store = Store(tmp_path)
    saver = Saver(store, before=full)
    saver.save(1, tree(1))
    with pytest.raises(files.WriteError, match="full"):
        saver.wait()
    assert store.paths() == []


class SlowStore(Store):
    """Writes when it is told to."""

    def __init__(self, directory: Path):
        super().__init__(directory)
        self.may_write = threading.Event()
        self.failure: OSError | None = None

    def save(self, step, tree):
        assert self.may_write.wait(60)
        if self.failure is not None:
            raise self.failure
        return super().save(step, tree)


def test_the_run_goes_on_while_a_checkpoint_is_written(tmp_path):
    store = SlowStore(tmp_path)
    saver, state = Saver(store), tree(1)
    saver.save(1, state)
    state["a"][:] = 99  # the run moves on; what is being written does not
    assert store.paths() == []
    threading.Timer(0.2, store.may_write.set).start()
    saver.save(2, tree(2))  # waits for the first
    assert [path.stem for path in store.paths()][-1] == "step_00000001"
    saver.wait()
    store.paths()[0].unlink()
    assert np.array_equal(restored(store, tree(0))["a"], tree(1)["a"])


def test_an_error_of_the_thread_is_raised_at_the_next_look(tmp_path):
    store = SlowStore(tmp_path)
    store.may_write.set()
    saver = Saver(store)
    saver.save(1, tree(1))
    saver.wait()
    store.failure = files.WriteError("full")
    saver.save(2, tree(2))
    until = time.monotonic() + 60
    while not saver.failed and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(files.WriteError, match="full"):
        saver.save(3, tree(3))
    assert not saver.failed  # told once
    assert [path.stem for path in store.paths()] == ["step_00000001"]
    store.failure = None
    saver.save(3, tree(3))
    saver.wait()
    assert [path.stem for path in store.paths()] == ["step_00000003", "step_00000001"]


# Of a run.


@pytest.fixture(scope="module")
def digits3():
    return three_digits()


def run(digits3, **settings):
    """Outer steps whose size does not depend on how many there will be."""
    return small_run(digits3, optimizer=optax.sgd(0.1), **settings)


@pytest.fixture(scope="module")
def whole(digits3):
    return run(digits3, num_outer_steps=8)


@pytest.fixture(scope="module")
def saved(digits3, tmp_path_factory) -> Path:
    """The work directory of a run that ended at step 6, with checkpoints of steps 6 and 4."""
    workdir = tmp_path_factory.mktemp("saved")
    run(digits3, workdir=workdir, save_every=2)
    assert [path.stem for path in Store(workdir / "checkpoints").paths()] == [
        "step_00000006",
        "step_00000004",
    ]
    return workdir


@pytest.fixture
def workdir(saved, tmp_path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def flip_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def resume(digits3, workdir: Path, whole) -> list[int]:
    """The steps that it took to the same end."""
    taken: list[int] = []
    reporting = Reporting(every=1, listener=lambda record: taken.append(record["step"]))
    resumed = run(digits3, workdir=workdir, num_outer_steps=8, reporting=reporting)
    assert relative(resumed.distilled.params, whole.distilled.params) == 0
    assert resumed.history == whole.history
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_in_the_middle, DAMAGE["truncated"], DAMAGE["emptied"]])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(digits3, whole, workdir, damage):
    damage(Store(workdir / "checkpoints").paths()[0])
    with pytest.warns(UserWarning, match=r"step_00000006\.npz is damaged and passed over"):
        assert resume(digits3, workdir, whole) == [5, 6, 7, 8]


@pytest.mark.slow
def test_a_run_does_without_a_checkpoint_that_is_gone(digits3, whole, workdir):
    Store(workdir / "checkpoints").paths()[0].unlink()
    assert resume(digits3, workdir, whole) == [5, 6, 7, 8]


@pytest.mark.slow
def test_damage_to_the_older_checkpoint_is_not_even_met(digits3, whole, workdir):
    Store(workdir / "checkpoints").paths()[1].write_bytes(b"rot")
    assert resume(digits3, workdir, whole) == [7, 8]


@pytest.mark.slow
def test_a_run_with_nothing_but_damage_stops_and_overwrites_nothing(digits3, workdir):
    for path in Store(workdir / "checkpoints").paths():
        os.truncate(path, 100)
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(OSError, match="every checkpoint in"):
        run(digits3, workdir=workdir, num_outer_steps=8)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(digits3, tmp_path):
    one, four = ({"num_inits": 4, "devices": jax.devices()[:count]} for count in (1, 4))
    run(digits3, workdir=tmp_path, num_outer_steps=3, **four)
    resumed = run(digits3, workdir=tmp_path, num_outer_steps=6, **one)
    whole = run(digits3, num_outer_steps=6, **one)
    assert [record["step"] for record in resumed.history] == [1, 2, 3, 4, 5, 6]
    assert relative(resumed.distilled.params, whole.distilled.params) < 1e-5


@pytest.mark.slow
def test_checkpoints_come_every_so_many_steps(digits3, tmp_path):
    small_run(digits3, workdir=tmp_path, num_outer_steps=7, save_every=3)
    saved = [path.stem for path in Store(tmp_path / "checkpoints").paths()]
    assert saved == ["step_00000007", "step_00000006"]
