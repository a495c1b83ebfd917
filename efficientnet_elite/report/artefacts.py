"""What export and benchmark have written into the work directory.

Either may not have run yet, or may be of another version: files that cannot be read are reported as
problems, not raised as errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efficientnet_elite.export import beside, predictions
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.report.mistakes import Mistakes, analyse
from efficientnet_elite.report.pareto import interval

BENCHMARK_FILE = "benchmark.json"

# Errors that reading a file with unexpected content can raise.
UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference."""

    median_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Export:
    """The verified files of a champion.

    Attributes:
      name: name of the champion.
      float_accuracy, int8_accuracy: on the test part, 0..1, of the files themselves.
      agreement: share of the test images for which both files choose the same class.
      test_images: number of images on which these shares were measured.
      score: what the accuracies are: ``top-1``, or ``mIoU`` of networks that classify pixels.
      max_difference, logit_range: greatest difference of a logit between the float file and Keras,
        and the range of Keras' logits.
      float_file, int8_file: paths in the work directory.
      float_bytes, int8_bytes: sizes of these files.
      operators: operators of the int8 file, name to count.
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
    """What export and benchmark have written.

    Attributes:
      exports: champion to its export.
      host: description of the machine of the benchmark, such as its ``cpu``; empty without one.
      threads, runs: settings of the benchmark.
      problems: files that could not be used, one sentence each.
      sidecars: champion to the content of its sidecar.
      mistakes: champion to what it gets wrong; missing where no predictions are stored, as in
        exports of older versions and of segmentation networks.
    """

    exports: Mapping[str, Export]
    host: Mapping[str, str]
    threads: int | None
    runs: int | None
    problems: tuple[str, ...]
    sidecars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mistakes: Mapping[str, Mistakes] = field(default_factory=dict)

    @property
    def dataset(self) -> Mapping[str, Any]:
        """What the sidecars say about the images; those of older versions say less, or nothing."""
        known = [sidecar["details"]["dataset"] for sidecar in self.sidecars.values()]
        return next(filter(None, known), {})


def read(workdir: Path, champions: Iterable[str]) -> Artefacts:
    """Reads the sidecars of these champions, and the benchmark."""
    problems: list[str] = []
    benchmark = _benchmark(workdir / BENCHMARK_FILE, problems)
    exports, sidecars, mistakes = {}, {}, {}
    for name in champions:
        path = workdir / beside.FOLDER / name / f"{name}.json"
        if not path.is_file():
            continue
        try:
            sidecar = json.loads(path.read_bytes())
            exports[name] = _export(name, sidecar, benchmark["rows"], problems)
            details = dict(sidecar.get("details") or {})
            details["dataset"] = dict(details.get("dataset") or {})
            sidecars[name] = {**sidecar, "details": details}
        except UNUSABLE as error:
            problems.append(_unreadable(path, error))
            continue
        try:
            stored = predictions.read(path.parent)
            # Those of an earlier export would not be about these files.
            if stored and stored.int8_sha256 == sidecar["files"]["int8"]["sha256"]:
                confidence = Confidence.recorded(sidecar)
                mistakes[name] = analyse(name, sidecar["labels"], stored, confidence)
        except UNUSABLE as error:
            problems.append(_unreadable(path.with_name(predictions.FILE), error))
    return Artefacts(
        exports,
        benchmark["host"],
        benchmark["threads"],
        benchmark["runs"],
        tuple(problems),
        sidecars,
        mistakes,
    )


def _benchmark(path: Path, problems: list[str]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"rows": {}, "host": {}, "threads": None, "runs": None}
    if not path.is_file():
        return nothing
    try:
        content = json.loads(path.read_bytes())
        return {
            "rows": dict(_measured(content["rows"], problems)),
            "host": {k: str(v) for k, v in content["host"].items() if v is not None},
            "threads": int(content["options"]["threads"]),
            "runs": int(content["options"]["runs"]),
        }
    except UNUSABLE as error:
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
                f"{file['file']} has been exported again since the benchmark. Its latency is left "
                "out: run `elite benchmark` again."
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
        float_file=f"{beside.FOLDER}/{name}/{files['float32']['file']}",
        int8_file=f"{beside.FOLDER}/{name}/{files['int8']['file']}",
        float_bytes=int(files["float32"]["bytes"]),
        int8_bytes=int(files["int8"]["bytes"]),
        operators=dict(sidecar["operators"]["int8"]),
        float_latency=latencies["float32"],
        int8_latency=latencies["int8"],
    )


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path.name} cannot be used ({type(error).__name__}: {error}): create it again."
