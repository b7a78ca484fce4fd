"""Divide a data set anew: all images, training and test, into other training and test splits.

Some published numbers are of a random split that their authors made. USPS in the adaptation literature, for
one, is 7,438 training and 1,860 test images drawn from all 9,298, whereas the official test split of 2,007
was written by other hands and is harder.

    python scripts/split_anew.py --dataset=usps.npz --num_test=1860 --output=usps-7438-1860.npz

Each class keeps the same share, up to rounding. The same seed gives the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from ddjax import data, npz
from ddjax.data import arrays
from ddjax.data.dataset import stratified_split
from ddjax.files import path_at_home


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings of a command line.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The settings.
    """
    parser = argparse.ArgumentParser(
        prog="split_anew.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, help="digits, a TFDS name, or the path of an .npz")
    parser.add_argument("--data_dir", help="where TFDS data lie; $TFDS_DATA_DIR by default")
    parser.add_argument("--num_test", required=True, type=int, help="images of the new test split")
    parser.add_argument("--seed", default=0, type=int, help="chooses them")
    parser.add_argument("--output", required=True, type=path_at_home, help="the .npz to write")
    return parser.parse_args(arguments)


def split_anew(whole: data.Dataset, *, num_test: int, seed: int) -> dict[str, np.ndarray]:
    """All images of a data set, divided by a seed.

    Args:
        whole: the data set to divide.
        num_test: the number of images of the new test split; the others are training images.
        seed: the seed by which the test images are chosen, class by class.

    Returns:
        `x_train`, `y_train`, `x_test`, `y_test`, as `ddjax.data.load` reads them from an `.npz`; with
        `class_names` where the classes have names, and `layout` where the shape does not tell it.

    Raises:
        ValueError: one of the splits would be too small for an image of each class.
    """
    parts = (whole.train, whole.validation, whole.test)
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    most = len(labels) - whole.num_classes
    if not whole.num_classes <= num_test <= most:
        raise ValueError(
            f"num_test: expected {whole.num_classes} to {most}, an image of each class in both splits; got "
            f"{num_test}. Give another --num_test."
        )
    kept, taken = stratified_split(labels, fraction=num_test / len(labels), seed=seed)
    divided = {
        "x_train": images[kept],
        "y_train": labels[kept],
        "x_test": images[taken],
        "y_test": labels[taken],
    }
    if whole.class_names != tuple(str(k) for k in range(whole.num_classes)):
        divided["class_names"] = np.array(whole.class_names)
    try:
        arrays.images("x_train", images[:1])
    except ValueError:
        divided["layout"] = np.array("NHWC")
    return divided


def main(arguments: Sequence[str] | None = None) -> int:
    """Divide a data set as the command line says.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code.
    """
    settings = parse(arguments)
    try:
        whole = data.load(settings.dataset, data_dir=settings.data_dir)
        divided = split_anew(whole, num_test=settings.num_test, seed=settings.seed)
        npz.write(settings.output, divided)
    except (ValueError, OSError) as error:
        print(f"split_anew.py: {error}", file=sys.stderr)
        return 2
    print(f"{settings.output}: {len(divided['y_train'])} training and {len(divided['y_test'])} test images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
