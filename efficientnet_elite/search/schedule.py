"""When a search eliminates candidates: the length of rounds and of the whole training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from efficientnet_elite.config import CROSSFIT, FOLDS, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.rules import Rule, check_parameter, find_rule


@dataclass(frozen=True)
class Schedule:
    """Length of the rounds and of the whole training, and the rule of elimination.

    The last round may be shorter, so that no round goes past ``epochs``; it always ends with a
    single winner.

    Attributes:
      round_epochs: epochs between two eliminations of a group.
      epochs: epochs of the whole training.
      rule: name of the rule of elimination.
      first_elimination: epoch of the first elimination; None for what the rule makes of the rounds.
      images: validation images, see `Rule.images`.
      waits: whether eliminations wait until the candidates have learned something, see
        `Rule.is_ready`. Searches with a budget in epochs do not, because it could be exceeded.
      finalist_seed: added to the seed of the search for the further training of a finalist (see
        `tournament.standing`), and for those of several folds the first of these numbers; None
        where a candidate is judged by its own training alone.
      folds: number of folds of the images for training and validation. With more than one, a
        finalist has a further training for each fold but that of its own training.
      final_epochs: epochs of a champion's final training, from its start, which follows the
        tournament in place of the rest of its own training; 0 where that is trained to its end.
    """

    round_epochs: int
    epochs: int
    rule: str = "average"
    first_elimination: int | None = None
    images: float | None = None
    waits: bool = False
    finalist_seed: int | None = None
    folds: int = 1
    final_epochs: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.round_epochs <= self.epochs:
            raise ValueError("1 <= round_epochs <= epochs does not hold")

    @property
    def further(self) -> int:
        """Number of further trainings of a finalist, besides its own one."""
        return 0 if self.finalist_seed is None else max(1, self.folds - 1)

    @property
    def judge(self) -> Rule:
        """The rule, for the validation part of the search."""
        return find_rule(self.rule).on(self.images)

    def elimination_epoch(self, number: int, *, losses: bool = True) -> int:
        """The epoch after which round ``number`` (from 1) ends, see `Rule.elimination_epoch`."""
        return find_rule(self.rule).elimination_epoch(
            number, self.round_epochs, self.epochs, losses=losses, first=self.first_elimination
        )


def make_schedule(
    rule: str, epochs: int, round_epochs: int | None = None, first_elimination: int | None = None
) -> Schedule:
    """A schedule with the rule's defaults where None is given.

    If a round is given and the first elimination is not, the rule makes it of the rounds.

    Raises:
      UserError: ``first_elimination`` is given for a rule that does not have this parameter.
    """
    if first_elimination is not None:
        check_parameter(rule, "first_elimination")
    if round_epochs is None:
        round_epochs = find_rule(rule).default_round(epochs)
        if first_elimination is None:
            first_elimination = find_rule(rule).default_first(round_epochs, epochs)
    return Schedule(round_epochs, epochs, rule, first_elimination)


def check_rounds(config: SearchConfig) -> None:
    """UserError where a round or the first elimination would end after the whole training."""
    for name in ("round_epochs", "first_elimination"):
        epochs = getattr(config, name)
        if epochs is not None and epochs > config.train.epochs:
            raise UserError(f"{name}={epochs}: must be from 1 to epochs={config.train.epochs}")


def with_rule_defaults(config: SearchConfig) -> SearchConfig:
    """The settings with the rule's defaults for rounds and first elimination.

    A ledger stores settings in this form, so that a change of defaults leaves begun searches alone.

    Raises:
      UserError: as `check_rounds` and `make_schedule`.
    """
    check_rounds(config)
    schedule = make_schedule(
        config.rule, config.train.epochs, config.round_epochs, config.first_elimination
    )
    return replace(
        config,
        round_epochs=schedule.round_epochs,
        first_elimination=schedule.first_elimination,
    )


def schedule_of(meta: Mapping[str, Any]) -> Schedule:
    """The schedule of a search, from the settings in its ledger; UserError where there are none.

    A search with a budget may have rounds that are shorter than those that were asked for. If it
    was begun by a version that divided its rounds, its first elimination may be earlier, too.
    """
    asked, plan = asked_schedule(meta), meta.get("plan", {})
    return replace(
        asked,
        round_epochs=plan.get("round_epochs", asked.round_epochs),
        first_elimination=plan.get("first_elimination", asked.first_elimination),
        images=(images := meta.get("validation_images")),
        waits=images is not None and meta["config"].get("budget_epochs") is None,
        finalist_seed=asked.finalist_seed if plan.get("finalist_seeds", 2) > 1 else None,
    )


def asked_schedule(meta: Mapping[str, Any]) -> Schedule:
    """The schedule that was asked for, before the plan of a budget; see `schedule_of`."""
    if "config" not in meta:
        raise UserError("the search has not been set up: run the same `elite search` again")
    config = meta["config"]
    schedule = make_schedule(
        config["rule"],
        config["train"]["epochs"],
        config["round_epochs"],
        config.get("first_elimination"),
    )
    # Versions that knew no finalists recorded nothing of them, and judge as before.
    folds = FOLDS if config.get("data", {}).get("validation") == CROSSFIT else 1
    schedule = with_finalists(schedule, config.get("finalist_seeds", 1), config["seeds"], folds)
    return replace(schedule, final_epochs=config.get("final_epochs", 0))


def with_finalists(
    schedule: Schedule, finalist_seeds: int, seeds: int = 1, folds: int = 1
) -> Schedule:
    """A schedule with the further trainings of finalists that settings ask for.

    Args:
      schedule: the schedule without them.
      finalist_seeds, seeds: the settings of a search. The seeds of finalists are none of those that
        measure noise.
      folds: see `Schedule`.
    """
    wanted = finalist_seeds > 1 or folds > 1
    return replace(schedule, finalist_seed=seeds if wanted else None, folds=folds)
