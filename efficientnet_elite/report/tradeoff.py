"""The Pareto set of the champions over every cost that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite.costs import METRICS, Measured
from efficientnet_elite.errors import UserError
from efficientnet_elite.pools import Candidate
from efficientnet_elite.report import pareto
from efficientnet_elite.report.results import Champion
from efficientnet_elite.spec import ArchSpec


@dataclass(frozen=True)
class Option:
    """A champion among the others.

    Attributes:
      name, group: the champion's.
      accuracy: 0..1; see `Options.tested`.
      costs: metric (of `costs.METRICS`) to value in its base unit, for all of `Options.metrics`.
      on_front: nobody is at least as good in everything and better in something.
      alone: metrics that suffice: with accuracy and this one alone it is on the front as well.
      beaten_by: names of those that dominate it; empty on the front.
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
      tested: whether accuracies are int8's on the test part, and sizes those of the files; else
        accuracies are float32's on the validation part, and sizes estimates.
      metrics: costs that are known of each of them, by name.
      partly: costs that are known of some only, and therefore left out.
      rows: the champions, in the groups' order.
    """

    tested: bool
    metrics: tuple[str, ...]
    partly: tuple[str, ...]
    rows: tuple[Option, ...]


def options(
    champions: Sequence[Champion], candidates: Sequence[Candidate], measured: Measured
) -> Options:
    """Compares the champions: those that have been exported, or else those trained to the end.

    Args:
      champions: so far.
      candidates: of the search, for their specs.
      measured: what the search has measured to group or limit them by.
    """
    specs = {candidate.name: candidate.spec for candidate in candidates}
    tested = any(champion.export for champion in champions)
    found = []
    for champion in champions:
        export, member = champion.export, champion.member
        accuracy = export.int8_accuracy if export else member.last_score
        complete = bool(export) if tested else member.epochs_done >= member.epochs_needed
        if complete and accuracy is not None:
            known = _specified(specs[member.name])
            known |= {
                m: table[member.name] for m, table in measured.items() if member.name in table
            }
            known |= _exported(champion)
            found.append((champion, accuracy, known))
    everywhere = [name for name in METRICS if all(name in costs for _, _, costs in found)]
    somewhere = [name for name in METRICS if any(name in costs for _, _, costs in found)]
    accuracies = [accuracy for _, accuracy, _ in found]
    table = [[costs[name] for name in everywhere] for _, _, costs in found]
    front = pareto.front(accuracies, table)
    sufficient = {
        name: pareto.front(accuracies, [(costs[name],) for _, _, costs in found])
        for name in everywhere
    }
    points = [(-accuracy, *row) for accuracy, row in zip(accuracies, table, strict=True)]
    rows = tuple(
        Option(
            name=champion.member.name,
            group=champion.group,
            accuracy=accuracy,
            costs={name: costs[name] for name in everywhere},
            on_front=front[place],
            alone=tuple(name for name in everywhere if sufficient[name][place]),
            beaten_by=tuple(
                other.member.name
                for (other, _, _), point in zip(found, points, strict=True)
                if pareto.dominates(point, points[place])
            ),
        )
        for place, (champion, accuracy, costs) in enumerate(found)
    )
    return Options(
        tested, tuple(everywhere), tuple(n for n in somewhere if n not in everywhere), rows
    )


def _specified(spec: ArchSpec) -> dict[str, float]:
    """Every cost that can be computed for a network."""
    found = {}
    for name, metric in METRICS.items():
        if metric.of is not None:
            try:
                found[name] = metric.of(spec)
            except UserError:  # no estimate for an operation of it
                continue
    return found


def _exported(champion: Champion) -> dict[str, float]:
    """What export and benchmark know better than an estimate, or alone."""
    export = champion.export
    if export is None:
        return {}
    found: dict[str, float] = {"size_bytes": export.int8_bytes}
    if export.int8_latency:
        found["latency_ms"] = export.int8_latency.median_ms
    return found
