"""All that the page is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.report.artefacts import Artefacts
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.results import Champion
from efficientnet_elite.summary import Summary


@dataclass(frozen=True)
class Contents:
    """Everything that the page shows.

    Attributes:
      workdir: for the commands that it names.
      meta: the ledger's settings.
      summary: where the search stands.
      champions: so far.
      artefacts: of export and benchmark.
      curves: group number to its figure; groups that have not been started have none.
      size, latency: accuracy against file size and against latency; None with less than two
        models to compare.
      written: when, for the reader.
    """

    workdir: Path
    meta: Mapping[str, Any]
    summary: Summary
    champions: Sequence[Champion]
    artefacts: Artefacts
    curves: Mapping[int, Figure]
    size: Figure | None
    latency: Figure | None
    written: str
