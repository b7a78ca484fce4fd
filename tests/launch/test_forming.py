"""The form of φ that flags choose; nothing is compiled."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import pytest

from ddjax import forms, updates
from ddjax.launch import Keys, Parts
from ddjax.launch.planning import default_for
from experiments import bases, distribution_matching, feature_regression, latents, random_init


def parts_of(launcher: Any, digits: Any, **settings: Any) -> Parts:
    config = launcher.Config(**settings)
    return launcher.build(config, digits, Keys.of(0), default_for(config))


UNROLLED = {"inner_steps": 2, "inner_epochs": 3, "images_per_class_per_step": 4, "baselines": False}


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({"form": "multi_formation", "initial_images": "real"}, {"data": 10 * 2 * 64}),
        ({"form": "bases", "num_bases": 3, "downsample": 2.0}, {"data": 3 * 16, "coefficients": 240}),
        ({"form": "bases", "initial_images": "k_means"}, {"data": 32 * 64, "coefficients": 2560}),
        ({"form": "stored", "label_confidence": 0.9}, {"data": 10 * 8 * 64, "labels": 800}),
        ({"form": "latents", "num_decoders": 8, "decoder": "style"}, {"data": 640, "decoder": 8 * 274}),
    ],
)
def test_as_many_images_as_the_steps_have(digits, settings, numbers):
    parts = parts_of(random_init, digits, **UNROLLED, drawn_per_class=3, **settings)
    found = forms.storage(parts.form)
    assert dict(found.numbers) == numbers | {"lrs": 6}
    assert found.images == 80
    assert parts.form.draw is not None
    assert parts.form.name.removesuffix("_and_labels") == settings["form"]


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"form": "multi_formation"}, 80),
        ({"form": "bases", "num_bases": 4}, 10 * ((2 * 640 - 4 * 64) // 40)),
        ({"form": "latents", "num_decoders": 2, "code_scale": 2}, 10 * 2 * ((2 * 640 - 2 * 10) // 160)),
        ({"form": "stored"}, 20),
    ],
)
def test_no_more_is_stored_than_two_plain_images_of_each_class(digits, settings, images):
    parts = parts_of(distribution_matching, digits, images_per_class=2, **settings)
    found = forms.storage(parts.form)
    assert found.images == images
    assert 1.5 < found.images_per_class <= 2


@pytest.mark.slow
def test_matching_moves_bases_and_coefficients_at_one_pace_where_adam_is_asked_for(digits):
    """Gradients a thousand times as large move nothing a thousand times as far."""
    settings = {"form": "bases", "num_bases": 4, "images_per_class": 2, "outer_lr": 0.1}
    parts = parts_of(distribution_matching, digits, outer_optimizer="adam", **settings)
    assert parts.outer.facts == {"outer_optimizer": "adam, cosine to 0", "outer_lr": 0.1}
    optimizer = forms.optimizer_for(parts.form, parts.outer)
    start = parts.form.init(jax.random.key(0))
    grads = jax.tree.map(jax.numpy.ones_like, start)
    grads = grads._replace(code=grads.code._replace(bases=1000 * grads.code.bases))
    moves, _ = updates.update(optimizer, grads, updates.init(optimizer, start), start)
    for leaf in jax.tree.leaves(moves):
        assert abs(leaf).max() == pytest.approx(0.1, rel=1e-3)
    published = parts_of(distribution_matching, digits, **settings)
    assert published.outer.facts["outer_optimizer"] == "sgd, momentum 0.5"


def test_coefficients_have_a_rate_of_their_own_under_adam(digits):
    settings = {"form": "bases", "num_bases": 4, "images_per_class": 2, "outer_lr": 0.1}
    settings["outer_lr_of_coefficients"] = 0.02
    parts = parts_of(distribution_matching, digits, outer_optimizer="adam", **settings)
    assert parts.outer.facts["outer_lr_of_coefficients"] == 0.02
    optimizer = forms.optimizer_for(parts.form, parts.outer)
    start = parts.form.init(jax.random.key(0))
    moves, _ = updates.update(optimizer, start, updates.init(optimizer, start), start)
    assert abs(moves.code.bases).max() == pytest.approx(0.1, rel=1e-3)
    assert abs(moves.code.coefficients).max() == pytest.approx(0.02, rel=1e-3)
    published = parts_of(distribution_matching, digits, **settings)
    assert "outer_lr_of_coefficients" not in published.outer.facts


@pytest.mark.slow
def test_bases_have_rates_and_a_bound_of_their_own(digits):
    parts = parts_of(bases, digits, num_bases=4, inner_steps=1, running_clip=2.0, outer_lr=0.1)
    assert parts.outer.facts["outer_lr_of_coefficients"] == pytest.approx(0.05)
    optimizer = forms.optimizer_for(parts.form, parts.outer)
    start = parts.form.init(jax.random.key(0))
    moves, _ = updates.update(optimizer, start, updates.init(optimizer, start), start)
    assert abs(moves.code.bases).max() == pytest.approx(0.1, rel=1e-3)
    assert abs(moves.code.coefficients).max() == pytest.approx(0.05, rel=1e-3)


def test_learned_labels_have_their_share_of_the_storage(digits):
    parts = parts_of(
        feature_regression, digits, form="bases", num_bases=4, images_per_class=2, network="convnet", width=4
    )
    found = forms.storage(parts.form)
    assert dict(found.numbers) == {"data": 256, "coefficients": 10 * 7 * 4, "labels": 10 * 7 * 10}
    assert found.images_per_class <= 2
    labels = jax.jit(lambda key: parts.form.unfold(parts.form.init(key)).labels)(jax.random.key(0))
    assert abs(labels.sum(-1)).max() < 1e-6


def test_canvases_take_the_place_of_images_and_are_cut_anew(digits):
    settings: dict[str, Any] = {"form": "textures", "initial_images": "noise"}
    matched = parts_of(distribution_matching, digits, images_per_class=9, canvas=3, cuts=5, **settings)
    unrolled = parts_of(random_init, digits, **UNROLLED, cuts=4, **settings)
    for parts, canvases, images in ((matched, 10 * 9 * 64, 50), (unrolled, 10 * 2 * 4 * 64, 80)):
        found = forms.storage(parts.form)
        assert (found.numbers["data"], found.images) == (canvases, images)
        assert parts.form.draw is not None


def test_codes_and_decoders_by_distribution_matching(digits):
    parts = parts_of(latents, digits, images_per_class=1, initial_images="noise")
    assert parts.form.name == "latents"
    assert parts.method.name == "distribution_matching"
    assert forms.storage(parts.form).images_per_class <= 1


@pytest.mark.parametrize(
    ("launcher", "settings", "message"),
    [
        (random_init, {"form": "bases"}, "baselines: expected none with --form=bases"),
        (
            random_init,
            {"form": "bases", "baselines": False, "images_per_step": 5},
            "images_per_step: expected none with --form=bases",
        ),
        (
            random_init,
            {"form": "multi_formation", "baselines": False, "inner_steps": 3},
            "form: expected a multiple of 4 images of each class, .* got 3",
        ),
        (
            distribution_matching,
            {"form": "textures", "images_per_class": 6, "initial_images": "noise"},
            "images_per_class: expected a multiple of 4, the number of images whose place .* got 6",
        ),
        (
            distribution_matching,
            {"form": "textures", "images_per_class": 4, "initial_images": "real"},
            "initial_images: expected noise with --form=textures, images have edges; got real",
        ),
        (
            distribution_matching,
            {"form": "bases", "num_bases": 10},
            "num_bases: expected an image of each class beside the bases",
        ),
        (
            distribution_matching,
            {"form": "latents", "num_decoders": 64, "decoder_width": 16},
            "num_decoders: expected a code of each class to fit beside the decoders",
        ),
    ],
)
def test_what_does_not_fit_is_refused(digits, launcher, settings, message):
    with pytest.raises(ValueError, match=message):
        parts_of(launcher, digits, **settings)


def test_flags_of_other_forms_are_said_to_change_nothing():
    config = random_init.Config(factor=3, drawn_per_class=2)
    assert {"factor", "num_bases", "decoder", "drawn_per_class"} <= config.idle().keys()
    assert "num_bases" not in dataclasses.replace(config, form="bases").idle()
