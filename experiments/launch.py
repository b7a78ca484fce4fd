"""What all launchers share: from settings to a work directory with the artifact, the pictures and the result."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax

import ddjax
from ddjax import artifact, baselines, coresets, networks, optimizers, report
from ddjax import distilled as forms
from ddjax.data import Dataset, load
from ddjax.engine import default_devices
from ddjax.evaluate import evaluate, scorer
from ddjax.run import Cost, DivergedError, PreemptedError, Reporting, Run, Validation, distill
from ddjax.types import Form, InitDistribution, Method, Network, Recipe
from experiments import config as settings

EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_PREEMPTED = 75

FULL_DATA = Recipe("train", lr=0.05, momentum=0.9, weight_decay=5e-4, epochs=6, batch_size=64)
"""How the ceiling is trained: the whole training split, a few epochs."""


class Keys(NamedTuple):
    """The keys of a run, all from its seed; none is used twice.

    Attributes:
        theta: θ0 of a fixed p(θ0).
        run: the distillation.
        validation: the initial weights that choose the best φ.
        test: the initial weights of the final score.
        baselines: the initial weights of the baselines.
    """

    theta: jax.Array
    run: jax.Array
    validation: jax.Array
    test: jax.Array
    baselines: jax.Array

    @classmethod
    def of(cls, seed: int) -> Keys:
        """Split a seed."""
        return cls(*jax.random.split(jax.random.key(seed), len(cls._fields)))


@dataclasses.dataclass(frozen=True)
class Parts:
    """What an experiment chooses; everything else is the same for all.

    Attributes:
        network: trained on φ.
        inits: p(θ0).
        method: the loss.
        form: of φ.
        optimizer: of φ.
        num_outer_steps: resolved.
        clip_norm: resolved; None for no bound.
        layout: S, E and images of one class in one step, for the baselines.
        plan: the automatic choices by name, for `plan.json`.
    """

    network: Network
    inits: InitDistribution
    method: Method
    form: Form
    optimizer: optax.GradientTransformation
    num_outer_steps: int
    clip_norm: float | None
    layout: tuple[int, int, int]
    plan: Mapping[str, Any]


Build = Callable[[Any, Dataset, Keys], Parts]
"""`(config, data, keys) -> Parts`: all that one launcher says of its own."""


def build_network(config: settings.NetworkChoice, data: Dataset, *, default: str | None = None) -> Network:
    """The network of the flags, else `default`, else the one that fits the images.

    Raises:
        ValueError: unknown, or it does not fit the images, or has no such setting.
    """
    name, own = networks.default_for(data.image_shape)
    wanted = config.network or default or name
    own = own if wanted == name else {}
    given = {"width": config.width, "depth": config.depth}
    own = own | {key: value for key, value in given.items() if value is not None}
    return networks.by_name(wanted, data.image_shape, data.num_classes, **own)


def runs_at_once(num_inits: int) -> int:
    """How many trainings to vmap: one after the other on CPU, where batching them gains nothing."""
    return 1 if jax.default_backend() == "cpu" else num_inits


def outer_optimizer(
    config: settings.Unrolled, data: Dataset, *, num_outer_steps: int
) -> tuple[optax.GradientTransformation, int, float | None, dict[str, Any]]:
    """Our outer recipe or, with `--original`, the paper's: optimiser, steps, bound on the norm, plan."""
    if config.original:
        epoch = max(1, len(data.train) // config.batch_size)
        steps, lr = config.num_outer_steps or 400 * epoch, config.outer_lr or 0.01
        plan = {"outer_optimizer": f"adam(0.5, 0.999), halved every {40 * epoch} steps", "outer_lr": lr}
        return optimizers.adam_halving(40 * epoch, lr=lr), steps, config.clip_norm or None, plan
    steps, lr = config.num_outer_steps or num_outer_steps, config.outer_lr or 0.03
    clip_norm = 1.0 if config.clip_norm is None else config.clip_norm or None
    plan = {"outer_optimizer": "adam(0.9, 0.999), cosine to 0", "outer_lr": lr}
    return optimizers.adam_cosine(steps, lr=lr), steps, clip_norm, plan


def unrolled_parts(
    config: settings.Unrolled, data: Dataset, network: Network, distribution: InitDistribution
) -> Parts:
    """The parts of an experiment with the unrolled method."""
    optimizer, steps, clip_norm, plan = outer_optimizer(config, data, num_outer_steps=1000)
    layout = (config.inner_steps, config.inner_epochs, config.images_per_class_per_step)
    form = forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=layout[0],
        inner_epochs=layout[1],
        images_per_class_per_step=layout[2],
        inner_lr=config.inner_lr,
    )
    method = ddjax.methods.unrolled(network, distribution, batch_size=config.batch_size)
    return Parts(network, distribution, method, form, optimizer, steps, clip_norm, layout, plan)


def open_workdir(workdir: Path, config: Any, *, experiment: str) -> None:
    """Make the work directory this run's own, or see that it already is.

    Raises:
        ValueError: it holds another experiment, or the same with other settings; the fields are listed.
    """
    wanted = {"experiment": experiment, **dataclasses.asdict(config)}
    path = workdir / "config.json"
    if not path.exists():
        if workdir.is_dir() and any(workdir.iterdir()):
            raise ValueError(
                f"workdir: expected an empty directory or one of this experiment; {workdir} holds other "
                "files. Give --workdir another directory."
            )
        workdir.mkdir(parents=True, exist_ok=True)
        report.write_json(path, wanted)
        return
    found = json.loads(path.read_text())
    differing = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if differing:
        lines = "; ".join(f"{k} was {found.get(k)!r}, is {wanted.get(k)!r}" for k in differing)
        raise ValueError(
            f"workdir: expected this experiment's own directory; {workdir} was started with other settings: "
            f"{lines}. Give --workdir another directory, or the settings it was started with."
        )


def make_validation(config: settings.Common, parts: Parts, data: Dataset, *, key: jax.Array) -> Validation:
    """Accuracy on the validation split over initial weights kept for it."""
    score = scorer(
        parts.network,
        parts.inits,
        data.validation,
        parts.method.recipe,
        mean=data.mean,
        std=data.std,
        key=key,
        num_inits=config.num_val_inits,
        runs_per_chunk=runs_at_once(config.num_val_inits),
    )
    return Validation(lambda schedule: score(schedule).mean(), config.validate_every)


def describe(config: settings.Common, parts: Parts, data: Dataset, *, cost: Cost | None = None) -> str:
    """What the run will do and, once compiled, what it will cost."""
    schedule = jax.eval_shape(lambda key: parts.form.unfold(parts.form.init(key)), jax.random.key(0))
    steps, images = schedule.inputs.shape[:2]
    size = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(parts.network.init, jax.random.key(0))))
    lines = [
        f"{parts.method.name} on {data.name}: {len(data.train)} training images, {data.num_classes} classes, "
        f"{len(data.validation)} held out for validation",
        f"{steps * images} distilled images, {steps} step(s) x {images}"
        + ("" if schedule.lrs is None else f", {schedule.lrs.shape[0]} epoch(s), learned learning rates"),
        f"{parts.network.name} with {size:,} weights from {parts.inits.name}, {config.num_inits} at a time, on "
        f"{jax.default_backend()}",
        f"{parts.num_outer_steps} outer steps of {config.batch_size} real images",
    ]
    if cost is not None:
        lines.append(
            f"memory: {cost.temporary_bytes / 2**20:.0f} MiB while it works, {cost.resident_bytes / 2**20:.0f} "
            f"MiB of data; compiled in {cost.compile_seconds:.1f} s"
        )
    return "\n".join(lines)


def measure_baselines(
    data: Dataset,
    network: Network,
    distribution: InitDistribution,
    recipe: Recipe,
    *,
    layout: tuple[int, int, int],
    num_inits: int,
    seed: int,
    key: jax.Array,
) -> dict[str, Any]:
    """The baselines of a setting and the ceiling, for `result.json`.

    Args:
        data: real data.
        network: to train.
        distribution: p(θ0).
        recipe: of φ.
        layout: S, E and images of one class in one step.
        num_inits: behind each score; the ceiling gets three at most.
        seed: of the random sets.
        key: draws the initial weights. Consumed.
    """
    few_key, all_key = jax.random.split(key)
    at_once = runs_at_once(num_inits)
    setting = baselines.Setting(data, network, distribution, recipe, *layout, num_inits, at_once)
    ceiling = baselines.all_data(
        data, network, distribution, key=all_key, num_inits=min(3, num_inits), recipe=FULL_DATA
    )
    return baselines.measure(setting, key=few_key, seed=seed) | {"all data": ceiling.as_dict()}


def result_table(result: Mapping[str, Any]) -> str:
    """The distilled images against the baselines, best first."""
    rows = [("distilled images", result["test_accuracy"]), *(result.get("baselines") or {}).items()]
    rows.sort(key=lambda row: -row[1]["mean"])
    cells = [
        (name, f"{score['mean']:.1f} ± {score['std']:.1f}", score["n"], tuned(score)) for name, score in rows
    ]
    return report.table(cells, ("trained on", "test accuracy, %", "n", "tuned on validation"))


def tuned(score: Mapping[str, Any]) -> str:
    """What was chosen on validation for a baseline."""
    names = {"lr": "learning rate", "neighbours": "neighbours"}
    return ", ".join(f"{text} {score[key]:g}" for key, text in names.items() if score.get(key))


def resolved_plan(config: settings.Common, parts: Parts, *, slots_per_chunk: int) -> dict[str, Any]:
    """Every automatic choice, resolved once; a resumed run must resolve to the same."""
    devices = default_devices(config.num_inits)
    return {
        "network": parts.network.name,
        "init": parts.inits.name,
        "num_outer_steps": parts.num_outer_steps,
        "clip_norm": parts.clip_norm,
        "slots_per_chunk": slots_per_chunk,
        "devices": [device.device_kind for device in devices],
        **parts.plan,
    }


def run(experiment: str, config: settings.Common, build: Build) -> dict[str, Any]:
    """A whole run: distil, evaluate, compare, write everything; or find it finished.

    Args:
        experiment: the launcher's name.
        config: its settings.
        build: its parts.

    Returns:
        What `result.json` holds.

    Raises:
        ValueError: settings that do not fit the data or the directory; nothing was compiled.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.engine.distill`.
        PreemptedError: likewise.
    """
    started = time.monotonic()
    data = load(config.dataset, data_dir=config.data_dir, seed=config.seed)
    keys = Keys.of(config.seed)
    parts = build(config, data, keys)
    coresets.check_enough(data.train, parts.layout[0] * parts.layout[2], data.num_classes)
    workdir = Path(config.workdir or f"runs/{experiment}-{Path(config.dataset).stem}")
    open_workdir(workdir, config, experiment=experiment)
    if (workdir / "result.json").exists():
        result = json.loads((workdir / "result.json").read_text())
        print(f"{workdir} is finished.\n{result_table(result)}")
        return result
    slots_per_chunk = config.slots_per_chunk or runs_at_once(config.num_inits)
    report.write_json(workdir / "plan.json", resolved_plan(config, parts, slots_per_chunk=slots_per_chunk))
    validation = make_validation(config, parts, data, key=keys.validation)
    with report.Progress(parts.num_outer_steps) as progress:
        outcome = distill(
            data,
            parts.method,
            key=keys.run,
            num_outer_steps=parts.num_outer_steps,
            form=parts.form,
            num_inits=config.num_inits,
            optimizer=parts.optimizer,
            clip_norm=parts.clip_norm,
            slots_per_chunk=slots_per_chunk,
            validation=validation,
            workdir=workdir,
            save_seconds=config.save_seconds,
            reporting=Reporting(
                every=config.record_every,
                listener=lambda record: show(progress, record),
                announce=lambda cost: print(describe(config, parts, data, cost=cost), flush=True),
                tensorboard=config.tensorboard,
            ),
            metadata={"experiment": experiment, "network": parts.network.name, "init": parts.inits.name},
        )
    write_artifact(workdir, outcome, data)
    result = measure(experiment, config, parts, data, outcome, keys, began=started)
    report.write_json(workdir / "result.json", result)
    print(
        f"\n{result_table(result)}\n\nwritten to {workdir}: distilled.npz, distilled.png, curves.png, result.json"
    )
    return result


def show(progress: report.Progress, record: Mapping[str, Any]) -> None:
    """A record of the metrics as a progress line."""
    progress.update(
        record["step"], loss=record["loss"], lrs=record.get("lrs"), val_accuracy=record.get("val_accuracy")
    )


def write_artifact(workdir: Path, outcome: Run, data: Dataset) -> None:
    """`distilled.npz` and the two pictures."""
    distilled = outcome.distilled
    artifact.save(workdir / "distilled.npz", distilled)
    schedule = jax.device_get(distilled.schedule)
    report.image_grid(
        workdir / "distilled.png",
        schedule.inputs,
        schedule.labels,
        mean=np.asarray(distilled.mean),
        std=np.asarray(distilled.std),
        class_names=data.class_names,
    )
    report.curves(workdir / "curves.png", report.read_metrics(workdir / "metrics.jsonl"))


def measure(
    experiment: str,
    config: settings.Common,
    parts: Parts,
    data: Dataset,
    outcome: Run,
    keys: Keys,
    *,
    began: float,
) -> dict[str, Any]:
    """The final score, on the test split and unseen initial weights; the baselines; what it was made on."""
    evaluating = time.monotonic()
    score = evaluate(
        outcome.distilled,
        parts.network,
        parts.inits,
        data.test,
        key=keys.test,
        num_inits=config.num_eval_inits,
        runs_per_chunk=runs_at_once(config.num_eval_inits),
    )
    compared = None
    if config.baselines:
        compared = measure_baselines(
            data,
            parts.network,
            parts.inits,
            parts.method.recipe,
            layout=parts.layout,
            num_inits=len(score.values),
            seed=config.seed,
            key=keys.baselines,
        )
    now = time.monotonic()
    return {
        "experiment": experiment,
        "dataset": data.name,
        "network": parts.network.name,
        "init": parts.inits.name,
        "test_accuracy": score.as_dict(),
        "val_accuracy": outcome.val_accuracy,
        "baselines": compared,
        "num_outer_steps": outcome.num_outer_steps,
        "best_step": outcome.best_step,
        "seconds": dict(outcome.seconds) | {"evaluate": now - evaluating, "total": now - began},
        "seed": config.seed,
        **made_on(),
    }


def made_on() -> dict[str, Any]:
    """What a record says of its making: hardware, versions, command."""
    module = getattr(sys.modules["__main__"].__spec__, "name", None)
    started = ["python", "-m", module] if module else ["python"]
    return {
        "hardware": report.hardware(),
        "versions": report.versions(),
        "command": shlex.join([*started, *sys.argv[1:]]),
    }


def guarded(action: Callable[[], Any]) -> int:
    """Run an action; its errors become a message and the documented exit code.

    Returns:
        0 finished, 2 bad input, 3 diverged, 75 preempted.
    """
    try:
        action()
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except DivergedError as error:
        print(f"diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except PreemptedError as error:
        print(f"preempted: {error}", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def main(
    experiment: str, docstring: str | None, config_class: type, action: Callable[[Any], Any]
) -> NoReturn:
    """Parse the command line, act, exit with the documented code.

    Args:
        experiment: the launcher's name.
        docstring: of the launcher; `--help` prints it.
        config_class: its settings.
        action: called with them.
    """
    if {"--help", "-h", "-help"} & set(sys.argv[1:]):
        print(settings.usage(docstring or experiment, config_class))
        sys.exit(0)
    sys.exit(guarded(lambda: action(settings.parse(config_class, sys.argv))))
