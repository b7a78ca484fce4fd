"""Export an artifact for other tools.

    ddjax export --artifact=runs/mnist/distilled.npz --format=png --output=digits
    python scripts/export.py --artifact=...      in a copy of the repository

--format=png: a folder with one picture per distilled image, de-normalised and clipped to 0..255; labels.csv:
    file, step, image, label, class, probability of each class (p_0, ...) and the weight of the image's loss,
    or under ridge regression the label's own numbers (y_0, ...); metadata.csv, by which Hugging Face's
    ImageFolder and `ddjax.data.from_folder` load the folder, each picture with its largest label; and
    metadata.json.
--format=safetensors: one file with images [S, B, H, W, C] (normalised), labels (probabilities times the
    image's weight), lrs, mean, std, and the metadata as JSON. Needs the package safetensors.
--format=torch: a folder with images.pt [S, B, C, H, W] (normalised), labels.pt [S, B, K] (probabilities times
    the image's weight), mean.pt [C], std.pt [C], where the artifact has learning rates lr.pt [E, S],
    metadata.json, recipe.json; and distilled.npz with distilled_torch.py, which trains a network on it in
    three lines of PyTorch. Needs PyTorch.
--format=dd_ranking: a folder for the evaluator of DD-Ranking (CIFAR-10 and CIFAR-100, recipes that train in
    epochs): images.pt [n, C, H, W] under the evaluator's normalisation, labels.pt, [n] numbers or [n, K]
    logarithms of soft labels, lr.pt, config.yaml and score.py, which scores them. What the evaluator cannot
    be told, such as a schedule of learned steps, is refused. Needs PyTorch.

metadata.json, and the metadata of safetensors, hold what training needs besides: the recipe, the names of the
classes, the network, p(θ0), the data. A test image enters as (pixel / 255 - mean) / std.

Exit codes: 0 written; 2 bad input, or a package is missing; 74 the disk is full or cannot be written. The
output appears whole or not at all; what exists is never replaced.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import json
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import artifact, encodings, recipes
from ddjax.files import path_at_home, write_atomic
from ddjax.types import Distilled

BAD_INPUT, CANNOT_WRITE = 2, 74


def arrays(distilled: Distilled) -> dict[str, np.ndarray]:
    """The arrays of an artifact, as float32: images, labels, mean, std, and lrs where there are any.

    Args:
        distilled: the content of the artifact.

    Returns:
        The arrays, by name.
    """
    schedule, encoding = distilled.schedule, encodings.channels_of(distilled.encoding)
    members = {"images": schedule.inputs, "labels": schedule.labels, "lrs": schedule.lrs}
    members |= {"mean": encoding.mean, "std": encoding.std}
    return {name: np.asarray(value, np.float32) for name, value in members.items() if value is not None}


def facts(distilled: Distilled) -> bytes:
    """What training on an artifact needs besides the arrays, as JSON.

    Args:
        distilled: the content of the artifact.

    Returns:
        The metadata, with the recipe, the kind of the encoding and, where there are any, the mean and the
        standard deviation of pixel / 255 and the learning rates.
    """
    members = arrays(distilled)
    numbers = {name: members[name].tolist() for name in ("mean", "std", "lrs") if name in members}
    recipe = {"recipe": recipes.as_dict(distilled.recipe), "encoding": distilled.encoding.kind}
    return json.dumps({**distilled.metadata, **recipe, **numbers}, sort_keys=True, indent=1).encode()


def label_columns(distilled: Distilled, labels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The labels as a table: probabilities and a weight, or the labels' own numbers.

    Args:
        distilled: the content of the artifact.
        labels: `[S, B, K]`, the labels.

    Returns:
        The names of the columns, and `[S, B, columns]`. For a training by cross-entropy, whose labels are
        probabilities times the weight of the image, they are K probabilities and the weight.
    """
    count = labels.shape[-1]
    if distilled.recipe.kind == "ridge" or (labels < 0).any():
        return [f"y_{k}" for k in range(count)], labels
    weights = labels.sum(-1, keepdims=True)
    probabilities = np.divide(labels, weights, out=np.zeros_like(labels), where=weights > 0)
    return [*(f"p_{k}" for k in range(count)), "weight"], np.concatenate([probabilities, weights], -1)


def png(distilled: Distilled) -> dict[str, bytes]:
    """The pictures of an artifact, with labels.csv, metadata.csv and metadata.json.

    Args:
        distilled: the content of the artifact.

    Returns:
        The contents of the files, by name.

    Raises:
        ValueError: the images have another number of channels than 1, 3 or 4.
    """
    from PIL import Image

    members = arrays(distilled)
    labels = members["labels"]
    pixels = 255 * (members["images"] * members["std"] + members["mean"])
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    channels = pixels.shape[-1]
    if channels not in (1, 3, 4):
        raise ValueError(f"png: expected images of 1, 3 or 4 channels; got {channels}. Take another format.")
    names = _class_names(distilled, labels.shape[-1])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    listing = io.StringIO()
    listed = csv.writer(listing, lineterminator="\n")
    listed.writerow(["file_name", "label"])
    columns, numbers = label_columns(distilled, labels)
    writer.writerow(["file", "step", "image", "label", "class", *columns])
    files = {}
    for step, image in np.ndindex(labels.shape[:2]):
        label = int(labels[step, image].argmax())
        name = f"step{step:03d}_image{image:03d}_label{label}.png"
        picture, stream = pixels[step, image], io.BytesIO()
        Image.fromarray(picture[..., 0] if channels == 1 else picture).save(stream, "PNG")
        files[name] = stream.getvalue()
        writer.writerow([name, step, image, label, names[label], *map(str, numbers[step, image])])
        listed.writerow([name, names[label]])
    tables = {"labels.csv": table.getvalue().encode(), "metadata.csv": listing.getvalue().encode()}
    return files | tables | {"metadata.json": facts(distilled)}


def _class_names(distilled: Distilled, num_classes: int) -> Sequence[str]:
    """The names of the classes; their numbers where the artifact has no names."""
    names = distilled.metadata.get("class_names") or []
    return names if len(names) == num_classes else [str(k) for k in range(num_classes)]


def safetensors(distilled: Distilled) -> bytes:
    """The whole artifact as the content of one file.

    Args:
        distilled: the content of the artifact.

    Returns:
        The content of the file.

    Raises:
        ImportError: the package safetensors is missing.
    """
    package = _package("safetensors.numpy", "safetensors")
    metadata = {"metadata": facts(distilled).decode()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays(distilled).items()}
    return package.save(contiguous, metadata=metadata)


def torch(distilled: Distilled) -> dict[str, bytes]:
    """The arrays of an artifact as tensor files, images with their channels first, and how to train on them.

    Args:
        distilled: the content of the artifact.

    Returns:
        The contents of the files, by name.

    Raises:
        ImportError: PyTorch is missing.
    """
    package = _package("torch", "torch")
    members = arrays(distilled)
    tensors = {"images.pt": members["images"].transpose(0, 1, 4, 2, 3), "labels.pt": members["labels"]}
    tensors |= {f"{name}.pt": members[name] for name in ("mean", "std")}
    if "lrs" in members:
        tensors["lr.pt"] = members["lrs"]
    files = {name: _tensor(package, array) for name, array in tensors.items()}
    trainer = Path(__file__).with_name("distilled_torch.py")
    recipe = json.dumps(recipes.as_dict(distilled.recipe), sort_keys=True, indent=1).encode()
    return files | {
        "metadata.json": facts(distilled),
        "recipe.json": recipe,
        "distilled.npz": artifact.content(distilled),
        trainer.name: trainer.read_bytes(),
    }


def dd_ranking(distilled: Distilled) -> dict[str, bytes]:
    """The tensors and settings that DD-Ranking's evaluator takes; see `ddjax.export.dd_ranking`.

    Args:
        distilled: the content of the artifact.

    Returns:
        The contents of the files, by name.

    Raises:
        ValueError: the evaluator cannot be told what the artifact holds.
        ImportError: PyTorch is missing.
    """
    from ddjax.export.dd_ranking import exported

    own = exported(distilled)
    package = _package("torch", "torch")
    tensors = {"images.pt": own.images, "labels.pt": own.labels, "lr.pt": np.float32(own.lr)}
    return {name: _tensor(package, np.asarray(array)) for name, array in tensors.items()} | {
        "config.yaml": own.yaml().encode(),
        "score.py": own.script().encode(),
    }


def _tensor(package: Any, array: np.ndarray) -> bytes:
    """An array as the content of a file of PyTorch's."""
    stream = io.BytesIO()
    package.save(package.from_numpy(np.array(array, order="C")), stream)
    return stream.getvalue()


FORMATS: Mapping[str, Callable[[Distilled], bytes | dict[str, bytes]]] = {
    "dd_ranking": dd_ranking,
    "png": png,
    "safetensors": safetensors,
    "torch": torch,
}


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{name}: expected the package to be installed; got {error}. Run `pip install {name}`, or take "
            "another --format."
        ) from error


def write(output: Path, content: bytes | dict[str, bytes]) -> None:
    """Write one file, or a folder of files; all of it or nothing.

    Args:
        output: the path of the file or folder, where nothing may exist.
        content: the content of the file, or the contents of the folder's files by name.

    Raises:
        ValueError: something exists at this path already.
    """
    if output.exists():
        raise ValueError(f"--output: expected a path where nothing is; {output} exists. Give another one.")
    output.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        write_atomic(output, content)
        return
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        for name, data in content.items():
            write_atomic(temporary / name, data)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    """The reader of command lines.

    Returns:
        The parser.
    """
    reader = argparse.ArgumentParser(
        prog="ddjax export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    reader.add_argument("--artifact", required=True, type=path_at_home, help="the distilled.npz")
    reader.add_argument("--format", required=True, choices=sorted(FORMATS), help="see above")
    reader.add_argument("--output", required=True, type=path_at_home, help="the file or folder to make")
    return reader


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings of a command line.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The settings.
    """
    return parser().parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export an artifact as the command line says.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code.
    """
    settings = parse(arguments)
    try:
        write(settings.output, FORMATS[settings.format](artifact.load(settings.artifact)))
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_WRITE
    print(f"written to {settings.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
