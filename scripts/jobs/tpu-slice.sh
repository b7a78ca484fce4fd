#!/usr/bin/env bash
# One distillation on all hosts of a Cloud TPU slice; JAX finds the hosts by itself.
#
#   export TPU=my-slice ZONE=us-central2-b
#   bash scripts/jobs/tpu-slice.sh create             # asks for the slice; waits in the queue
#   bash scripts/jobs/tpu-slice.sh setup              # clones and installs on every host
#   bash scripts/jobs/tpu-slice.sh run experiments.random_init --dataset=mnist --num_inits=64 \
#       --workdir=runs/mnist
#   bash scripts/jobs/tpu-slice.sh delete
#
# Edit, here or in the environment: TPU and ZONE name the slice, TYPE and VERSION what it is, REPOSITORY what to
# clone. DRY_RUN=1 prints the commands instead. --num_inits must be a multiple of all the slice's cores.
# The first host writes, to its own disk: give --workdir a mounted bucket, so that a spot slice that is taken
# away and created anew continues with the same `run` command. `run` is tried again while it exits with 75.
set -euo pipefail

ZONE=${ZONE:-us-central2-b}
TYPE=${TYPE:-v4-32}
VERSION=${VERSION:-tpu-ubuntu2204-base}
REPOSITORY=${REPOSITORY:-}
DRY_RUN=${DRY_RUN:-0}

refuse() {
  echo "error: $1" >&2
  exit 2
}

# Run a command, or print it so that a shell reads it back as it is.
act() {
  if [ "$DRY_RUN" = 1 ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_all_hosts() {
  act gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

create() {
  act gcloud compute tpus queued-resources create "$TPU" --node-id="$TPU" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$VERSION" --spot
}

setup() {
  [ -n "$REPOSITORY" ] || refuse "REPOSITORY: expected the address to clone on every host; got none"
  local install=".venv/bin/python -m pip install '.[tpu]'"
  on_all_hosts "git clone $(printf %q "$REPOSITORY") ddjax && cd ddjax && python3 -m venv .venv && $install"
}

run() {
  [ $# -gt 0 ] || refuse "run: expected an experiment and its flags; got none"
  local flags code=75
  flags=$(printf '%q ' --distributed "${@:2}")
  while [ "$code" -eq 75 ]; do
    code=0
    on_all_hosts "cd ddjax && exec .venv/bin/python -m $(printf %q "$1") ${flags% }" || code=$?
  done
  return "$code"
}

delete() {
  act gcloud compute tpus queued-resources delete "$TPU" --zone="$ZONE" --force
}

[ -n "${TPU:-}" ] || refuse "TPU: expected the name of the slice in the environment; got none"
case "${1:-}" in
create | setup | run | delete) "$@" ;;
*) refuse "expected create, setup, run or delete; got ${1:-nothing}" ;;
esac
