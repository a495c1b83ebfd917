"""Everything that the page shows, as tables of plain values for JSON and CSV.

Shares and accuracies are from 0 to 1, sizes in bytes, times in seconds unless a name says else;
what is not known is null in JSON and empty in CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import attrgetter
from typing import Any

from efficientnet_elite.costs import METRICS
from efficientnet_elite.report import pareto
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.results import choices
from efficientnet_elite.summary_text import describe

FORMAT = 1


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
      name: of the CSV file, without its ending, and in JSON.
      about: what a row is.
      columns: name to meaning.
      rows: values (text, numbers, booleans or None) in the order of the columns.
    """

    name: str
    about: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


def as_json(contents: Contents) -> dict[str, Any]:
    """One object, ready for JSON.

    Its keys: ``format`` (a number that changes with the meaning of the rest), ``written`` (when),
    ``search`` (where it stands), ``settings`` (all that the ledger says of the search, its data,
    machine and versions), ``benchmark`` (machine, threads and runs of the latencies; null where
    nothing was measured), ``problems`` (files that could not be used) and ``tables``: name to
    ``about``, ``columns`` (name to meaning) and ``rows`` (objects with these columns).
    """
    summary, found = contents.summary, contents.artefacts
    return {
        "format": FORMAT,
        "written": contents.written,
        "search": {
            "dataset": summary.dataset,
            "pool": summary.pool,
            "seed": summary.seed,
            "rule": contents.rule,
            "round_epochs": summary.round_epochs,
            "epochs": summary.epochs,
            "finished": summary.finished,
            "progress": summary.progress,
            "seconds_left": summary.seconds_left,
        },
        "settings": dict(contents.meta),
        "benchmark": {"host": dict(found.host), "threads": found.threads, "runs": found.runs}
        if found.host
        else None,
        "problems": list(found.problems),
        "tables": {
            table.name: {
                "about": table.about,
                "columns": dict(table.columns),
                "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
            }
            for table in tables(contents)
        },
    }


def as_csv(table: Table) -> str:
    """A table as CSV (RFC 4180, but with a bare line feed): a line of names, then the rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(str(cell).lower() if isinstance(cell, bool) else cell for cell in row)
    return text.getvalue()


def tables(contents: Contents) -> list[Table]:
    """All tables, as far as there is anything to tell."""
    every = (
        _champions(contents),
        _options(contents),
        _candidates(contents),
        _over_limits(contents),
        _curves(contents),
        _cuts(contents),
        _decisions(contents),
        _rules(contents),
        _rule_choices(contents),
        _costs(contents),
        _times(contents),
        _skipped(contents),
    )
    return [table for table in every if table.rows]


# Column to its meaning and where its value is found: a path of attributes, or a function.
_Columns = Mapping[str, tuple[str, str | Callable[[Any], Any]]]


def _table(name: str, about: str, columns: _Columns, items: Iterable[Any]) -> Table:
    found = [attrgetter(get) if isinstance(get, str) else get for _, get in columns.values()]
    rows = [[get(item) for get in found] for item in items]
    return Table(name, about, {column: told for column, (told, _) in columns.items()}, rows)


def _joined(field: str) -> Callable[[Any], str]:
    """Names in one cell, which hold no spaces."""
    return lambda item: " ".join(getattr(item, field))


def _exported(path: str) -> Callable[[Any], Any]:
    """An attribute of a champion's export; None where it, or a latency, is missing."""

    def get(champion: Any) -> Any:
        value = champion.export
        for name in path.split("."):
            value = None if value is None else getattr(value, name)
        return value

    return get


def _cost(metric: str) -> Callable[[Any], float]:
    return lambda option: option.costs[metric]


def _champions(contents: Contents) -> Table:
    roles = {export.name: role for role, export in choices(contents.champions)}

    def bound(which: int) -> Callable[[Any], float | None]:
        return lambda champion: (
            champion.export
            and pareto.interval(champion.export.int8_accuracy, champion.export.test_images)[which]
        )

    columns: _Columns = {
        "name": ("of the champion", "member.name"),
        "group": ("its cost group, 0 the heaviest", "group"),
        "role": ("what speaks for it, if anything", lambda c: roles.get(c.member.name)),
        "on_front": (
            "on the Pareto front of int8 test accuracy, int8 file size and latency",
            lambda c: c.on_front if c.export else None,
        ),
        "epochs": ("trained", "member.epochs_done"),
        "validation_accuracy": ("float32, of the last epoch", "member.last_score"),
        "int8_validation_accuracy": (
            "int8, of the last epoch; none where the search does not select by int8",
            "int8_validation",
        ),
        "int8_accuracy": ("on the test part, of the int8 file", _exported("int8_accuracy")),
        "int8_accuracy_low": ("lower end of its 95 % interval (Wilson's)", bound(0)),
        "int8_accuracy_high": ("upper end of its 95 % interval", bound(1)),
        "float_accuracy": ("on the test part, of the float32 file", _exported("float_accuracy")),
        "test_images": ("that the accuracies are measured on", _exported("test_images")),
        "agreement": ("share of them that both files class alike", _exported("agreement")),
        "max_difference": (
            "greatest difference of a logit between the float32 file and Keras",
            _exported("max_difference"),
        ),
        "logit_range": ("of Keras' logits", _exported("logit_range")),
        "int8_bytes": ("of the file", _exported("int8_bytes")),
        "float_bytes": ("of the file", _exported("float_bytes")),
        "int8_median_ms": ("median latency, milliseconds", _exported("int8_latency.median_ms")),
        "int8_p90_ms": ("90th percentile of it", _exported("int8_latency.p90_ms")),
        "float_median_ms": ("median latency, milliseconds", _exported("float_latency.median_ms")),
        "int8_file": ("in the work directory", _exported("int8_file")),
        "float_file": ("in the work directory", _exported("float_file")),
    }
    return _table("champions", "A champion.", columns, contents.champions)


def _options(contents: Contents) -> Table:
    options = contents.options
    tested = "int8, on the test part"
    validated = "float32, on the validation part, for nothing has been exported"
    columns: _Columns = {
        "name": ("of the champion", "name"),
        "group": ("its cost group", "group"),
        "accuracy": (tested if options.tested else validated, "accuracy"),
        **{n: (METRICS[n].help, _cost(n)) for n in options.metrics},
        "on_front": ("nobody is as good in everything and better in something", "on_front"),
        "alone": ("costs any of which suffices for that, with accuracy", _joined("alone")),
        "beaten_by": ("champions nowhere worse and somewhere better", _joined("beaten_by")),
    }
    about = "A champion, compared over all costs that are known of every one."
    return _table("pareto", about, columns, options.rows)


def _candidates(contents: Contents) -> Table:
    columns: _Columns = {
        "group": ("cost group, 0 the heaviest", lambda pair: pair[0].number),
        "name": ("of the candidate", lambda pair: pair[1].name),
        "state": ("racing, eliminated, champion or failed", lambda pair: str(pair[1].state)),
        "outcome": ("the same in words", lambda pair: describe(pair[1])),
        "epochs": ("trained", lambda pair: pair[1].epochs_done),
        "average_accuracy": (
            "mean validation accuracy since the first epoch",
            lambda pair: pair[1].average_score,
        ),
        "last_accuracy": (
            "validation accuracy of the last epoch",
            lambda pair: pair[1].last_score,
        ),
        "resolution": ("input side, pixels", lambda pair: pair[1].resolution),
        "width": ("coefficient", lambda pair: pair[1].width),
        "depth": ("coefficient", lambda pair: pair[1].depth),
        "params": ("parameters", lambda pair: pair[1].params),
        "macs": ("multiply-accumulates of one image", lambda pair: pair[1].macs),
    }
    pairs = [(group, member) for group in contents.summary.groups for member in group.members]
    return _table("candidates", "A candidate.", columns, pairs)


def _over_limits(contents: Contents) -> Table:
    columns: _Columns = {
        "name": ("of the candidate", lambda pair: pair[0]),
        "reason": ("the limits that it is over", lambda pair: pair[1]),
    }
    about = "A candidate of the pool that is over a limit and was not trained."
    return _table("over_limits", about, columns, contents.meta.get("cut", {}).items())


def _curves(contents: Contents) -> Table:
    members = {member.name: member for member in contents.summary.members}
    columns: _Columns = {
        "model": ("name of the candidate", "candidate"),
        "epoch": ("from 1", "epoch"),
        "validation_accuracy": ("of the averaged weights", "validation_accuracy"),
        "train_loss": ("mean over the epoch's steps", "train_loss"),
        "seconds": ("of training and validation", "seconds"),
        "params_m": ("parameters, million", lambda e: members[e.candidate].params / 1e6),
        "macs_m": (
            "multiply-accumulates of one image, million",
            lambda e: members[e.candidate].macs / 1e6,
        ),
    }
    epochs = [epoch for name in members for epoch in contents.epochs.get(name, ())]
    return _table("curves", "An epoch of a candidate.", columns, epochs)


def _cuts(contents: Contents) -> Table:
    columns: _Columns = {
        "group": ("cost group", "group"),
        "round": ("from 1", "round"),
        "epoch": ("after which it was decided", "epoch"),
        "went_on": ("candidates", lambda cut: len(cut.kept)),
        "out": ("candidates", lambda cut: len(cut.out)),
        "gap": ("score of the last who went on minus that of the first who left", "gap"),
        "too_close_to_call": ("the gap is below the noise of a score", "close"),
    }
    return _table("cuts", "A round of a group.", columns, contents.cuts)


def _decisions(contents: Contents) -> Table:
    def in_int8(field: str) -> Callable[[Any], float | None]:
        def get(pair: Any) -> float | None:
            result = contents.int8.get(pair[1].candidate, {}).get(pair[0].epoch)
            return None if result is None else getattr(result, field)

        return get

    columns: _Columns = {
        "group": ("cost group", lambda pair: pair[0].group),
        "round": ("from 1", lambda pair: pair[0].round),
        "epoch": ("after which it was decided", lambda pair: pair[0].epoch),
        "candidate": ("its name", lambda pair: pair[1].candidate),
        "rank": ("in the round, from 1", lambda pair: pair[1].rank),
        "score": (
            "of the rule of elimination; none where training failed",
            lambda pair: pair[1].score if isfinite(pair[1].score) else None,
        ),
        "margin": (
            "score minus that of the first who left, or of the last who went on",
            lambda pair: pair[0].margin(pair[1]),
        ),
        "survives": ("whether it goes on", lambda pair: pair[1].survives),
        "too_close_to_call": (
            "the margin is below the noise of a score",
            lambda pair: pair[1].close,
        ),
        "int8_accuracy": (
            "of this epoch, on the validation part; none where it was not measured or the network "
            "has no int8 form",
            in_int8("int8_accuracy"),
        ),
        "float_accuracy": ("of the same weights on the same images", in_int8("float_accuracy")),
        "reason": ("in words", lambda pair: pair[1].reason),
    }
    pairs = [(cut, decision) for cut in contents.cuts for decision in cut.decisions]
    return _table("decisions", "What a round decided about a candidate.", columns, pairs)


def _rules(contents: Contents) -> Table:
    columns: _Columns = {
        "rule": ("of elimination", "rule"),
        "used": ("whether the search was decided by it", "used"),
        "cuts": ("at which it was asked", "cuts"),
        "same_cuts": ("at which the same candidates would have gone on", "same"),
        "other_choices": ("candidates that went on and that it would have sent away", "others"),
        "champions_dropped": ("champions among them", _joined("champions_dropped")),
        "pairs": ("of candidates that both went on and could be compared later", "pairs"),
        "pairs_right": ("that it ordered as their accuracy was then", "right"),
    }
    about = "A rule of elimination, asked at every cut of this search."
    return _table("rules", about, columns, contents.agreement)


def _rule_choices(contents: Contents) -> Table:
    columns: _Columns = {
        "rule": ("of elimination", "rule"),
        "group": ("cost group", "group"),
        "round": ("from 1", "round"),
        "epoch": ("after which it was decided", "epoch"),
        "keeps_instead": ("who left and would have gone on", _joined("keeps_instead")),
        "drops_instead": ("who went on and would have left", _joined("drops_instead")),
        "pairs": ("see the table of rules", "pairs"),
        "pairs_right": ("see the table of rules", "right"),
    }
    about = "What a rule would have decided at a cut, with as many going on."
    return _table("rule_choices", about, columns, contents.choices)


def _costs(contents: Contents) -> Table:
    columns: _Columns = {
        "group": ("cost group; none: all of them together", "group"),
        "candidates": ("that took part", "candidates"),
        "epochs_planned": ("forecast before the first one", "epochs_planned"),
        "epochs_trained": ("recorded", "epochs_trained"),
        "epochs_left": ("still to be trained", "epochs_left"),
        "epochs_off": ("trained and left, relative to planned, minus 1", "epochs_off"),
        "work_planned": ("MACs of one image, summed over the planned epochs", "work_planned"),
        "work_trained": ("the same, recorded", "work_trained"),
        "work_off": ("trained relative to planned, minus 1; at the end", "work_off"),
        "seconds": ("of training and validation", "seconds"),
    }
    return _table("costs", "Forecast and actual cost of a group.", columns, contents.costs)


def _times(contents: Contents) -> Table:
    columns: _Columns = {
        "phase": ("of the work", lambda pair: pair[0]),
        "seconds": ("spent", lambda pair: pair[1]),
    }
    return _table("times", "Where the time went.", columns, contents.summary.seconds.items())


def _skipped(contents: Contents) -> Table:
    columns: _Columns = {
        "path": ("of the image", lambda image: image["path"]),
        "reason": ("why it could not be used", lambda image: image["reason"]),
    }
    about = "An image that was left out."
    return _table("skipped_images", about, columns, contents.meta["data"]["skipped"])
