"""The file ``champions.json`` of a search that is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.rules import Curve, fluctuation, sampling_noise
from efficientnet_elite.search.tournament import Standing
from efficientnet_elite.search.workdir import champions_path
from efficientnet_elite.training.outcome import Int8Result


def describe(ledger: Ledger, standings: Mapping[int, Standing]) -> list[dict[str, Any]]:
    """One entry for each group that has a champion, the heaviest group first.

    Args:
      ledger: ledger of the search.
      standings: group number to where its tournament stands at the end.
    """
    candidates = {candidate.name: candidate for candidate in ledger.candidates()}
    trainings = {s.champion: s.training for s in standings.values() if s.champion and s.training}
    recorded, int8 = ledger.epochs([*trainings.values()]), ledger.int8()
    epochs = {name: recorded[own] for name, own in trainings.items() if own in recorded}
    curves = {name: [e.validation_accuracy for e in done] for name, done in epochs.items()}
    deviation = noise(list(curves.values()), ledger.meta().get("validation_images"))
    tied = ties({name: curve[-1] for name, curve in curves.items()}, deviation)
    return [
        {
            "name": champion,
            "group": group,
            "params": candidates[champion].spec.params,
            "macs": candidates[champion].spec.macs,
            "resolution": candidates[champion].spec.resolution,
            "width": candidates[champion].width,
            "depth": candidates[champion].depth,
            "epochs": len(epochs[champion]),
            "validation_accuracy": epochs[champion][-1].validation_accuracy,
            "ties": [name for name in tied if name != champion] if champion in tied else [],
            **_in_int8(int8.get(trainings[champion], {}).get(len(epochs[champion]))),
            **({"training": trainings[champion]} if standing.final else {}),
        }
        for group, standing in sorted(standings.items())
        if (champion := standing.champion) is not None and champion in epochs
    ]


def noise(curves: Sequence[Curve], images: float | None) -> float:
    """Standard deviation of a champion's last validation accuracy, as `rules.Rule.noise` has it.

    Args:
      curves: validation accuracies of the champions, 0..1, by epoch.
      images: validation images; None where the number is not known.
    """
    if not curves:
        return 0.0
    return max(fluctuation(curves), 0.0 if images is None else sampling_noise(curves, images))


def ties(accuracies: Mapping[str, float], noise: float) -> list[str]:
    """The champions that cannot be told from the most accurate one, with it; none if it is alone.

    Args:
      accuracies: name of each champion to its validation accuracy.
      noise: a smaller gap is too close to call.
    """
    best = max(accuracies.values(), default=0.0)
    tied = [name for name, value in accuracies.items() if best - value < noise or value == best]
    return tied if len(tied) > 1 else []


def _in_int8(result: Int8Result | None) -> dict[str, float | None]:
    """A champion's int8 accuracy after its last epoch, where it was measured."""
    return {} if result is None else {"int8_validation_accuracy": result.int8_accuracy}


def read_champions(workdir: Path) -> list[dict[str, Any]]:
    """Entries of ``champions.json``; UserError where there are none yet."""
    path = champions_path(workdir)
    try:
        return [
            {**entry, "name": str(entry["name"])}
            for entry in json.loads(path.read_text(encoding="utf-8"))
        ]
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: let `elite search --workdir={workdir}` come to its end first"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: run `elite search` again") from error
