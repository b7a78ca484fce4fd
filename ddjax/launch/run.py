"""What all launchers share: from settings to a work directory with artifact, pictures and result."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from ddjax import artifact, coresets, figures, files, host_memory, parallel, report
from ddjax.data import Dataset, cache
from ddjax.engine import Cost
from ddjax.evaluate import scorer
from ddjax.launch import planning, results, settings
from ddjax.launch.parts import Build, Keys, Parts, default_for, load_data, runs_at_once
from ddjax.launch.planning import Case
from ddjax.plan import Estimate, Plan
from ddjax.run import DivergedError, PreemptedError, Reporting, Run, Validation, distill
from ddjax.workdir import LOCK, held, locked

EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_DISK = 74
EXIT_PREEMPTED = 75


@dataclasses.dataclass(frozen=True)
class Launch:
    """One run, ready to go.

    Attributes:
        experiment: the launcher's name.
        case: its settings, the real data, the keys and how to build the parts.
        plan: how the parts are computed; the default until `settle`.
        parts: what the launcher chose.
        workdir: where everything is written.
    """

    experiment: str
    case: Case
    plan: Plan
    parts: Parts
    workdir: Path

    @property
    def config(self) -> settings.Common:
        """The settings as the user gave them."""
        return self.case.config

    @property
    def data(self) -> Dataset:
        """The real data."""
        return self.case.data

    @property
    def keys(self) -> Keys:
        """Of the seed."""
        return self.case.keys


def join_processes(config: settings.Common) -> None:
    """Start JAX's runtime for several processes where the settings ask for it, before any other use of JAX.

    Raises:
        ValueError: `--distributed` and the flags that go with it do not fit each other.
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


def prepare(experiment: str, config: settings.Common, build: Build) -> Launch:
    """Load the data and build the parts; nothing is compiled and nothing written.

    Raises:
        ValueError: settings that do not fit each other or the data.
        FileNotFoundError: the data are missing.
    """
    data = load_data(config)
    case = Case(config, data, Keys.of(config.seed), build)
    plan = default_for(config)
    parts = case.parts(plan)
    steps, _, per_class = parts.layout
    coresets.check_enough(data.train, steps * per_class, data.num_classes)
    workdir = Path(config.workdir or f"runs/{experiment}-{Path(config.dataset).stem}")
    return Launch(experiment, case, plan, parts, workdir)


def describe_settings(config: Any, *, experiment: str) -> dict[str, Any]:
    """What `config.json` holds."""
    return {"experiment": experiment, **settings.recorded(config)}


def check_workdir(workdir: Path, config: Any, *, experiment: str) -> bool:
    """Whether the work directory is already this run's own; nothing is written.

    Raises:
        ValueError: it holds another experiment, or the same with other settings; the fields are listed.
    """
    path = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir: expected a directory; {workdir} is a file. Choose another place.")
    if not path.exists():
        # A start that was killed may have left its lock and a config.json without its name.
        if any(p.name != LOCK and not files.is_temporary(p) for p in _inside(workdir)):
            raise ValueError(
                f"workdir: expected an empty directory or one of this experiment; {workdir} holds other "
                "files. Give --workdir another directory."
            )
        return False
    wanted = describe_settings(config, experiment=experiment)
    found = read_object(path, remedy="Put it back, or give --workdir another directory.")
    differing = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if differing:
        lines = "; ".join(f"{k} was {found.get(k)!r}, is {wanted.get(k)!r}" for k in differing)
        raise ValueError(
            f"workdir: expected this experiment's own directory; {workdir} was started with other settings: "
            f"{lines}. Give --workdir another directory, or the settings it was started with."
        )
    return True


def _inside(workdir: Path) -> list[Path]:
    return list(workdir.iterdir()) if workdir.is_dir() else []


def read_object(path: Path, *, remedy: str) -> dict[str, Any]:
    """A JSON object that an earlier start wrote.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON that a run wrote; got {error}. {remedy}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object; got {type(found).__name__}. {remedy}")
    return found


def open_workdir(workdir: Path, config: Any, *, experiment: str) -> None:
    """Make the work directory this run's own, or see that it already is.

    Raises:
        ValueError: see `check_workdir`.
    """
    if check_workdir(workdir, config, experiment=experiment):
        return
    files.make_directory(workdir)
    report.write_json(workdir / "config.json", describe_settings(config, experiment=experiment))


def finished(
    workdir: Path, config: Any, *, experiment: str, table: Callable[[dict[str, Any]], str] = results.table
) -> dict[str, Any] | None:
    """The result in the work directory, where the run is finished; nothing is written.

    Args:
        workdir: where to look.
        config: the settings that it must be of.
        experiment: likewise.
        table: of a result; what it cannot show is damaged.

    Raises:
        ValueError: see `check_workdir`; or the result is damaged.
    """
    check_workdir(workdir, config, experiment=experiment)
    path = workdir / "result.json"
    if not path.exists():
        return None
    remedy = "Remove it, and the same command measures again."
    result = read_object(path, remedy=remedy)
    try:
        table(result)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the result of a run; got {error!r}. {remedy}") from error
    return result


def once(
    workdir: Path,
    config: Any,
    measure: Callable[[], dict[str, Any]],
    *,
    experiment: str,
    what: str,
    written: str,
    table: Callable[[dict[str, Any]], str] = results.table,
) -> dict[str, Any]:
    """A measurement that is kept in its work directory, or found there; for one process.

    Args:
        workdir: where; its lock is held meanwhile.
        config: the settings.
        measure: what `result.json` holds; it may write more beside it.
        experiment: the launcher's name.
        what: told before.
        written: the files, told after.
        table: of a result.

    Raises:
        ValueError: see `open_workdir` and `finished`.
    """
    result = finished(workdir, config, experiment=experiment, table=table)
    if result is not None:
        tell(f"{workdir} is finished.\n\n{table(result)}")
        return result
    tell(f"{what}\nwork directory: {workdir}")
    with locked(workdir):
        open_workdir(workdir, config, experiment=experiment)
        result = measure()
        report.write_json(workdir / "result.json", result)
    tell(f"\n{table(result)}\n\nwritten to {workdir}: {written}")
    return result


def claim(launch: Launch) -> dict[str, Any] | None:
    """Open the work directory, whose lock is held; the result in it, where the run is finished.

    Raises:
        ValueError: see `open_workdir` and `finished`.
    """
    open_workdir(launch.workdir, launch.config, experiment=launch.experiment)
    files.remove_temporaries(launch.workdir)
    return finished(launch.workdir, launch.config, experiment=launch.experiment)


def tell(text: str) -> None:
    """Print, from process 0 alone."""
    if parallel.is_lead():
        print(text, flush=True)


def write_plan(launch: Launch) -> dict[str, Any]:
    """Every automatic choice, resolved at the first start and never again.

    Returns:
        What `plan.json` holds.

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
        "clip_norm": parts.clip_norm,
        **planning.resolve(launch.case),
        "devices": [device.device_kind for device in parallel.default_devices(config.num_inits)],
        **parts.plan,
    }
    report.write_json(path, plan)
    return plan


def settle(launch: Launch) -> Launch:
    """The launch with the plan of its work directory, which process 0 decides on for all. Collective."""
    resolved = parallel.lead(lambda: write_plan(launch))
    tell(planning.describe(resolved))
    plan = Plan.from_dict(resolved)
    return dataclasses.replace(launch, plan=plan, parts=launch.case.parts(plan))


def rehearse(launch: Launch) -> None:
    """`--dry_run`: what the run would do and take; the work directory is neither made nor written.

    Raises:
        ValueError: the work directory is another run's, or the run does not fit the memory.
    """
    check_workdir(launch.workdir, launch.config, experiment=launch.experiment)
    tell(describe(launch))
    path = launch.workdir / "plan.json"
    planning.rehearse(launch.case, planning.read(path) if path.exists() else planning.resolve(launch.case))


def validation(launch: Launch) -> Validation:
    """Accuracy on the validation split, over initial weights kept for it."""
    config, data, parts = launch.config, launch.data, launch.parts
    if parts.score is not None:
        own = parts.score(config, data, launch.keys, parts)
        return Validation(own, config.validate_every)
    score = scorer(
        launch.parts.network,
        launch.parts.inits,
        data.validation,
        launch.parts.method.recipe,
        mean=data.mean,
        std=data.std,
        key=launch.keys.validation,
        num_inits=config.num_val_inits,
        runs_per_chunk=runs_at_once(config.num_val_inits),
    )
    return Validation(lambda schedule: score(schedule).mean(), config.validate_every)


def describe(launch: Launch) -> str:
    """What the run will do."""
    config, data, parts = launch.config, launch.data, launch.parts
    schedule = jax.eval_shape(lambda key: parts.form.unfold(parts.form.init(key)), jax.random.key(0))
    steps, images = schedule.inputs.shape[:2]
    weights = jax.eval_shape(parts.network.init, jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(weights))
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
    """What the run takes, once that is known, and a warning where there is less."""
    print(planning.describe_cost(cost, limit), flush=True)
    if not Estimate.of(cost, limit).fits:
        print("warning: this may not fit; --dry_run tells what would", file=sys.stderr, flush=True)


def distil(launch: Launch) -> Run:
    """The outer loop, with progress on the terminal and checkpoints in the work directory."""
    config, parts, limit = launch.config, launch.parts, launch.case.limit()
    with report.Progress(parts.num_outer_steps) as progress:
        return distill(
            launch.data,
            parts.method,
            key=launch.keys.run,
            num_outer_steps=parts.num_outer_steps,
            form=parts.form,
            num_inits=config.num_inits,
            optimizer=parts.optimizer,
            clip_norm=parts.clip_norm,
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
                "network_settings": dict(parts.network_settings),
                "init": parts.inits.name,
            },
        )


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
    figures.image_grid(
        workdir / "distilled.png",
        schedule.inputs,
        schedule.labels,
        mean=np.asarray(distilled.mean),
        std=np.asarray(distilled.std),
        class_names=data.class_names,
    )
    figures.curves(workdir / "curves.png", report.read_metrics(workdir / "metrics.jsonl"))


def run(experiment: str, config: settings.Common, build: Build) -> dict[str, Any]:
    """A whole run: distil, evaluate, compare, write everything; or find it finished.

    Args:
        experiment: the launcher's name.
        config: its settings.
        build: its parts.

    Returns:
        What `result.json` holds; nothing where another process than the first writes it, or nothing does.

    Raises:
        ValueError: settings that do not fit the data or the directory; nothing was compiled.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: likewise.
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
    """The work of a run in a directory that is its own; see `run`."""
    tell(describe(launch))
    launch = settle(launch)
    outcome = distil(launch)
    parallel.part()
    if not parallel.is_lead():
        return {}
    write_artifact(launch.workdir, outcome, launch.data)
    measure = launch.parts.measure or results.measure
    result = measure(
        launch.experiment,
        launch.config,
        launch.data,
        launch.keys,
        parts=launch.parts,
        outcome=outcome,
        began=began,
    )
    report.write_json(launch.workdir / "result.json", result)
    written = "distilled.npz, distilled.png, curves.png, result.json"
    print(f"\n{results.table(result)}\n\nwritten to {launch.workdir}: {written}")
    return result


def guarded(action: Callable[[], Any]) -> int:
    """Run an action; its errors become a message and the documented exit code.

    Returns:
        0 finished, 2 bad input here or on another process, 3 diverged, 74 the disk is full or cannot be read
        or written, 75 preempted.
    """
    try:
        action()
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"disk: {error}", file=sys.stderr)
        return EXIT_DISK
    except parallel.PeerError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except DivergedError as error:
        print(f"diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except PreemptedError as error:
        print(f"preempted: {error}", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def fail_fast(action: Callable[[], int]) -> int:
    """Run an action; an error that it did not expect ends the process at once where others wait for it.

    An ordinary exit would wait for the others before it, and they for this one; without it JAX's runtime
    sees it gone and ends them too.
    """
    try:
        return action()
    except Exception:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT end the process at once, as preempted; not the first one where another handles it.

    The outer loop does, to save before. It is a thread that ends the process, because Python's own handlers
    wait until XLA has compiled or computed what it is at.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)

    def handle(number: int, frame: Any) -> None:
        """Nothing: Python writes the signal's number to the pipe before it calls this."""

    def watch() -> None:
        is_asked = False
        while number := os.read(read, 1):
            if number[0] not in previous:
                continue
            if is_asked or signal.getsignal(number[0]) is handle:
                name = signal.Signals(number[0]).name
                text = f"\npreempted: {name} came; what was saved is. Run the same command again.\n"
                os.write(2, text.encode())
                os._exit(EXIT_PREEMPTED)
            is_asked = True
        os.close(read)

    previous: dict[int, Any] = {}
    threading.Thread(target=watch, daemon=True, name="signals").start()
    waker = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    previous |= {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waker)
        os.close(write)


def keep_compilations() -> None:
    """Let the next run find what this one compiles, unless the user has said where or that it must not."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.directory() / "xla"))
        # Small programs too: there are dozens, which together take longer than loading the large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


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
    keep_compilations()
    host_memory.return_large_blocks()
    with ended_by_signals():
        code = fail_fast(lambda: guarded(lambda: action(settings.parse(config_class, sys.argv))))
    sys.exit(code)
