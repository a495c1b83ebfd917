"""Everything that the page is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efficientnet_elite.config.training import BALANCED
from efficientnet_elite.report.artefacts import Artefacts
from efficientnet_elite.report.comparison import Agreement, Choice
from efficientnet_elite.report.cost import ForecastCheck, GroupCost, Training
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.mistakes import Mistakes
from efficientnet_elite.report.mistakes_page import Drawings
from efficientnet_elite.report.results import Champion
from efficientnet_elite.report.tradeoff import Options
from efficientnet_elite.search.decisions import DecidedRound
from efficientnet_elite.search.ledger import Epoch
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.search.summary import Group, Summary
from efficientnet_elite.search.tournament import Halt, Int8


@dataclass(frozen=True)
class Contents:
    """What the page shows, and its data as JSON and CSV.

    Attributes:
      workdir: work directory, for the commands that the page names.
      meta: settings of the search, from the ledger.
      summary: where the search stands; its groups are those that are shown in full.
      others: groups that are only listed.
      epochs: candidate or repeat to its recorded epochs.
      int8: candidate to its int8 results, by epoch.
      halts: group to what was ended there because time was up.
      champions: champions so far.
      artefacts: files that export and benchmark have written.
      options: the champions compared over all costs.
      rule: name of the rule of elimination.
      rounds: recorded decisions, by group and round.
      choices, agreement: what the other rules would have decided there.
      trainings: trainings that measure the noise of a score.
      costs: forecast and actual cost of each group, and at the end of all groups together.
      forecast_checks: forecast before the search and actual cost, in epochs and maybe in seconds.
      further: what candidates may be trained for as finalists and champions.
      written: when the page was written, as text.
      mistakes: what exported champions get wrong; those without stored predictions are missing.
    """

    workdir: Path
    meta: Mapping[str, Any]
    summary: Summary
    epochs: Mapping[str, Sequence[Epoch]]
    int8: Int8
    halts: Mapping[int, Halt]
    champions: Sequence[Champion]
    artefacts: Artefacts
    options: Options
    rule: str
    rounds: Sequence[DecidedRound]
    choices: Sequence[Choice]
    agreement: Sequence[Agreement]
    trainings: Sequence[Training]
    costs: Sequence[GroupCost]
    forecast_checks: Sequence[ForecastCheck]
    written: str
    mistakes: Sequence[Mistakes] = ()
    further: Sequence[Repeat] = ()
    others: Sequence[Group] = ()

    @property
    def groups(self) -> Sequence[Group]:
        """All groups of the search."""
        return (*self.summary.groups, *self.others)

    @property
    def score(self) -> str:
        """What files are measured by on the test part: ``accuracy``, or ``mIoU`` of masks."""
        return "mIoU" if self.meta["data"].get("score") == "mIoU" else "accuracy"

    @property
    def judged_by(self) -> str:
        """What networks are judged by on the validation part, which may be another measure."""
        balanced = self.meta["data"].get("score") == BALANCED
        return "balanced accuracy" if balanced else self.score


@dataclass(frozen=True)
class Figures:
    """The figures of the page.

    Attributes:
      curves: group number to its figure; groups that have not been started have none.
      brackets: the same; groups without a decision have none.
      size, latency: accuracy against file size and against latency; None with less than two
        models to compare.
      mistakes: champion to the figures of its mistakes.
    """

    curves: Mapping[int, Figure]
    brackets: Mapping[int, Figure]
    size: Figure | None
    latency: Figure | None
    mistakes: Mapping[str, Drawings] = field(default_factory=dict)

    @property
    def all(self) -> list[Figure]:
        """Every figure."""
        both = (self.size, self.latency)
        drawn = [figure for drawings in self.mistakes.values() for figure in drawings.all]
        return [*self.curves.values(), *self.brackets.values(), *filter(None, both), *drawn]
