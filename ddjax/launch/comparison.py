"""What a distillation has to beat: the setting of a comparison of baselines, and their scores one by one."""

from __future__ import annotations

from typing import Any

import jax

from ddjax import Recipe, baselines, checks, coresets, inits
from ddjax.data import Dataset
from ddjax.launch import results
from ddjax.launch.choices import (
    build_network,
    choose_network,
    load_pool,
    network_of,
    random_inits,
    runs_at_once,
)
from ddjax.launch.flags import numbers
from ddjax.launch.kept import Scores
from ddjax.launch.types import Keys, Layout
from ddjax.types import InitDistribution, Network

ALL_DATA = "all data"
CHOICES = (*baselines.ALL, ALL_DATA)
"""The baselines that can be asked for."""


def names(config: Any) -> tuple[str, ...]:
    """The baselines that the flag lists.

    Args:
        config: the settings of `experiments.baselines`.

    Returns:
        The names; all baselines where the flag is empty.

    Raises:
        ValueError: a name is unknown.
    """
    wanted = tuple(part.strip() for part in config.baselines.split(";") if part.strip())
    for name in wanted:
        checks.choice("baselines", name, CHOICES, remedy="Separate them by semicolons.")
    return wanted or CHOICES


def selection_of(config: Any) -> baselines.Selection:
    """How many random sets compete to be the optimized ones, and how many of them are kept.

    Args:
        config: the settings of `experiments.baselines`.

    Returns:
        The choice of the sets.

    Raises:
        ValueError: fewer sets compete than are kept.
    """
    return baselines.Selection(config.num_candidates, config.num_kept, config.num_selection_inits)


def setting_of(config: Any, data: Dataset) -> baselines.Setting:
    """The setting of the comparison: data, network, p(θ0), layout and the learning rates to choose from.

    Args:
        config: the settings of `experiments.baselines`.
        data: the real data.

    Returns:
        The setting.

    Raises:
        ValueError: a list holds something else than numbers, the network does not fit the images, a class has
            too few images, or the file of the pool holds no pool.
        FileNotFoundError: there is no such pool.
    """
    pool = load_pool(config.pool) if config.theta == "pool" else None
    choice = choose_network(config, data, otherwise=None if pool is None else network_of(pool))
    network = build_network(choice, data)
    members = None if pool is None else pool.fit(network)
    tuning = baselines.Tuning(
        learning_rates=numbers("learning_rates", config.learning_rates, float),
        epochs=numbers("epochs", config.epochs, int),
        num_inits=config.num_tuning_inits,
        inits=None if members is None else inits.pretrained(members),
    )
    if members is None:
        distribution, count = _drawn(config, network), config.num_eval_inits
    else:
        distribution = inits.pretrained(members, split="held_out")
        count = min(config.num_eval_inits, members.size("held_out"))
    setting = baselines.Setting(
        data,
        network,
        distribution,
        Recipe(optimizer=config.inner_optimizer),
        config.inner_steps,
        config.inner_epochs,
        config.images_per_class_per_step,
        count,
        runs_at_once(config.num_eval_inits),
        tuning,
    )
    if any("class mean" not in name and name != ALL_DATA for name in names(config)):
        coresets.check_enough(data.train, setting.per_class, data.num_classes)
    return setting


def _drawn(config: Any, network: Network) -> InitDistribution:
    """p(θ0) of `--theta=random`, or of `--theta=fixed` the one θ0 of `fixed_init` with the same seed."""
    if config.theta == "fixed":
        theta = Keys.of(config.seed).theta
        return inits.fixed(network, theta, scheme=config.init, gain=config.init_gain)
    return random_inits(config, network)


def measure(config: Any, setting: baselines.Setting, scores: Scores) -> dict[str, Any]:
    """What `result.json` says of the baselines; each score is kept as soon as it is known.

    Args:
        config: the settings of `experiments.baselines`.
        setting: the setting of the comparison.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    wanted = names(config)
    few_key, all_key = jax.random.split(Keys.of(config.seed).baselines)
    baselines.measure(
        setting,
        key=few_key,
        seed=config.seed,
        names=[name for name in wanted if name != ALL_DATA],
        selection=selection_of(config),
        num_clusterings=config.num_clusterings,
        known=scores.known,
        listener=scores.add,
    )
    if ALL_DATA in wanted:
        scores.each({ALL_DATA: lambda: results.ceiling(setting, key=all_key).as_dict()})
    layout = Layout(setting.inner_steps, setting.inner_epochs, setting.per_class_per_step)
    return {
        "network": setting.network.name,
        "init": setting.inits.name,
        "layout": layout.as_dict(setting.data.num_classes),
        "baselines": {name: scores.known[name] for name in wanted},
    }
