#!/usr/bin/env bash
# All checks: makes .venv, then lints, type-checks and runs every test. Arguments go to pytest alone:
#
#   bash scripts/test.sh
#   bash scripts/test.sh --fast     # on every change: all checks, and the tests that are not marked `slow`
#   bash scripts/test.sh tests/test_unroll.py -k scan
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup_env.sh"

tests=(--numprocesses=auto --maxprocesses=4 --dist=loadfile)
if [ "${1:-}" = --fast ]; then
  tests+=(-m "not slow" "${@:2}")
elif [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
# The locked pyright with the locked node, and no look for newer ones.
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 PYRIGHT_PYTHON_GLOBAL_NODE=0 .venv/bin/python -m pyright
# A file of tests at a time in each of a few processes: most of the time goes into compiling, on one core.
.venv/bin/python -m pytest "${tests[@]}"
