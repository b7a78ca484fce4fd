"""Download and prepare a TFDS data set; `ddjax prepare` of an installed package does the same.

python scripts/prepare_data.py --dataset=mnist [--data_dir=~/tensorflow_datasets]
python scripts/prepare_data.py --help
"""

import runpy
from pathlib import Path

if __name__ == "__main__":
    # By its path: where nothing is installed yet, `import ddjax` would fail.
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "ddjax" / "prepare.py"), run_name="__main__")
