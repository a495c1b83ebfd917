"""What a search has in its work directory: champions, curves, decisions, a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import beside
from efficientnet_elite.report import artefacts
from efficientnet_elite.search import summary as summary_lib
from efficientnet_elite.search import summary_text
from efficientnet_elite.search.champions import read_champions
from efficientnet_elite.search.decisions import Decision
from efficientnet_elite.search.ledger import Epoch, Ledger, reading
from efficientnet_elite.search.summary import Summary
from efficientnet_elite.search.workdir import champions_path


@dataclass(frozen=True)
class Champion:
    """A champion with its files; what has not been exported or measured is None.

    Attributes:
      name: of the network.
      group: number of its cost group, 0 the heaviest.
      resolution: side of its input in pixels; a text such as ``96x128`` where it is not square.
      params, macs: its numbers of parameters and multiply-accumulates.
      validation_accuracy: float32 accuracy on the validation part, 0..1.
      score: what the accuracies are: ``top-1``, or ``mIoU`` of segmentation networks.
      float_path, int8_path: its .tflite files.
      labels_path, sidecar_path: the names of the classes; the JSON file on preprocessing, hashes
        and verification.
      float_accuracy, int8_accuracy: of these files on the test part, 0..1.
      float_bytes, int8_bytes: sizes of these files.
      float_latency_ms, int8_latency_ms: median milliseconds of an inference on this machine.
    """

    name: str
    group: int
    resolution: int | str
    params: int
    macs: int
    validation_accuracy: float
    score: str | None = None
    float_path: Path | None = None
    int8_path: Path | None = None
    labels_path: Path | None = None
    sidecar_path: Path | None = None
    float_accuracy: float | None = None
    int8_accuracy: float | None = None
    float_bytes: int | None = None
    int8_bytes: int | None = None
    float_latency_ms: float | None = None
    int8_latency_ms: float | None = None


def champions_of(workdir: Path) -> tuple[Champion, ...]:
    """The champions of a search that is finished, heaviest group first."""
    entries = read_champions(workdir)
    exports = artefacts.read(workdir, [entry["name"] for entry in entries]).exports
    return tuple(_champion(workdir, entry, exports.get(entry["name"])) for entry in entries)


def _champion(workdir: Path, entry: Mapping[str, Any], export: artefacts.Export | None) -> Champion:
    names = ("name", "group", "resolution", "params", "macs", "validation_accuracy")
    if missing := [name for name in names if name not in entry]:
        path = champions_path(workdir)
        raise UserError(f"{path} is damaged: {missing[0]} is missing; run `elite search` again")
    known = {name: entry[name] for name in names}
    if export is None:
        return Champion(**known)
    folder = workdir / beside.FOLDER / export.name
    return Champion(
        **known,
        score=export.score,
        float_path=workdir / export.float_file,
        int8_path=workdir / export.int8_file,
        labels_path=folder / "labels.txt",
        sidecar_path=folder / f"{export.name}.json",
        float_accuracy=export.float_accuracy,
        int8_accuracy=export.int8_accuracy,
        float_bytes=export.float_bytes,
        int8_bytes=export.int8_bytes,
        float_latency_ms=_median_ms(export.float_latency),
        int8_latency_ms=_median_ms(export.int8_latency),
    )


def _median_ms(latency: artefacts.Latency | None) -> float | None:
    return None if latency is None else latency.median_ms


@dataclass(frozen=True)
class Search:
    """A search as its work directory had it when it was loaded; it may still be running.

    Attributes:
      workdir: the work directory.
      config: its settings.
      summary: groups, scores, epochs done and left. ``print(search)`` shows it as a table.
      champions: heaviest group first; empty until the search is finished.
      curves: name of a candidate to its epochs, each with validation accuracy, training loss and
        seconds; with those of repeats.
      decisions: number of a group to what its eliminations decided, by round and rank.
    """

    workdir: Path
    config: SearchConfig
    summary: Summary
    champions: tuple[Champion, ...]
    curves: Mapping[str, tuple[Epoch, ...]]
    decisions: Mapping[int, tuple[Decision, ...]]

    def report(self) -> Path:
        """Writes ``report.html`` of what the work directory holds now; returns its path."""
        from efficientnet_elite import report

        return report.write_page(self.workdir)

    def __str__(self) -> str:
        return summary_text.as_text(self.summary)


@reading()
def load(workdir: str | Path) -> Search:
    """Reads a search, running or finished, from its work directory.

    Raises:
      UserError: there is no search in ``workdir``, or it is damaged.
    """
    if not str(workdir):
        raise UserError("name the work directory")
    # Absolute: the paths of the result hold after a change of the current directory.
    workdir = Path(workdir).expanduser().absolute()
    with Ledger(workdir) as ledger, ledger.snapshot():
        summary = summary_lib.summarize(ledger)
        config = SearchConfig.from_dict(ledger.meta()["config"])
        curves = {name: tuple(epochs) for name, epochs in ledger.epochs().items()}
    return Search(
        workdir=workdir,
        config=config,
        summary=summary,
        champions=champions_of(workdir) if champions_path(workdir).is_file() else (),
        curves=curves,
        decisions={group.number: tuple(group.decisions) for group in summary.groups},
    )
