"""Export an artifact for other tools; `ddjax export` of an installed package does the same.

python scripts/export.py --artifact=runs/mnist/distilled.npz --format=png --output=digits
python scripts/export.py --help
"""

import sys

from ddjax.export import main

if __name__ == "__main__":
    sys.exit(main())
