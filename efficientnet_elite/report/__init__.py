"""The report of a search: `report.html`, one file without any network access, and figures as PNG.

It can be written at any time; what has not been done yet is said to be missing. This package must
not import TensorFlow or Keras, and matplotlib only when it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from efficientnet_elite.ledger import Ledger
from efficientnet_elite.report import artefacts, figures, page, results
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.figures import Figure, Point
from efficientnet_elite.report.results import Champion
from efficientnet_elite.summary import summarize
from efficientnet_elite.workdir import write_bytes

REPORT_FILE = "report.html"
FIGURE_FOLDER = "report"


def write(workdir: Path) -> Path:
    """Writes ``report.html`` and the folder ``report`` of PNG files into a work directory.

    Args:
      workdir: of a search, running or not.

    Returns:
      The page's path.

    Raises:
      UserError: there is no search in ``workdir``.
    """
    with Ledger(workdir) as ledger:
        summary, meta, scores = summarize(ledger), ledger.meta(), ledger.scores()
    names = [group.champion for group in summary.groups if group.champion]
    found = artefacts.read(workdir, names)
    champions = results.champions(summary, found)

    axis = figures.shared_axis(summary.groups, scores, summary.round_epochs)
    curves = {
        group.number: figures.curves(group, scores, axis)
        for group in summary.groups
        if any(member.epochs_done for member in group.members)
    }
    size, latency = _tradeoffs(champions)
    contents = Contents(
        workdir=workdir,
        meta=meta,
        summary=summary,
        champions=champions,
        artefacts=found,
        curves=curves,
        size=size,
        latency=latency,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip(),
    )
    _write_figures(workdir / FIGURE_FOLDER, [*curves.values(), *filter(None, (size, latency))])
    path = workdir / REPORT_FILE
    write_bytes(path, page.render(contents).encode())
    return path


def _tradeoffs(champions: Sequence[Champion]) -> tuple[Figure | None, Figure | None]:
    """Accuracy against size and against latency, each with its own front."""
    exports = [champion.export for champion in champions if champion.export]
    timed = [(export, export.int8_latency) for export in exports if export.int8_latency]
    sized = [(e.name, e.int8_bytes / 1000, e.int8_accuracy, e.test_images) for e in exports]
    fast = [(e.name, t.median_ms, e.int8_accuracy, e.test_images) for e, t in timed]
    return (
        _scatter("accuracy-size", "Accuracy against file size", "int8 file, kB", sized),
        _scatter("accuracy-latency", "Accuracy against latency", "int8 median latency, ms", fast),
    )


def _scatter(
    name: str, title: str, cost: str, models: Sequence[tuple[str, float, float, int]]
) -> Figure | None:
    if len(models) < 2:
        return None
    front = results.pareto.front([m[2] for m in models], [(m[1],) for m in models])
    points = [Point(*model, on) for model, on in zip(models, front, strict=True)]
    return figures.scatter(name, title, cost, points)


def _write_figures(folder: Path, drawn: Sequence[Figure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for figure in drawn:
        write_bytes(folder / figure.file_name, figure.png)
    kept = {figure.file_name for figure in drawn}
    for old in folder.glob("*.png"):
        if old.name not in kept:  # such as the latency of an export that is no more
            old.unlink()
