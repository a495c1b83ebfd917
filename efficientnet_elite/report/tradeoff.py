"""The Pareto front of the champions over all costs that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite.device.costs import METRICS, Measured, computed
from efficientnet_elite.report import pareto
from efficientnet_elite.report.results import Champion, validated
from efficientnet_elite.search.candidates import Candidate


@dataclass(frozen=True)
class Option:
    """A champion, compared with the others.

    Attributes:
      name, group: name and cost group of the champion.
      accuracy: accuracy, 0..1; see `Options`.
      costs: cost metric (of `device.costs.METRICS`) to value in its base unit, for all of
        `Options.metrics`.
      on_front: whether no other is at least as good in everything and better in something.
      alone: cost metrics each of which suffices: the champion is also on the front of accuracy and
        this metric alone.
      beaten_by: names of the champions that dominate it; empty on the front.
    """

    name: str
    group: int
    accuracy: float
    costs: Mapping[str, float]
    on_front: bool
    alone: tuple[str, ...]
    beaten_by: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """All champions that can be compared.

    Attributes:
      tested: whether accuracies are those of the int8 files on the test part, and sizes those of
        the files; else accuracies are those on the validation part, and sizes are estimates.
      kind: kind of the accuracies: ``int8`` or ``float32``.
      metrics: names of the cost metrics that are known for all of them.
      partly: names of those that are known for some of them only, and therefore left out.
      rows: the champions, in the order of the groups.
    """

    tested: bool
    kind: str
    metrics: tuple[str, ...]
    partly: tuple[str, ...]
    rows: tuple[Option, ...]


def options(
    champions: Sequence[Champion], candidates: Sequence[Candidate], measured: Measured
) -> Options:
    """Compares the champions: those that have been exported, or else those trained to the end.

    Args:
      champions: champions so far.
      candidates: candidates of the search, for their specs.
      measured: metrics that the search has measured for its groups and limits.
    """
    specs = {candidate.name: candidate.spec for candidate in candidates}
    tested = any(champion.export for champion in champions)
    if tested:
        compared = [champion for champion in champions if champion.export]
        kind, accuracies = "int8", [c.export.int8_accuracy for c in compared if c.export]
    else:
        done = [c for c in champions if c.member.epochs_done >= c.member.epochs_needed]
        compared = [champion for champion in done if champion.member.last_score is not None]
        kind, accuracies = validated(compared)
    known = []
    for champion in compared:
        name = champion.member.name
        costs = computed(specs[name])
        costs |= {metric: table[name] for metric, table in measured.items() if name in table}
        known.append(costs | _exported(champion))
    everywhere = [name for name in METRICS if all(name in costs for costs in known)]
    somewhere = [name for name in METRICS if any(name in costs for costs in known)]
    table = [[costs[name] for name in everywhere] for costs in known]
    front = pareto.front(accuracies, table)
    sufficient = {
        name: pareto.front(accuracies, [(costs[name],) for costs in known]) for name in everywhere
    }
    points = [(-accuracy, *row) for accuracy, row in zip(accuracies, table, strict=True)]
    rows = tuple(
        Option(
            name=champion.member.name,
            group=champion.group,
            accuracy=accuracies[place],
            costs={name: costs[name] for name in everywhere},
            on_front=front[place],
            alone=tuple(name for name in everywhere if sufficient[name][place]),
            beaten_by=tuple(
                other.member.name
                for other, point in zip(compared, points, strict=True)
                if pareto.dominates(point, points[place])
            ),
        )
        for place, (champion, costs) in enumerate(zip(compared, known, strict=True))
    )
    partly = tuple(name for name in somewhere if name not in everywhere)
    return Options(tested, kind, tuple(everywhere), partly, rows)


def _exported(champion: Champion) -> dict[str, float]:
    """Costs that export and benchmark have measured."""
    export = champion.export
    if export is None:
        return {}
    measured: dict[str, float] = {"size_bytes": export.int8_bytes}
    if export.int8_latency:
        measured["latency_ms"] = export.int8_latency.median_ms
    return measured
