"""Augmentation: each operation against NumPy and SciPy, draws, strategies by name, and the methods' use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, three_digits
from scipy import ndimage

from ddjax import Recipe, augment, inits, methods, networks
from ddjax.augment import Augmentation, Choice, Color, Operation, Pair
from ddjax.data import minibatch, to_device
from ddjax.launch import Plan, Unrolled, unrolled_parts
from ddjax.recipes import Train
from ddjax.types import Schedule
from experiments import distribution_matching

pytestmark = pytest.mark.slow

DSA = "color_crop_cutout_flip_scale_rotate"
ALL = DSA.replace("_", "+")
IDC = "flip+color+(crop_scale_rotate)+cutout"
KEY = jax.random.key(7)


@pytest.fixture
def image(rng) -> np.ndarray:
    """Neither square nor grey, and sides both odd and even."""
    return rng.normal(size=(9, 12, 3))


def applied(operation: Operation, params, image: np.ndarray) -> np.ndarray:
    return np.asarray(operation.apply(jax.tree.map(jnp.asarray, params), jnp.asarray(image)))


def affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """SciPy's bilinear reading of an image, at `matrix` times each position from the centre."""
    centre = (np.array(image.shape[:2]) - 1) / 2
    settings = {"offset": centre - matrix @ centre, "order": 1, "mode": "grid-constant", "cval": 0.0}
    channels = [ndimage.affine_transform(image[..., c], matrix, **settings) for c in range(image.shape[2])]
    return np.stack(channels, -1)


# Each operation, its params given.


@pytest.mark.usefixtures("x64")
def test_color_is_brightness_then_saturation_then_contrast(image):
    b, s, c = 0.3, 1.7, 0.6
    expected = image + b
    grey = expected.sum(-1, keepdims=True) / 3
    expected = grey + s * (expected - grey)
    expected = expected.sum() / expected.size + c * (expected - expected.sum() / expected.size)
    operation = augment.color(brightness=1.0, saturation=2.0, contrast=0.5)
    np.testing.assert_allclose(
        applied(operation, Color(*map(jnp.asarray, (b, s, c))), image), expected, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-9, 1), (4, 20)])
@pytest.mark.usefixtures("x64")
def test_crop_moves_by_whole_pixels_and_zeros_enter(image, shift):
    expected = ndimage.shift(image, (-shift[0], -shift[1], 0), order=0, mode="constant", cval=0.0)
    np.testing.assert_array_equal(applied(augment.crop(shift=(9, 20)), Pair(*shift), image), expected)


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-4, 4)])
@pytest.mark.usefixtures("x64")
def test_pad_crop_continues_by_the_mirror_image(image, shift):
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    expected = padded[4 + shift[0] : 13 + shift[0], 4 + shift[1] : 16 + shift[1]]
    operation = augment.pad_crop(padding=4, image_size=(9, 12))
    np.testing.assert_array_equal(applied(operation, Pair(*shift), image), expected)


@pytest.mark.parametrize("size", [(5, 6), (4, 3), (1, 1)])
@pytest.mark.usefixtures("x64")
def test_cutout_clears_a_rectangle_around_its_centre(image, size):
    """A centre may be any pixel; of even sizes, whose middle lies between pixels, also the image's end."""
    operation = augment.cutout(size=size, image_size=(9, 12))
    centres = jax.vmap(lambda key: operation.sample(key, ()))(jax.random.split(jax.random.key(0), 2000))
    for drawn, length, extent in zip(centres, (9, 12), size, strict=True):
        assert set(np.asarray(drawn).tolist()) == set(range(length + (extent % 2 == 0)))
    some = Pair(*(drawn[:40] for drawn in centres))
    cut = jax.vmap(operation.apply, in_axes=(0, None))(some, image)
    for row, column, ours in zip(*map(np.asarray, some), cut, strict=True):
        top, left = row - size[0] // 2, column - size[1] // 2
        expected = image.copy()
        expected[max(top, 0) : max(top + size[0], 0), max(left, 0) : max(left + size[1], 0)] = 0
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.usefixtures("x64")
def test_flip_exchanges_left_and_right(image):
    assert np.array_equal(applied(augment.flip(), True, image), np.fliplr(image))
    assert np.array_equal(applied(augment.flip(), False, image), image)


@pytest.mark.parametrize("steps", [(1.0, 1.0), (0.8, 1.2), (1.2, 1 / 1.2)])
@pytest.mark.usefixtures("x64")
def test_scale_and_zoom_stretch_about_the_centre(image, steps):
    expected = affine(image, np.diag(steps))
    for operation in (augment.scale(ratio=1.2), augment.zoom(change=0.2)):
        np.testing.assert_allclose(applied(operation, Pair(*steps), image), expected, atol=1e-13)


@pytest.mark.parametrize("degrees", [0.0, 15.0, -45.0])
@pytest.mark.usefixtures("x64")
def test_rotate_turns_about_the_centre(image, degrees):
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    ours = applied(augment.rotate(degrees=45.0), angle, image)
    np.testing.assert_allclose(ours, affine(image, matrix), atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_rotate_is_anticlockwise(rng):
    square = rng.normal(size=(7, 7, 2))
    ours = applied(augment.rotate(degrees=90.0), np.pi / 2 * (1 - 1e-12), square)
    np.testing.assert_allclose(ours, np.rot90(square), atol=1e-9)


def test_ranges_are_the_published_ones():
    """Of 32x32 pixels; the ends are all but reached in 20,000 draws, and the middle is the mean."""
    dsa = augment.by_name(ALL, (32, 32, 3))
    zoomed = augment.by_name("crop_zoom_rotate", (28, 28, 1))
    dc = augment.by_name("dc", (28, 28, 1))
    color, crop, cutout, flip, scale, rotate = dsa.sample(jax.random.key(0), 20_000)
    our_crop, our_zoom, our_rotate = zoomed.sample(jax.random.key(1), 20_000).params
    dc_crop, dc_size, dc_degrees = dc.sample(jax.random.key(2), 20_000).params
    drawn = (*color, *crop, *cutout, *scale, rotate, *our_crop, *(1 / step for step in our_zoom), our_rotate)
    ranges = (
        *((-0.5, 0.5), (0, 2), (0.5, 1.5)),
        *((-4, 4), (-4, 4), (0, 32), (0, 32), (1 / 1.2, 1.2), (1 / 1.2, 1.2)),
        *((-np.pi / 12, np.pi / 12), (-4, 4), (-4, 4), (0.8, 1.2), (0.8, 1.2), (-np.pi / 4, np.pi / 4)),
    )
    for values, (low, high) in zip(map(np.asarray, drawn), ranges, strict=True):
        found = [values.min(), values.mean(), values.max()]
        np.testing.assert_allclose(found, [low, (low + high) / 2, high], atol=0.01 * (high - low))
    assert np.mean(np.asarray(flip)) == pytest.approx(0.5, abs=0.02)
    # Whole numbers, all of them: ⌊0.8 · 28⌋ = 22 to ⌊1.2 · 28⌋ = 33 pixels, never 45°.
    whole = zip(
        (*dc_crop, *dc_size, dc_degrees), ((0, 7), (0, 7), (22, 33), (22, 33), (-45, 44)), strict=True
    )
    for values, (low, high) in whole:
        assert set(np.asarray(values).tolist()) == set(range(low, high + 1))
    # Height and width are drawn apart.
    for both in (scale, dc_size):
        assert abs(np.corrcoef(np.stack(both))[0, 1]) < 0.05


# Golden values: what the published code makes of images, given the numbers that it drew.


def golden_of(path: Path) -> tuple[dict[str, np.ndarray], jax.Array, tuple[int, int, int]]:
    """The arrays of a golden file, its images, and the shape of an image."""
    with np.load(path) as file:
        golden = dict(file)
    _, height, width, channels = golden["images"].shape
    return golden, jnp.asarray(golden["images"]), (height, width, channels)


def dsa_params(name: str, drawn: np.ndarray) -> tuple[str, Any]:
    """The operation that a published one is part of, and its params from the published draws."""
    one, zero = jnp.ones(drawn.shape[1]), jnp.zeros(drawn.shape[1])
    first, last = jnp.asarray(drawn[0]), jnp.asarray(drawn[-1])
    if name in ("crop", "cutout"):
        return name, Pair(first, last)
    colour = {
        "brightness": Color(first - 0.5, one, one),
        "saturation": Color(zero, 2 * first, one),
        "contrast": Color(zero, one, first + 0.5),
    }
    if name in colour:
        return "color", colour[name]
    if name == "flip":
        return name, first < 0.5
    if name == "rotate":
        return name, (2 * first - 1) * float(np.radians(15))
    # The width is drawn before the height.
    return name, Pair(*(one * (1.2 - 1 / 1.2) + 1 / 1.2 for one in (last, first)))


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_dsa_is_the_published_augmentation(reference, kind):
    golden, images, shape = golden_of(reference / f"augment_{kind}.npz")
    names = {name.split("/")[1] for name in golden if name.startswith("dsa/")}
    assert len(names) == 8
    for name in names:
        operation, params = dsa_params(name, golden[f"dsa/{name}/draws"])
        ours = jax.jit(augment.by_name(operation, shape).apply)(Choice(jnp.int32(0), (params,)), images)
        np.testing.assert_allclose(ours, golden[f"dsa/{name}/images"], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_dc_is_the_published_augmentation(reference, kind):
    golden, images, shape = golden_of(reference / f"augment_{kind}.npz")
    params = (
        Pair(*jnp.asarray(golden["dc/crop/offset"]).T),
        Pair(*jnp.asarray(golden["dc/scale/size"]).T),
        jnp.asarray(golden["dc/rotate/degrees"]),
    )
    apply = jax.jit(augment.by_name("dc", shape).apply)
    for number, name in enumerate(("crop", "scale", "rotate")):
        ours = apply(Choice(jnp.full(6, number), params), images)
        np.testing.assert_allclose(ours, golden[f"dc/{name}/images"], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_cubic_rotation_is_scipys_at_every_angle(rng):
    """Sides both odd and even, so that the two middles lie together and half a pixel apart."""
    for size in ((7, 7), (10, 10)):
        image, fill = rng.normal(size=(*size, 2)), np.array([0.3, 0.1])
        operation = augment.rotate_cubic(degrees=45, image_size=size)
        angles = np.arange(-45, 45)
        ours = jax.jit(jax.vmap(operation.apply, (0, None, None)))(jnp.asarray(angles), image, fill)
        for angle, found in zip(angles, ours, strict=True):
            large = ndimage.rotate(image, angle, axes=(0, 1), order=3, cval=0.2)
            top = (large.shape[0] - size[0]) // 2
            np.testing.assert_allclose(found, large[top : top + size[0], top : top + size[0]], atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_places_that_only_fill_up_a_minibatch_do_not_count_in_its_mean(rng):
    images = jnp.asarray(rng.normal(size=(4, 10, 10, 3)))
    dc = augment.by_name("dc", (10, 10, 3))
    assert dc.by_batch
    draw = dc.sample(KEY, 4)
    draw = draw._replace(which=jnp.zeros_like(draw.which))  # all of them cropped
    apply, weights = jax.jit(dc.apply), jnp.array([2.0, 2.0, 0.0, 0.0])
    full = np.asarray(apply(draw, images, weights))[:2]
    np.testing.assert_allclose(full, apply(jax.tree.map(lambda leaf: leaf[:2], draw), images[:2]), atol=1e-12)
    assert abs(full - apply(draw, images)[:2]).max() > 1e-3


# Draws and compositions.


def images_and(strategy: str, count: int = 4, shape=(10, 10, 3)) -> tuple[jax.Array, Augmentation]:
    return jax.random.normal(jax.random.key(42), (count, *shape)), augment.by_name(strategy, shape)


@pytest.mark.parametrize(
    ("strategy", "num_images"),
    [(DSA, None), ("color+scale+flip", 4), ("crop_zoom_rotate", 4), ("pad_crop_flip", None)],
)
@pytest.mark.usefixtures("x64")
def test_one_draw_does_the_same_to_every_batch_and_vmapped_draws_what_each_does(strategy, num_images):
    images, augmentation = images_and(strategy)
    others = images[::-1].at[2].set(images[2])
    apply = jax.jit(augmentation.apply)
    keys = jax.random.split(KEY, 5)
    draws = jax.jit(jax.vmap(lambda key: augmentation.sample(key, num_images)))(keys)
    one_by_one = [jax.tree.map(lambda leaf, i=i: leaf[i], draws) for i in range(5)]
    first, second = ([apply(draw, batch) for draw in one_by_one] for batch in (images, others))
    assert first[0].dtype == jnp.float64
    np.testing.assert_allclose(np.stack(first)[:, 2], np.stack(second)[:, 2], atol=1e-12)
    assert not np.allclose(first[0], first[1])
    together = jax.jit(jax.vmap(augmentation.apply, in_axes=(0, None)))(draws, images)
    np.testing.assert_allclose(together, first, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_shared_draws_equal_one_for_each_image_gathered_from_them():
    images, augmentation = images_and("crop_scale_flip")
    apply, rows_of = jax.jit(augmentation.apply), jnp.array([1, 0, 2, 1])
    draws = jax.jit(jax.vmap(augmentation.sample))(jax.random.split(KEY, 3))
    assert len(set(draws.which.tolist())) == 3
    gathered = apply(jax.tree.map(lambda leaf: leaf[rows_of], draws), images)
    alone = [apply(jax.tree.map(lambda leaf, k=k: leaf[k], draws), images) for k in range(3)]
    np.testing.assert_allclose(gathered, [alone[k][i] for i, k in enumerate(rows_of)], atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_sum_of_names_is_all_of_them_in_their_order():
    images, augmentation = images_and("rotate+color+flip")
    operations = augment.rotate(degrees=15.0), augment.color(brightness=1, saturation=2, contrast=0.5)
    draw = augmentation.sample(jax.random.key(5), 4)
    ours = jax.jit(augmentation.apply)(draw, images)
    for i in range(4):
        angle, color, flipped = jax.tree.map(lambda leaf, i=i: leaf[i], draw)
        expected = operations[1].apply(color, operations[0].apply(angle, images[i]))
        expected = expected[:, ::-1] if flipped else expected
        np.testing.assert_allclose(ours[i], expected, atol=1e-12)


@pytest.mark.parametrize(("strategy", "per_image"), [("crop_cutout_flip", False), (None, True)])
@pytest.mark.usefixtures("x64")
def test_one_of_carries_out_one_operation_each_as_often(strategy, per_image):
    """As published, images that have params of their own share DSA's operation, and not DC's."""
    operations = [
        augment.crop(shift=(1, 1)),
        augment.cutout(size=(5, 5), image_size=(10, 10)),
        augment.flip(),
    ]
    images, augmentation = images_and("crop_cutout_flip")
    if strategy is None:
        augmentation = augment.of(augment.one_of(operations, per_image=True), name="mine")
    choices = jax.vmap(lambda key: augmentation.sample(key, 4))(jax.random.split(jax.random.key(0), 3000))
    assert choices.which.shape == ((3000, 4) if per_image else (3000,))
    assert np.bincount(np.ravel(choices.which)) / choices.which.size == pytest.approx([1 / 3] * 3, abs=0.03)
    for leaf in jax.tree.leaves(choices.params):
        assert np.ptp(np.asarray(leaf, int), axis=1).max() > 0
    apply = jax.jit(augmentation.apply)
    for i in range(3):
        choice = jax.tree.map(lambda leaf, i=i: leaf[i], choices)
        for j, ours in enumerate(apply(choice, images)):
            which = int(choice.which[j] if per_image else choice.which)
            params = jax.tree.map(lambda leaf, j=j: leaf[j], choice.params[which])
            np.testing.assert_array_equal(ours, operations[which].apply(params, images[j]))


@pytest.mark.usefixtures("x64")
def test_derivatives_of_first_and_second_order_agree_with_finite_differences():
    """The second one reverse over reverse, as matched gradients are differentiated."""
    images, augmentation = images_and(ALL, count=2, shape=(6, 7, 2))
    mirrored = augment.pad_crop(padding=4, image_size=(6, 7))
    draw, shift = augmentation.sample(KEY, 2), mirrored.sample(KEY, ())
    directions = jax.random.normal(jax.random.key(0), (2, *images.shape))

    def loss(images):
        images = jax.vmap(mirrored.apply, in_axes=(None, 0))(shift, augmentation.apply(draw, images))
        return jnp.sum(jnp.sin(images) * jnp.arange(6.0)[None, :, None, None])

    def slope(images):
        return jnp.vdot(jax.grad(loss)(images), directions[0])

    size = 1e-5
    for function in (loss, slope):
        exact = jnp.vdot(jax.jit(jax.grad(function))(images), directions[1])
        ahead, behind = (jax.jit(function)(images + step * directions[1]) for step in (size, -size))
        assert float(ahead - behind) / (2 * size) == pytest.approx(float(exact), rel=1e-7)
        assert abs(float(exact)) > 1e-2


@pytest.mark.usefixtures("x64")
def test_float32_stays_float32():
    images, augmentation = images_and(ALL)
    draw, images = augmentation.sample(KEY), images.astype(jnp.float32)
    assert jax.eval_shape(augmentation.apply, draw, images).dtype == jnp.float32


def test_shared_params_leave_a_choice_as_it_is_and_compute_one_operation():
    """A cond in the program, and not a select among the results of all."""
    images, augmentation = images_and(DSA)
    program = jax.make_jaxpr(augmentation.apply)(augmentation.sample(jax.random.key(0)), images)
    assert "cond[" in str(program)


# Names.


def test_only_what_was_published_with_flips_is_flipped():
    """Characters that nobody listed stay readable; a strategy in full flips whatever it is given."""
    unlisted = ("omniglot", "cmaterdb", "mine")
    for name in ("mnist", "mnist:3.0.1", "digits", "usps", "svhn_cropped", "emnist/balanced", *unlisted):
        assert augment.strategy_for(name) == "color_crop_cutout_scale_rotate"
    for name in ("cifar10", "cifar10:3.0.2", "cifar100", "fashion_mnist"):
        assert augment.strategy_for(name) == DSA


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("which", [1, 2, 3])
def test_frepo_reads_images_as_its_authors_do_and_continues_their_edges(rng, which):
    """Coordinates as in the authors' code, read by SciPy."""
    image = rng.normal(size=(12, 9, 1))
    params = augment.by_name("frepo", image.shape).sample(jax.random.key(which)).params
    zoomed, angle, moved = jax.tree.map(float, (params[1], params[2], params[3]))
    middle = np.array([5.5, 4.0])[:, None, None]
    grid = np.mgrid[:12, :9] - middle
    zoom = 1 / zoomed.step
    centre = np.array([zoomed.rows * 12, zoomed.columns * 9])[:, None, None] * zoom
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    places = {
        1: (grid + centre) / zoom,
        2: np.tensordot(turn, grid, 1),
        3: grid + np.array([moved.rows * 12, moved.columns * 9])[:, None, None],
    }
    wanted = ndimage.map_coordinates(image[..., 0], places[which] + middle, order=1, mode="nearest")
    choice = augment.Choice(jnp.int32(which), params)
    found = augment.by_name("frepo", image.shape).apply(choice, jnp.asarray(image)[None])
    np.testing.assert_allclose(found[0, ..., 0], wanted, atol=1e-6)
    assert abs(found[0] - image).max() > 0.1


def test_the_ranges_of_frepo_are_the_published_ones():
    draws = augment.by_name("frepo_flip", (28, 28, 1)).sample(jax.random.key(0), 20_000)
    flipped, colour, window, angle, moved, cut = draws.params
    assert draws.which.shape == ()
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.02)
    ends = np.exp([-0.25, 0.25])
    drawn = (*colour, window.step, window.rows, angle, *moved, *cut)
    ranges = (
        *((-0.25, 0.25), ends, ends, (0.8, 1.25), (-0.125, 0.125)),
        *((-np.pi / 12, np.pi / 12), (-0.125, 0.125), (-0.125, 0.125), (3, 24), (3, 24)),
    )
    for values, (low, high) in zip(map(np.asarray, drawn), ranges, strict=True):
        found = [values.min(), values.max()]
        np.testing.assert_allclose(found, [low, high], atol=0.02 * (high - low))


def test_the_former_name_means_what_it_meant():
    images = jax.random.normal(jax.random.key(1), (3, 10, 10, 1))
    found = []
    for name in ("dc_crop_scale_rotate", "crop_zoom_rotate", "dc"):
        augmentation = augment.by_name(name, (10, 10, 1))
        found.append(jax.jit(augmentation.of_minibatch)(KEY, images, jnp.ones(3)))
    np.testing.assert_array_equal(found[0], found[1])
    assert abs(found[1] - found[2]).max() > 0.1


def test_a_name_makes_the_same_augmentation_again():
    for strategy in (DSA, "flip", "color+flip", IDC, *augment.STRATEGIES):
        assert augment.by_name(strategy, (28, 28, 1)).name == strategy


def test_of_operations_in_parentheses_one_is_carried_out_and_of_the_others_all():
    """IDC's, operation by operation from its own draws; every choice comes up."""
    whole = augment.by_name("flip+color+(crop_scale_rotate)", (9, 12, 3))
    images = jax.random.normal(jax.random.key(1), (4, 9, 12, 3))
    seen = set()
    for i in range(8):
        draw = whole.sample(jax.random.key(i), 4)
        flipped, colour, choice = draw
        which = int(choice.which)
        seen.add(which)
        name = ("crop", "scale", "rotate")[which]
        # The same params through a composition in which nothing is left to choose.
        fixed = augment.by_name(f"flip+color+{name}", (9, 12, 3))
        wanted = fixed.apply((flipped, colour, choice.params[which]), images)
        np.testing.assert_allclose(whole.apply(draw, images), wanted, atol=1e-5)
    assert seen == {0, 1, 2}


# Mixtures.


def test_cutmix_puts_a_rectangle_of_the_partner_into_each_image(rng):
    images, labels = rng.normal(size=(4, 9, 12, 3)), np.eye(4)
    draw = augment.Patch(
        jnp.bool(True), jnp.array([1, 2, 3, 0]), Pair(*jnp.array([1, 6])), Pair(*jnp.array([3, 2]))
    )
    expected = images.copy()
    expected[:, :4, 4:8] = np.roll(images, -1, 0)[:, :4, 4:8]  # rows -2 to 3, cut at the edge
    share = 16 / 108
    found, targets = augment.patched(draw, jnp.asarray(images), jnp.asarray(labels))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(targets, (1 - share) * labels + share * np.roll(labels, -1, 0), rtol=1e-6)
    left = augment.patched(draw._replace(is_mixed=jnp.bool(False)), jnp.asarray(images), jnp.asarray(labels))
    np.testing.assert_allclose(left[0], images, rtol=1e-6)
    np.testing.assert_allclose(left[1], labels, rtol=1e-6)


def test_cutmix_draws_half_of_the_minibatches_and_a_uniform_share():
    draws = jax.vmap(lambda key: augment.draw_patch(key, 5, (200, 300), probability=0.5))(
        jax.random.split(KEY, 4000)
    )
    assert 0.46 < float(draws.is_mixed.mean()) < 0.54
    sides = 2 * np.asarray(draws.half.rows) / 200
    assert abs(np.mean(sides**2) - 0.5) < 0.03
    assert (np.sort(draws.partners, -1) == np.arange(5)).all()
    for centre, length in zip(draws.centre, (200, 300), strict=True):
        assert (int(centre.min()), int(centre.max())) == (0, length - 1)


def test_unknown_mixtures_and_mixtures_of_texts_are_refused():
    assert augment.mix_by_name("", (3,)) is None
    with pytest.raises(ValueError, match="mix: expected one of cutmix; got 'cutmx'"):
        augment.mix_by_name("cutmx", (8, 8, 1))
    with pytest.raises(ValueError, match="image_shape"):
        augment.mix_by_name("cutmix", (5, 4))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("color_corp", "augmentation: expected one of color, crop, .*got 'corp'. Did you mean 'crop'"),
        ("color+crop_flip", "got 'crop_flip'"),
        ("crop_crop", "each operation once; got 'crop' twice"),
        ("crop+(crop_flip)", "each operation once; got 'crop' twice"),
        ("(crop_flip)", "got '[(]crop'"),
        ("color+(crop_flip", "got '[(]crop_flip'"),
        ("", "augmentation: expected a text; got str ''"),
        (3, "augmentation: expected a text; got int 3"),
        ("x" * 1000, "Join such by _ for one at random, by [+] for all, or give dc or crop_zoom_rotate"),
    ],
)
def test_other_names_are_refused(strategy, message):
    with pytest.raises(ValueError, match=message) as caught:
        augment.by_name(strategy, (28, 28, 1))
    assert len(str(caught.value)) < 400


def test_images_too_small_to_be_mirrored_are_refused():
    augment.by_name("pad_crop_flip", (5, 5, 1))
    with pytest.raises(ValueError, match=r"mirrored by 4 pixels: expected .* >= 5; got 4"):
        augment.by_name("pad_crop_flip", (8, 4, 1))
    with pytest.raises(ValueError, match="image_shape"):
        augment.by_name("flip", (8, 4))  # type: ignore[arg-type]


def test_a_schedule_has_no_augmentation():
    with pytest.raises(
        ValueError, match="settings of 'schedule': expected one of optimizer; got 'augmentation'"
    ):
        Recipe("schedule", augmentation="flip")


# What the methods and the launchers make of it.


@pytest.fixture(scope="module")
def toy():
    return three_digits()


@pytest.mark.usefixtures("x64")
def test_distribution_matching_augments_real_and_distilled_images_of_a_class_alike(toy):
    """So that distilled images which are the real ones are at no distance, whatever was drawn."""
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    plain, augmented = (
        methods.distribution_matching(network, inits.random(network), batch_size=3, augmentation=chosen)
        for chosen in (None, augment.by_name("crop_flip", SHAPE))
    )
    batch = plain.sample(to_device(toy.train), KEY).astype(float)
    order = jnp.array([3, 0, 7, 1, 8, 4, 2, 5, 6])
    labels = jnp.repeat(jnp.eye(CLASSES), 3, axis=0)[order]
    schedule = Schedule(batch.reshape(-1, *SHAPE)[order][None], labels[None], None)
    of_draws = jax.jit(jax.vmap(augmented.loss, in_axes=(None, None, None, 0)))
    keys = jax.random.split(KEY, 12)
    assert float(of_draws(schedule, (), batch, keys)[0].max()) < 1e-20
    # From those of other classes they are at distances that the draw changes.
    distances = of_draws(schedule, (), jnp.roll(batch, 1, axis=0), keys)[1].class_distances
    assert float(distances.min()) > 1e-3
    assert float(distances.std(0).min()) > 1e-3


def test_the_unrolled_method_augments_its_real_images_one_by_one(toy):
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    data = to_device(toy.train)
    plain, augmented = (
        methods.unrolled(network, inits.random(network), batch_size=40, augmentation=chosen)
        for chosen in (None, augment.by_name("pad_crop_flip", SHAPE))
    )
    for ours, theirs in zip(plain.sample(data, KEY), minibatch(data, KEY, size=40), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    batch = jax.jit(augmented.sample)(data, KEY)
    real = minibatch(data, jax.random.split(KEY)[0], size=40)
    np.testing.assert_array_equal(batch.labels, real.labels)
    found = []
    for ours, image in zip(batch.inputs, np.asarray(real.inputs), strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        crops = [(row, column) for row in range(9) for column in range(9)]
        found.append(
            {
                (row, column, step)
                for row, column in crops
                for step in (1, -1)
                if np.array_equal(padded[row : row + 8, column : column + 8][:, ::step], ours)
            }
        )
    assert all(found)
    assert len(set(map(frozenset, found))) > 20


@pytest.mark.parametrize(
    ("flag", "strategy"), [(None, ""), ("dsa", DSA.replace("_flip", "")), ("flip", "flip")]
)
def test_flags_choose_augmentations(digits, flag, strategy):
    config = distribution_matching.Config(width=4, depth=1, eval_augment=flag, augment=flag)
    chosen = distribution_matching.LAUNCHER.parts(config, digits)
    assert isinstance(chosen.method.recipe, Train)
    assert chosen.method.recipe.augmentation == strategy
    unrolled = unrolled_parts(Unrolled(augment=flag), digits, Plan(), inits.random)
    recorded = [
        {name: made.facts.plan[name] for name in made.facts.plan if "aug" in name}
        for made in (chosen, unrolled)
    ]
    named = {"augmentation": strategy} if flag else {}
    assert recorded == [{**named, **({"eval_augmentation": strategy} if flag else {})}, named]


def test_a_flag_of_another_augmentation_is_refused(digits):
    small = distribution_matching.Config(width=4, depth=1)
    for name in ("augment", "eval_augment"):
        config = dataclasses.replace(small, **{name: "cd"})
        with pytest.raises(ValueError, match="got 'cd'"):
            distribution_matching.LAUNCHER.parts(config, digits)
    with pytest.raises(ValueError, match="got 'cd'"):
        unrolled_parts(Unrolled(augment="cd"), digits, Plan(), inits.random)
