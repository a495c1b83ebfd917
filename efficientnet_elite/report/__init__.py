"""The report of a search: `report.html`, one file without any network access, and figures as PNG;
the same as data, in JSON and CSV.

It can be written at any time; what has not been done yet is said to be missing. This package must
not import TensorFlow or Keras, and matplotlib only when it draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from efficientnet_elite import summary as summary_lib
from efficientnet_elite.ledger import Ledger
from efficientnet_elite.report import (
    artefacts,
    comparison,
    cost,
    data,
    figures,
    page,
    results,
    tradeoff,
)
from efficientnet_elite.report.bracket import bracket
from efficientnet_elite.report.contents import Contents, Figures
from efficientnet_elite.report.cuts import cuts
from efficientnet_elite.report.figures import Figure, Point
from efficientnet_elite.report.results import Champion
from efficientnet_elite.workdir import write_bytes, write_json

REPORT_FILE = "report.html"
DATA_FILE = "report.json"
FOLDER = "report"


def write(workdir: Path) -> Path:
    """Writes ``report.html`` and PNG files in the folder ``report`` into a work directory.

    Args:
      workdir: of a search, running or not.

    Returns:
      The page's path.

    Raises:
      UserError: there is no search in ``workdir``.
    """
    contents = gather(workdir)
    pictures = draw(contents)
    _write_folder(workdir, "png", {figure.file_name: figure.png for figure in pictures.all})
    path = workdir / REPORT_FILE
    write_bytes(path, page.render(contents, pictures).encode())
    return path


def write_data(workdir: Path) -> Path:
    """Writes everything that the page shows as ``report.json`` (see `data.as_json`).

    Like `write`, with that file's path.
    """
    path = workdir / DATA_FILE
    write_json(path, data.as_json(gather(workdir)))
    return path


def write_tables(workdir: Path) -> list[Path]:
    """Writes a CSV file a table of the page into the folder ``report`` (see `data.tables`).

    Like `write`, with those files' paths.
    """
    tables = data.tables(gather(workdir))
    files = {f"{table.name}.csv": data.as_csv(table).encode() for table in tables}
    return _write_folder(workdir, "csv", files)


def gather(workdir: Path) -> Contents:
    """Reads everything that there is to tell; UserError where there is no search."""
    with Ledger(workdir) as ledger:
        summary, meta = summary_lib.summarize(ledger), ledger.meta()
        epochs, candidates, int8 = ledger.epochs(), ledger.candidates(), ledger.int8()
    names = [group.champion for group in summary.groups if group.champion]
    found = artefacts.read(workdir, names)
    champions = results.champions(summary, found, int8)
    decided = [cut for group in summary.groups for cut in cuts(group)]
    choices = comparison.choices(decided, epochs)
    rule = summary_lib.schedule_of(meta).rule
    return Contents(
        workdir=workdir,
        meta=meta,
        summary=summary,
        epochs=epochs,
        int8=int8,
        champions=champions,
        artefacts=found,
        options=tradeoff.options(champions, candidates, meta.get("measured", {})),
        rule=rule,
        cuts=decided,
        choices=choices,
        agreement=comparison.agreement(choices, summary.groups, rule),
        costs=cost.costs(summary, epochs),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip(),
    )


def draw(contents: Contents) -> Figures:
    """Draws what there is to draw."""
    summary = contents.summary
    scores = {
        name: [epoch.validation_accuracy for epoch in done]
        for name, done in contents.epochs.items()
    }
    axis = figures.shared_axis(summary.groups, scores)
    brackets = {
        group.number: bracket(group, [cut for cut in contents.cuts if cut.group == group.number])
        for group in summary.groups
    }
    size, latency = _tradeoffs(contents.champions)
    return Figures(
        curves={
            group.number: figures.curves(group, scores, axis)
            for group in summary.groups
            if any(member.epochs_done for member in group.members)
        },
        brackets={number: figure for number, figure in brackets.items() if figure},
        size=size,
        latency=latency,
    )


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


def _write_folder(workdir: Path, ending: str, files: Mapping[str, bytes]) -> list[Path]:
    """Writes files of one kind; those of an earlier report that are no more go."""
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)
    for old in folder.glob(f"*.{ending}"):
        if old.name not in files:  # such as the latency of an export that is no more
            old.unlink()
    return [folder / name for name in files]
