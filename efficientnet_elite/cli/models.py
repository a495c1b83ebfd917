"""Without --pool: the published members of both families, with the paper's ImageNet accuracy.
With --pool: every candidate of a pool, with its cost group (0 is the heaviest).
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import pools
from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_enum(
    "pool", None, list(pools.FAMILIES), "List all candidates of this pool.", flag_values=FLAGS
)
absl_flags.DEFINE_enum(
    "format", "table", ["table", "json", "csv"], "How to print.", flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "base_resolution",
    pools.IMAGENET_RESOLUTION,
    "Input side in pixels at resolution coefficient 1.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer("classes", 1000, "Number of classes.", lower_bound=1, flag_values=FLAGS)
common.define_grouping(FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the table to stdout, and nothing else."""
    common.no_arguments(arguments)
    families = [flags.pool] if flags.pool else list(pools.FAMILIES)
    rows: list[dict[str, Any]] = []
    for family in families:
        for candidate in pools.candidates(
            family,
            base_resolution=flags.base_resolution,
            classes=flags.classes,
            groups=flags.groups,
            metrics=tuple(flags.group_by or pools.METRICS),
            method=flags.group_method or "width",
        ):
            member = pools.MEMBERS.get(candidate.name)
            if member is None and not flags.pool:
                continue
            row: dict[str, Any] = {
                "name": candidate.name,
                "width": candidate.width,
                "depth": candidate.depth,
                "resolution": candidate.spec.resolution,
                "params": candidate.spec.params,
                "macs": candidate.spec.macs,
                "group": candidate.group,
            }
            if not flags.pool and member is not None:
                row["paper_top1"] = member.paper_top1
            rows.append(row)
    if not flags.pool:
        rows.sort(key=lambda row: list(pools.MEMBERS).index(row["name"]))
    print(_FORMATS[flags.format](rows), end="")


def _table(rows: list[dict[str, Any]]) -> str:
    def text(key: str, value: Any) -> str:
        if key in ("params", "macs"):
            return f"{value / 1e6:.3f} M" if key == "params" else f"{value / 1e6:.2f} M"
        return str(value)

    titles = {"paper_top1": "top-1 % (paper)"}
    cells = [[titles.get(key, key) for key in rows[0]]]
    cells += [[text(key, value) for key, value in row.items()] for row in rows]
    return common.table(cells)


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


_FORMATS = {"table": _table, "json": _json, "csv": _csv}
