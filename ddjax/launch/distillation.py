"""A distillation, from its settings to a work directory with artifact, pictures and result."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from ddjax import artifact, coresets, figures, files, networks, parallel, report
from ddjax.data import Dataset
from ddjax.engine import Cost
from ddjax.evaluate import Judge
from ddjax.launch import planning, results
from ddjax.launch.choices import load_data, runs_at_once
from ddjax.launch.directory import check_workdir, finished, open_workdir
from ddjax.launch.process import tell
from ddjax.launch.settings import Common
from ddjax.launch.types import Build, Case, Finished, Keys, Launch
from ddjax.memory import Estimate
from ddjax.plan import Plan
from ddjax.run import Reporting, Run, Validation, distill
from ddjax.types import Schedule
from ddjax.workdir import held


def join_processes(config: Common) -> None:
    """Start JAX's runtime for several processes where the settings ask for it, before any other use of JAX.

    Args:
        config: the settings.

    Raises:
        ValueError: `--distributed` and the flags that belong to it do not fit each other.
    """
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
    steps, _, per_class = parts.facts.layout
    coresets.check_enough(data.train, steps * per_class, data.num_classes)
    return Launch(experiment, case, case.start, parts, config.directory(experiment))


def claim(launch: Launch) -> dict[str, Any] | None:
    """Open the work directory of a run and look for a finished result. The caller holds the directory's lock.

    Args:
        launch: the run.

    Returns:
        The content of `result.json` where the run is finished, else None.

    Raises:
        ValueError: see `open_workdir` and `finished`.
    """
    open_workdir(launch.workdir, launch.config, experiment=launch.experiment)
    files.remove_temporaries(launch.workdir)
    return finished(launch.workdir, launch.config, experiment=launch.experiment)


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
        "num_outer_steps": parts.num_outer_steps,
        "clip_norm": parts.outer.clip_norm,
        **planning.resolve(launch.case),
        "devices": [device.device_kind for device in parallel.default_devices(config.num_inits)],
        **parts.facts.plan,
    }
    report.write_json(path, plan)
    return plan


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
    check_workdir(launch.workdir, launch.config, experiment=launch.experiment)
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
    epochs = "" if schedule.lrs is None else f", {len(schedule.lrs)} epoch(s), learned learning rates"
    lines = (
        f"{parts.method.name} on {data.name}: {data.num_classes} classes, {len(data.train)} training images, "
        f"{len(data.validation)} for validation",
        f"distilled: {steps * images} images, {steps} step(s) of {images}{epochs}",
        f"network: {parts.network.name}, {size:,} weights from {parts.inits.name}, "
        f"{config.num_inits} at a time",
        f"outer loop: {parts.num_outer_steps} steps of {config.batch_size} real images, "
        f"on {jax.default_backend()}",
        f"work directory: {launch.workdir}",
    )
    return "\n".join(lines)


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
    with report.Progress(parts.num_outer_steps) as progress:
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
                listener=lambda record: show(progress, record),
                announce=lambda cost: announce(cost, limit),
                tensorboard=config.tensorboard,
            ),
            metadata={
                "experiment": launch.experiment,
                "network": parts.network.name,
                "network_settings": dict(parts.facts.network_settings),
                "init": parts.inits.name,
            },
        )


def show(progress: report.Progress, record: Mapping[str, Any]) -> None:
    """Show a record of the metrics as a progress line.

    Args:
        progress: the progress line on the terminal.
        record: the record, with `step`, `loss` and, where they exist, `lrs` and `val_accuracy`.
    """
    progress.update(
        record["step"], loss=record["loss"], lrs=record.get("lrs"), val_accuracy=record.get("val_accuracy")
    )


def write_artifact(workdir: Path, outcome: Run, data: Dataset) -> None:
    """Write `distilled.npz` and the two pictures, `distilled.png` and `curves.png`.

    Args:
        workdir: the directory of the run, with `metrics.jsonl`.
        outcome: the outcome of the outer loop.
        data: the real data.
    """
    distilled = outcome.distilled
    artifact.save(workdir / "distilled.npz", distilled)
    schedule = jax.device_get(distilled.schedule)
    figures.image_grid(
        workdir / "distilled.png",
        schedule.inputs,
        schedule.labels,
        encoding=jax.device_get(distilled.encoding),
        class_names=data.class_names,
    )
    figures.curves(workdir / "curves.png", report.read_metrics(workdir / "metrics.jsonl"))


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
    result = parallel.lead(lambda: finished(launch.workdir, config, experiment=experiment))
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
    tell(describe(launch))
    launch = settle(launch)
    outcome = distil(launch)
    parallel.leave()
    if not parallel.is_lead():
        return {}
    write_artifact(launch.workdir, outcome, launch.data)
    measure = launch.parts.hooks.measure or results.measure
    result = measure(Finished(launch, outcome, began))
    report.write_json(launch.workdir / "result.json", result)
    written = "distilled.npz, distilled.png, curves.png, result.json"
    print(f"\n{results.table(result)}\n\nwritten to {launch.workdir}: {written}")
    return result
