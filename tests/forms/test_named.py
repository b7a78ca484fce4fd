"""Compact files: the few numbers of a form, and forms by name, of any origin."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from problems import CLASSES, SHAPE, small_form

from ddjax import artifact, forms, npz
from ddjax.encodings import Channels
from ddjax.recipes import Replay
from ddjax.types import Distilled, Form

PIXELS = Channels(np.full(1, 0.5, np.float32), np.full(1, 0.25, np.float32))


def of_bases() -> Form:
    images = forms.bases(SHAPE, CLASSES, num_bases=2, per_class=8, downsample=2)
    return forms.composed(images, inner_steps=2, inner_lr=0.1)


def phi(form: Form) -> Distilled:
    return Distilled(form.init(jax.random.key(0)), form, PIXELS, Replay(), {"dataset": "digits"})


@pytest.fixture
def saved(tmp_path) -> Path:
    return artifact.save(tmp_path / "code.npz", phi(of_bases()), compact=True)


def rewritten(path: Path, **changes: Any) -> Path:
    with np.load(path) as file:
        members = dict(file)
    metadata = json.loads(str(members["metadata"])) | changes.pop("metadata", {})
    npz.write(path, members | {"metadata": np.array(json.dumps(metadata))} | changes)
    return path


def described(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return json.loads(str(file["metadata"]))["form"]


def test_a_compact_file_holds_what_the_form_stores_and_unfolds_again(saved):
    with np.load(saved, allow_pickle=False) as file:
        numbers = {name: array.size for name, array in file.items() if name.startswith("form.")}
    sizes = {"form.code.bases": 2 * 16, "form.code.coefficients": 2 * 24, "form.raw_lrs": 2}
    assert numbers == sizes
    assert sum(numbers.values()) == forms.storage(of_bases()).total
    loaded, whole = artifact.load(saved), phi(of_bases())
    assert loaded.form.name == "bases"
    assert dict(loaded.metadata)["dataset"] == "digits"
    for ours, wanted in zip(jax.tree.leaves(loaded.schedule), jax.tree.leaves(whole.schedule), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-6)
    again = artifact.save(saved.with_name("again.npz"), loaded, compact=True)
    assert again.read_bytes() == saved.read_bytes()


def test_a_form_of_a_users_own_has_no_compact_file(tmp_path):
    with pytest.raises(ValueError, match=r"form: expected one of ddjax.forms.composed, of bases.*Save all"):
        artifact.save(tmp_path / "code.npz", phi(small_form(inner_lr=0.1)), compact=True)
    assert not list(tmp_path.iterdir())


def changed(form: dict[str, Any], **changes: Any) -> dict[str, Any]:
    form = copy.deepcopy(form)
    for place, value in changes.items():
        part = form["images"]["settings"] if place in form["images"]["settings"] else form["settings"]
        part[place] = value
    return form


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_class": 2**20}, "form: expected images of at most .* bytes; got 805,306,368"),
        ({"image_shape": [2**20, 2**20, 1]}, "form: expected images of at most"),
        ({"per_class": 2**40}, "form: settings: expected numbers up to"),
        ({"num_classes": 2**20, "per_class": 1}, "form: expected labels of at most|expected images of"),
        ({"inner_epochs": 2**20, "inner_steps": 8}, "form: expected rates of at most"),
        ({"num_bases": 3}, "form: arrays: expected"),
        ({"per_class": "8"}, "per_class: expected a whole number"),
        ({"inner_steps": 3}, "inner_steps: expected a divisor"),
        ({"downsample": None}, "downsample: expected a finite number"),
    ],
)
def test_other_settings_are_refused_before_anything_is_decoded(saved, changes, message):
    """With a limit that the true file is well within."""
    path = rewritten(saved, metadata={"form": changed(described(saved), **changes)})
    with pytest.raises(ValueError, match=message):
        artifact.load(path, limit=2**22)


@pytest.mark.slow
def test_what_is_large_on_the_way_counts_too(tmp_path):
    """Hidden channels that the decoded images do not have."""
    images = forms.latents(SHAPE, CLASSES, codes_per_class=2, code_shape=(2, 2, 1), width=64)
    path = artifact.save(tmp_path / "code.npz", phi(forms.composed(images, inner_lr=0.1)), compact=True)
    assert artifact.load(path).form.name == "latents"
    decoded = 4 * CLASSES * 2 * 64
    with pytest.raises(ValueError, match="form: expected decoding of at most"):
        forms.by_name(described(path), limit=10 * decoded)


@pytest.mark.parametrize(
    "form", [None, [], {}, {"images": {}, "settings": {}}, {"images": 1, "settings": {}}]
)
def test_no_description_of_a_form_is_refused(form):
    with pytest.raises(ValueError, match="form"):
        forms.by_name(form, limit=2**20)


@pytest.mark.parametrize("field", ["num_bases", "unheard_of"])
def test_settings_that_are_missing_or_unknown_are_refused(saved, field):
    form = described(saved)
    own = form["images"]["settings"]
    own.pop(field) if field in own else own.update({field: 1})
    with pytest.raises(ValueError, match="form: settings: expected"):
        artifact.load(rewritten(saved, metadata={"form": form}))


@pytest.mark.parametrize(
    ("member", "array", "message"),
    [
        ("form.code.bases", np.full((2, 4, 4, 1), np.nan, np.float32), "expected finite float32"),
        ("form.code.bases", np.zeros((2, 4, 4, 1)), "expected finite float32"),
        ("form.code.bases", np.full((2, 4, 4, 1), 3e38, np.float32), "images: expected finite float32"),
        ("form.label_logits", np.zeros((2, 12, 3), np.float32), "form: arrays: expected"),
        ("lrs", np.zeros((1, 2), np.float32), "expected the members metadata; got 'lrs' too"),
    ],
)
def test_other_arrays_are_refused(saved, member, array, message):
    changes = {member: array}
    if array.max() > 1e38:
        changes["form.code.coefficients"] = np.full((3, 8, 2), 3e38, np.float32)
    with pytest.raises(ValueError, match=message):
        artifact.load(rewritten(saved, **changes))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(
        [
            "image_shape",
            "num_classes",
            "num_bases",
            "per_class",
            "downsample",
            "inner_steps",
            "inner_epochs",
            "inner_lr",
            "max_lr",
            "label_form",
            "drawn_per_class",
        ]
    ),
    value=ANYTHING,
)
def test_any_setting_is_taken_or_refused(name, value):
    form = changed(json.loads(json.dumps(forms.named(of_bases()))), **{name: value})
    try:
        found = forms.by_name(form, limit=2**20)
    except ValueError:
        return
    assert forms.storage(found).images * 64 * 4 <= 2**20
