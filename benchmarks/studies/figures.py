"""Figures of an untrained network's int8 file: size, operators and TFLM's arena."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.workdir import write_json


def int8_figures(spec: ArchSpec, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Returns the figures of a network, measured now or in an earlier run of a study.

    Args:
      spec: the network.
      folder: keeps the int8 file (see `export.measure.int8_file`) and, in a JSON file of the same
        name, its figures.
      seed: seed of the random weights.

    Returns:
      ``bytes``, size of the file; ``operators``, name to number of occurrences; ``head`` and
      ``tail``, the two parts of TFLM's arena in bytes, or ``refused``, the reason why TFLM cannot
      run the file. The last three are missing if TFLM is not installed.

    Raises:
      UserError: the network cannot be converted.
    """
    from efficientnet_elite.export import inspect, measure
    from efficientnet_elite.export.runtimes import tflm

    path = measure.int8_file(spec, folder, seed)
    record = path.with_suffix(".json")
    recorded = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    figures = dict(recorded)
    if not figures:
        content = path.read_bytes()
        figures = {"bytes": len(content), "operators": inspect.operators(content)}
    if not {"head", "refused"} & figures.keys() and tflm.available():
        try:
            arena = tflm.allocation(path.read_bytes())
            figures |= {"head": arena.head, "tail": arena.tail}
        except UserError as error:
            figures["refused"] = str(error)
    if figures != recorded:
        write_json(record, figures)
    return figures
