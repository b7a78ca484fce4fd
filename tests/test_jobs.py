"""The job templates, as far as they go without a cluster: they parse, pass on, stop and start again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from absl import flags

from ddjax.launch import parse, process
from experiments import random_init

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
JOBS = ROOT / "scripts" / "jobs"
FLAGS = ["--dataset=my data.npz", "--num_inits=8"]

SRUN = """#!/usr/bin/env bash
# Notes its arguments; then ends with EXIT, or waits for a SIGTERM first where ASKED is set.
printf '%s\\n' "$@" >"$LOG/srun"
if [ -n "${ASKED:-}" ]; then
  trap 'sleep 0.3; exit "$EXIT"' TERM
  touch "$LOG/ready"
  for _ in $(seq 600); do sleep 0.1; done
fi
exit "$EXIT"
"""
SCONTROL = '#!/usr/bin/env bash\necho "$*" >"$LOG/scontrol"\n'
GCLOUD = """#!/usr/bin/env bash
# Notes its arguments; the first of several calls ends with 75.
printf '%s\\n' "$@" >>"$LOG/gcloud"
echo >>"$LOG/calls"
[ "$(wc -l <"$LOG/calls")" -gt 1 ] || exit 75
"""


def start(script: str, *arguments: str, log: Path, **variables: object) -> subprocess.Popen:
    """Run a template under bash, with stand-ins for the cluster's commands first on PATH."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "gcloud": GCLOUD}.items():
        path = log / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    environment |= {"LOG": str(log), "PATH": f"{log / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(
        ["bash", str(JOBS / script), *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, *arguments: str, log: Path, **variables: object) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    process = start(script, *arguments, log=log, **variables)
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, error


def sbatch(log: Path, *arguments: str, **variables: object) -> tuple[int, str, str]:
    return run("slurm.sbatch", *arguments, log=log, SLURM_JOB_ID=7, SLURM_SUBMIT_DIR=ROOT, **variables)


@pytest.mark.parametrize("script", ["slurm.sbatch", "tpu-slice.sh"])
def test_the_scripts_parse(script):
    done = subprocess.run(["bash", "-n", JOBS / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (1, False), (2, False), (3, False), (75, True), (143, False)]
)
def test_slurm_requeues_what_was_preempted_and_nothing_else(tmp_path, code, requeued):
    assert sbatch(tmp_path, "experiments.random_init", *FLAGS, EXIT=code)[0] == code
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    arguments = (tmp_path / "srun").read_text().splitlines()
    python = arguments.index(".venv/bin/python")
    assert arguments[python:] == [
        ".venv/bin/python",
        "-m",
        "experiments.random_init",
        "--distributed",
        *FLAGS,
    ]


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (143, True), (0, False)])
def test_slurm_passes_sigterm_on_and_waits_for_the_end(tmp_path, code, requeued):
    process = start(
        "slurm.sbatch", "experiments.random_init", log=tmp_path, EXIT=code, ASKED=1, SLURM_JOB_ID=7
    )
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "ready").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == (75 if requeued else code)
    assert (tmp_path / "scontrol").exists() == requeued


def test_slurm_refuses_to_start_nothing(tmp_path):
    code, _, error = sbatch(tmp_path)
    assert code == 2
    assert "expected an experiment" in error


def test_slurm_s_settings_are_read_and_ask_for_what_the_script_needs():
    lines = (JOBS / "slurm.sbatch").read_text().splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [line.removeprefix("#SBATCH ") for line in lines[:first_command] if line.startswith("#SBATCH ")]
    assert sum(line.startswith("#SBATCH") for line in lines) == len(options)  # none after the first command
    assert {"--requeue", "--open-mode=append"} <= set(options)
    assert any(option.startswith("--signal=B:TERM@") for option in options)


def test_the_jobset_starts_again_unless_it_would_end_the_same():
    jobset = yaml.safe_load((JOBS / "kubernetes-jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert [rule["action"] for rule in policy["rules"]] == ["FailJobSet"]
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    (workers,) = jobset["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    assert job["completionMode"] == "Indexed"
    assert job["backoffLimit"] == 0
    (rule,) = job["podFailurePolicy"]["rules"]
    never_again = {process.EXIT_BAD_INPUT, process.EXIT_DIVERGED}
    assert (rule["action"], set(rule["onExitCodes"]["values"])) == ("FailJob", never_again)
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # what podFailurePolicy needs
    (container,) = pod["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_jobset_s_flags_are_those_of_the_experiment():
    """As Kubernetes would render them for the second of the pods."""
    jobset = yaml.safe_load((JOBS / "kubernetes-jobset.yaml").read_text())
    (workers,) = jobset["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    names = {variable["name"] for variable in container["env"]}
    assert "JOB_COMPLETION_INDEX" in names
    module, *rest = [argument.replace("$(JOB_COMPLETION_INDEX)", "1") for argument in container["args"]]
    assert module == "experiments.random_init"
    settings = parse(random_init.Config, ["program", *rest], flags.FlagValues())
    assert settings.distributed
    assert (settings.num_processes, settings.process_id) == (job["completions"], 1)
    assert job["parallelism"] == job["completions"]
    host, port = str(settings.coordinator_address).split(":")
    name = jobset["metadata"]["name"]
    assert host == f"{name}-{workers['name']}-0-0.{name}"
    assert int(port) in [port["containerPort"] for port in container["ports"]]


def tpu(log: Path, *arguments: str, **variables: object) -> tuple[int, str, str]:
    return run("tpu-slice.sh", *arguments, log=log, TPU="my-slice", **variables)


def test_the_tpu_script_s_dry_run_prints_commands_that_a_shell_reads_back(tmp_path):
    code, out, error = tpu(tmp_path, "run", "experiments.random_init", *FLAGS, DRY_RUN=1)
    assert (code, error) == (0, "")
    command = shlex.split(out)
    assert command[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "my-slice"]
    assert "--worker=all" in command
    (on_host,) = (part.removeprefix("--command=") for part in command if part.startswith("--command="))
    python = [".venv/bin/python", "-m", "experiments.random_init", "--distributed", *FLAGS]
    assert shlex.split(on_host) == ["cd", "ddjax", "&&", "exec", *python]
    repository = "https://example.org/a b"
    for action in ("create", "setup", "delete"):
        code, out, error = tpu(tmp_path, action, DRY_RUN=1, REPOSITORY=repository)
        assert (code, error) == (0, "")
        assert shlex.split(out)[:3] == ["gcloud", "compute", "tpus"]
        for part in shlex.split(out):
            if part.startswith("--command="):
                assert repository in shlex.split(part.removeprefix("--command="))
    assert not (tmp_path / "gcloud").exists()


def test_the_tpu_script_runs_again_what_was_preempted(tmp_path):
    code, _, error = tpu(tmp_path, "run", "experiments.random_init")
    assert (code, error) == (0, "")
    assert len((tmp_path / "calls").read_text()) == 2


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["run"], {}, "expected an experiment"),
        (["setup"], {}, "REPOSITORY"),
        (["start"], {}, "expected create, setup, run or delete; got start"),
        (["delete"], {"TPU": ""}, "TPU: expected the name"),
    ],
)
def test_the_tpu_script_refuses(tmp_path, arguments, variables, message):
    code, _, error = run("tpu-slice.sh", *arguments, log=tmp_path, **({"TPU": "my-slice"} | variables))
    assert code == 2
    assert message in error
