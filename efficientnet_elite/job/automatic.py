"""`--config=auto` at work: gathers the facts that `plan` chooses by, and applies its choices.

A setting that the user gave stays as it is. A search or training that is continued keeps what was
chosen when it began (`starts.continued`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from efficientnet_elite import machine
from efficientnet_elite.config import Limits, SearchConfig
from efficientnet_elite.device import costs
from efficientnet_elite.device.limits import excluded, metrics_by_limit
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import plan, starts
from efficientnet_elite.job.settings import with_values
from efficientnet_elite.search.budget import Pace, TrainingCost
from efficientnet_elite.search.candidates import (
    PAPER_METRICS,
    Candidate,
    Measure,
    pool_members,
    select_for,
)
from efficientnet_elite.search.planning import MARGIN
from efficientnet_elite.search.schedule import make_schedule, with_finalists

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

CHOSEN = frozenset(
    {*starts.LENGTHS, "base_resolution", "groups", "max_candidates", "train.batch_size"}
)
"""Dotted names of the settings that are chosen for each data set."""

ENOUGH_CANDIDATES = 4
"""Candidates of a search that should be within the limits; a smaller input is chosen otherwise."""


def sized(config: SearchConfig, given: Collection[str], enough: int) -> SearchConfig:
    """The settings with the input side that suits the images and the limits.

    Args:
      config: what the user asked for.
      given: dotted names of the settings that he gave himself.
      enough: number of networks that should be within the limits.

    Raises:
      UserError: the data set is unknown or missing.
    """
    if "base_resolution" in given:
        return config
    from efficientnet_elite.data import sides

    side = plan.base_resolution(
        sides.of_data_set(config.data),
        lambda side: len(_within(config, side)),
        enough,
    )
    return replace(config, base_resolution=side)


def _within(config: SearchConfig, side: int) -> list[Candidate]:
    """The networks of the pool at an input side within the limits that can be computed."""
    members = pool_members(config.pool, base_resolution=side, channels=config.data.input_channels)
    named = metrics_by_limit()
    measured = set(costs.to_measure(list(named.values())))
    computed = {
        name: value
        for name, value in config.limits.by_name().items()
        if named.get(name) not in measured
    }
    try:
        out = excluded([member.spec for member in members], Limits.of(computed))
    except UserError:  # none is within them
        return []
    return [member for member in members if member.name not in out]


def fitted(config: SearchConfig, given: Collection[str], images: int) -> SearchConfig:
    """The settings with the batch size and the lengths that suit the number of images.

    Args:
      config: of `starts.begun`.
      given: dotted names of the settings that the user gave himself.
      images: number of training images.
    """
    if "train.batch_size" not in given:
        config = with_values(config, {"train.batch_size": plan.batch_size(images)})
    steps = plan.steps(images, config.train.batch_size, pretrained=config.train.is_pretrained)
    return starts.fitted(config, given, images, steps)


def fitted_search(
    config: SearchConfig,
    given: Collection[str],
    data: ImageData,
    *,
    measure: Measure,
    pace_of: Callable[[SearchConfig], Pace],
) -> SearchConfig:
    """The settings of a search that suit the number of images and the pace of this machine.

    Args:
      config: of `starts.begun`.
      given: dotted names of the settings that the user gave himself.
      data: the images.
      measure: measures cost metrics that cannot be computed.
      pace_of: measures the pace; called only if there is a budget in hours.
    """
    config = fitted(config, given, data.sizes["train"])
    considered = plan.races(
        config.groups if "groups" in given else None,
        config.max_candidates if "max_candidates" in given else None,
    )
    budget, pace = float("inf"), None
    if config.budget_hours is not None:
        budget, pace = 3600 * config.budget_hours * (1 - MARGIN), pace_of(config)
    groups_of = {
        groups: _costs(config, groups, data.num_classes, measure, pace)
        for groups in dict.fromkeys(number for number, _ in considered)
    }
    schedule = make_schedule(
        config.rule, config.train.epochs, config.round_epochs, config.first_elimination
    )
    schedule = with_finalists(schedule, config.finalist_seeds, config.seeds, config.data.folds)
    schedule = replace(schedule, final_epochs=config.final_epochs)
    race = plan.race(
        groups_of,
        schedule,
        budget,
        considered=considered,
        workers=pace.workers if pace else 1,
        seeds=config.seeds,
    )
    values: dict[str, Any] = {"groups": race.groups, "max_candidates": race.candidates}
    values = {name: value for name, value in values.items() if name not in given}
    config = with_values(config, values)
    if race.epochs < config.train.epochs and "train.epochs" not in given:
        config = with_values(config, {"train.epochs": race.epochs})
        return starts.fitted(config, {*given, "train.epochs"}, data.sizes["train"], steps=1)
    return config


def _costs(
    config: SearchConfig, groups: int, classes: int, measure: Measure, pace: Pace | None
) -> list[list[TrainingCost]]:
    """The costs of a pool's candidates in so many groups, group by group."""
    selection = select_for(replace(config, groups=groups), classes, measure)
    found: dict[int, list[TrainingCost]] = {}
    for candidate in selection.candidates:
        cost = pace.cost_of(candidate.spec.macs) if pace else TrainingCost()
        found.setdefault(candidate.group, []).append(cost)
    return list(found.values())


def best_network(config: SearchConfig, classes: int, measure: Measure) -> str:
    """The network that is trained where none is named: the largest of the pool within the limits.

    Args:
      config: of `starts.begun`; its limit on size is `plan.DEFAULT_SIZES_KB` by default.
      classes: number of classes.
      measure: measures cost metrics that cannot be computed.

    Raises:
      UserError: no network is within the limits.
    """
    limits = config.limits
    if limits.size_kb is None:
        limits = replace(limits, size_kb=plan.DEFAULT_SIZES_KB[config.train.is_pretrained])
    # Groups do not matter here, and what they are made by need not be measured.
    ungrouped = replace(config, limits=limits, groups=None, group_by=PAPER_METRICS)
    selection = select_for(ungrouped, classes, measure)
    return plan.network({c.name: (c.spec.macs, c.spec.params) for c in selection.candidates})


def workers(config: SearchConfig) -> int | None:
    """How many workers suit a search on this machine; None for training in its own process."""
    import tensorflow as tf

    memory, cores = machine.memory_bytes(), machine.processors()
    if memory is None or cores is None:
        return None
    gpus = len(tf.config.list_physical_devices("GPU"))
    return plan.workers(cores, memory / 1e9, gpus, config.max_candidates)
