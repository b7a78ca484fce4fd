"""Artifacts for launchers: the data, the network and the initial weights that an artifact names.

An evaluation starts from what the artifact says of itself; flags override that. What differs from the
artifact, and what had to be assumed because the artifact does not say, is told in notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddjax import artifact, checks, coresets, files, inits, networks, recorded_inits
from ddjax import pool as pools
from ddjax.data import Dataset, TextSettings, digest, load, provenance, with_classes
from ddjax.data.huggingface import HUB
from ddjax.data.sources import is_path
from ddjax.data.whitening import WHITENINGS
from ddjax.encodings import Tokens
from ddjax.launch.choices import STATISTICS, converted_by
from ddjax.launch.settings import DataChoice
from ddjax.networks.settings import plain
from ddjax.types import FROM_ELSEWHERE, Distilled, Encoding, InitDistribution, Network

LARGEST = 65_536
"""The most units of a layer that the metadata of an artifact may ask for."""


class Opened(NamedTuple):
    """An artifact, and the data to test φ on.

    Attributes:
        distilled: the artifact.
        data: the data, in the form of the artifact unless flags say otherwise.
        notes: sentences about the data: where they agree with the artifact's, differ, or were assumed.
    """

    distilled: Distilled
    data: Dataset
    notes: tuple[str, ...]


def opened(
    path: str, form: DataChoice, *, dataset: str | None, data_dir: str | None, needs_real: bool = False
) -> Opened:
    """An artifact, and the data to test φ on; nothing is computed or written.

    Args:
        path: the file of the artifact.
        form: the form, by flags, to which the images are converted; what the flags leave out is as in the
            artifact.
        dataset: the data that the flags name; None for the artifact's own.
        data_dir: the directory of TFDS data; None for that of the environment.
        needs_real: whether as many real images as φ has are needed, for baselines.

    Returns:
        The artifact and the data.

    Raises:
        FileNotFoundError: there is no artifact, or no data.
        ValueError: the artifact's own data have changed; or the images or classes of the artifact are not
            those of the data.
    """
    if not path:
        raise ValueError(
            "artifact: expected a distilled.npz; got none. Give --artifact=path/to/distilled.npz."
        )
    distilled = artifact.load(path)
    own = provenance.recorded(distilled.metadata, where=path)
    loaded = data_of(path, own, dataset=dataset, data_dir=data_dir, encoding=distilled.encoding)
    notes = [*compared(path, distilled, own, loaded, is_asked=bool(dataset))]
    data, changed = in_form_of(own, loaded, form)
    schedule = distilled.schedule
    for what, got, expected in (
        (f"the artifact's {_shape_name(data)}", schedule.inputs.shape[2:], data.input_shape),
        ("the artifact's number of classes", schedule.labels.shape[2], data.num_classes),
    ):
        checks.equal(what, got, expected, remedy=_remedy_for(schedule.inputs.shape[2:], data))
    notes += [*changed, provenance.check_classes(path, own.class_names, data)]
    if needs_real:
        steps, images = schedule.inputs.shape[:2]
        coresets.check_enough(data.train, steps * max(1, images // data.num_classes), data.num_classes)
    return Opened(distilled, data, tuple(note for note in notes if note))


def _shape_name(data: Dataset) -> str:
    return "image shape (H, W, C)" if len(data.input_shape) == 3 else "input shape"


def _remedy_for(shape: Sequence[int], data: Dataset) -> str:
    """What to do where images of an artifact and of the data differ in shape, or the classes in number."""
    flags = []
    if len(shape) != 3 or len(data.input_shape) != 3:
        return f"Test on the data it was distilled from, not {data.name}."
    if shape[2] != data.image_shape[2] == 1:
        flags.append(f"--channels={shape[2]}")
    if shape[0] == shape[1] and tuple(shape[:2]) != data.image_shape[:2]:
        flags.append(f"--resize={shape[0]}")
    instead = f"Test on the data it was distilled from, not {data.name}"
    return f"{instead}; or bring these to its form: {' '.join(flags)}." if flags else f"{instead}."


def data_of(
    path: str,
    own: provenance.Recorded,
    *,
    dataset: str | None,
    data_dir: str | None,
    encoding: Encoding | None = None,
) -> Dataset:
    """The data that the flags name, or else the artifact, as they are before any conversion.

    Args:
        path: the file of the artifact.
        own: the data that the artifact names.
        dataset: the data that the flags name; None for the artifact's own.
        data_dir: the directory of TFDS data; None for that of the environment.
        encoding: the encoding of the artifact; texts are cut into its words.

    Returns:
        The data, with the validation split of the distillation where the artifact names one.

    Raises:
        FileNotFoundError: the data are not prepared.
        ValueError: neither the flags nor the artifact name data that `ddjax.data.load` knows. A file is
            never opened because an artifact names one.
    """
    split: dict[str, Any] = {
        "seed": own.split.get("seed", 0),
        "validation_fraction": own.split.get("fraction", 0.1),
        "text": text_settings(own, encoding),
    }
    if dataset:
        return load(dataset, data_dir=data_dir, **split)
    if own.kind in ("file", "arrays"):
        what = f"the file {own.name[:80]!r}" if own.kind == "file" else "arrays in memory"
        where = f"path/to/{Path(own.name).name[:80]}" if own.kind == "file" else "path/to/them.npz"
        raise ValueError(
            f"{path}: dataset: expected data to test on; the artifact was distilled from {what}, and no "
            f"--dataset is given. Give --dataset={where}; the digests are compared."
        )
    remedy = "Give --dataset=..., the data to test on."
    if own.name.startswith(HUB):  # nothing is downloaded because a file names it
        raise ValueError(
            f"{path}: dataset: expected data to test on; the artifact names {own.name[:80]!r} of the Hugging "
            "Face Hub, and nothing is downloaded because a file says so. Give "
            f"--dataset={own.name[:80]}; the digests are compared."
        )
    if not own.name or is_path(own.name):  # a file from elsewhere does not say what is opened here
        raise ValueError(f"{path}: dataset: expected the name of a data set; got {own.name[:80]!r}. {remedy}")
    try:
        return load(own.name, data_dir=data_dir, **split)
    except ValueError as error:
        raise ValueError(f"{error} The name is the artifact's. {remedy}") from error


def text_settings(own: provenance.Recorded, encoding: Encoding | None) -> TextSettings | None:
    """How texts become examples for an artifact: by the words and vectors that the artifact carries.

    Args:
        own: the data that the artifact names.
        encoding: the encoding of the artifact.

    Returns:
        The settings; None for an artifact of images, or of tokens without words.
    """
    if not isinstance(encoding, Tokens) or encoding.tokenizer is None:
        return None
    return TextSettings(label=own.text.get("label"), encoding=jax.tree.map(np.asarray, encoding))


def compared(
    path: str, distilled: Distilled, own: provenance.Recorded, loaded: Dataset, *, is_asked: bool
) -> list[str]:
    """What there is to say of the data at hand beside those of an artifact.

    Args:
        path: the file of the artifact.
        distilled: the artifact.
        own: the data that the artifact names.
        loaded: the data at hand, before any conversion.
        is_asked: whether flags name these data; else the artifact does.

    Returns:
        The notes.

    Raises:
        ValueError: the artifact names these data, and they are not what they were.
    """
    is_same = {
        split: provenance.same_examples(own, loaded, distilled.encoding, split) for split in ("test", "train")
    }
    here, there = described(loaded.origin.kind, loaded.origin.name), described(own.kind, own.name)
    if is_same["test"] is None:
        return [f"assumed: the data that the artifact calls {own.name[:80]!r} are {here}"]
    if False in is_same.values() and not is_asked:
        split = "test" if not is_same["test"] else "training"
        raise ValueError(
            f"{path}: expected {there} as it was distilled from; its {split} split has another digest now, "
            f"{digest(loaded.test if split == 'test' else loaded.train)[:16]}... Use the version "
            f"of then, or give --dataset={own.name} to test on these."
        )
    if not is_same["test"]:
        return [f"differs: tested on {here}, distilled from {there}: the test splits are not the same"]
    if is_same["train"] is False:
        return [f"differs: the test split of {here} is the artifact's, its training split is not"]
    return [f"as in the artifact: {here}, with the same digests"]


def described(kind: str, name: str) -> str:
    """A source of data in words.

    Args:
        kind: the kind of the source, see `ddjax.data.dataset.Origin`; empty where it is not known.
        name: the name of the set or the file.

    Returns:
        The words.
    """
    words = {"built-in": "the built-in set ", "file": "the file ", "arrays": "arrays in memory "}
    return f"{words.get(kind, 'the data ')}{name[:80]}".strip()


def in_form_of(own: provenance.Recorded, data: Dataset, form: DataChoice) -> tuple[Dataset, list[str]]:
    """The data in the form of an artifact, where flags do not say otherwise.

    Args:
        own: the data that the artifact names, with their form.
        data: the data, before any conversion.
        form: the form by flags.

    Returns:
        The converted data, and a note for each flag that departs from the artifact.

    Raises:
        ValueError: the images cannot be converted to that form.
    """
    flags = ("channels", "resize", "rotated", "pixels", "whiten")
    given: dict[str, Any] = {name: getattr(form, name) for name in flags}
    asked = {name: value for name, value in given.items() if value is not None}
    if "resize" in asked:
        asked["resize"] = [form.resize, form.resize]
    steps = [dict(step) for step in own.form]
    names = [next(iter(step)) for step in steps]
    notes = []
    for name, value in asked.items():
        at = [index for index, known in enumerate(names) if known == name]
        before = steps[at[-1]][name] if at else None
        if before != value:
            notes.append(f"differs: --{name}={getattr(form, name)}; the artifact has {before or 'none'}")
        if at:
            steps[at[-1]] = {name: value}
        else:
            steps.append({name: value})
    order = ("classes", *flags)
    if asked:  # as launchers convert
        steps.sort(key=lambda step: order.index(next(iter(step))))
    for step in steps:
        ((name, value),) = step.items()
        if name == "classes" and tuple(data.class_names) == own.class_names:
            continue  # data that have these classes alone, in this order
        if name == "pixels":
            checks.choice("the artifact's pixels", value, STATISTICS, remedy="Install a newer ddjax.")
        if name == "whiten":
            checks.choice("the artifact's whitening", value, WHITENINGS, remedy="Install a newer ddjax.")
        data = with_classes(data, value) if name == "classes" else converted_by(data, name, value)
    return data, notes


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
        is_plain = all(
            isinstance(one, str) or (type(one) in (bool, float, int) and 0 <= one <= LARGEST)
            for one in listed
        )
        if setting in FROM_ELSEWHERE or len(listed) > LARGEST or not is_plain:
            raise ValueError(
                f"{path}: network_settings: expected the network's own, names or numbers from 0 to "
                f"{LARGEST:,}; got {setting[:80]!r}: {str(value)[:80]}. {remedy}"
            )
    return name, own


def is_own_network(distilled: Distilled, network: Network) -> bool:
    """Whether a network is the one that φ was distilled with, as far as the artifact says.

    Args:
        distilled: the artifact.
        network: the network.

    Returns:
        True where the name and all settings that the artifact names are equal.
    """
    own = distilled.metadata.get("network_settings", {})
    if network.name != distilled.metadata.get("network"):
        return False
    return all(network.settings.get(name) == plain(value) for name, value in own.items())


class Start(NamedTuple):
    """The initial weights of an evaluation.

    Attributes:
        inits: p(θ0).
        note: a sentence that says whether this is the artifact's own p(θ0), another one, or assumed.
    """

    inits: InitDistribution
    note: str


def start_by_flags(
    own: recorded_inits.Recorded, network: Network, *, scheme: str | None, gain: float | None, otherwise: str
) -> Start:
    """Fresh initial weights by the scheme and gain that flags give, the rest as the artifact says.

    Args:
        own: p(θ0) of the artifact.
        network: the network that the weights belong to.
        scheme: the scheme of the flags; None for the artifact's.
        gain: the gain of the flags; None for the artifact's, or 1 beside a scheme of the flags.
        otherwise: the scheme where neither names one.

    Returns:
        p(θ0), and whether it differs from the artifact's.

    Raises:
        ValueError: the scheme is unknown, or the gain is not positive.
    """
    its = own.settings if own.kind in ("random", "fixed") else {}
    chosen = inits.random(
        network,
        scheme=scheme or its.get("scheme", otherwise),
        gain=gain if gain is not None else 1.0 if scheme else its.get("gain", 1.0),
    )
    if chosen.name == own.name:
        return Start(chosen, f"as in the artifact: initial weights from {chosen.name}")
    before = f"the artifact was distilled for {own.name[:80]}" if own.name else "the artifact names none"
    return Start(chosen, f"differs: initial weights from {chosen.name}; {before}")


def start_of_artifact(path: str, distilled: Distilled, network: Network, *, otherwise: str) -> Start:
    """The initial weights that an artifact was distilled for, or what stands for them.

    Args:
        path: the file of the artifact.
        distilled: the artifact.
        network: the network that the weights belong to. The one θ0 of a fixed p(θ0) belongs to the network
            of the distillation; other networks start from fresh draws of its scheme.
        otherwise: the scheme for an artifact that names none.

    Returns:
        p(θ0), and a note on it.

    Raises:
        ValueError: the artifact was distilled for weights that are not in it: a pool's, or those of a file.
    """
    own = recorded_inits.recorded(distilled.metadata, where=path)
    if own.is_whole and (own.kind == "random" or is_own_network(distilled, network)):
        return Start(recorded_inits.rebuilt(own, network), f"as in the artifact: initial weights: {own.name}")
    if own.kind in ("random", "fixed"):
        chosen = recorded_inits.fresh(own, network)
        if own.is_whole:
            note = f"differs: fresh weights from {chosen.name}: the artifact's one θ0 is of another network"
        else:
            note = (
                f"assumed: fresh weights from {chosen.name}: the artifact was distilled for one θ0, "
                f"{own.name}, and does not name its key; --fixed with the --seed of the run takes it"
            )
        return Start(chosen, note)
    if own.settings:
        remedy = "--pool=path/to/pool.npz" if own.kind == "pretrained" else "--init=SCHEME for fresh weights"
        raise ValueError(
            f"{path}: expected the initial weights that it was distilled for, {own.name[:80]}, which are not "
            f"in the artifact. Give {remedy}, or --init=SCHEME for fresh weights."
        )
    chosen = inits.random(network, scheme=otherwise)
    named = f"the artifact says {own.name[:80]!r} alone" if own.name else "the artifact names none"
    return Start(chosen, f"assumed: initial weights from {chosen.name}; {named}")


def start_of_pool(own: recorded_inits.Recorded, pool: pools.Pool, network: Network) -> Start:
    """The networks of a pool as initial weights: its held-out members, or the one member of the artifact.

    Args:
        own: p(θ0) of the artifact.
        pool: the pool.
        network: the network that the weights belong to.

    Returns:
        p(θ0), and whether the pool is the artifact's.

    Raises:
        ValueError: the pool is of another network, or has no such members.
    """
    fitted = pool.fit(network)
    member = own.settings.get("member") if own.kind == "pretrained" else None
    split = "held_out" if member is None else str(own.settings.get("split", "train"))
    chosen = inits.pretrained(fitted, split=split, member=member)
    digest = own.settings.get("digest") if own.kind == "pretrained" else None
    if digest is None:
        known = f"the artifact was distilled for {own.name[:80]}" if own.name else "the artifact names none"
        return Start(chosen, f"assumed: initial weights: {chosen.name}; {known}")
    if digest != pools.digest(fitted):
        return Start(chosen, f"differs: initial weights: {chosen.name}, of another pool than the artifact's")
    return Start(chosen, f"as in the artifact: the same pool; initial weights: {chosen.name}")
