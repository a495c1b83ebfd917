"""Compares all families, and the deployment variants of eLite9, on one page (docs/zoo.md).

    python -m benchmarks.studies.zoo --workdir=runs/zoo --format=markdown > docs/zoo.md

The program converts one or two networks of each family, at their published settings, to int8. It
shows the figures that do not depend on training: parameters, MACs, file size, latency relative to
the first network (all networks take turns), instructions on other processors as they are estimated,
the arena of TensorFlow Lite Micro (TFLM) and the operators. It keeps files and figures in the work
directory, so the same command continues after an interruption. ``--runs=0`` measures no latencies.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from efficientnet_elite.benchmarks.host import Host, describe_host
from efficientnet_elite.benchmarks.studies import command, figures, ratios, tables
from efficientnet_elite.benchmarks.studies.ratios import RelativeLatency
from efficientnet_elite.device import costs
from efficientnet_elite.device.instructions import CORES
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION, Family
from efficientnet_elite.networks.families.variants import Variant
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec

_BASE = "elite9"
# All combinations of activation and squeeze-excite; no activation keeps the network's own, swish.
VARIANTS = [
    _BASE + Variant(activation, squeeze_excite).suffix
    for activation in (None, "hard_swish", "relu6")
    for squeeze_excite in (True, False)
]
# The smallest published networks of families that a large network represents.
_SMALL_NETWORKS = ["hf5", "tinynet-e", "mobilenetv1-0.25", "mobilenetv2-0.35", "ghostnet-0.5"]


def representative(family: Family) -> str:
    """Returns the network with the family's name, or the family's first one if there is none."""
    names = family.settings(IMAGENET_RESOLUTION)
    return family.name if family.name in names else next(iter(names))


# The families for CIFAR are left out: their networks are made for images of 32 pixels, so figures
# at 224 pixels would be of no use.
REPRESENTATIVES = [
    representative(family) for name, family in FAMILIES.items() if not name.endswith("-cifar")
]

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "Folder for the int8 files and the figures.")
flags.DEFINE_list(
    "networks",
    [*VARIANTS, *REPRESENTATIVES, *_SMALL_NETWORKS],
    "Names of networks. Latencies are relative to the first one.",
    flag_values=FLAGS,
)
command.define_network_size(FLAGS)
command.define_runs(FLAGS, default=30)
command.define_format(FLAGS, tables.FORMATS)


@dataclass(frozen=True)
class Row:
    """The figures of one network.

    Attributes:
      network: name of the network.
      resolution: input side in pixels.
      params, macs: numbers of parameters and multiply-accumulates, counted from the spec.
      int8_bytes: size of the int8 file; None if the network cannot be converted.
      latency: latency relative to the first network; None if it was not measured.
      arena_bytes: size of TFLM's arena; None if TFLM cannot run the file or is not installed.
      arena_estimate: arena size estimated from the spec; None if there is no file.
      instructions: of one inference on the processors of `instructions.CORES`, by name, where they
        can be estimated.
      operators: operators of the int8 file, name to number of occurrences.
      problem: reason why the file, the arena or the latency is missing; empty if all are there.
    """

    network: str
    resolution: int | str
    params: int
    macs: int
    int8_bytes: int | None
    latency: float | None
    arena_bytes: float | None
    arena_estimate: float | None
    instructions: dict[str, float]
    operators: dict[str, int]
    problem: str


def measured_rows(specs: Sequence[ArchSpec], folder: Path, runs: int) -> list[Row]:
    """Returns one row for each network; converts and measures what the folder lacks.

    Args:
      specs: the networks.
      folder: keeps int8 files and figures.
      runs: number of timed inferences of each network; 0 measures no latencies.
    """
    from efficientnet_elite.export import measure

    figures_of: dict[str, dict[str, Any]] = {}
    for spec in tqdm(specs, desc="converting", disable=not sys.stderr.isatty()):
        try:
            figures_of[spec.name] = figures.int8_figures(spec, folder)
        except UserError as error:
            figures_of[spec.name] = {"operators": {}, "refused": str(error)}
    files = {spec.name: measure.int8_path(spec, folder) for spec in specs}
    converted = [file for name, file in files.items() if "bytes" in figures_of[name]]
    latencies = ratios.relative_latencies(folder / "latency.json", converted, runs)
    return [
        _row(spec, figures_of[spec.name], latencies.get(files[spec.name].name)) for spec in specs
    ]


def _row(spec: ArchSpec, measured: dict[str, Any], relative: RelativeLatency | None) -> Row:
    arena = measured["head"] + measured["tail"] if "head" in measured else None
    problems = [measured["refused"]] if "refused" in measured else []
    if relative is not None and relative.error:
        problems.append(f"cannot be timed: {relative.error}")
    return Row(
        network=spec.name,
        resolution=spec.resolution,
        params=spec.params,
        macs=spec.macs,
        int8_bytes=measured.get("bytes"),
        latency=relative.ratio if relative else None,
        arena_bytes=arena,
        arena_estimate=None if "refused" in measured else costs.of(spec, "arena_bytes"),
        instructions=_instructions(spec),
        operators=measured["operators"],
        problem="; ".join(problems),
    )


def _instructions(spec: ArchSpec) -> dict[str, float]:
    known = costs.computed(spec)
    return {name: known[core.metric] for name, core in CORES.items() if core.metric in known}


_HEADS = (
    "network",
    "pixels",
    "params M",
    "MACs M",
    "int8 kB",
    "latency",
    "a MAC",
    *(f"{name.upper()} M" for name in CORES),
    "arena kB",
    "estimate",
)


def cells(row: Row, base: Row) -> list[str]:
    """Returns a row as text, in the order of the column headings; "-" stands for missing figures.

    Args:
      row: the network.
      base: the first network, which latencies are relative to.
    """
    arena, estimate = row.arena_bytes, row.arena_estimate
    speed = None if row.latency is None else row.latency * base.macs / row.macs
    return [
        row.network,
        str(row.resolution),
        f"{row.params / 1e6:.2f}",
        f"{row.macs / 1e6:.1f}",
        "-" if row.int8_bytes is None else f"{row.int8_bytes / 1e3:.0f}",
        "-" if row.latency is None else f"{row.latency:.2f}",
        "-" if speed is None else f"{speed:.2f}",
        *(
            f"{row.instructions[name] / 1e6:.1f}" if name in row.instructions else "-"
            for name in CORES
        ),
        "-" if arena is None else f"{arena / 1e3:.0f}",
        "-" if estimate is None else f"{estimate / 1e3:.0f}",
    ]


def _operators(row: Row) -> str:
    return ", ".join(f"{name} {count}" for name, count in row.operators.items())


_COMMAND = "python -m benchmarks.studies.zoo --workdir=runs/zoo --format=markdown"


def page(rows: Sequence[Row], host: Host) -> str:
    """Returns the Markdown page.

    Args:
      rows: the networks, the first one for comparison.
      host: the machine that measured the latencies.
    """
    networks = [row for row in rows if row.network not in VARIANTS[1:]]
    variants = [row for row in rows if row.network in VARIANTS]
    notes = [f"- {row.network}: {row.problem}\n" for row in rows if row.problem]
    parts = [
        "# The zoo\n",
        f"Written by `{_COMMAND} > docs/zoo.md`. The networks were not trained: no figure on this "
        "page depends on the weights (batch normalization has the statistics of a noise image). "
        "Accuracies depend on your images; [equal work](equal_work.md) has an example. The sources "
        "of the networks, and the operators of their int8 files, are in [families](families.md).\n",
        "- **params, MACs**: millions of parameters, including the moving statistics of batch "
        "normalization, and of multiply-accumulates for one image.\n"
        "- **int8**: size of the file, which is int8 from input to output.\n"
        f"- **latency**: divided by that of {rows[0].network}; one thread, LiteRT with XNNPACK; "
        "all networks took turns in one run.\n"
        "- **a MAC**: latency per MAC, relative in the same way. It is far above 1 for networks "
        "with operators that XNNPACK does not run (HARD_SWISH and PRELU in LiteRT 2.3) or runs "
        "slowly (7x7 DEPTHWISE_CONV_2D).\n"
        "- **M4, M55**: millions of instructions of the network in C on these Cortex-M, **A53, "
        "A76** of LiteRT on these Cortex-A: estimates ([firmware](firmware.md#estimated-"
        "instructions), [boards](boards.md#estimated-instructions)).\n"
        "- **arena**: measured by TensorFlow Lite Micro with its reference kernels on x86-64.\n"
        "- **estimate**: arena estimated from the spec alone, as `--max_arena_kb` uses it.\n"
        f"- Machine: {host.cpu}, {host.runtime}, Python {host.python}.\n",
        "## Families\n",
        tables.markdown(_HEADS, [cells(row, rows[0]) for row in networks]),
    ]
    if variants:
        parts += [
            f"## Deployment variants of {_BASE}\n",
            f"{_BASE} itself has the activation swish and squeeze-excite; names with -nose have no "
            "squeeze-excite.\n",
            tables.markdown(_HEADS, [cells(row, rows[0]) for row in variants]),
        ]
    if notes:
        parts += ["## What is missing\n", "".join(notes)]
    return "\n".join(parts)


def as_text(rows: Sequence[Row], form: str) -> str:
    """Returns the rows in one of `tables.FORMATS`."""
    if form == "json":
        return json.dumps([asdict(row) for row in rows], indent=2) + "\n"
    if form == "markdown":
        return page(rows, describe_host())
    lines = [cells(row, rows[0]) for row in rows]
    if form == "csv":
        operators = [_operators(row) for row in rows]
        lines = [[*line, names] for line, names in zip(lines, operators, strict=True)]
        return tables.comma_separated([*_HEADS, "operators"], lines)
    return tables.aligned(_HEADS, lines)


def main() -> None:
    """Converts and measures what is missing, then prints all figures to stdout."""
    sizes = {"base_resolution": FLAGS.base_resolution, "classes": FLAGS.classes}
    specs = [spec_by_name(name, **sizes) for name in dict.fromkeys(FLAGS.networks)]
    rows = measured_rows(specs, Path(FLAGS.workdir), FLAGS.runs)
    print(as_text(rows, FLAGS.format), end="")


if __name__ == "__main__":
    command.run(FLAGS, main)
