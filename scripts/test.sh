#!/usr/bin/env bash
# All checks: makes .venv, then lints, and type-checks while every test runs. Arguments go to pytest alone:
#
#   bash scripts/test.sh
#   bash scripts/test.sh --fast     # on every change: the tests that are not marked `slow`; types of changed files
#   bash scripts/test.sh tests/test_unroll.py -k scan
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup_env.sh"

# Hundreds of processes import the same modules: bytecode of one is there for the next (and not in git).
unset PYTHONDONTWRITEBYTECODE

# Most of the time goes into compiling, on one core: a few processes, each with a stretch of the tests in their
# order, so that a test finds what the one before it in its file compiled; who is done first takes over half of
# what another has left.
tests=(--numprocesses=auto --maxprocesses=4 --dist=worksteal)
typed=.
if [ "${1:-}" = --fast ]; then
  tests+=(-m "not slow" "${@:2}")
  # Types of files that differ from the last commit; what these changes break elsewhere, the whole run finds.
  if git rev-parse --verify --quiet HEAD >/dev/null; then
    typed=$(
      git diff --name-only --relative --diff-filter=d HEAD -- '*.py'
      git ls-files --others --exclude-standard -- '*.py'
    )
  fi
elif [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .

# What pyright says is shown at the end, where it is not lost among the tests.
types=$(mktemp)
trap 'rm -f "$types"; [ -z "${checking:-}" ] || kill "$checking" 2>/dev/null || true' EXIT
# The locked pyright with the locked node, and no look for newer ones.
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1 PYRIGHT_PYTHON_GLOBAL_NODE=0
if [ -z "$typed" ]; then
  echo "No Python file differs from the last commit: no types are checked." >"$types" &
elif [ "$typed" = . ]; then
  .venv/bin/python -m pyright >"$types" 2>&1 &
else
  # shellcheck disable=SC2086 # a file each; no name in the repository has a space
  .venv/bin/python -m pyright $typed >"$types" 2>&1 &
fi
checking=$!
failed=0
.venv/bin/python -m pytest "${tests[@]}" || failed=$?
wait "$checking" || failed=$?
checking=
cat "$types"
exit "$failed"
