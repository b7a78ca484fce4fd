"""A distillation, from its settings to a work directory with artifact, pictures and result."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax import artifact, coresets, figures, files, forms, networks, parallel, platforms, report
from ddjax.data import Dataset
from ddjax.encodings import Tokens
from ddjax.engine import Cost
from ddjax.facts import Facts
from ddjax.judge import Judge
from ddjax.launch import abroad, canvases, page, planning, results
from ddjax.launch.choices import load_data, runs_at_once
from ddjax.launch.directory import check_workdir, finished, inputs_of, open_workdir, write_result
from ddjax.launch.process import introduce, tell
from ddjax.launch.settings import Common
from ddjax.launch.types import Build, Case, Finished, Keys, Launch
from ddjax.memory import Estimate
from ddjax.plan import Plan
from ddjax.recipes import Replay
from ddjax.run import Reporting, Run, Validation, distill
from ddjax.types import Distilled, Form, InitDistribution, Schedule
from ddjax.workdir import held

_MOST_NAMES = 4
"""The most names of weights in one list of the announcement."""


def join_processes(config: Common) -> None:
    """Start JAX's runtime for several processes where the settings ask for it, before any other use of JAX.

    Args:
        config: the settings.

    Raises:
        ValueError: `--distributed` and the flags that belong to it do not fit each other, or the target
            cannot be compiled for.
    """
    abroad.begin(config)
    if config.dry_run and config.distributed:
        raise ValueError(
            "dry_run: expected one process; got --distributed. Leave it out, and give --num_inits the share "
            "of one process: memory is counted for one device."
        )
    names = ("coordinator_address", "num_processes", "process_id")
    given = [name for name in names if getattr(config, name) is not None]
    if given and not config.distributed:
        raise ValueError(f"{given[0]}: expected --distributed with it; got none. Add --distributed.")
    if given and len(given) < len(names):
        raise ValueError(
            f"distributed: expected all or none of {', '.join(names)}; got {', '.join(given)} alone. Give "
            "all, or none inside Slurm, Open MPI, Kubernetes or Cloud TPU."
        )
    if config.distributed:
        parallel.start(config.coordinator_address, config.num_processes, config.process_id)


def case_of(config: Common, data: Dataset, build: Build) -> Case:
    """The case that a plan is made for, starting from the plan that the flags and the backend's default make.

    Args:
        config: the settings.
        data: the real data.
        build: the function that builds the launcher's parts.

    Returns:
        The case.
    """
    return Case(config, data, Keys.of(config.seed), build, planning.default_for(config))


def prepare(experiment: str, config: Common, build: Build) -> Launch:
    """Load the data and build the parts. Nothing is compiled and nothing is written.

    Args:
        experiment: the launcher's name.
        config: the settings.
        build: the function that builds the launcher's parts.

    Returns:
        The run, not yet started.

    Raises:
        ValueError: the settings do not fit each other or the data.
        FileNotFoundError: the data are missing.
    """
    data = load_data(config)
    case = case_of(config, data, build)
    parts = case.parts(case.start)
    if config.baselines:  # they take as many real images
        layout = parts.facts.layout
        per_class = layout.inner_steps * layout.per_class_per_step
        coresets.check_enough(data.train, per_class, data.num_classes)
    inputs = inputs_of(config, data)
    launch = Launch(experiment, case, case.start, parts, config.directory(experiment), inputs)
    check_end(launch)
    return launch


def check_end(launch: Launch) -> None:
    """Refuse what would fail at the end of a run, after the outer loop.

    Args:
        launch: the run.

    Raises:
        ValueError: the artifact of the run could not be saved, the recipe does not fit the network, the pool
            has too few networks for the final score, or the class names do not fit the classes.
        ImportError: TensorBoard files are asked for, and no package that writes them is installed.
    """
    config, data, parts = launch.config, launch.data, launch.parts
    shapes = jax.eval_shape(lambda key: parts.form.unfold(parts.form.init(key)), jax.random.key(0))
    schedule = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    facts = {"dataset": data.name, "class_names": list(data.class_names), "method": parts.method.name}
    encoding, recipe = data.encoding, parts.method.recipe
    artifact.check(Distilled(schedule, forms.constant(schedule), encoding, recipe, facts | metadata(launch)))
    Judge(parts.network, parts.judged_inits, recipe, data.test)
    if config.tensorboard:
        report.check_tensorboard()


def claim(launch: Launch) -> dict[str, Any] | None:
    """Open the work directory of a run and look for a finished result. The caller holds the directory's lock.

    Args:
        launch: the run.

    Returns:
        The content of `result.json` where the run is finished, else None.

    Raises:
        ValueError: see `open_workdir` and `finished`.
    """
    where, who = (launch.workdir, launch.config), launch.experiment
    open_workdir(*where, experiment=who, inputs=launch.inputs)
    files.remove_temporaries(launch.workdir)
    return finished(*where, experiment=who, inputs=launch.inputs)


def write_plan(launch: Launch) -> dict[str, Any]:
    """Make every automatic choice at the first start of a run, and read the same choices at later starts.

    Args:
        launch: the run.

    Returns:
        The content of `plan.json`.

    Raises:
        ValueError: see `planning.resolve` and `planning.read`.
    """
    path = launch.workdir / "plan.json"
    if path.exists():
        return planning.read(path)
    config, parts = launch.config, launch.parts
    plan = {
        "network": parts.network.name,
        "init": parts.inits.name,
        **({} if parts.inits.treatment is None else {"init_of_weights": dict(parts.inits.treatment())}),
        "num_outer_steps": parts.num_outer_steps,
        "clip_norm": parts.outer.clip_norm,
        **planning.resolve(launch.case),
        "devices": [device.device_kind for device in parallel.default_devices(config.num_inits)],
        **parts.facts.plan,
    }
    report.write_json(path, plan)
    return plan


def note_length(path: Path, num_outer_steps: int) -> None:
    """Note in the plan of a run how far φ was moved, where a later start moved it on.

    Args:
        path: the path of the `plan.json`.
        num_outer_steps: the number of outer steps done in all.
    """
    plan = planning.read(path)
    if plan.get("num_outer_steps") != num_outer_steps:
        report.write_json(path, {**plan, "num_outer_steps": num_outer_steps})


def settle(launch: Launch) -> Launch:
    """The run under the plan of its work directory, which process 0 decides on for all. Collective.

    Args:
        launch: the run under the plan that the flags and the backend's default make.

    Returns:
        The run with its final plan and the parts built for that plan.
    """
    resolved = parallel.lead(lambda: write_plan(launch))
    tell(planning.describe(resolved))
    plan = Plan.from_dict(resolved)
    return dataclasses.replace(launch, plan=plan, parts=launch.case.parts(plan))


def rehearse(launch: Launch) -> None:
    """`--dry_run`: print what the run would do and take. The work directory is neither made nor written.

    Args:
        launch: the run.

    Raises:
        ValueError: the work directory belongs to another run, or the run does not fit the memory.
    """
    check_workdir(launch.workdir, launch.config, experiment=launch.experiment, inputs=launch.inputs)
    tell(describe(launch))
    path = launch.workdir / "plan.json"
    planning.rehearse(launch.case, planning.read(path) if path.exists() else planning.resolve(launch.case))


def validation(launch: Launch) -> Validation:
    """The validation of a run: accuracy on the validation split over initial weights that are kept for this.

    A launcher may validate in a way of its own; see `Hooks.score`.

    Args:
        launch: the run.

    Returns:
        The validation.
    """
    config, data, parts = launch.config, launch.data, launch.parts
    if parts.hooks.score is not None:
        return Validation(parts.hooks.score(launch), config.validate_every)
    at_once = runs_at_once(config.num_val_inits)
    judge = Judge(parts.network, parts.inits, parts.method.recipe, data.validation, at_once)

    score = validated(judge, key=launch.keys.validation, num_inits=config.num_val_inits)
    return Validation(score, config.validate_every)


def validated(judge: Judge, *, key: jax.Array, num_inits: int) -> Callable[[Schedule], float]:
    """The score that a φ is chosen by: the mean accuracy, where a diverged network counts 0.

    Args:
        judge: the judge on the validation split.
        key: the source of the initial weights, which are the same for every φ.
        num_inits: the number of initial weights.

    Returns:
        `schedule -> percent`; NaN where every network diverged, so that this φ is not chosen. A line on the
        terminal says how many networks diverged.
    """

    def score(schedule: Schedule) -> float:
        found = judge.evaluation(schedule, key=key, num_inits=num_inits)
        if found.diverged:
            tell(f"validation: {found.diverged} of {len(found.values)} networks diverged and score 0")
        return float("nan") if found.all_diverged else found.mean

    return score


def describe(launch: Launch) -> str:
    """A few lines that say what the run will do.

    Args:
        launch: the run.

    Returns:
        The text.
    """
    config, data, parts = launch.config, launch.data, launch.parts
    schedule = jax.eval_shape(lambda key: parts.form.unfold(parts.form.init(key)), jax.random.key(0))
    steps, images = schedule.inputs.shape[:2]
    size = networks.num_weights(parts.network)
    kind = "texts" if isinstance(data.encoding, Tokens) else "images"
    real = f" of {config.batch_size} real {kind}" if config.draws_real else ""
    epochs = "" if schedule.lrs is None else f", {len(schedule.lrs)} epoch(s), learned learning rates"
    lines = (
        f"{parts.method.name} on {data.name}: {data.num_classes} classes, {len(data.train)} training {kind}, "
        f"{len(data.validation)} for validation",
        f"distilled: {steps * images} {kind}, {steps} step(s) of {images}{epochs}",
        *_stored(parts.form),
        f"network: {parts.network.name}, {size:,} weights from {parts.inits.name}, "
        f"{config.num_inits} at a time",
        *_initial(parts.inits),
        f"outer loop: {parts.num_outer_steps} steps{real}, on {config.compiled_for or platforms.current()}",
        f"work directory: {launch.workdir}",
    )
    return "\n".join(lines)


def _stored(form: Form) -> list[str]:
    """What the form stores, in one line; none where networks are trained on what is stored."""
    if not forms.is_named(form):
        return []
    found = forms.storage(form)
    parts = ", ".join(f"{count:,} of {group}" for group, count in found.numbers.items())
    return [
        f"stored: {found.total:,} numbers, {found.images_per_class:.2f} plain images of each class ({parts})"
    ]


def _initial(inits: InitDistribution) -> list[str]:
    """What p(θ0) does with which weights, in one line; none where the weights come as a whole."""
    if inits.treatment is None:
        return []
    words = {"drawn": "drawn", "zero": "zero", "own": "as the network draws them"}
    parts = (f"{words[kind]}: {_some(names)}" for kind, names in inits.treatment().items() if names)
    text = "; ".join(parts)
    return [f"initial weights: {text}"] if text else []  # a kernel has none


def _some(names: Sequence[str]) -> str:
    """The names, or the first of many; `plan.json` has all of them."""
    rest = len(names) - _MOST_NAMES
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:_MOST_NAMES])} and {rest} more"


def announce(cost: Cost, limit: int | None) -> None:
    """Print what a run takes, once that is known, and a warning where the device has less.

    Args:
        cost: the cost of the compiled outer steps.
        limit: the memory of one device in bytes; None where that is unknown.
    """
    print(planning.describe_cost(cost, limit), flush=True)
    if not Estimate.of(cost, limit).fits:
        print("warning: this may not fit; --dry_run tells what would", file=sys.stderr, flush=True)


def distil(launch: Launch) -> Run:
    """Run the outer loop, with progress on the terminal and checkpoints in the work directory.

    Args:
        launch: the run under its final plan.

    Returns:
        The outcome of the outer loop.
    """
    config, parts, limit = launch.config, launch.parts, planning.limit_of(launch.config)
    return distill(
        launch.data,
        parts.method,
        key=launch.keys.run,
        num_outer_steps=parts.num_outer_steps,
        form=parts.form,
        num_inits=config.num_inits,
        optimizer=parts.outer.optimizer,
        clip_norm=parts.outer.clip_norm,
        slots_per_chunk=launch.plan.slots_per_chunk,
        validation=validation(launch),
        workdir=launch.workdir,
        save_seconds=config.save_seconds,
        save_every=config.save_every,
        on_nonfinite="rollback" if config.on_nonfinite == "rollback" else "stop",
        max_rollbacks=config.max_rollbacks,
        reporting=Reporting(
            every=config.record_every,
            announce=lambda cost: announce(cost, limit),
            tensorboard=config.tensorboard,
            progress=True,
        ),
        metadata=metadata(launch),
        own_facts={
            "outer": Facts(parts.outer.facts),
            "validation": launch.inputs["data"]["validation"],
            "num_val_inits": config.num_val_inits,
        },
    )


def metadata(launch: Launch) -> dict[str, Any]:
    """The facts about a run that its artifact has.

    Args:
        launch: the run.

    Returns:
        The facts, by name.
    """
    parts = launch.parts
    return {
        "experiment": launch.experiment,
        "network": parts.network.name,
        "network_settings": dict(parts.facts.network_settings),
        "init": parts.inits.name,
    }


def draw(workdir: Path, distilled: Distilled, class_names: Sequence[str]) -> tuple[str, ...]:
    """Draw the pictures of a run, as far as they can be drawn.

    They are `distilled.png`, `curves.png` and, where labels were learned, `labels.png`. For texts
    `distilled.txt` has the nearest word at each place, and `distilled.png` the same in the colours of the
    classes. Nothing that a picture raises takes the numbers of a run with it; a picture that fails is named
    in a warning on stderr.

    Args:
        workdir: the directory of the run, with `metrics.jsonl`.
        distilled: the distilled data φ.
        class_names: the names of the classes.

    Returns:
        The names of the files that were written.
    """

    def grid(path: Path) -> None:
        schedule = jax.device_get(distilled.schedule)
        encoding = jax.device_get(distilled.encoding)
        given = {"encoding": encoding, "class_names": class_names}
        if isinstance(encoding, Tokens):
            figures.word_grid(path, schedule.inputs, schedule.labels, **given)
        else:
            ordered = distilled.recipe.kind == Replay.kind
            figures.image_grid(path, schedule.inputs, schedule.labels, **given, ordered=ordered)

    def words(path: Path) -> None:
        schedule, encoding = jax.device_get((distilled.schedule, distilled.encoding))
        text = figures.word_table(
            schedule.inputs, schedule.labels, encoding=encoding, class_names=class_names
        )
        files.write_atomic(path, (text + "\n").encode())

    def curves(path: Path) -> None:
        figures.curves(path, report.read_metrics(workdir / "metrics.jsonl"))

    def bars(path: Path) -> None:
        schedule, encoding = jax.device_get((distilled.schedule, distilled.encoding))
        names = class_names
        figures.label_bars(path, schedule.inputs, schedule.labels, encoding=encoding, class_names=names)

    is_text = isinstance(distilled.encoding, Tokens)
    pictures = {**({"distilled.txt": words} if is_text else {}), "distilled.png": grid, "curves.png": curves}
    if not is_text and "labels" in jax.tree.leaves(forms.groups_of(distilled.form, distilled.params)):
        pictures["labels.png"] = bars
    return results.drawn(workdir, pictures)


def run(experiment: str, config: Common, build: Build) -> dict[str, Any]:
    """Carry a whole run out: distil, evaluate, compare, write everything; or find it finished.

    Args:
        experiment: the launcher's name.
        config: the settings.
        build: the function that builds the launcher's parts.

    Returns:
        The content of `result.json`. Empty after `--dry_run`, and on every process but the first, which alone
        writes the result.

    Raises:
        ValueError: the settings do not fit the data or the directory; nothing was compiled.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: see `ddjax.distill`.
        PeerError: another process raised one of these before the run began.
    """
    began = time.monotonic()
    join_processes(config)
    launch = parallel.together(lambda: prepare(experiment, config, build))
    if config.dry_run:
        rehearse(launch)
        return {}
    result = parallel.lead(
        lambda: finished(launch.workdir, config, experiment=experiment, inputs=launch.inputs)
    )
    if result is None:
        with held(launch.workdir):
            # Another process may have finished it before this one had the lock.
            result = parallel.lead(lambda: claim(launch))
            if result is None:
                return carry_out(launch, began)
    tell(f"{launch.workdir} is finished.\n\n{results.table(result)}")
    return result


def carry_out(launch: Launch, began: float) -> dict[str, Any]:
    """Do the work of a run whose directory is open and locked; see `run`.

    Args:
        launch: the run.
        began: the time when the run began, on the monotonic clock.

    Returns:
        The content of `result.json`; empty on every process but the first.
    """
    introduce(describe(launch))
    launch = settle(launch)
    outcome = distil(launch)
    parallel.leave()
    if not parallel.is_lead():
        return {}
    note_length(launch.workdir / "plan.json", outcome.num_outer_steps)
    if launch.parts.hooks.settle is not None:
        outcome = launch.parts.hooks.settle(launch, outcome)
    artifact.save(launch.workdir / "distilled.npz", outcome.distilled)
    if is_small := forms.is_named(outcome.distilled.form):
        artifact.save(launch.workdir / "code.npz", outcome.distilled, compact=True)
    measure = launch.parts.hooks.measure or results.measure
    ended = Finished(launch, outcome, began)
    result = measure(ended) | canvases.measured(ended)
    result = write_result(
        launch.workdir, launch.config, result, experiment=launch.experiment, inputs=launch.inputs
    )
    pictures = draw(launch.workdir, outcome.distilled, launch.data.class_names)
    table = results.table(result)
    shown = results.drawn(launch.workdir, {page.NAME: lambda _: page.write(launch.workdir, table=table)})
    code = ("code.npz",) if is_small else ()
    written = ", ".join(("distilled.npz", *code, *pictures, "result.json", *shown))
    print(f"\n{table}\n\nwritten to {launch.workdir}: {written}")
    return result
