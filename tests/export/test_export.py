"""Exports: what other tools read is what the artifact holds."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from problems import small_form

from ddjax import Recipe, artifact, coresets, export, forms
from ddjax import types as ddjax_types
from ddjax.data import from_folder
from ddjax.encodings import Channels
from ddjax.recipes import Replay
from ddjax.types import Distilled, Schedule

ROOT = Path(__file__).resolve().parents[2]


def distilled() -> Distilled:
    form = small_form(inner_lr=0.1)
    facts = {"dataset": "spots", "class_names": ["a", "b", "c"]}
    encoding = Channels(jnp.full(1, 0.25), jnp.full(1, 0.5))
    return Distilled(form.init(jax.random.key(0)), form, encoding, Replay(), facts)


@pytest.fixture
def saved(tmp_path) -> Path:
    return artifact.save(tmp_path / "distilled.npz", distilled())


def run(saved: Path, kind: str, output: Path) -> int:
    return export.main([f"--artifact={saved}", f"--format={kind}", f"--output={output}"])


def test_pictures_are_the_pixels_and_the_table_names_them(saved, tmp_path):
    assert run(saved, "png", tmp_path / "out" / "png") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "png" / "labels.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert [row["class"] for row in rows] == ["a", "b", "c"] * 2
    assert {path.name for path in (tmp_path / "out" / "png").iterdir()} == {
        "labels.csv",
        "metadata.csv",
        "metadata.json",
        *(row["file"] for row in rows),
    }
    images = np.asarray(distilled().schedule.inputs)
    for row in rows:
        step, image = int(row["step"]), int(row["image"])
        expected = np.clip(np.rint((images[step, image, ..., 0] * 0.5 + 0.25) * 255), 0, 255)
        with Image.open(tmp_path / "out" / "png" / row["file"]) as picture:
            assert picture.size == (8, 8)
            np.testing.assert_array_equal(np.asarray(picture), expected)
        assert float(row[f"p_{row['label']}"]) == 1
        assert row["label"] == str(image)


def test_the_folder_of_pictures_loads_back(tmp_path):
    form = small_form(inner_lr=0.1, inner_steps=6)
    phi = dataclasses.replace(distilled(), params=form.init(jax.random.key(0)), form=form)
    assert run(artifact.save(tmp_path / "distilled.npz", phi), "png", tmp_path / "png") == 0
    with pytest.warns(UserWarning, match="a fifth of each class is the test split"):
        data = from_folder(tmp_path / "png", validation_fraction=0.4)
    assert data.class_names == ("a", "b", "c")
    loaded = {
        image.tobytes(): data.class_names[label]
        for split in (data.train, data.validation, data.test)
        for image, label in zip(split.raw, split.labels, strict=True)
    }
    rows = csv.DictReader((tmp_path / "png" / "labels.csv").read_text().splitlines())
    for row in rows:
        with Image.open(tmp_path / "png" / row["file"]) as picture:
            assert loaded[np.asarray(picture).tobytes()] == row["class"]


def test_colour_pictures_keep_their_channels():
    images = np.random.default_rng(0).normal(size=(1, 2, 5, 4, 3)).astype(np.float32)
    schedule = distilled().schedule._replace(inputs=jnp.asarray(images), labels=jnp.eye(2)[None])
    colour = dataclasses.replace(
        distilled(),
        params=schedule,
        form=dataclasses.replace(distilled().form, unfold=lambda params: params),
        encoding=Channels(jnp.zeros(3), jnp.ones(3)),
    )
    files = export.png(colour)
    assert len(files) == 5
    assert files["labels.csv"].decode().splitlines()[1] == "step000_image000_label0.png,0,0,0,0,1.0,0.0,1.0"
    with Image.open(io.BytesIO(files["step000_image001_label1.png"])) as picture:
        expected = np.clip(np.rint(255 * images[0, 1]), 0, 255)
        np.testing.assert_array_equal(np.asarray(picture), expected)


class Recorder(types.ModuleType):
    """Stands for a package that is not installed here; keeps what it was given."""

    def __init__(self, name: str):
        super().__init__(name)
        self.saved: list = []


@pytest.mark.slow
def test_tensors_have_their_channels_first(saved, tmp_path, monkeypatch):
    """With a stand-in for PyTorch, whose tensors are NumPy's arrays."""
    torch = Recorder("torch")
    torch.from_numpy = lambda array: array  # type: ignore[attr-defined]
    torch.save = lambda tensor, stream: np.save(stream, tensor)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert run(saved, "torch", tmp_path / "torch") == 0
    read = {path.name: np.load(path) for path in (tmp_path / "torch").glob("*.pt")}
    assert (tmp_path / "torch" / "distilled.npz").read_bytes() == saved.read_bytes()
    assert json.loads((tmp_path / "torch" / "recipe.json").read_text())["kind"] == "schedule"
    compile((tmp_path / "torch" / "distilled_torch.py").read_text(), "distilled_torch.py", "exec")
    schedule = distilled().schedule
    assert set(read) == {"images.pt", "labels.pt", "lr.pt", "mean.pt", "std.pt"}
    assert (read["mean.pt"], read["std.pt"]) == (0.25, 0.5)
    told = json.loads((tmp_path / "torch" / "metadata.json").read_text())
    assert told["recipe"] == {"kind": "schedule", "optimizer": "sgd"}
    assert told["class_names"] == ["a", "b", "c"]
    np.testing.assert_array_equal(read["images.pt"], np.moveaxis(np.asarray(schedule.inputs), -1, 2))
    np.testing.assert_array_equal(read["labels.pt"], schedule.labels)
    np.testing.assert_array_equal(read["lr.pt"], schedule.lrs)


@pytest.mark.slow
def test_safetensors_hold_everything(saved, tmp_path, monkeypatch):
    """With a stand-in for the package, that writes JSON."""
    stand_in = Recorder("safetensors.numpy")

    def save(tensors, metadata):
        assert all(array.flags.c_contiguous for array in tensors.values())
        text = {name: array.tolist() for name, array in tensors.items()} | metadata
        return json.dumps(text).encode()

    stand_in.save = save  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "safetensors", types.ModuleType("safetensors"))
    monkeypatch.setitem(sys.modules, "safetensors.numpy", stand_in)
    assert run(saved, "safetensors", tmp_path / "distilled.safetensors") == 0
    read = json.loads((tmp_path / "distilled.safetensors").read_bytes())
    np.testing.assert_array_equal(read["images"], distilled().schedule.inputs)
    assert set(read) == {"images", "labels", "lrs", "mean", "std", "metadata"}
    told = json.loads(read["metadata"])
    assert (told["class_names"], told["recipe"]["kind"]) == (["a", "b", "c"], "schedule")


def with_labels(labels: np.ndarray, recipe: ddjax_types.Recipe) -> Distilled:
    schedule = Schedule(jnp.zeros((1, 3, 8, 8, 1)), jnp.asarray(labels)[None], None)
    return dataclasses.replace(distilled(), params=schedule, form=forms.constant(schedule), recipe=recipe)


def test_a_weighted_coreset_has_probabilities_and_weights():
    weighted = coresets.weighted_schedule(
        np.zeros((3, 1, 8, 8, 1), np.float32), np.array([[5.0], [1], [0.5]])
    )
    phi = with_labels(np.asarray(weighted.labels[0]), Recipe("train"))
    rows = list(csv.DictReader(export.png(phi)["labels.csv"].decode().splitlines()))
    assert [float(row[f"p_{k}"]) for k, row in enumerate(rows)] == [1, 1, 1]
    assert [float(row["weight"]) for row in rows] == pytest.approx([5 * 3 / 6.5, 3 / 6.5, 0.5 * 3 / 6.5])
    told = json.loads(export.png(phi)["metadata.json"])
    assert (told["recipe"]["kind"], told["recipe"]["epochs"], told["mean"]) == ("train", 300, [0.25])


def test_numbers_that_are_no_probabilities_are_not_called_so():
    rows = csv.DictReader(
        export.png(with_labels(np.eye(3) * 2 - 1, Recipe("ridge")))["labels.csv"].decode().splitlines()
    )
    assert [row["y_0"] for row in rows] == ["1.0", "-1.0", "-1.0"]


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_missing_package_is_named(saved, tmp_path, monkeypatch, capsys, package):
    for name in (package, f"{package}.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(saved, package, tmp_path / "out") == 2
    assert f"Run `pip install {package}`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_replaced(saved, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert run(saved, "png", tmp_path / "mine") == 2
    assert "expected a path where nothing is" in capsys.readouterr().err
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--artifact=nowhere.npz", "--format=gif", "--output=out"], "invalid choice: 'gif'"),
        (["--format=png", "--output=out"], "--artifact"),
    ],
)
def test_flags_that_do_not_fit_are_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refused:
        export.main(arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_line_refuses_with_code_2(tmp_path):
    arguments = ["--artifact=nowhere.npz", "--format=png", "--output=out"]
    script = str(ROOT / "scripts" / "export.py")
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nowhere.npz" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_safetensors_by_its_own_library(saved):
    """The real package, which reads back what it wrote."""
    package = pytest.importorskip(
        "safetensors.numpy", reason="needs safetensors: pip install 'ddjax[export]'"
    )
    read = package.load(export.FORMATS["safetensors"](artifact.load(saved)))
    schedule = distilled().schedule
    wanted = {"images": schedule.inputs, "labels": schedule.labels, "lrs": schedule.lrs}
    assert set(read) == {*wanted, "mean", "std"}
    for name, array in wanted.items():
        np.testing.assert_array_equal(read[name], array)
