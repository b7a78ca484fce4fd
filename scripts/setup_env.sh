# Sourced by quickstart.sh and test.sh: goes to the repository's root and makes .venv hold requirements.lock.
#
# Needs a Python of 3.11 or newer and a package index; PYTHON=python3.12 chooses the interpreter. Uses uv where
# it is on PATH, else venv and pip. Once .venv is made, the next run costs one comparison with its stamp.
# After a change to the dependencies in pyproject.toml, renew the lock with the command in its first lines.

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null

stamp=.venv/.ddjax-setup

# Of everything that decides what .venv should hold; fails where .venv has no Python that runs.
fingerprint() {
  .venv/bin/python -I -S -c '
import hashlib, pathlib, sys
inputs = [pathlib.Path(name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
inputs += [sys.version.encode(), str(pathlib.Path.cwd()).encode()]
print(hashlib.sha256(b"\0".join(inputs)).hexdigest())' 2>/dev/null
}

# The real path of $1 where it is a Python that can make an environment. It is run, not looked up: a version
# manager leaves commands on PATH for Pythons that are not there.
suitable_python() {
  "$1" -I -c '
import ensurepip, os, sys, venv
if sys.version_info < (3, 11):
    sys.exit(1)
print(os.path.realpath(sys.executable))' 2>/dev/null </dev/null
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    suitable_python "$PYTHON" && return
    echo "PYTHON=$PYTHON: expected a Python 3.11 or newer with the venv module; this is none." >&2
    exit 2
  fi
  local candidate
  for candidate in python3 python python3.13 python3.12 python3.11 python3.14; do
    suitable_python "$candidate" && return
  done
  true # none: uv may still bring one
}

minor_version() {
  "$1" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null
}

# Whether .venv is of the Python that PYTHON asks for, if it asks for one.
wanted_version() {
  [ -z "${PYTHON:-}" ] || [ "$(minor_version .venv/bin/python)" = "$(minor_version "$PYTHON")" ]
}

# Whether .venv holds all it should.
is_ready() {
  local found
  found=$(fingerprint) && [ "$found" = "$(cat "$stamp" 2>/dev/null)" ] && wanted_version
}

# Whether .venv can be installed into: its Python runs, is the wanted one, and no installation broke off in it.
usable_venv() {
  .venv/bin/python -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
    [ "$(cat "$stamp" 2>/dev/null)" != unfinished ] && wanted_version
}

install_with_uv() {
  [ -x .venv/bin/python ] || uv venv --quiet --seed --python "${base_python:->=3.11}" .venv || return
  echo unfinished >"$stamp"
  uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock &&
    uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
}

install_with_pip() {
  if [ -z "$base_python" ]; then
    echo "No Python 3.11 or newer with the venv module found. Install one, or name it: PYTHON=/path/to/python" >&2
    exit 2
  fi
  .venv/bin/python -I -m pip --version >/dev/null 2>&1 || "$base_python" -m venv .venv || return
  echo unfinished >"$stamp"
  # On a terminal pip shows what it downloads; in a log only what goes wrong.
  local quiet=--quiet
  [ ! -t 2 ] || quiet=
  .venv/bin/python -m pip install ${quiet:+"$quiet"} --disable-pip-version-check --require-hashes -r requirements.lock &&
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
}

setup_env() {
  local base_python
  base_python=$(find_python) || exit
  if ! usable_venv; then
    [ ! -e .venv ] || echo "Replacing .venv: unfinished, broken, or of another Python." >&2
    rm -rf .venv
  fi
  echo "Installing requirements.lock into .venv (once; a few minutes with a slow network) ..." >&2
  if ! { command -v uv >/dev/null && install_with_uv; } && ! install_with_pip; then
    echo "The installation failed; the message above says why. Run the same command again to start over." >&2
    exit 1
  fi
  fingerprint >"$stamp"
}

is_ready || setup_env
