"""Bad command lines, artifacts and work directories: what was expected, what was got, what to do."""

from __future__ import annotations

import pytest
from problems import three_digits
from refusals import Cases, Good, Refuses, contents

from ddjax.launch import distillation, process
from experiments import random_init

REFUSED: Cases = {
    "no artifact to evaluate": (lambda g: g.assess(artifact=""), "expected a distilled.npz", "--artifact="),
    "an artifact of no data": (lambda g: g.assess(), "expected the name of a data set; got ''", "--dataset="),
    "an artifact of a file's data": (
        lambda g: g.assess(metadata={"dataset": "../../etc/secret.npz"}),
        "expected the name of a data set; got '../../etc/secret.npz'",
        "--dataset=",
    ),
    "an artifact of data that nobody knows": (
        lambda g: g.assess(metadata={"dataset": "my own"}),
        "got 'my own'",
        "--dataset=",
    ),
    "an artifact of other data": (
        lambda g: g.assess(dataset="digits"),
        "expected 10; got 3",
        "distilled from",
    ),
    "an artifact of a network that nobody knows": (
        lambda g: g.assess(dataset=g.spots(), metadata={"network": "mine"}),
        "network: expected one of",
        "--network=",
    ),
    "an artifact whose network is endless": (
        lambda g: g.assess(
            dataset=g.spots(), metadata={"network": "mlp", "network_settings": {"widths": [10**12]}}
        ),
        "from 0 to 65,536; got 'widths': [1000000000000]",
        "--network=",
    ),
    "an artifact whose network brings its classes": (
        lambda g: g.assess(
            dataset=g.spots(), metadata={"network": "mlp", "network_settings": {"num_classes": 9}}
        ),
        "got 'num_classes': 9",
        "--network=",
    ),
    "an artifact whose network has other settings": (
        lambda g: g.assess(dataset=g.spots(), metadata={"network": "mlp", "network_settings": {"depth": 9}}),
        "settings of mlp: expected one of widths; got 'depth'",
        "widths",
    ),
    "an output that is a directory": (lambda g: g.assess(output=str(g.folder)), "is a directory", "--output"),
    "an output into nowhere": (
        lambda g: g.assess(output=str(g.folder / "no" / "a.json")),
        "none at",
        "Make it",
    ),
    "more images of a class than there are": (
        lambda g: g.assess(dataset=g.few()),
        "images per class: expected at most",
        "Ask for fewer",
    ),
    "an unknown flag": (lambda g: g.launch("--inner_stepz=3"), "Unknown command line flag", "See --help"),
    "a flag of another type": (lambda g: g.launch("--seed=one"), "--seed=one", "See --help"),
    "a flag below its least": (lambda g: g.launch("--inner_steps=0"), "inner_steps", "See --help"),
    "a negative time": (lambda g: g.launch("--save_seconds=-1"), "save_seconds", "See --help"),
    "a flag outside its choices": (
        lambda g: g.launch("--inner_optimizer=sdg"),
        "=sdg: value should be",
        "See",
    ),
    "an argument that is no flag": (lambda g: g.launch("mnist"), "expected only flags", "--name=value"),
    "a network that does not fit": (lambda g: g.launch("--network=lenet"), "got 8x8", "take convnet"),
    "a learning rate below zero": (lambda g: g.launch("--inner_lr=-0.1"), "got -0.1", "greater than zero"),
    "more distilled images than real": (
        lambda g: g.launch("--inner_steps=30", "--images_per_class_per_step=9"),
        "images per class: expected at most",
        "Ask for fewer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])


DAMAGED = {
    "settings cut short": ("config.json", "{", "config.json: expected JSON that a run wrote; got"),
    "settings that are none": ("config.json", "3", "config.json: expected a JSON object; got int"),
    "other settings": ("config.json", "{}", "was started with other settings"),
    "a result that is none": ("result.json", "[]", "result.json: expected a JSON object; got list"),
    "another result": ("result.json", '{"test_accuracy": 3}', "result.json: expected the result of a run"),
    "a plan that is none": ("plan.json", "null", "plan.json: expected the plan"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_work_directory_is_refused_and_left_alone(tmp_path, capsys, case):
    name, text, message = DAMAGED[case]
    good = Good(tmp_path, three_digits())
    settings = random_init.Config(dataset=good.spots(), workdir=str(good.workdir))
    distillation.claim(distillation.prepare("random_init", settings, random_init.build))
    (good.workdir / name).write_text(text)
    before = contents(good.workdir)
    assert process.guarded(lambda: random_init.LAUNCHER.run(settings)) == 2
    assert message in capsys.readouterr().err
    assert contents(good.workdir) == before
