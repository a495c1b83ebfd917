"""What export and benchmark have left in the work directory.

Either may not have run yet, or be of another version: what cannot be read is told, not raised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.report.pareto import interval

EXPORT_FOLDER = "export"
BENCHMARK_FILE = "benchmark.json"

# What reading a file of another shape than expected ends in.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference."""

    median_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Export:
    """A champion's verified files.

    Attributes:
      name: the champion's.
      float_accuracy, int8_accuracy: on the test part, 0..1, of the files themselves.
      agreement: share of the test images for which both files choose the same class.
      test_images: how many these shares are of.
      score: what the accuracies are: ``top-1``, or ``mIoU`` of networks that classify pixels.
      max_difference, logit_range: greatest difference of a logit between the float file and Keras,
        and the range of Keras' logits.
      float_file, int8_file: paths in the work directory.
      float_bytes, int8_bytes: their sizes.
      operators: of the int8 file, name to count.
      float_latency, int8_latency: None where not measured.
    """

    name: str
    float_accuracy: float
    int8_accuracy: float
    agreement: float
    test_images: int
    score: str
    max_difference: float
    logit_range: float
    float_file: str
    int8_file: str
    float_bytes: int
    int8_bytes: int
    operators: Mapping[str, int]
    float_latency: Latency | None
    int8_latency: Latency | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the int8 accuracy; None of a mIoU, which is no share of images."""
        return None if self.score == "mIoU" else interval(self.int8_accuracy, self.test_images)


@dataclass(frozen=True)
class Artefacts:
    """All that was found.

    Attributes:
      exports: by champion.
      host: machine of the benchmark, such as its ``cpu``; empty where there was none.
      threads, runs: of the benchmark.
      problems: what could not be used, a sentence each.
    """

    exports: Mapping[str, Export]
    host: Mapping[str, str]
    threads: int | None
    runs: int | None
    problems: tuple[str, ...]


def read(workdir: Path, champions: Iterable[str]) -> Artefacts:
    """Reads the sidecars of these champions and the benchmark."""
    problems: list[str] = []
    benchmark = _benchmark(workdir / BENCHMARK_FILE, problems)
    exports = {}
    for name in champions:
        path = workdir / EXPORT_FOLDER / name / f"{name}.json"
        if not path.is_file():
            continue
        try:
            exports[name] = _export(
                name, json.loads(path.read_bytes()), benchmark["rows"], problems
            )
        except _UNUSABLE as error:
            problems.append(_unreadable(path, error))
    return Artefacts(
        exports, benchmark["host"], benchmark["threads"], benchmark["runs"], tuple(problems)
    )


def _benchmark(path: Path, problems: list[str]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"rows": {}, "host": {}, "threads": None, "runs": None}
    if not path.is_file():
        return nothing
    try:
        found = json.loads(path.read_bytes())
        return {
            "rows": dict(_measured(found["rows"], problems)),
            "host": {k: str(v) for k, v in found["host"].items() if v is not None},
            "threads": int(found["options"]["threads"]),
            "runs": int(found["options"]["runs"]),
        }
    except _UNUSABLE as error:
        problems.append(_unreadable(path, error))
        return nothing


def _measured(
    rows: Iterable[Mapping[str, Any]], problems: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for row in rows:
        name = re.split(r"[\\/]", row["model"])[-1]  # a path on a board, maybe of another system
        if row["error"] is None:
            yield name, row
        else:
            problems.append(f"{name} could not be benchmarked: {row['error']}.")


def _export(
    name: str,
    sidecar: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    problems: list[str],
) -> Export:
    verification, files = sidecar["verification"], sidecar["files"]
    latencies: dict[str, Latency | None] = {}
    for kind, file in files.items():
        row = rows.get(file["file"])
        latencies[kind] = None
        if row is None:
            continue
        if row["file_bytes"] == file["bytes"]:
            latencies[kind] = Latency(float(row["median_ms"]), float(row["p90_ms"]))
        else:
            problems.append(
                f"{file['file']} has been exported anew since the benchmark, whose latency is "
                "left out: run `elite benchmark` again."
            )
    return Export(
        name=name,
        float_accuracy=float(verification["float_accuracy"]),
        int8_accuracy=float(verification["int8_accuracy"]),
        agreement=float(verification["agreement"]),
        test_images=int(verification["test_images"]),
        score=str(verification.get("score", "top-1")),
        max_difference=float(verification["max_difference"]),
        logit_range=float(verification["logit_range"]),
        float_file=f"{EXPORT_FOLDER}/{name}/{files['float32']['file']}",
        int8_file=f"{EXPORT_FOLDER}/{name}/{files['int8']['file']}",
        float_bytes=int(files["float32"]["bytes"]),
        int8_bytes=int(files["int8"]["bytes"]),
        operators=dict(sidecar["operators"]["int8"]),
        float_latency=latencies["float32"],
        int8_latency=latencies["int8"],
    )


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path.name} cannot be used ({type(error).__name__}: {error}): write it again."
