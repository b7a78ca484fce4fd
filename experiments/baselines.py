"""Measure what a distillation has to beat: every baseline of Wang et al. 2018, for any p(θ0) and layout.

Random real images, the best of many random sets (chosen on training images), k-means of each class, class
means, each under a constant learning rate chosen on the validation split; k-NN on the same images; the whole
training set. The work directory keeps each score as it comes: a stopped run continues with the next score.

Claim: MNIST, LeNet, 100 images, S 10, E 3, over 50 unseen initial weights: random real 55.9 ± 12.2, the best
of many random sets 63.6 ± 6.6, k-means 62.8 ± 12.1, class means 74.2 ± 5.9; k-NN on k-means 92.3 ± 0.1; all
images 99.1 ± 0.0.
Cost: 1,385 s of two CPU cores beside other runs.
Records: results/paper-basic-mnist-small.json

    python -m experiments.baselines --dataset=mnist --workdir=runs/baselines-mnist
    python -m experiments.baselines --dataset=mnist --theta=fixed --inner_steps=1
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax

from ddjax import Recipe, baselines, checks, coresets, inits
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Layout, Scores, inputs_of, once, results
from ddjax.launch.choices import build_network, choose_network, load_data, load_pool, network_of, runs_at_once
from ddjax.launch.flags import FILE, flag, flag_like, numbers
from ddjax.launch.settings import DataChoice, TextChoice, Where
from ddjax.types import InitDistribution, Network
from ddjax.unroll import OPTIMIZERS

ALL_DATA = "all data"
CHOICES = (*baselines.ALL, ALL_DATA)


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice, TextChoice):
    """The settings of a comparison."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the scores; runs/baselines-DATASET by default"
    )
    seed: int = flag_like(
        Where, "seed", help="of everything random; the θ0 of --theta=fixed is that of fixed_init"
    )
    theta: str = flag(
        "random", "initial weights: drawn anew, one θ0, or --pool's", choices=("random", "fixed", "pool")
    )
    pool: str = flag(
        "",
        "pool.npz of --theta=pool: tuned on its training members, scored on the held-out",
        path=True,
        role=FILE,
    )
    inner_steps: int = flag(10, "S, gradient steps with images of their own", low=1)
    inner_epochs: int = flag(3, "E, passes over those steps", low=1)
    images_per_class_per_step: int = flag(1, "images of one class in one step", low=1)
    inner_optimizer: str = flag("sgd", "whose updates the learning rate scales", choices=tuple(OPTIMIZERS))
    learning_rates: str = flag(
        "0.003,0.01,0.02,0.03,0.05,0.07,0.1,0.15,0.2,0.5", "to choose from on validation"
    )
    epochs: str = flag("", "numbers of epochs to choose from too, e.g. 1,3,10; by default E alone")
    baselines: str = flag("", f"which ones, with ; between them; by default all: {'; '.join(CHOICES)}")
    num_eval_inits: int = flag(50, "unseen initial weights behind each score", low=1)
    num_tuning_inits: int = flag(50, "initial weights behind each choice on validation", low=1)
    num_candidates: int = flag(100, "random sets that compete to be the optimized ones", low=1)
    num_selection_inits: int = flag(20, "initial weights that each of them trains", low=1)
    num_kept: int = flag(10, "the best of them, that are kept", low=1)
    num_clusterings: int = flag(3, "k-means from so many starts", low=1)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found, wanted = super().idle(), names(self)
        if self.theta == "pool":
            found |= dict.fromkeys(("init", "init_gain"), "--theta=pool has the weights")
        else:
            found["pool"] = "only --theta=pool reads it"
        if not any("optimized" in name for name in wanted):
            sets = ("num_candidates", "num_selection_inits", "num_kept")
            found |= dict.fromkeys(sets, "no optimized sets are among --baselines")
        if not any("k-means" in name for name in wanted):
            found["num_clusterings"] = "k-means is not among --baselines"
        return found


def names(config: Config) -> tuple[str, ...]:
    """The baselines that the flag lists.

    Args:
        config: the settings.

    Returns:
        The names; all baselines where the flag is empty.

    Raises:
        ValueError: a name is unknown.
    """
    wanted = tuple(part.strip() for part in config.baselines.split(";") if part.strip())
    for name in wanted:
        checks.choice("baselines", name, CHOICES, remedy="Separate them by semicolons.")
    return wanted or CHOICES


def setting_of(config: Config, data: Dataset, keys: Keys) -> baselines.Setting:
    """The setting of the comparison: data, network, p(θ0), layout and the learning rates to choose from.

    Args:
        config: the settings.
        data: the real data.
        keys: the keys of the seed.

    Returns:
        The setting.

    Raises:
        ValueError: a list holds something else than numbers, the network does not fit the images, or the file
            of the pool holds no pool.
        FileNotFoundError: there is no such pool.
    """
    pool = load_pool(config.pool) if config.theta == "pool" else None
    choice = choose_network(config, data, otherwise=None if pool is None else network_of(pool))
    network = build_network(choice, data)
    tuning = baselines.Tuning(
        learning_rates=numbers("learning_rates", config.learning_rates, float),
        epochs=numbers("epochs", config.epochs, int),
        num_inits=config.num_tuning_inits,
        inits=None if pool is None else inits.pretrained(pool.fit(network)),
    )
    if pool is None:
        distribution = initial_weights(config, network, keys)
    else:
        distribution = inits.pretrained(pool.fit(network), split="held_out")
    return baselines.Setting(
        data,
        network,
        distribution,
        Recipe(optimizer=config.inner_optimizer),
        config.inner_steps,
        config.inner_epochs,
        config.images_per_class_per_step,
        min(config.num_eval_inits, pool.size("held_out")) if pool else config.num_eval_inits,
        runs_at_once(config.num_eval_inits),
        tuning,
    )


def initial_weights(config: Config, network: Network, keys: Keys) -> InitDistribution:
    """p(θ0) of the flags, for `--theta=random` and `--theta=fixed`.

    Args:
        config: the settings.
        network: the network that the weights belong to.
        keys: the keys of the seed.

    Returns:
        The distribution.
    """
    if config.theta == "fixed":
        return inits.fixed(network, keys.theta, scheme=config.init, gain=config.init_gain)
    return inits.random(network, scheme=config.init, gain=config.init_gain)


def run(config: Config) -> dict[str, Any]:
    """Measure the baselines, print and return them; or find them measured.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directory.
        FileNotFoundError: the data are missing.
    """
    wanted, keys = names(config), Keys.of(config.seed)
    selection = baselines.Selection(config.num_candidates, config.num_kept, config.num_selection_inits)
    data = load_data(config)
    setting = setting_of(config, data, keys)
    if any("class mean" not in name and name != ALL_DATA for name in wanted):
        coresets.check_enough(data.train, setting.per_class, data.num_classes)
    workdir = config.directory("baselines")
    return once(
        workdir,
        config,
        lambda: measure(config, setting, wanted, selection, keys=keys, scores=Scores(workdir)),
        experiment="baselines",
        what=f"baselines of {data.name}, {setting.per_class * data.num_classes} images, "
        f"S {config.inner_steps}, E {config.inner_epochs}: {setting.network.name} from {setting.inits.name}",
        written="scores.json, result.json",
        inputs=inputs_of(config, data),
    )


def measure(
    config: Config,
    setting: baselines.Setting,
    wanted: Sequence[str],
    selection: baselines.Selection,
    *,
    keys: Keys,
    scores: Scores,
) -> dict[str, Any]:
    """The content of `result.json`; each score is kept as soon as it is known.

    Args:
        config: the settings.
        setting: the setting of the comparison.
        wanted: the names of the baselines, from `CHOICES`.
        selection: how many random sets compete to be the optimized ones, and how many of them are kept.
        keys: the keys of the seed.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The record.
    """
    began = time.monotonic()
    few_key, all_key = jax.random.split(keys.baselines)
    baselines.measure(
        setting,
        key=few_key,
        seed=config.seed,
        names=[name for name in wanted if name != ALL_DATA],
        selection=selection,
        num_clusterings=config.num_clusterings,
        known=scores.known,
        listener=scores.add,
    )
    if ALL_DATA in wanted and ALL_DATA not in scores.known:
        scores.add(ALL_DATA, results.ceiling(setting, key=all_key).as_dict())
    layout = Layout(setting.inner_steps, setting.inner_epochs, setting.per_class_per_step)
    found = {
        "network": setting.network.name,
        "init": setting.inits.name,
        "layout": layout.as_dict(setting.data.num_classes),
        "baselines": {name: scores.known[name] for name in wanted},
    }
    seconds = {"total": time.monotonic() - began}
    return results.record("baselines", setting.data.name, found, seconds=seconds, seed=config.seed)


LAUNCHER = Launcher("baselines", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()
