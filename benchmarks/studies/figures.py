"""What an untrained network's int8 file shows: size, operators, TFLM's arena. Kept beside the file.

Unlike `latency`, this needs the whole package and TensorFlow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.workdir import write_json


def of(spec: ArchSpec, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Figures of a network, from the folder where they are there; else it is converted now.

    Args:
      spec: the network.
      folder: for the int8 file (see `export.untrained`) and, beside it, its figures.
      seed: of the weights.

    Returns:
      ``bytes`` of the file; ``operators`` (name to number); by TFLM's account ``head`` and ``tail``
      of its arena in bytes, or ``refused``, why it does not take the file; none of these three
      where TFLM is not installed.

    Raises:
      UserError: the network cannot be converted.
    """
    from efficientnet_elite.export import inspect, measure
    from efficientnet_elite.export.runtimes import tflm

    path = measure.int8_file(spec, folder, seed)
    record = path.with_suffix(".json")
    known = json.loads(record.read_text()) if record.is_file() else {}
    found = dict(known)
    if not found:
        content = path.read_bytes()
        found = {"bytes": len(content), "operators": inspect.operators(content)}
    if not {"head", "refused"} & found.keys() and tflm.available():
        try:
            arena = tflm.allocation(path.read_bytes())
            found |= {"head": arena.head, "tail": arena.tail}
        except UserError as error:
            found["refused"] = str(error)
    if found != known:
        write_json(record, found)
    return found
