#!/usr/bin/env bash
# All checks: makes .venv, then lints, and type-checks while every test runs. Arguments go to pytest alone:
#
#   bash scripts/test.sh
#   bash scripts/test.sh --fast     # on every change: all checks, and the tests that are not marked `slow`
#   bash scripts/test.sh tests/test_unroll.py -k scan
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup_env.sh"

# Hundreds of processes import the same modules: bytecode of one is there for the next (and not in git).
unset PYTHONDONTWRITEBYTECODE

# As launchers, which need not start themselves again then (ddjax/host_memory.py).
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"

# Most of the time goes into compiling, on one core: a few processes, each with a stretch of the tests in their
# order, so that a test finds what the one before it in its file compiled; who is done first takes over half of
# what another has left.
tests=(--numprocesses=auto --maxprocesses=4 --dist=worksteal)
if [ "${1:-}" = --fast ]; then
  tests+=(-m "not slow" "${@:2}")
elif [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .

# What pyright says is shown at the end, where it is not lost among the tests.
types=$(mktemp)
trap 'rm -f "$types"; [ -z "${checking:-}" ] || kill "$checking" 2>/dev/null || true' EXIT
# The locked pyright with the locked node, and no look for newer ones.
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 PYRIGHT_PYTHON_GLOBAL_NODE=0 .venv/bin/python -m pyright >"$types" 2>&1 &
checking=$!
failed=0
.venv/bin/python -m pytest "${tests[@]}" || failed=$?
wait "$checking" || failed=$?
checking=
cat "$types"
exit "$failed"
