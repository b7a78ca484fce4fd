"""Settings as flags."""

from __future__ import annotations

import dataclasses

import pytest

from ddjax import report
from ddjax.launch import Where, check_workdir, flag, flag_like, launcher
from ddjax.launch.directory import describe_settings
from ddjax.launch.flags import command_line, of_the_step, recorded
from experiments import distribution_matching

DISTILLATIONS = (
    *("adapt", "attack", "distribution_matching", "finetune", "fixed_init", "gradient_matching"),
    *("quickstart", "random_init", "sweep"),
)
SAME_STEP = {
    *("workdir", "data_dir", "seed", "num_outer_steps", "validate_every", "record_every", "save_seconds"),
    *("num_eval_inits", "num_val_inits", "baselines", "tensorboard", "clip_norm"),
    *("init_gain", "inner_lr", "outer_lr", "outer_lr_of_lrs", "train_epochs", "train_lr", "eval_augment"),
    "protocol",
}
"""Settings that make no outer step faster or larger; tuned plans that are remembered depend on all others."""


def test_runs_that_differ_in_these_settings_alone_share_a_plan():
    found = set()
    for name in DISTILLATIONS:
        fields = dataclasses.fields(launcher.find(name).config_class)
        same = {field.name for field in fields if field.metadata["same_step"]}
        assert same == SAME_STEP & {field.name for field in fields}, name
        found |= same
    assert found == SAME_STEP


def test_a_setting_of_the_step_is_recorded_and_not_marked():
    config = launcher.find("random_init").config_class()
    assert set(of_the_step(config)) == set(recorded(config)) - SAME_STEP
    assert {"batch_size", "memory", "inner_steps"} <= set(of_the_step(config))


def test_a_flag_like_another_differs_in_what_is_said():
    @dataclasses.dataclass(frozen=True)
    class Config(Where):
        seed: int = flag_like(Where, "seed", default=3, help="of the weights")
        data_dir: str | None = flag_like(Where, "data_dir", recorded=False)
        size: int = flag(1, "a size", low=1)

    seed, data_dir = (Config.__dataclass_fields__[name] for name in ("seed", "data_dir"))
    before = Where.__dataclass_fields__["seed"].metadata
    assert dict(seed.metadata) == {**before, "help": "of the weights"}
    assert (seed.default, data_dir.default) == (3, None)
    assert set(recorded(Config())) == {"dataset", "seed", "size"}


def test_the_default_directory_is_named_after_the_launcher_and_the_data():
    assert str(Where(dataset="some/place/birds.npz").directory("attack")) == "runs/attack-birds"
    assert str(Where(workdir="elsewhere").directory("attack")) == "elsewhere"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"baselines": False, "fixed": True}, ["--nobaselines", "--fixed"]),
        ({"seed": 3, "dataset": "a b"}, ["--seed=3", "--dataset=a b"]),
    ],
)
def test_flags_as_they_stand_on_a_command_line(given, expected):
    assert command_line(given) == expected


def test_a_work_directory_without_a_protocol_was_trained_by_the_plain_one(tmp_path):
    """As every `config.json` of a version that knew no other; the default has changed since."""
    config = distribution_matching.Config(protocol="plain")
    older = describe_settings(config, experiment="distribution_matching")
    del older["protocol"]
    report.write_json(tmp_path / "config.json", older)
    assert check_workdir(tmp_path, config, experiment="distribution_matching")
    published = distribution_matching.Config()
    assert published.protocol == "condensation"
    with pytest.raises(ValueError, match="protocol was 'plain', is 'condensation'"):
        check_workdir(tmp_path, published, experiment="distribution_matching")
