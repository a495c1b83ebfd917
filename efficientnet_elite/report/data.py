"""Everything that the page shows, as tables of plain values for JSON and CSV.

Shares and accuracies are from 0 to 1, sizes in bytes, and times in seconds, unless the name of a
column says otherwise. Unknown values are null in JSON and empty in CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any

from efficientnet_elite.device.costs import METRICS
from efficientnet_elite.report import mistakes, race_tables
from efficientnet_elite.report.artefacts import Artefacts
from efficientnet_elite.report.columns import Columns, Table, joined, of_epoch, table
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.results import choices, validated
from efficientnet_elite.search.starts import start_of_candidate
from efficientnet_elite.search.summary_text import member_text

FORMAT = 3


def as_json(contents: Contents) -> dict[str, Any]:
    """One object, ready for JSON.

    Its keys: ``format`` (a number that changes with the meaning of the rest), ``written`` (when),
    ``search`` (where it stands), ``settings`` (all that the ledger says of the search, its data,
    machine and versions), ``benchmark`` (machine, threads and runs of the latencies; null where
    nothing was measured), ``problems`` (files that could not be used) and ``tables``: name to
    ``about``, ``columns`` (name to meaning) and ``rows`` (objects with these columns).
    """
    summary, artefacts = contents.summary, contents.artefacts
    exported = [champion for champion in contents.champions if champion.export]
    by, _ = validated(exported)
    return {
        "format": FORMAT,
        "written": contents.written,
        "search": {
            "dataset": summary.dataset,
            "pool": summary.pool,
            "seed": summary.seed,
            "score": contents.score,
            "judged_by": contents.judged_by,
            "rule": contents.rule,
            "round_epochs": summary.round_epochs,
            "epochs": summary.epochs,
            "finished": summary.finished,
            "progress": summary.progress,
            "noise": summary.noise,
            "recommended_by": f"{by} accuracy on the validation part" if exported else None,
            "seconds_left": summary.seconds_left,
        },
        "settings": dict(contents.meta),
        **artefacts_as_json(artefacts),
        "tables": tables_as_json(tables(contents)),
    }


def artefacts_as_json(artefacts: Artefacts) -> dict[str, Any]:
    """The keys ``benchmark`` and ``problems`` of `as_json`."""
    benchmark = {
        "host": dict(artefacts.host),
        "threads": artefacts.threads,
        "runs": artefacts.runs,
    }
    return {
        "benchmark": benchmark if artefacts.host else None,
        "problems": list(artefacts.problems),
    }


def tables_as_json(tables: Iterable[Table]) -> dict[str, Any]:
    """The key ``tables`` of `as_json`."""
    return {
        table.name: {
            "about": table.about,
            "columns": dict(table.columns),
            "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
        }
        for table in tables
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
    """All tables that are not empty."""
    every = (
        _champions(contents),
        _options(contents),
        _candidates(contents),
        _over_limits(contents),
        _curves(contents),
        race_tables.eliminations(contents),
        race_tables.decisions(contents),
        race_tables.rules(contents),
        race_tables.rule_choices(contents),
        race_tables.halts(contents),
        race_tables.noise(contents),
        race_tables.repeat_curves(contents),
        race_tables.forecast(contents),
        race_tables.costs(contents),
        race_tables.times(contents),
        *mistakes.tables(contents.mistakes),
        _skipped(contents),
    )
    return [table for table in every if table.rows]


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


def _bound(which: int) -> Callable[[Any], float | None]:
    """An end of the interval of a champion's int8 accuracy."""
    return lambda champion: (
        champion.export and champion.export.interval and champion.export.interval[which]
    )


EXPORTED: Columns = {
    "int8_accuracy": ("test accuracy of the int8 file", _exported("int8_accuracy")),
    "int8_accuracy_low": (
        "lower end of its 95 % confidence interval (Wilson); none for mIoU",
        _bound(0),
    ),
    "int8_accuracy_high": ("upper end of its 95 % confidence interval", _bound(1)),
    "float_accuracy": ("test accuracy of the float32 file", _exported("float_accuracy")),
    "test_images": ("number of test images", _exported("test_images")),
    "agreement": (
        "share of these for which both files predict the same class",
        _exported("agreement"),
    ),
    "max_difference": (
        "largest difference of a logit between the float32 file and Keras",
        _exported("max_difference"),
    ),
    "logit_range": ("range of the logits of the Keras model", _exported("logit_range")),
    "int8_bytes": ("bytes of the int8 file", _exported("int8_bytes")),
    "float_bytes": ("bytes of the float32 file", _exported("float_bytes")),
    "int8_median_ms": (
        "median latency of the int8 file in milliseconds",
        _exported("int8_latency.median_ms"),
    ),
    "int8_p90_ms": ("90th percentile of that latency", _exported("int8_latency.p90_ms")),
    "float_median_ms": (
        "median latency of the float32 file in milliseconds",
        _exported("float_latency.median_ms"),
    ),
    "int8_file": ("path of the int8 file in the work directory", _exported("int8_file")),
    "float_file": ("path of the float32 file in the work directory", _exported("float_file")),
}
"""Columns of what has an attribute ``export``: its files, accuracies and latencies."""


def _champions(contents: Contents) -> Table:
    roles = {export.name: role for role, export in choices(contents.champions)}
    columns: Columns = {
        "name": ("name of the champion", "member.name"),
        "group": ("its cost group, 0 the heaviest", "group"),
        "role": (
            "advantage over other champions; none if it has none",
            lambda c: roles.get(c.member.name),
        ),
        "on_front": (
            "whether it is on the Pareto front of int8 test accuracy, int8 file size and latency",
            lambda c: c.on_front if c.export else None,
        ),
        "epochs": ("epochs trained", "member.epochs_done"),
        "validation_accuracy": (
            "float32 validation accuracy of the last epoch",
            "member.last_score",
        ),
        "int8_validation_accuracy": (
            "int8 validation accuracy of the last epoch; none unless select=int8",
            "int8_validation",
        ),
        **EXPORTED,
    }
    return table("champions", "A champion.", columns, contents.champions)


def _options(contents: Contents) -> Table:
    options = contents.options
    part = (
        "the test part" if options.tested else "the validation part, since nothing is exported yet"
    )
    columns: Columns = {
        "name": ("name of the champion", "name"),
        "group": ("its cost group", "group"),
        "accuracy": (f"{options.kind} accuracy on {part}", "accuracy"),
        **{n: (f"{METRICS[n].description}.", _cost(n)) for n in options.metrics},
        "on_front": (
            "whether no other champion is at least as good in everything and better in something",
            "on_front",
        ),
        "alone": (
            "cost metrics that alone, together with accuracy, put it on the Pareto front",
            joined("alone"),
        ),
        "beaten_by": (
            "champions that are at least as good in everything and better in something",
            joined("beaten_by"),
        ),
    }
    about = "A champion, compared over all costs that are known for all champions."
    return table("pareto", about, columns, options.rows)


def _candidates(contents: Contents) -> Table:
    columns: Columns = {
        "group": ("cost group, 0 the heaviest", lambda pair: pair[0].number),
        "name": ("name of the candidate", lambda pair: pair[1].name),
        "state": ("state: racing, eliminated, champion or failed", lambda pair: str(pair[1].state)),
        "outcome": ("the state in words", lambda pair: member_text(pair[1])),
        "epochs": ("epochs trained", lambda pair: pair[1].epochs_done),
        "average_accuracy": (
            "mean validation accuracy since the first epoch",
            lambda pair: pair[1].average_score,
        ),
        "last_accuracy": (
            "validation accuracy of the last epoch",
            lambda pair: pair[1].last_score,
        ),
        "resolution": ("input side in pixels, or height x width", lambda pair: pair[1].resolution),
        "width": ("width multiplier", lambda pair: pair[1].width),
        "depth": ("depth multiplier", lambda pair: pair[1].depth),
        "params": ("parameters", lambda pair: pair[1].params),
        "macs": ("multiply-accumulates of one image", lambda pair: pair[1].macs),
        "start": (
            "pretrained weights that it started from; none for random weights",
            lambda pair: (start_of_candidate(contents.meta, pair[1].name) or {}).get("name"),
        ),
    }
    pairs = [(group, member) for group in contents.summary.groups for member in group.members]
    return table("candidates", "A candidate.", columns, pairs)


def _over_limits(contents: Contents) -> Table:
    columns: Columns = {
        "name": ("name of the candidate", lambda pair: pair[0]),
        "reason": ("limits that it exceeds", lambda pair: pair[1]),
    }
    about = "A candidate of the pool that was excluded because it exceeds a limit."
    return table("over_limits", about, columns, contents.meta.get("excluded", {}).items())


def _curves(contents: Contents) -> Table:
    members = {member.name: member for member in contents.summary.members}
    columns: Columns = {
        "model": ("name of the candidate", "candidate"),
        **of_epoch(),
        "seconds": ("seconds of training and validation", "seconds"),
        "params_m": ("parameters in millions", lambda e: members[e.candidate].params / 1e6),
        "macs_m": (
            "multiply-accumulates of one image in millions",
            lambda e: members[e.candidate].macs / 1e6,
        ),
    }
    epochs = [epoch for name in members for epoch in contents.epochs.get(name, ())]
    return table("curves", "An epoch of a candidate.", columns, epochs)


def _skipped(contents: Contents) -> Table:
    columns: Columns = {
        "path": ("path of the image", lambda image: image["path"]),
        "reason": ("why it could not be used", lambda image: image["reason"]),
    }
    about = "An image that was left out."
    return table("skipped_images", about, columns, contents.meta["data"]["skipped"])
