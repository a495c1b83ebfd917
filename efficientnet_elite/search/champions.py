"""The file ``champions.json`` of a search that is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger
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
    epochs, int8 = ledger.epochs(), ledger.int8()
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
            **_in_int8(int8.get(champion, {}).get(len(epochs[champion]))),
        }
        for group, standing in sorted(standings.items())
        if (champion := standing.champion) is not None and champion in epochs
    ]


def _in_int8(result: Int8Result | None) -> dict[str, float | None]:
    """A champion's int8 accuracy after its last epoch, where it was measured."""
    return {} if result is None else {"int8_validation_accuracy": result.int8_accuracy}


def read_champions(workdir: Path) -> list[dict[str, Any]]:
    """Entries of ``champions.json``; UserError where there are none yet."""
    path = champions_path(workdir)
    try:
        return [{**entry, "name": str(entry["name"])} for entry in json.loads(path.read_text())]
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: let `elite search --workdir={workdir}` come to its end first"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: run `elite search` again") from error
