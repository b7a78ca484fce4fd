#!/usr/bin/env bash
# Distils and evaluates with the newest packages that pip finds, with every warning an error.
#
#   bash scripts/newest.sh            # in an environment of its own, which is removed at the end
#   PYTHON=python3.13 bash scripts/newest.sh
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy=eager .
cd "$place" # the installed package, not the folder of the repository
env/bin/python -W error - <<'PYTHON'
import importlib.metadata

import jax

import ddjax

data = ddjax.data.load("digits")
net = ddjax.networks.convnet(data.image_shape, data.num_classes, depth=2, width=8)
inits = ddjax.inits.random(net)
method = ddjax.methods.unrolled(net, inits, batch_size=64)
run = ddjax.distill(data, method, key=jax.random.key(0), num_outer_steps=5)
score = ddjax.evaluate(run.distilled, net, inits, data.test, key=jax.random.key(1), num_inits=2)
assert score.diverged == 0
names = ("jax", "jaxlib", "flax", "optax", "numpy")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names), f"{score.mean:.1f} %")
PYTHON
