"""Settings as flags."""

from __future__ import annotations

import dataclasses
import re

import pytest
from absl import flags as absl_flags
from launchers import ROOT

from ddjax import report
from ddjax.launch import Where, check_workdir, flag, flag_like, launcher
from ddjax.launch.directory import describe_settings
from ddjax.launch.flags import at_home, command_line, of_the_step, parse, recorded, without_effect
from experiments import distribution_matching

DISTILLATIONS = (
    *("adapt", "attack", "distribution_matching", "finetune", "fixed_init", "gradient_matching"),
    *("quickstart", "random_init", "sweep"),
)
SAME_STEP = {
    *("workdir", "data_dir", "seed", "num_outer_steps", "validate_every", "record_every", "save_seconds"),
    *("num_eval_inits", "num_val_inits", "baselines", "tensorboard", "clip_norm"),
    *(
        "init_gain",
        "inner_lr",
        "inner_lr_decay",
        "max_inner_lr",
        "outer_lr",
        "outer_lr_of_coefficients",
        "outer_lr_of_lrs",
        "outer_lr_of_labels",
        "train_epochs",
        "train_lr",
        "train_batch",
        "eval_augment",
    ),
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


EVERY = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
PATHS = [
    (name, field.name)
    for name in EVERY
    for field in dataclasses.fields(launcher.find(name).config_class)
    if field.metadata["path"]
]
LIKE_A_PATH = re.compile(
    r"\.npz|\.json|\.safetensors|[Dd]irectory|\bpath\b|\bfile\b|where TFDS|what to test on"
)


def parsed(name: str, *arguments: str):
    return parse(launcher.find(name).config_class, [name, *arguments], absl_flags.FlagValues())


@pytest.mark.parametrize(("name", "flag_name"), PATHS)
def test_every_path_flag_knows_the_home_directory(name, flag_name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    assert getattr(parsed(name, f"--{flag_name}=~/x.npz"), flag_name) == "/home/of/x.npz"
    assert getattr(parsed(name, f"--{flag_name}=a/~b"), flag_name) == "a/~b"


@pytest.mark.parametrize("name", EVERY)
def test_what_reads_like_a_path_is_a_path_flag(name):
    fields = dataclasses.fields(launcher.find(name).config_class)
    texts = [field for field in fields if isinstance(field.default, str | None) and "str" in str(field.type)]
    missed = [f.name for f in texts if LIKE_A_PATH.search(f.metadata["help"]) and not f.metadata["path"]]
    assert missed == []


def test_each_of_several_paths_is_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    assert at_home("artifact", "~/a.npz,b.npz,~/c.npz") == "/home/of/a.npz,b.npz,/home/of/c.npz"
    with pytest.raises(
        ValueError, match=r"artifact: ~nobody.*: expected a home directory for '~nobody-of-this-name'"
    ):
        at_home("artifact", "~nobody-of-this-name/a.npz")


RATES = [
    (name, field.name)
    for name in EVERY
    for field in dataclasses.fields(launcher.find(name).config_class)
    if "float" in str(field.type)
]


@pytest.mark.parametrize(("name", "flag_name"), RATES)
def test_no_flag_takes_a_number_that_is_none(name, flag_name):
    # The form of φ refuses what is no probability.
    negative = () if flag_name == "label_confidence" else ("-0.01",)
    for value in ("nan", "inf", "-inf", *negative):
        with pytest.raises(ValueError, match=flag_name):
            parsed(name, f"--{flag_name}={value}")


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("distribution_matching", "--train_lr=0", "train_lr: expected a finite number > 0; got 0"),
        (
            "gradient_matching",
            "--train_epochs=2000000",
            "train_epochs: expected at most 1,000,000; got 2,000,000",
        ),
        ("coreset", "--train_epochs=2000000", "train_epochs: expected at most 1,000,000"),
        ("continual", "--train_epochs=2000000", "train_epochs: expected at most 1,000,000"),
        ("cross_architecture", "--train_epochs=2000000", "train_epochs: expected at most 1,000,000"),
        ("architecture_search", "--whole_lr=0", "whole_lr: expected a finite number > 0"),
        ("pretrain", "--lr=0", "lr: expected a finite number > 0"),
    ],
)
def test_a_training_that_could_not_be_recorded_is_refused(name, argument, message):
    with pytest.raises(ValueError, match=message):
        parsed(name, argument)


SILENT = [
    ("random_init", ["--slots_per_chunk=8"], {"slots_per_chunk"}),
    ("random_init", ["--slots_per_chunk=8", "--num_inits=12"], {"slots_per_chunk"}),
    ("random_init", ["--slots_per_chunk=4", "--num_inits=8"], set()),
    ("random_init", ["--network=mlp", "--conv_form=im2col"], {"conv_form"}),
    ("random_init", ["--network=lenet", "--conv_form=im2col"], set()),
    ("random_init", ["--max_rollbacks=5"], {"max_rollbacks"}),
    ("random_init", ["--max_rollbacks=5", "--on_nonfinite=rollback"], set()),
    ("random_init", ["--original", "--outer_lr_of_lrs=0.5"], {"outer_lr_of_lrs"}),
    ("random_init", ["--window=30"], {"window"}),
    ("random_init", ["--window=29"], set()),
    ("random_init", ["--data_dir=x"], {"data_dir"}),
    ("random_init", ["--data_dir=x", "--dataset=mnist"], set()),
    ("adapt", ["--member=1"], {"member"}),
    ("adapt", ["--nobaselines", "--init=pytorch"], {"init"}),
    ("attack", ["--init_gain=2"], {"init_gain"}),
    ("finetune", ["--last_layer=loaded", "--init=pytorch"], {"init"}),
    ("gradient_matching", ["--net_lr=1"], {"net_lr"}),
    ("gradient_matching", ["--net_lr=1", "--images_per_class=10"], set()),
    ("baselines", ["--pool=p.npz", "--init=pytorch"], {"pool"}),
    ("baselines", ["--pool=p.npz", "--theta=pool", "--init=pytorch"], {"init"}),
    (
        "baselines",
        ["--baselines=class mean", "--num_kept=3", "--num_clusterings=2"],
        {"num_kept", "num_clusterings"},
    ),
    ("coreset", ["--select=random", "--feature_lr=1", "--features=pixels"], {"feature_lr", "features"}),
    ("coreset", ["--features=pixels", "--feature_lr=1"], {"feature_lr"}),
    ("coreset", ["--feature_lr=1"], set()),
    (
        "continual",
        ["--memory=random", "--batch_size=8", "--feature_epochs=2"],
        {"batch_size", "feature_epochs"},
    ),
    ("continual", ["--batch_size=8"], set()),
    ("evaluate", ["--pool=p.npz", "--init=pytorch"], {"init"}),
    ("paper", ["--usps=u.npz"], {"usps"}),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), SILENT)
def test_flags_that_change_nothing_are_named(name, arguments, expected):
    assert set(without_effect(parsed(name, *arguments))) == expected


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_named_where_nothing_is_given(name):
    assert without_effect(launcher.find(name).config_class()) == {}


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
