"""What combines with what: every method with every form of φ, network, augmentation and p(θ0), or why not.

`python tests/methods/combinations.py` writes the table into experiments/README.md, `test_combinations.py`
tries each cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import nnx

from ddjax import augment, forms, inits, methods, networks
from ddjax.augment import OPERATIONS, STRATEGIES, Augmentation
from ddjax.experts import Experts, Flat
from ddjax.methods.trajectory_matching import Window, trajectory_matching
from ddjax.networks.norms import NORMS
from ddjax.pool import Pool
from ddjax.types import Form, InitDistribution, Method, Network, Schedule

CLASSES = 2
README = Path(__file__).resolve().parents[2] / "experiments" / "README.md"
BEGIN, END = "<!-- what combines with what: begin -->\n", "<!-- what combines with what: end -->"


def walks(network: Network, inits: InitDistribution, *, count: int = 3, checkpoints: int = 4) -> Experts:
    """Experts of any network: draws from p(θ0) that move straight on, by about a tenth a checkpoint.

    Args:
        network: the network.
        inits: p(θ0).
        count: the number of experts.
        checkpoints: the number of checkpoints of each.
    """
    flat, rng = Flat.of(network), np.random.default_rng(0)
    drawn = jax.jit(jax.vmap(lambda key: flat.vector(inits.sample(key))))
    starts = drawn(jax.random.split(jax.random.key(0), count))
    moves = 0.1 * rng.standard_normal((count, 1, flat.size), np.float32)
    weights = np.asarray(starts)[:, None] + np.arange(checkpoints, dtype=np.float32)[:, None] * moves
    return Experts(list(weights), 10 * np.arange(checkpoints), np.full(count, 50, np.float32))


Build = Callable[[Network, InitDistribution, Augmentation | None], Method]

METHODS: Mapping[str, Build] = {
    "unrolled": lambda network, p, a: methods.unrolled(network, p, batch_size=4, augmentation=a),
    "distribution matching": lambda network, p, a: methods.distribution_matching(
        network, p, batch_size=2, augmentation=a
    ),
    "gradient matching": lambda network, p, a: methods.gradient_matching(
        network, p, batch_size=2, augmentation=a
    ),
    "feature regression": lambda network, p, a: methods.feature_regression(
        network, p, batch_size=2, pool=2, augmentation=a
    ),
    "label distillation": lambda network, p, a: methods.label_distillation(
        network, p, batch_size=4, inner_batch=2, augmentation=a
    ),
    "trajectory matching": lambda network, p, a: trajectory_matching(
        network, walks(network, p), inner_steps=2, span=1, window=Window(0, 3), augmentation=a
    ),
}


class Linen(nn.Module):
    """Somebody's own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, H, W, C] -> [n, K]`."""
        return nn.Dense(CLASSES)(self.embed(x))

    def embed(self, x: jax.Array) -> jax.Array:
        """What the last layer sees."""
        return x.reshape(len(x), -1)


class Nnx(nnx.Module):
    """Somebody's own."""

    def __init__(self, rngs: nnx.Rngs):
        self.last = nnx.Linear(64, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, H, W, C] -> [n, K]`."""
        return self.last(self.embed(x))

    def embed(self, x: jax.Array) -> jax.Array:
        """What the last layer sees."""
        return x.reshape(len(x), -1)


def _functions(*, with_embed: bool) -> Network:
    def init(key: jax.Array) -> dict[str, jax.Array]:
        return {"kernel": jax.random.normal(key, (64, CLASSES)) / 8}

    return networks.from_functions(
        init,
        lambda params, x: x.reshape(len(x), -1) @ params["kernel"],
        (8, 8, 1),
        CLASSES,
        embed=(lambda params, x: x.reshape(len(x), -1)) if with_embed else None,
    )


def _convnet(norm: str) -> Network:
    return networks.convnet((8, 8, 1), CLASSES, depth=1, width=4, norm=norm)


NETWORKS: Mapping[str, Callable[[], Network]] = {
    "mlp": lambda: networks.mlp((8, 8, 1), CLASSES, widths=(8,)),
    "lenet": lambda: networks.lenet((12, 12, 1), CLASSES),
    "alexcifar": lambda: networks.alexcifar((8, 8, 3), CLASSES),
    "alexnet32": lambda: networks.alexnet32((8, 8, 3), CLASSES),
    "alexnet": lambda: networks.alexnet((63, 63, 3), CLASSES, width=1),
    **{
        f"convnet, {'no' if norm == 'none' else norm} norm": lambda norm=norm: _convnet(norm)
        for norm in NORMS
    },
    "vgg11": lambda: networks.vgg11((28, 28, 1), CLASSES, width=2, norm="none"),
    "resnet18": lambda: networks.resnet18((8, 8, 1), CLASSES, width=2, norm="none"),
    "textconv (texts)": lambda: networks.textconv((5, 4), CLASSES, width=4, windows=(2, 3)),
    "bilstm (texts)": lambda: networks.bilstm((4, 3), CLASSES, width=3, depth=1),
    "transformer (texts)": lambda: networks.transformer((4, 3), CLASSES, width=4, depth=1, heads=2),
    "your Linen module": lambda: networks.from_linen(Linen(), (8, 8, 1), CLASSES),
    "your NNX module": lambda: networks.from_nnx(Nnx, (8, 8, 1), CLASSES),
    "your functions": lambda: _functions(with_embed=True),
    "your functions, without `embed`": lambda: _functions(with_embed=False),
}


def _pixels(shape: tuple[int, ...], lr: float | None, **settings: Any) -> Form:
    return forms.pixels(shape, CLASSES, inner_steps=1, inner_epochs=2, inner_lr=lr, **settings)


def _constant(shape: tuple[int, ...], lr: float | None, *, is_sorted: bool) -> Form:
    form = _pixels(shape, lr)
    schedule = form.unfold(form.init(jax.random.key(0)))
    labels = schedule.labels if is_sorted else schedule.labels[:, ::-1]
    return forms.constant(Schedule(schedule.inputs, labels, schedule.lrs))


FORMS: Mapping[str, Callable[[tuple[int, ...], float | None], Form]] = {
    "pixels, with learning rates": lambda shape, lr: _pixels(shape, 0.1),
    "pixels, without": lambda shape, lr: _pixels(shape, None),
    "started from given images": lambda shape, lr: _pixels(
        shape, lr, initial_images=np.full((1, CLASSES, *shape), 0.5, np.float32)
    ),
    "learned labels": lambda shape, lr: _pixels(shape, lr, label_confidence=0.8),
    "multi-formation": lambda shape, lr: forms.composed(forms.multi_formation(shape, CLASSES), inner_lr=lr),
    "bases, of whose images minibatches are drawn": lambda shape, lr: forms.composed(
        forms.bases(shape, CLASSES, num_bases=2, per_class=4), inner_lr=lr, drawn_per_class=2
    ),
    "codes and shared decoders": lambda shape, lr: forms.composed(
        forms.latents(shape, CLASSES, codes_per_class=2, code_shape=(4, 4, 2), num_decoders=2),
        inner_lr=lr,
        label_form="nonnegative",
    ),
    "textures, cut at random places": lambda shape, lr: forms.composed(
        forms.textures(shape, CLASSES, cuts=2), inner_lr=lr
    ),
    "pixels under a learned augmentation": lambda shape, lr: forms.augmented(_pixels(shape, lr), widths=0.3),
    "any schedule of yours": lambda shape, lr: _constant(shape, lr, is_sorted=True),
    "the same, not in the order of the classes": lambda shape, lr: _constant(shape, lr, is_sorted=False),
}
"""`(input shape, learning rate where the method needs one) -> form`."""


def _pool(network: Network) -> InitDistribution:
    params = jax.jit(jax.vmap(inits.random(network).sample))(jax.random.split(jax.random.key(0), 2))
    return inits.pretrained(Pool(jax.device_get(params), 2, np.zeros(2, np.float32)))


INITS: Mapping[str, Callable[[Network], InitDistribution]] = {
    "random": inits.random,
    "one fixed θ0": lambda network: inits.fixed(network, jax.random.key(0)),
    "a pool of pretrained networks": _pool,
}

AUGMENTATIONS: Mapping[str, str] = {
    **{name: name for name in OPERATIONS},
    "one at random (DSA)": augment.strategy_for("cifar10"),
    "several in turn": "crop+flip",
    "one beside others (IDC)": "color+(crop_flip)",
    **{name: name for name in STRATEGIES},
}

THINGS: Mapping[str, Mapping[str, object]] = {
    "form of φ": FORMS,
    "network": NETWORKS,
    "p(θ0)": INITS,
    "augmentation": AUGMENTATIONS,
}


class Refusal(NamedTuple):
    """Why something does not combine.

    Attributes:
        message: a pattern of the error's.
        reason: in the table.
    """

    message: str
    reason: str


_NO_RATES = Refusal("expected no learning rates", "no: it learns none")
REFUSED: Mapping[tuple[str, str], Refusal] = {
    ("unrolled", "pixels, without"): Refusal("expected learning rates", "no: its steps need them"),
    ("trajectory matching", "pixels, without"): Refusal("expected learning rates", "no: its steps need one"),
    ("distribution matching", "pixels, with learning rates"): _NO_RATES,
    ("gradient matching", "pixels, with learning rates"): _NO_RATES,
    ("feature regression", "pixels, with learning rates"): _NO_RATES,
    ("feature regression", "your functions, without `embed`"): Refusal(
        "expected a network with features", "no: it regresses on features"
    ),
    ("label distillation", "pixels, with learning rates"): _NO_RATES,
    ("gradient matching", "the same, not in the order of the classes"): Refusal(
        "expected images ordered by class", "no: it matches class by class"
    ),
    ("distribution matching", "your functions, without `embed`"): Refusal(
        "expected a network with an embedding", "no: it matches embeddings"
    ),
}


def table() -> str:
    """All of it in Markdown."""
    lines = [f"| | {' | '.join(METHODS)} |", "|---|" + "---|" * len(METHODS)]
    for kind, things in THINGS.items():
        lines.append(f"| **{kind}** |" + " |" * len(METHODS))
        for thing in things:
            cells = (REFUSED[m, thing].reason if (m, thing) in REFUSED else "yes" for m in METHODS)
            lines.append(f"| {thing} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The text of experiments/README.md with the table between its marks."""
    return re.sub(f"(?<={BEGIN}).*?(?={END})", lambda _: table(), text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
