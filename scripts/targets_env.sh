#!/usr/bin/env bash
# Makes the environments in which programs are compiled for TPUs and NVIDIA GPUs; no such device is needed.
#
#   bash scripts/targets_env.sh          # both: about 0.7 GB for TPUs, 5 GB for GPUs
#   bash scripts/targets_env.sh tpu      # one of them: tpu or cuda
#
# Prints the Python of each, with which to compile, test and tabulate:
#
#   $(bash scripts/targets_env.sh tpu) -m experiments.random_init --dry_run --target=v5e:2x4 ...
#
# An environment stands on the Python that PYTHON names, else on .venv (see scripts/test.sh), and adds only what
# jax of that version needs to compile for the platform. Kept in $DDJAX_TARGETS_DIR, else beside the data cache.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

base=${PYTHON:-.venv/bin/python}
if ! jax=$("$base" -c 'import importlib.metadata as m; print(m.version("jax"))' 2>/dev/null); then
  echo "$base: expected a Python with ddjax's requirements; this has no jax. Run scripts/test.sh or set PYTHON." >&2
  exit 2
fi
packages=$("$base" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
home=${DDJAX_TARGETS_DIR:-${DDJAX_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ddjax}/targets}

# Makes the environment in directory $1 by the extra $2 of jax, unless it stands there for these packages already.
make_env() {
  local stamp=$1/.ddjax-setup wanted="$2 $jax $packages"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing jax[$2]==$jax into $1 (once) ..." >&2
    rm -rf "$1"
    "$base" -m venv "$1"
    # What the base has is seen from here, and not installed again; the venv's own packages come first.
    echo "$packages" >"$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check "jax[$2]==$jax" >&2
    echo "$wanted" >"$stamp"
  fi
  echo "$1/bin/python"
}

[ $# -gt 0 ] || set -- tpu cuda
for name in "$@"; do
  case $name in
    tpu) make_env "$home/tpu" tpu ;;
    cuda) make_env "$home/cuda" cuda12 ;;
    *) echo "$name: expected tpu or cuda." >&2; exit 2 ;;
  esac
done
