"""The report of a search or of trainings: ``report.html``, figures as PNG, and all of it as data.

The page is one file that needs no network access. It can be written at any time; it says what has
not been done yet. matplotlib is imported only when figures are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from efficientnet_elite.report import (
    artefacts,
    comparison,
    cost,
    data,
    figures,
    mistakes_page,
    page,
    results,
    tradeoff,
    training,
    training_page,
)
from efficientnet_elite.report.artefacts import Export
from efficientnet_elite.report.bracket import bracket
from efficientnet_elite.report.contents import Contents, Figures
from efficientnet_elite.report.figures import Figure, Point
from efficientnet_elite.report.markup import titled
from efficientnet_elite.search import champions as search_champions
from efficientnet_elite.search.decisions import decided_rounds
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.summary import Group, State, Summary, summarize
from efficientnet_elite.search.trainings import holds_trainings
from efficientnet_elite.search.workdir import write_bytes, write_json
from efficientnet_elite.text import now

REPORT_FILE = "report.html"
DATA_FILE = "report.json"
FOLDER = "report"
MOST_GROUPS = 40
"""Groups that the page shows in full. Beyond it takes minutes, and browsers fail to open it."""


def write_page(workdir: Path) -> Path:
    """Writes ``report.html``, and its figures as PNG files in the folder ``report``.

    Args:
      workdir: work directory of a search or of trainings, finished or not.

    Returns:
      Path of the page.

    Raises:
      UserError: there is neither in ``workdir``.
    """
    text, drawn = _trained_page(workdir) if holds_trainings(workdir) else _searched_page(workdir)
    _write_folder(workdir, "png", {figure.file_name: figure.png for figure in drawn})
    path = workdir / REPORT_FILE
    write_bytes(path, text.encode())
    return path


def _searched_page(workdir: Path) -> tuple[str, Sequence[Figure]]:
    contents = gather(workdir, MOST_GROUPS)
    pictures = draw(contents)
    return page.render(contents, pictures), pictures.all


def _trained_page(workdir: Path) -> tuple[str, Sequence[Figure]]:
    contents = training.gather(workdir)
    pictures = training_page.draw(contents)
    return training_page.render(contents, pictures), pictures.all


def write_data(workdir: Path) -> Path:
    """Writes everything that the page shows as ``report.json``.

    See `data.as_json` and `training.as_json`. Returns the path of the file; for arguments and
    errors see `write_page`.
    """
    path = workdir / DATA_FILE
    if holds_trainings(workdir):
        write_json(path, training.as_json(training.gather(workdir)))
    else:
        write_json(path, data.as_json(gather(workdir)))
    return path


def write_tables(workdir: Path) -> list[Path]:
    """Writes each table of the page as a CSV file in the folder ``report``.

    Returns the paths of the files; for arguments and errors see `write_page`.
    """
    if holds_trainings(workdir):
        tables = training.tables(training.gather(workdir))
    else:
        tables = data.tables(gather(workdir))
    files = {f"{table.name}.csv": data.as_csv(table).encode() for table in tables}
    return _write_folder(workdir, "csv", files)


def gather(workdir: Path, most_groups: int | None = None) -> Contents:
    """Reads everything that the report shows; UserError where there is no search.

    Args:
      workdir: work directory of a search.
      most_groups: number of groups to show in full, those with the most accurate champions, where
        there are more; None for all.
    """
    with Ledger(workdir) as ledger, ledger.snapshot():
        whole = summarize(ledger)
        summary, others = _divided(whole, most_groups)
        numbers = [group.number for group in summary.groups] if others else None
        record = read_record(ledger, numbers)
    schedule = record.schedule
    names = [group.champion for group in summary.groups if group.champion]
    exported = artefacts.read(workdir, names)
    curves = [
        [epoch.validation_accuracy for epoch in record.epochs[training]]
        for group in summary.groups
        if (training := group.training) is not None and training in record.epochs
    ]
    noise = search_champions.noise(curves, record.meta.get("validation_images"))
    champions = results.champions(summary, exported, record.int8, noise)
    rounds = [
        decided
        for group in summary.groups
        for decided in decided_rounds(group.number, group.decisions)
    ]
    choices = comparison.choices(rounds, record.epochs, schedule.images)
    costs = cost.group_costs(summary, schedule, record.epochs, record.repeats, record.further)
    measured = record.meta.get("measured", {})
    return Contents(
        workdir=workdir,
        meta=record.meta,
        summary=summary,
        epochs=record.epochs,
        int8=record.int8,
        halts=record.halts,
        champions=champions,
        artefacts=exported,
        options=tradeoff.options(champions, record.candidates, measured),
        rule=schedule.rule,
        rounds=rounds,
        choices=choices,
        agreement=comparison.agreement(choices, summary.groups, schedule.rule),
        trainings=cost.noise_trainings(
            record.repeats, summary, schedule, record.epochs, record.failures
        ),
        costs=costs,
        forecast_checks=cost.compare_with_forecast(
            record.meta,
            whole,
            replace(costs[-1], epochs_trained=whole.epochs_done, epochs_left=whole.epochs_left),
        ),
        written=now(),
        further=record.further,
        mistakes=[exported.mistakes[name] for name in names if name in exported.mistakes],
        others=others,
    )


def _divided(summary: Summary, most: int | None) -> tuple[Summary, list[Group]]:
    """The summary with the groups that are shown in full, and the other groups."""
    if most is None or len(summary.groups) <= most:
        return summary, []

    def accuracy(group: Group) -> float:
        crowned = [m.last_score for m in group.members if m.state is State.CHAMPION]
        return max([score for score in crowned if score is not None], default=0.0)

    best = sorted(summary.groups, key=accuracy, reverse=True)[:most]
    shown = {group.number for group in best}
    return (
        replace(summary, groups=tuple(g for g in summary.groups if g.number in shown)),
        [group for group in summary.groups if group.number not in shown],
    )


def draw(contents: Contents) -> Figures:
    """Draws all figures of which the data exist."""
    summary = contents.summary
    scores = {
        name: [epoch.validation_accuracy for epoch in done]
        for name, done in contents.epochs.items()
    }
    for group in summary.groups:
        if group.champion and group.training in scores:
            # A champion that was alone in its group has no other curve than its final one.
            scores.setdefault(group.champion, scores[group.training])
    axis = figures.shared_axis(summary.groups, scores)
    brackets = {
        group.number: bracket(group, [r for r in contents.rounds if r.group == group.number])
        for group in summary.groups
    }
    size, latency = _tradeoffs(contents)
    return Figures(
        curves={
            group.number: figures.curves(group, scores, axis, contents.judged_by)
            for group in summary.groups
            if any(member.epochs_done for member in group.members)
        },
        brackets={number: figure for number, figure in brackets.items() if figure},
        size=size,
        latency=latency,
        mistakes=mistakes_page.draw(contents.mistakes),
    )


def _tradeoffs(contents: Contents) -> tuple[Figure | None, Figure | None]:
    """Accuracy against file size and against latency, each with its own Pareto front."""
    exports = [champion.export for champion in contents.champions if champion.export]
    sized = [(export, export.int8_bytes / 1000) for export in exports]
    timed = [(export, export.int8_latency.median_ms) for export in exports if export.int8_latency]
    title = f"{titled(contents.score)} against"

    def plot(name: str, title: str, cost: str, models: Sequence[tuple[Export, float]]) -> Figure:
        front = results.pareto.front(
            [e.int8_accuracy for e, _ in models], [(c,) for _, c in models]
        )
        points = [
            Point(export.name, cost, export.int8_accuracy, export.interval, on)
            for (export, cost), on in zip(models, front, strict=True)
        ]
        return figures.scatter(name, title, cost, points, contents.score)

    return (
        plot("accuracy-size", f"{title} file size", "int8 file, kB", sized)
        if len(sized) > 1
        else None,
        plot("accuracy-latency", f"{title} latency", "int8 median latency, ms", timed)
        if len(timed) > 1
        else None,
    )


def _write_folder(workdir: Path, ending: str, files: Mapping[str, bytes]) -> list[Path]:
    """Writes files of one kind, and removes those of an earlier report that are not among them."""
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)
    for old in folder.glob(f"*.{ending}"):
        if old.name not in files:  # such as the figure of a latency that is no longer known
            old.unlink(missing_ok=True)  # another process may be writing a report, too
    return [folder / name for name in files]
