"""All families and the deployment variants of eLite9 side by side, on one page.

    python -m benchmarks.studies.zoo --workdir=runs/zoo --format=markdown > docs/zoo.md

Converts one or two networks of each family, at their published settings, to int8 and shows what
does not depend on training: parameters, MACs, size, latency relative to the first network (all
timed in turns), the arena of TensorFlow Lite Micro (TFLM) and the operators. What was converted or
measured stays in the work directory: the same command continues; ``--runs=0`` leaves timing out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.studies import figures, program, ratios, texts
from efficientnet_elite.benchmarks.studies.ratios import Timing
from efficientnet_elite.device import costs
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION, Family
from efficientnet_elite.networks.families.variants import Variant
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec

_BASE = "elite9"
# Its own activation is swish.
VARIANTS = [
    _BASE + Variant(activation, squeeze_excite).suffix
    for activation in (None, "hard_swish", "relu6")
    for squeeze_excite in (True, False)
]
# The smallest published networks of families whose representative is a large one.
_SMALL = ["hf5", "tinynet-e", "mobilenetv1-0.25", "mobilenetv2-0.35", "ghostnet-0.5"]


def representative(family: Family) -> str:
    """The network that bears the family's name, or else its first one."""
    names = family.settings(IMAGENET_RESOLUTION)
    return family.name if family.name in names else next(iter(names))


# Those for CIFAR are meant for 32 pixels: no match for the others, nor of any use at 224.
REPRESENTATIVES = [
    representative(family) for name, family in FAMILIES.items() if not name.endswith("-cifar")
]

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "For files and figures.", required=True, flag_values=FLAGS)
flags.DEFINE_list(
    "networks",
    [*VARIANTS, *REPRESENTATIVES, *_SMALL],
    "Names, the first for comparison.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("base_resolution", 224, "Input side at coefficient 1.", flag_values=FLAGS)
flags.DEFINE_integer("classes", 1000, "Number of classes.", flag_values=FLAGS)
flags.DEFINE_integer(
    "runs", 30, "Timed inferences a network; 0 for no timing.", lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_enum("format", "table", texts.FORMATS, "How to print.", flag_values=FLAGS)


@dataclass(frozen=True)
class Row:
    """A network's figures.

    Attributes:
      network: its name.
      resolution: input side in pixels.
      params, macs: counted from its spec.
      int8_bytes: size of the file; None where it cannot be converted.
      latency: relative to the first network; None where it was not timed.
      arena_bytes: of TFLM; None where it refuses the file, or is not installed.
      arena_estimate: foretold from the spec; None where there is no file.
      operators: of the int8 file, name to number.
      problem: why there is no file, arena or latency; empty where there are all.
    """

    network: str
    resolution: int
    params: int
    macs: int
    int8_bytes: int | None
    latency: float | None
    arena_bytes: float | None
    arena_estimate: float | None
    operators: dict[str, int]
    problem: str


def rows(specs: Sequence[ArchSpec], folder: Path, runs: int) -> list[Row]:
    """Converts and times what the folder lacks; one row a network."""
    from efficientnet_elite.export import measure

    known: dict[str, dict[str, Any]] = {}
    for spec in tqdm(specs, desc="converting", disable=not sys.stderr.isatty()):
        try:
            known[spec.name] = figures.of(spec, folder)
        except UserError as error:
            known[spec.name] = {"operators": {}, "refused": str(error)}
    files = {spec.name: measure.int8_path(spec, folder) for spec in specs}
    there = [file for name, file in files.items() if "bytes" in known[name]]
    timed = ratios.kept(folder / "latency.json", there, runs)
    return [_row(spec, known[spec.name], timed.get(files[spec.name].name)) for spec in specs]


def _row(spec: ArchSpec, found: dict[str, Any], timing: Timing | None) -> Row:
    arena = found["head"] + found["tail"] if "head" in found else None
    problems = [found["refused"]] if "refused" in found else []
    if timing is not None and timing.error:
        problems.append(f"cannot be timed: {timing.error}")
    return Row(
        network=spec.name,
        resolution=spec.resolution,
        params=spec.params,
        macs=spec.macs,
        int8_bytes=found.get("bytes"),
        latency=timing.ratio if timing else None,
        arena_bytes=arena,
        arena_estimate=None if "refused" in found else costs.of(spec, "arena_bytes"),
        operators=found["operators"],
        problem="; ".join(problems),
    )


_HEADS = (
    "network",
    "pixels",
    "params M",
    "MACs M",
    "int8 kB",
    "latency",
    "a MAC",
    "arena kB",
    "estimate",
)


def cells(row: Row, base: Row) -> list[str]:
    """A row as text, beside the first one, which latencies are relative to.

    What is not known is a dash.
    """
    arena, foretold = row.arena_bytes, row.arena_estimate
    speed = None if row.latency is None else row.latency * base.macs / row.macs
    return [
        row.network,
        str(row.resolution),
        f"{row.params / 1e6:.2f}",
        f"{row.macs / 1e6:.1f}",
        "-" if row.int8_bytes is None else f"{row.int8_bytes / 1e3:.0f}",
        "-" if row.latency is None else f"{row.latency:.2f}",
        "-" if speed is None else f"{speed:.2f}",
        "-" if arena is None else f"{arena / 1e3:.0f}",
        "-" if foretold is None else f"{foretold / 1e3:.0f}",
    ]


def _operators(row: Row) -> str:
    return ", ".join(f"{name} {count}" for name, count in row.operators.items())


_COMMAND = "python -m benchmarks.studies.zoo --workdir=runs/zoo --format=markdown"


def page(found: Sequence[Row], host: latency.Host) -> str:
    """The Markdown page."""
    networks = [row for row in found if row.network not in VARIANTS[1:]]
    variants = [row for row in found if row.network in VARIANTS]
    notes = [f"- {row.network}: {row.problem}\n" for row in found if row.problem]
    operators = [[row.network, _operators(row)] for row in found]
    parts = [
        "# The zoo\n",
        f"Written by `{_COMMAND} > docs/zoo.md`. Nothing here was trained: no figure depends on "
        "the weights (batch normalisation has the statistics of an image of noise). Which accuracy "
        "comes with them is for your own images to say ([equal work](equal_work.md) has an "
        "example); the networks' sources: [families](families.md).\n",
        "- params, MACs: counted; moving statistics of batch normalisation included; one image.\n"
        "- int8: the file, full int8 from input to output.\n"
        f"- latency: one thread, LiteRT with XNNPACK, divided by {found[0].network}'s; all took "
        "turns in one run. *a MAC*: latency over MACs, likewise; far above 1 where XNNPACK does "
        "not take over some operators (that of LiteRT 2.3: HARD_SWISH, PRELU) or is slow at them "
        "(7x7 DEPTHWISE_CONV_2D).\n"
        "- arena: of TensorFlow Lite Micro with its reference kernels on x86-64, by its own "
        "account; *estimate*: what `--max_arena_kb` goes by, from the spec alone.\n"
        f"- machine: {host.cpu}, {host.runtime}, Python {host.python}.\n",
        "## Families\n",
        texts.markdown(_HEADS, [cells(row, found[0]) for row in networks]),
    ]
    if variants:
        parts += [
            f"## Deployment variants of {_BASE}\n",
            f"{_BASE} itself has swish and channel gates (squeeze-excite); -nose: no gates.\n",
            texts.markdown(_HEADS, [cells(row, found[0]) for row in variants]),
        ]
    if notes:
        parts += ["## What is missing\n", "".join(notes)]
    parts += [
        "## Operators of the int8 files\n",
        texts.markdown(("network", "operators"), operators, left=2),
    ]
    return "\n".join(parts)


def as_text(found: Sequence[Row], form: str) -> str:
    """The rows in one of `texts.FORMATS`."""
    if form == "json":
        return json.dumps([asdict(row) for row in found], indent=2) + "\n"
    if form == "markdown":
        return page(found, latency.host())
    heads, lines = (
        [*_HEADS, "operators"],
        [[*cells(row, found[0]), _operators(row)] for row in found],
    )
    if form == "csv":
        return texts.comma_separated(heads, lines)
    return texts.aligned(heads[:-1], [line[:-1] for line in lines])


def main(argv: list[str]) -> int:
    """Converts and measures what is missing, then prints; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sizes = {"base_resolution": FLAGS.base_resolution, "classes": FLAGS.classes}
    try:
        specs = [spec_by_name(name, **sizes) for name in dict.fromkeys(FLAGS.networks)]
        found = rows(specs, Path(FLAGS.workdir), FLAGS.runs)
    except UserError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 1
    print(as_text(found, FLAGS.format), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(program.parse(FLAGS, sys.argv)))
