"""Preparing data: its arguments, commands and failures, and one real preparation when asked for."""

import gzip
import hashlib
import importlib.metadata
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddjax import prepare as prepare_data
from ddjax.data import tfds_files

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


def run(*arguments, env=None):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, **(env or {})},
        check=False,
        capture_output=True,
        text=True,
    )


def fake_environment(path, body):
    """An environment whose Python is a shell script."""
    python = path / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    return path


def test_it_starts_without_any_package():
    output = subprocess.run(
        [sys.executable, "-S", "-E", str(SCRIPT), "--help"], check=True, capture_output=True, text=True
    )
    assert "--data_dir" in output.stdout
    assert "inside_env" not in output.stdout


def test_the_data_dir_is_the_one_that_load_reads(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert prepare_data.parse(["--dataset=mnist"]).data_dir == tfds_files.data_directory(None)
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert prepare_data.parse(["--dataset=mnist"]).data_dir == tfds_files.data_directory(None)
    assert prepare_data.parse(["--dataset=mnist", "--data_dir=~/x"]).data_dir == Path.home() / "x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--dataset"),
        (["--dataset=digits"], "need no preparing"),
        (["--dataset=my.npz"], "need no preparing"),
        (["--dataset=mnist", "--manual_dir=nowhere"], "--manual_dir: expected a directory"),
        (["--dataset=mnist", "--python_env=nowhere"], "--python_env: expected an environment"),
        (
            ["--dataset=mnist", f"--data_dir={__file__}/x"],
            "--data_dir: expected a directory that can be written",
        ),
        (["--dataset=mnist", "--data_dri=x"], "unrecognized arguments"),
    ],
)
def test_bad_input_exits_with_2_before_anything_is_installed(arguments, message, tmp_path):
    result = run(*arguments, env={"TFDS_DATA_DIR": str(tmp_path), "TMPDIR": str(tmp_path)})
    assert result.returncode == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_requirements_are_those_of_the_package():
    names = [line.split(">")[0] for line in prepare_data.requirements()]
    assert {"tensorflow", "tensorflow-datasets", "array-record", "pillow"} <= set(names)


def test_the_requirements_of_an_installed_package_are_in_its_metadata(tmp_path, monkeypatch):
    here = prepare_data.requirements()
    monkeypatch.setattr(prepare_data, "PROJECT", tmp_path / "pyproject.toml")
    lines = [
        *(f"{line}; extra == 'prepare'" for line in here),
        "jax>=0.10",
        "tensorboardX; extra == 'tensorboard'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert prepare_data.requirements() == here


@pytest.mark.parametrize("uv", [None, "uv-program"])
def test_install_commands_fill_the_throwaway_environment_only(uv, tmp_path):
    make, install = prepare_data.install_commands(tmp_path / "env", uv)
    python = str(tmp_path / "env" / "bin" / "python")
    assert make[-1] == str(tmp_path / "env")
    assert sys.executable in make
    assert python in install
    assert install[-len(prepare_data.requirements()) :] == prepare_data.requirements()
    assert (install[0] == uv) == (uv is not None)


def test_the_worker_gets_every_path(tmp_path):
    settings = prepare_data.parse(
        [
            "--dataset=mnist",
            f"--data_dir={tmp_path}/a b",
            f"--downloads_dir={tmp_path}/d",
            f"--manual_dir={tmp_path}",
        ]
    )
    command = prepare_data.worker_command(tmp_path / "env", settings)
    assert command[0] == str(tmp_path / "env" / "bin" / "python")
    inner = prepare_data.parse(command[2:])
    assert inner.inside_env
    for flag in ("dataset", "data_dir", "downloads_dir", "manual_dir"):
        assert getattr(inner, flag) == getattr(settings, flag)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_worker_decides_the_exit_code(tmp_path, code):
    env = fake_environment(tmp_path / "env", f'echo "worker $@"; exit {code}')
    result = run("--dataset=mnist", f"--data_dir={tmp_path}/data", f"--python_env={env}")
    assert result.returncode == code
    assert "--inside_env --dataset=mnist" in result.stdout
    assert env.is_dir()


@pytest.mark.parametrize("keep", [False, True])
def test_the_environment_is_removed_after_a_failed_installation(tmp_path, keep):
    """A uv that fails stands for a package index that cannot be reached."""
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\nexit 7\n")
    uv.chmod(0o755)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {"PATH": f"{uv.parent}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(scratch)}
    result = run("--dataset=mnist", f"--data_dir={tmp_path}/data", *(["--keep_env"] if keep else []), env=env)
    assert result.returncode == 1
    assert "could not install TensorFlow" in result.stderr
    assert len(list(scratch.iterdir())) == keep


def test_an_unknown_set_gets_the_nearest_name(tmp_path):
    """The worker's own check; this environment has TFDS, and no TensorFlow is needed to get so far."""
    result = run("--inside_env", "--dataset=mnits", f"--data_dir={tmp_path}")
    assert result.returncode == 2
    assert "did you mean mnist?" in result.stderr


def test_a_prepared_set_is_read_back(write_tfds):
    import tensorflow_datasets as tfds

    data_dir, _ = write_tfds("toy")
    builder = tfds.builder_from_directory(str(data_dir / "toy" / "1.0.0"))
    assert prepare_data.read_back(builder) == {"train": 30, "test": 9}


# The real thing ----------------------------------------------------------------------------------------

ORIGINALS = (
    # file, time stamp in its gzip header, SHA-256 as registered in TFDS
    (
        "train-images-idx3-ubyte",
        848331386,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    (
        "train-labels-idx1-ubyte",
        848331398,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    ("t10k-images-idx3-ubyte", 885827245, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte", 885827268, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)


def original_order(split, count):
    """TFDS writes records in the order of a hash of their position; this undoes it."""
    from tensorflow_datasets.core import hashing

    hasher = hashing.Hasher(split)
    return np.argsort(sorted(range(count), key=hasher.hash_key))


def write_originals(source, directory):
    """The four files of the MNIST distribution, byte for byte, from a prepared set."""
    raw = tfds_files.decode(source)
    parts = {
        "train": (raw.x_train, raw.y_train, original_order("train", 60000)),
        "t10k": (raw.x_test, raw.y_test, original_order("test", 10000)),
    }
    for name, stamp, digest in ORIGINALS:
        images, labels, order = parts[name.split("-")[0]]
        if "images" in name:
            content = struct.pack(">4i", 2051, len(order), 28, 28) + images[order].tobytes()
        else:
            content = struct.pack(">2i", 2049, len(order)) + labels[order].astype(np.uint8).tobytes()
        plain = directory / name.replace("-idx", ".idx")
        plain.write_bytes(content)
        os.utime(plain, (stamp, stamp))
        subprocess.run([shutil.which("gzip") or "gzip", "-6", "--name", plain], check=True)
        final = plain.with_name(plain.name + ".gz").rename(directory / f"{name}.gz")
        assert hashlib.sha256(final.read_bytes()).hexdigest() == digest
        assert gzip.decompress(final.read_bytes()) == content


@pytest.mark.skipif(
    os.environ.get("DDJAX_TEST_PREPARE") != "1",
    reason="installs TensorFlow (2 GB, minutes): set DDJAX_TEST_PREPARE=1 to run it",
)
@pytest.mark.timeout(1800)
def test_mnist_is_prepared_from_its_original_files(real_tfds, tmp_path):
    """From pre-seeded downloads, in a throwaway environment, to the same arrays; nothing is left behind."""
    source = tfds_files.find("mnist", real_tfds("mnist"))
    assert source is not None
    for name in ("originals", "scratch", "data"):
        (tmp_path / name).mkdir()
    write_originals(source, tmp_path / "originals")
    result = run(
        "--dataset=mnist",
        f"--data_dir={tmp_path / 'data'}",
        f"--manual_dir={tmp_path / 'originals'}",
        env={"TMPDIR": str(tmp_path / "scratch")},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "train 60000, test 10000" in result.stdout
    assert not list((tmp_path / "scratch").glob("ddjax-prepare-*"))
    prepared = tfds_files.find("mnist", tmp_path / "data")
    assert prepared is not None
    for mine, theirs in zip(tfds_files.decode(prepared)[:4], tfds_files.decode(source)[:4], strict=True):
        np.testing.assert_array_equal(mine, theirs)
