"""Without --pool, lists the published networks of eLite and HF with their ImageNet accuracy from
the paper. With --pool, lists every candidate of the pool with its cost group; group 0 is the
heaviest.

With limits, such as --max_size_kb=900, candidates that exceed a limit have no group, and the table
says which limit they exceed. Cost metrics that must be measured, such as latency, are measured on
untrained networks. These and the measured values are stored in --workdir.

With --device, the limits are those that the device sets in `elite search`, and where its core is a
Cortex-M4 or M33, a column shows the milliseconds of the network in C: an estimate from instructions
and clock.

  elite models --pool=elite --metrics=size_bytes,arena_bytes --max_size_kb=2000
  elite models --pool=elite-relu6-nose --base_resolution=96 --device=rp2350
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.device import costs, limits
from efficientnet_elite.device.devices import DEVICES
from efficientnet_elite.device.latency_targets import latency_target
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import settings
from efficientnet_elite.networks.families import user
from efficientnet_elite.networks.names import MEMBERS, without_size
from efficientnet_elite.search.candidates import (
    PAPER_METRICS,
    Candidate,
    Measure,
    pool_members,
    select,
)

_MILLISECONDS = "estimated_ms"

FLAGS = absl_flags.FlagValues()
common.define_pool(FLAGS)
common.define_format(FLAGS)
common.define_options(FLAGS, "base_resolution", "input_size")
absl_flags.DEFINE_integer(
    "classes", 1000, "Number of classes of the networks.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_enum(
    "channels",
    "3",
    ["1", "3"],
    "Channels of the input image: 3 for colours, 1 for greyscale.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "metrics",
    [],
    f"Further cost metrics to list: one or more of {', '.join(costs.METRICS)}.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "workdir", None, "Folder that stores measured costs and untrained networks.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "device",
    None,
    "A board or phone of `elite devices`: sets its limits, and shows estimated milliseconds.",
    flag_values=FLAGS,
)
common.define_grouping(FLAGS)
common.define_limits(FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the table to stdout, and nothing else."""
    common.no_arguments(arguments)
    if user.sources_of_pool(flags.pool or ""):  # they import Keras, and TensorFlow prints log lines
        common.quiet_tensorflow()
    rows = _pool(flags, flags.pool) if flags.pool else _members(flags)
    print(_FORMATS[flags.format](rows), end="")


def _pool(flags: Any, pool: str) -> list[dict[str, Any]]:
    """A row for each candidate, in the pool's order."""
    chosen = common.device_options(flags)
    bounds = limits.ceilings(settings.limits_of(chosen))
    device = DEVICES[flags.device] if flags.device else None
    speed = device and device.million_instructions_a_second
    target = str(device and device.latency_target)  # of a device with a speed
    sizes = {name: flags[name].value for name in ("base_resolution", "input_size")}
    size = {
        "base_resolution": settings.search_config(sizes, SearchConfig()).base_resolution,
        "classes": flags.classes,
        "channels": int(flags.channels),
    }
    selected = select(
        pool,
        **size,
        groups=flags.groups,
        metrics=tuple(chosen["group_by"] or PAPER_METRICS),
        method=flags.group_method,
        limits=settings.limits_of(chosen),
        shown=flags.metrics,
        measure=_measure(flags),
    )
    groups = {candidate.name: candidate.group for candidate in selected.candidates}
    shown = dict.fromkeys([*flags.metrics, *bounds])
    rows = []
    for candidate in pool_members(pool, **size):
        row = {**_row(candidate), "group": groups.get(candidate.name)}
        for metric in shown:
            row[metric] = _cost(candidate, metric, selected.measured)
        if speed:
            count = costs.of(candidate.spec, latency_target(target).metric)
            row[_MILLISECONDS] = count / speed / 1000
        if bounds:
            row["excluded"] = selected.excluded.get(candidate.name)
        rows.append(row)
    return rows


def _members(flags: Any) -> list[dict[str, Any]]:
    """A row for each published member, in the order of the paper."""
    rows = {
        without_size(row["name"])[0]: row for pool in ("elite", "hf") for row in _pool(flags, pool)
    }
    return [{**rows[name], "paper_top1": m.paper_top1} for name, m in MEMBERS.items()]


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "width": candidate.width,
        "depth": candidate.depth,
        "resolution": candidate.spec.resolution,
        "params": candidate.spec.params,
        "macs": candidate.spec.macs,
    }


def _cost(candidate: Candidate, metric: str, measured: costs.Measured) -> float | None:
    """A cost; None where it was not measured because the candidate exceeds another limit."""
    if costs.METRICS[metric].of is None and candidate.name not in measured[metric]:
        return None
    return costs.of(candidate.spec, metric, measured)


def _measure(flags: Any) -> Measure:
    """A function that measures; it loads TensorFlow only when it is called."""

    def measure(metric: str, specs: Sequence[Any]) -> Any:
        table = common.metric_table(flags)
        if metric == "latency_ms" and table:
            from efficientnet_elite.device import metric_table

            return metric_table.latencies(Path(table), specs)
        if not flags.workdir:
            raise UserError(f"{metric} must be measured: say where to keep it with --workdir=DIR")
        common.quiet_tensorflow()
        from efficientnet_elite.export.measure import Measurer

        return Measurer(common.workdir(flags) / "metrics")(metric, specs)

    return measure


def _table(rows: list[dict[str, Any]]) -> str:
    def text(key: str, value: Any) -> str:
        if value is None:
            return "" if key == "excluded" else "-"
        if key in ("params", "macs"):
            return f"{value / 1e6:.3f} M" if key == "params" else f"{value / 1e6:.2f} M"
        if key == _MILLISECONDS:
            return f"{value:,.0f} ms"
        return costs.METRICS[key].text(value) if key in costs.METRICS else str(value)

    titles = {"paper_top1": "top-1 % (paper)", "excluded": "not trained because"}
    titles[_MILLISECONDS] = "estimated time"
    titles |= {name: metric.title for name, metric in costs.METRICS.items() if name in rows[0]}
    titles |= {"params": "params", "macs": "macs"}
    cells = [[titles.get(key, key) for key in rows[0]]]
    cells += [[text(key, value) for key, value in row.items()] for row in rows]
    if "excluded" in rows[0]:  # text columns are aligned to the left
        width = max(len(line[-1]) for line in cells)
        cells = [[*line[:-1], line[-1].ljust(width)] for line in cells]
    return common.table(cells)


_FORMATS = {"table": _table, "json": common.as_json, "csv": common.as_csv}
