"""Download and prepare a TFDS data set as array_record files, which ddjax reads without TensorFlow.

    ddjax prepare --dataset=mnist [--data_dir=~/tensorflow_datasets]
    python scripts/prepare_data.py --dataset=mnist      in a copy of the repository

Preparing needs TensorFlow (2 GB). TensorFlow is installed into a throwaway environment in the temporary
directory (TMPDIR), by uv where uv is installed, otherwise by venv and pip. The environment is removed at the
end, also after a failure. This module itself needs the standard library only.

Exit codes: 0 prepared (or found prepared) and read back; 1 the installation, the download or the preparation
failed; 2 bad input.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
"""The project's own file, which an installed package does not have."""
BAD_INPUT = 2


class BadInputError(Exception):
    """The request cannot be carried out; the message says why and what to do."""


def parser() -> argparse.ArgumentParser:
    """The reader of command lines.

    Returns:
        The parser.
    """
    reader = argparse.ArgumentParser(
        prog="ddjax prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    reader.add_argument("--dataset", required=True, help="TFDS name, e.g. mnist or emnist/balanced")
    reader.add_argument(
        "--data_dir",
        type=_path,
        default=os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets",
        help="where the set goes (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    reader.add_argument(
        "--downloads_dir", type=_path, help="where downloads are kept (default: DATA_DIR/downloads)"
    )
    reader.add_argument(
        "--manual_dir",
        type=_path,
        help="directory of original files you already have, under their original names: nothing is "
        "downloaded that lies there, and checksums are verified all the same",
    )
    reader.add_argument(
        "--python_env",
        type=_path,
        help="an environment with TensorFlow and TFDS to use; nothing is installed",
    )
    reader.add_argument(
        "--keep_env", action="store_true", help="keep the environment, and print the flag that reuses it"
    )
    reader.add_argument("--inside_env", action="store_true", help=argparse.SUPPRESS)
    return reader


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings of a command line, with every path made absolute.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The settings.
    """
    return parser().parse_args(arguments)


def check(settings: argparse.Namespace) -> None:
    """Refuse, before anything is installed, settings that cannot work.

    Args:
        settings: the settings.

    Raises:
        BadInputError: the data set needs no preparing, a directory or an environment does not exist, or the
            directory of the data cannot be written.
    """
    if not settings.dataset or settings.dataset == "digits" or settings.dataset.endswith(".npz"):
        raise BadInputError(
            f"--dataset: expected a TFDS name such as mnist; got {settings.dataset!r}. digits and .npz files "
            "need no preparing"
        )
    if settings.manual_dir is not None and not settings.manual_dir.is_dir():
        raise BadInputError(f"--manual_dir: expected a directory; there is none at {settings.manual_dir}")
    if settings.python_env is not None and not interpreter(settings.python_env).is_file():
        raise BadInputError(
            f"--python_env: expected an environment with bin/python; there is none at {settings.python_env}"
        )
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=settings.data_dir).close()
    except OSError as error:
        raise BadInputError(
            f"--data_dir: expected a directory that can be written; got {settings.data_dir} ({error})"
        ) from error


def requirements() -> list[str]:
    """The packages that preparing needs: ddjax's extra `prepare`.

    Returns:
        The requirements, as pip understands them.
    """
    if PROJECT.exists():
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        return sorted(project["optional-dependencies"]["prepare"])
    lines = importlib.metadata.requires("ddjax") or []
    mark = re.compile(r"""; *extra *== *['"]prepare['"]$""")
    return sorted(mark.sub("", line) for line in lines if mark.search(line))


def interpreter(environment: Path) -> Path:
    """The path of an environment's Python.

    Args:
        environment: the directory of the environment.

    Returns:
        The path.
    """
    return environment / "bin" / "python"


def install_commands(environment: Path, uv: str | None) -> list[list[str]]:
    """The commands that make the environment.

    Args:
        environment: the directory of the environment.
        uv: the path of uv; None where uv is not installed, which leaves venv and pip.

    Returns:
        The commands, in order.
    """
    python = str(interpreter(environment))
    if uv is not None:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(environment)],
            [uv, "pip", "install", "--python", python, *requirements()],
        ]
    return [
        [sys.executable, "-m", "venv", str(environment)],
        [python, "-m", "pip", "install", "--disable-pip-version-check", *requirements()],
    ]


def worker_command(environment: Path, settings: argparse.Namespace) -> list[str]:
    """The command that runs this file again inside the environment.

    Args:
        environment: the directory of the environment.
        settings: the settings.

    Returns:
        The command.
    """
    command = [str(interpreter(environment)), str(Path(__file__).resolve()), "--inside_env"]
    for flag in ("dataset", "data_dir", "downloads_dir", "manual_dir"):
        value = getattr(settings, flag)
        if value is not None:
            command.append(f"--{flag}={value}")
    return command


@contextlib.contextmanager
def environment(settings: argparse.Namespace) -> Iterator[Path]:
    """The environment to prepare in: the user's own, or a new one that is removed afterwards.

    Args:
        settings: the settings.

    Yields:
        The directory of the environment.
    """
    if settings.python_env is not None:
        yield settings.python_env
        return
    made = Path(tempfile.mkdtemp(prefix="ddjax-prepare-"))
    try:
        print(f"Installing TensorFlow into a throwaway environment, {made} ...", flush=True)
        for command in install_commands(made, shutil.which("uv")):
            subprocess.run(command, check=True)
        yield made
    finally:
        if settings.keep_env:
            print(f"Kept the environment: reuse it with --python_env={made}", flush=True)
        else:
            shutil.rmtree(made, ignore_errors=True)


def run(settings: argparse.Namespace) -> int:
    """Make the environment, prepare the data inside, remove the environment.

    Args:
        settings: the settings.

    Returns:
        The exit code.

    Raises:
        BadInputError: the settings cannot work; see `check`.
    """
    check(settings)
    print(f"Preparing {settings.dataset} in {settings.data_dir}", flush=True)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    with environment(settings) as env:
        return subprocess.run(
            worker_command(env, settings), env={**os.environ, **quiet}, check=False
        ).returncode


def prepare(settings: argparse.Namespace) -> int:
    """Download, prepare and read back; runs inside the environment, the only place where TFDS is imported.

    Args:
        settings: the settings.

    Returns:
        The exit code.

    Raises:
        BadInputError: TFDS has no set of that name.
    """
    import tensorflow_datasets as tfds

    _check_name(settings.dataset, tfds.list_builders(with_community_datasets=False))
    builder = tfds.builder(settings.dataset, data_dir=settings.data_dir, file_format="array_record")
    builder.download_and_prepare(
        download_dir=settings.downloads_dir,
        download_config=tfds.download.DownloadConfig(manual_dir=settings.manual_dir),
    )
    sizes = ", ".join(f"{name} {count}" for name, count in read_back(builder).items())
    print(f"Prepared {builder.info.full_name} in {builder.data_path}: {sizes}")
    return 0


def read_back(builder: Any) -> dict[str, int]:
    """Read the first and the last record of every split.

    Args:
        builder: the TFDS builder of the prepared set.

    Returns:
        The number of records, by split.

    Raises:
        RuntimeError: a split has another number of records than expected.
    """
    sizes = {}
    for name, split in builder.info.splits.items():
        records = builder.as_data_source(name)
        if len(records) != split.num_examples:
            raise RuntimeError(f"{name}: expected {split.num_examples} records, read {len(records)}")
        records.__getitems__([0, len(records) - 1])
        sizes[name] = len(records)
    return sizes


def _check_name(dataset: str, known: Sequence[str]) -> None:
    name = dataset.partition(":")[0].partition("/")[0]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadInputError(f"--dataset: expected the name of a TFDS data set; got {dataset!r}{hint}")


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a data set as the command line says.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code.
    """
    # An end by a job scheduler must remove the environment too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    settings = parse(arguments)
    try:
        return prepare(settings) if settings.inside_env else run(settings)
    except BadInputError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return BAD_INPUT
    except subprocess.CalledProcessError as error:
        print(f"prepare: could not install TensorFlow: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
