"""Results of a search: champions with their files, and which of them is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efficientnet_elite.report import pareto
from efficientnet_elite.report.artefacts import Artefacts, Export
from efficientnet_elite.search.summary import Member, State, Summary
from efficientnet_elite.search.tournament import Int8

WORTHWHILE = 0.01
"""Most accuracy, 0..1, that the recommendation gives up for a smaller model."""


@dataclass(frozen=True)
class Champion:
    """A group's champion; ``export`` is None before its export, ``on_front`` only with it.

    ``int8_validation`` is its int8 accuracy on the validation part after its last epoch; None where
    it was not measured or there is no int8 form. ``noise`` is the standard deviation of a
    validation accuracy, see `search.champions.noise`.
    """

    group: int
    member: Member
    export: Export | None
    on_front: bool
    int8_validation: float | None = None
    noise: float = 0.0


def champions(
    summary: Summary, artefacts: Artefacts, int8: Int8, noise: float = 0.0
) -> list[Champion]:
    """All champions so far; the Pareto front is that of int8 accuracy, file size and latency.

    Latency counts only where it was measured for every export.
    """
    crowned = [
        (group, member, artefacts.exports.get(member.name))
        for group in summary.groups
        for member in group.members
        if member.state is State.CHAMPION
    ]
    exports = [export for _, _, export in crowned if export]
    timed = all(export.int8_latency for export in exports)
    costs = [
        (e.int8_bytes, e.int8_latency.median_ms if timed and e.int8_latency else 0.0)
        for e in exports
    ]
    front = {
        export.name
        for export, on_front in zip(
            exports, pareto.front([e.int8_accuracy for e in exports], costs), strict=True
        )
        if on_front
    }
    return [
        Champion(
            group.number,
            member,
            export,
            member.name in front,
            _validated(group.training or member.name, member.epochs_done, int8),
            noise,
        )
        for group, member, export in crowned
    ]


def _validated(training: str, epochs: int, int8: Int8) -> float | None:
    result = int8.get(training, {}).get(epochs)
    return None if result is None else result.int8_accuracy


def validated(champions: Sequence[Champion]) -> tuple[str, list[float]]:
    """The kind of validation accuracy by which champions are compared, and their accuracies.

    The kind is ``int8`` where that was measured for all of them, as in a search with
    ``select=int8``, and else ``float32``. The two are never compared with each other.
    """
    int8 = [c.int8_validation for c in champions if c.int8_validation is not None]
    if int8 and len(int8) == len(champions):
        return "int8", int8
    return "float32", [champion.member.last_score or 0.0 for champion in champions]


def given_up(champions: Sequence[Champion]) -> float:
    """Accuracy, 0..1, that a smaller model may cost: `WORTHWHILE`, or the noise where it is more.

    Champions that are closer to each other than the noise are ties.
    """
    return max([WORTHWHILE, *(champion.noise for champion in champions)])


def choices(champions: Sequence[Champion]) -> list[tuple[str, Export]]:
    """The champions on the Pareto front, each with its advantage; the recommended one first.

    The recommended champion is the one with the smallest int8 file among those with a *validation*
    accuracy (see `validated`) that is at most `given_up` below the best. The test part is not used
    for this choice. Champions without an advantage of their own come last, the most accurate first.
    """
    exports = [champion.export for champion in champions if champion.export]
    if not exports:
        return []
    if len(exports) == 1:
        return [("The only one", exports[0])]
    _, accuracies = validated([champion for champion in champions if champion.export])
    least = max(accuracies) - given_up(champions) - 1e-12
    close = [e for e, accuracy in zip(exports, accuracies, strict=True) if accuracy >= least]
    timed = [(e.int8_latency.median_ms, e.int8_bytes, e) for e in exports if e.int8_latency]
    titles = [
        ("recommended", min(close, key=lambda e: e.int8_bytes)),
        ("most accurate", min(exports, key=lambda e: (-e.int8_accuracy, e.int8_bytes))),
        ("smallest", min(exports, key=lambda e: (e.int8_bytes, -e.int8_accuracy))),
    ]
    if len(timed) == len(exports):
        titles.append(("fastest", min(timed, key=lambda entry: entry[:2])[2]))
    by_name = {export.name: export for export in exports}
    advantages: dict[str, list[str]] = {}
    for title, export in titles:
        advantages.setdefault(export.name, []).append(title)
    front = [c.export for c in champions if c.export and c.on_front]
    for export in sorted(front, key=lambda e: -e.int8_accuracy):
        advantages.setdefault(export.name, ["in between"])
    return [(", ".join(names).capitalize(), by_name[name]) for name, names in advantages.items()]
