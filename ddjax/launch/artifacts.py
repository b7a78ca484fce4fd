"""Artifacts for launchers, with the data to test φ on and the network that an artifact names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import artifact, checks, coresets, files, networks
from ddjax.data import Dataset, load
from ddjax.launch.choices import in_form
from ddjax.launch.settings import DataChoice
from ddjax.networks.registry import FROM_ELSEWHERE
from ddjax.types import Distilled

LARGEST = 65_536
"""The most units of a layer that the metadata of an artifact may ask for."""


def opened(
    path: str, form: DataChoice, *, dataset: str | None, data_dir: str | None, needs_real: bool = False
) -> tuple[Distilled, Dataset]:
    """An artifact, and the data to test φ on; nothing is computed or written.

    Args:
        path: the file of the artifact.
        form: the form, by flags, to which the images are converted.
        dataset: the data that the flags name; None for the artifact's own.
        data_dir: the directory of TFDS data; None for that of the environment.
        needs_real: whether as many real images as φ has are needed, for baselines.

    Returns:
        The artifact, and the data.

    Raises:
        FileNotFoundError: there is no artifact, or no data.
        ValueError: the images or classes of the artifact are not those of the data.
    """
    if not path:
        raise ValueError(
            "artifact: expected a distilled.npz; got none. Give --artifact=path/to/distilled.npz."
        )
    distilled = artifact.load(path)
    data = in_form(data_of(path, distilled, dataset=dataset, data_dir=data_dir), form)
    schedule = distilled.schedule
    for what, got, expected in (
        ("the artifact's image shape (H, W, C)", schedule.inputs.shape[2:], data.image_shape),
        ("the artifact's number of classes", schedule.labels.shape[2], data.num_classes),
    ):
        checks.equal(what, got, expected, remedy=f"Test on the data it was distilled from, not {data.name}.")
    if needs_real:
        steps, images = schedule.inputs.shape[:2]
        coresets.check_enough(data.train, steps * max(1, images // data.num_classes), data.num_classes)
    return distilled, data


def check_output(path: Path) -> None:
    """Check before an evaluation, and not only afterwards, that the result can be written.

    Args:
        path: the file to write.

    Raises:
        ValueError: there is a directory at this path.
        OSError: the directory of the file is missing or cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"output: expected a file to write; {path} is a directory. Give another --output.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output: expected a directory; there is none at {path.parent}. Make it.")
    files.check_room(path.parent, 2**16)


def data_of(path: str, distilled: Distilled, *, dataset: str | None, data_dir: str | None) -> Dataset:
    """The data that the flags name, or else the artifact.

    Args:
        path: the file of the artifact.
        distilled: the artifact.
        dataset: the data that the flags name; None for the artifact's own.
        data_dir: the directory of TFDS data; None for that of the environment.

    Returns:
        The data.

    Raises:
        FileNotFoundError: the data are not prepared.
        ValueError: neither the flags nor the artifact name data that `ddjax.data.load` knows.
    """
    if dataset:
        return load(dataset, data_dir=data_dir)
    name = distilled.metadata.get("dataset", "")
    remedy = "Give --dataset=..., the data to test on."
    if not name or name.endswith(".npz"):  # a file from elsewhere does not say what is opened here
        raise ValueError(f"{path}: dataset: expected the name of a data set; got {name[:80]!r}. {remedy}")
    try:
        return load(name, data_dir=data_dir)
    except ValueError as error:
        raise ValueError(f"{error} The name is the artifact's. {remedy}") from error


def network_of(
    path: str, distilled: Distilled, *, asked: str | None = None
) -> tuple[str, Mapping[str, Any]] | None:
    """The name and settings of the network that φ was distilled with.

    Args:
        path: the file of the artifact.
        distilled: the artifact.
        asked: the name of the network that the flags ask for; None where they ask for none.

    Returns:
        The name and the settings, the latter empty where the flags ask for another network; None where the
        artifact names no network.

    Raises:
        ValueError: the flags name no network, and the artifact's cannot be built from its name and settings.
    """
    name, own = distilled.metadata.get("network", ""), distilled.metadata.get("network_settings", {})
    if not name:
        return None
    if asked not in (None, name):
        return name, {}
    remedy = "Give --network=..., one to evaluate on."
    checks.choice(f"{path}: network", name, networks.NAMES, remedy=remedy)
    for setting, value in own.items():
        listed = value if isinstance(value, list) else [value]
        plain = all(isinstance(one, str) or (type(one) is int and 0 < one <= LARGEST) for one in listed)
        if setting in FROM_ELSEWHERE or len(listed) > LARGEST or not plain:
            raise ValueError(
                f"{path}: network_settings: expected the network's own, names or numbers from 1 to "
                f"{LARGEST:,}; got {setting[:80]!r}: {str(value)[:80]}. {remedy}"
            )
    return name, own
