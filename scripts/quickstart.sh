#!/usr/bin/env bash
# From a clone to ten distilled digits: makes .venv, installs into it and runs experiments/quickstart.py.
#
#   bash scripts/quickstart.sh [flags of experiments.quickstart]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup_env.sh"
exec .venv/bin/python -m experiments.quickstart "$@"
