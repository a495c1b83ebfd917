"""Fits the estimate of instructions on a processor to emulated runs, and says how good it is.

    python -m benchmarks.studies.instructions --workdir=runs/instructions --core=m55 --write
    python -m benchmarks.studies.instructions --workdir=runs/instructions --core=a76 --root=arm64

Each network is converted to int8 without training. For an emulated Cortex-M4 or M55 it is compiled
to C and run on an image of noise, and the instructions of each layer are counted. An emulated
Cortex-A53 or A76 runs it by LiteRT, and counts those of the whole; --root is the emulated system
(docs/boards.md). `device.instructions` knows how often the loops of each layer run. By least
squares without negative values the program finds what a turn of each loop takes, kernel by kernel
on a Cortex-M. To judge this it leaves out all networks of one kind of family at a time, fits the
others, and estimates those that were left out.

The arguments are NAME@PIXELS, a network and its input side at resolution coefficient 1; by default
the smallest network of every family and those of docs/firmware.md. The counts stay in the work
directory, so that the same command continues after an interruption. With --write the fitted
instructions replace those that the product uses.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from scipy.optimize import nnls
from tqdm import tqdm

from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.benchmarks.studies.estimates import spearman
from efficientnet_elite.device import instructions
from efficientnet_elite.device.instructions import Call
from efficientnet_elite.device.lowering import lower
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import measure
from efficientnet_elite.export.runtimes import c_steps, compiled_c
from efficientnet_elite.job.boards.definitions import Board
from efficientnet_elite.job.boards.kinds import KINDS
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.search.workdir import write_bytes, write_json

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "Folder for the int8 files and the counts.")
command.define_format(FLAGS, tables.FORMATS)
flags.DEFINE_enum(
    "core", "m4", list(instructions.CORES), "The emulated processor.", flag_values=FLAGS
)
flags.DEFINE_string(
    "root", None, "Folder of the system that an emulated Cortex-A runs.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "write",
    False,
    "Write the fitted instructions to efficientnet_elite/device/, for the core.",
    flag_values=FLAGS,
)

_CLASSES = 10
_PIXELS = 64
# Further networks: those that docs/firmware.md compares, masks for the kernels of decoders, and
# activations that become tables or are clamped.
_MORE = (
    "elite9@96",
    "elite9-relu6-nose@96",
    "elite9-hard_swish-nose@48",
    "mobilenetv2-0.35@96",
    "mobilenetv3-small-minimalistic@96",
    "mobilenetv3-small-w4d4r4@96",
    "mobilenetv1-w4d4r4@96",
    "mobilenetv1-w2d4r3@48",
    "ghostnet-w4d4r4@96",
    "mnasnet-small@64",
    "lraspp-mobilenetv3-small-w4d4r4@64",
    "lraspp-mobilenetv3-large-w4d4r4@64",
    "espnetv2-seg-w4d4r4@64",
    "espnetv2-seg-w3d3r4@64",
    "espnet-3-w4d4r4@64",
    "espnet-5-w3d4r4@64",
)
# Where whole networks are counted, more of them are needed.
_MORE_WHOLE = (
    "elite0-relu6-nose@96",
    "elite9-relu6@96",
    "elite9-nose@96",
    "elite9-relu6-nose-stem4@96",
    "elite9-relu6-nose-k3-stem4@96",
    "elite9-mcu-stem4@96",
    "hf5@64",
    "mobilenetv1-w4d4r1@96",
    "mobilenetv2-0.35-stem4@96",
    "mobilenetv4-conv-small-0.5@96",
    "shufflenet-g1-w2d1r4@96",
    "squeezenet-1.1-w2d1r1@96",
)
# Families that differ in little are left out together: how names begin, to the kind.
_KINDS = {
    "elite": "efficientnet",
    "hf": "efficientnet",
    "tinynet": "efficientnet",
    "ecamobilenetv2": "mobilenetv2",
    "condense": "condensenet",
    "espnet": "espnet",
}
# EfficientNet's smallest has too many weights for the board (elite and hf are scaled from it), and
# MnasNet-small's cannot be quantized without training; a larger one is among those above.
_LEFT_OUT = ("efficientnet", "mnasnet-small")
# Not counted on a Cortex-M55, to save time: the others have the same kernels and loops.
_NOT_ON_M55 = (
    "ecamobilenetv2-w4d4r4@64",
    "mobilenetv3-small-w4d4r4@64",
    "mobilenetv3-large-minimalistic-w4d4r4@64",
    "mobilenetv3-small-minimalistic-w4d4r4@64",
    "mnasnet-b1-w4d4r4@64",
    "shufflenet-g1-w4d4r4@64",
    "shufflenet-g2-w4d4r4@64",
    "shufflenet-g4-w4d4r4@64",
    "squeezenet-1.0-w2d2r2@64",
    "condensenet-g4-w4d4r4@64",
    "condensenext-cifar-w4d4r4@64",
    "amoebanet-b-w3d3r3@64",
    "amoebanet-c-w4d4r4@64",
    "darts-v2-w4d4r4@64",
    "proxylessnas-mobile-w4d4r4@64",
    "elite9-hard_swish-nose@48",
    "mobilenetv1-w4d4r4@96",
    "ghostnet-w4d4r4@96",
    "espnetv2-seg-w3d3r4@64",
    "espnet-5-w3d4r4@64",
)
# A count is known to within some instructions, which small layers must not be fitted to.
_UNCERTAIN = 400


# Endings of files of counts.
_RECORDS = {"m4": ".steps.json", "m55": ".m55_steps.json", "a53": ".a53.json", "a76": ".a76.json"}


@dataclass(frozen=True)
class Counted:
    """A network with its layers.

    Attributes:
      name, pixels, macs: of the network, and its input side.
      kind: families of this kind are left out together.
      calls: its layers as predicted.
      layers: those of them that are paired with a layer of the file, and its instructions; empty
        where only those of the whole network were counted.
      instructions: of the whole network.
    """

    name: str
    pixels: int | str
    macs: int
    kind: str
    calls: tuple[Call, ...]
    layers: tuple[tuple[Call, int], ...]
    instructions: int


Fit = dict[str, dict[str, float]]  # kernel to loop to instructions of a turn


def default_networks(core: str) -> list[str]:
    """The networks that the estimate in use for a core was fitted to."""
    smallest = (
        list(family.settings(_PIXELS))[-1]
        for name, family in FAMILIES.items()
        if name not in _LEFT_OUT
    )
    left_out = _NOT_ON_M55 if core == "m55" else ()
    names = [*(f"{name}@{_PIXELS}" for name in smallest), *_MORE]
    if not instructions.CORES[core].in_c:
        names += _MORE_WHOLE
    return [name for name in names if name not in left_out]


def counted(network: str, folder: Path) -> Counted:
    """Counts the instructions of a network's layers, or reads them from a file of the folder.

    Raises:
      UserError: the network cannot be run, or its file has other layers than predicted.
    """
    name, _, pixels = network.partition("@")
    if not pixels.isdecimal():
        raise UserError(f"{network!r}: write NAME@PIXELS, such as elite9@96")
    spec = spec_by_name(name, classes=_CLASSES, base_resolution=int(pixels))
    path = measure.int8_file(spec, folder)
    record = path.with_suffix(_RECORDS[FLAGS.core])
    core = instructions.CORES[FLAGS.core]
    calls = tuple(instructions.calls(lower(spec.graph), core))
    about = (name, spec.resolution, spec.macs, _kind(name), calls)
    if not core.in_c:
        if not record.is_file():
            write_json(record, _run_by_litert(path))
        return Counted(*about, (), json.loads(record.read_text()))
    if not record.is_file():
        write_json(
            record, c_steps.step_instructions(path.read_bytes(), compiled_c.EMULATED[FLAGS.core])
        )
    steps = [(kernel, count) for kernel, count in json.loads(record.read_text())]
    layers = tuple(paired(calls, steps))
    return Counted(*about, layers, sum(count for _, count in steps))


def _run_by_litert(model: Path) -> int:
    """The instructions of one inference on the emulated Cortex-A."""
    if FLAGS.root is None:
        raise UserError("--root is missing: the system that the processor runs (docs/boards.md)")
    settings = {"cpu": f"cortex-{FLAGS.core}", "root": FLAGS.root}
    board = Board(FLAGS.core, KINDS["qemu"], settings, Path.cwd())
    with tempfile.TemporaryDirectory() as scratch:
        (row,) = board.measure([model], Options(), Path(scratch))["rows"]
    if row["error"]:
        raise UserError(row["error"])
    return round(row["instructions"])


def paired(calls: Sequence[Call], steps: Sequence[tuple[str, int]]) -> list[tuple[Call, int]]:
    """Predicted layers with the instructions of those of the file.

    The converter drops a few layers that are predicted, in some networks. Which ones cannot be
    told, so that the layers of their kernels are left out.

    Raises:
      UserError: the other layers differ, too.
    """
    predicted, found = (
        Counter(kernels)
        for kernels in ((call.kernel for call in calls), (kernel for kernel, _ in steps))
    )
    sure = {kernel for kernel in predicted | found if predicted[kernel] == found[kernel]}
    kept = [call for call in calls if call.kernel in sure]
    counted_steps = [(kernel, count) for kernel, count in steps if kernel in sure]
    if [call.kernel for call in kept] != [kernel for kernel, _ in counted_steps]:
        raise UserError("its file has other layers than predicted")
    return [(call, count) for call, (_, count) in zip(kept, counted_steps, strict=True)]


def _kind(name: str) -> str:
    first = name.removeprefix("lraspp-").split("-")[0]
    return next((kind for begin, kind in _KINDS.items() if first.startswith(begin)), first)


def fitted(networks: Iterable[Counted]) -> Fit:
    """What a turn of each loop takes, by least squares of the relative errors.

    They are the errors of layers; where these were not counted, those of networks.
    """
    networks = list(networks)
    if not any(network.layers for network in networks):
        return _fitted_to_wholes(networks)
    layers: dict[str, list[tuple[Call, int]]] = defaultdict(list)
    for network in networks:
        for call, count in network.layers:
            layers[call.kernel].append((call, count))
    fit: Fit = {}
    for kernel, examples in sorted(layers.items()):
        loops = sorted({loop for call, _ in examples for loop, n in call.counts.items() if n})
        turns = np.array([[call.counts.get(loop, 0) for loop in loops] for call, _ in examples])
        counts = np.array([count for _, count in examples], float)
        weights = 1 / (counts + _UNCERTAIN)
        sizes = np.abs(turns * weights[:, None]).max(0)
        found, _ = nnls(turns * weights[:, None] / sizes, counts * weights)
        fit[kernel] = {
            loop: round(float(value), 3) for loop, value in zip(loops, found / sizes, strict=True)
        }
    return fit


def _fitted_to_wholes(networks: Sequence[Counted]) -> Fit:
    turns = [Counter[tuple[str, str]]() for _ in networks]
    for network, counts in zip(networks, turns, strict=True):
        for call in network.calls:
            for loop, number in call.counts.items():
                counts[call.kernel, loop] += number  # type: ignore[assignment]
    loops = sorted(set().union(*turns))
    totals = np.array([network.instructions for network in networks], float)
    shares = np.array([[counts[loop] for loop in loops] for counts in turns]) / totals[:, None]
    sizes = shares.max(0)
    used = sizes > 0
    found = np.zeros(len(loops))
    found[used] = nnls(shares[:, used] / sizes[used], np.ones(len(networks)))[0] / sizes[used]
    fit: Fit = defaultdict(dict)
    for (kernel, loop), value in zip(loops, found, strict=True):
        fit[kernel][loop] = round(float(value), 3)
    return dict(fit)


def estimated(network: Counted, fit: Fit) -> float | None:
    """The instructions of a network by a fit; None if it has a kernel or loop without figures."""
    try:
        return sum(instructions.instructions(call, fit[call.kernel]) for call in network.calls)
    except (KeyError, ValueError):
        return None


def held_out(networks: Sequence[Counted]) -> list[float | None]:
    """The estimate of each network by a fit to the families of other kinds."""
    fits = {
        kind: fitted(network for network in networks if network.kind != kind)
        for kind in {network.kind for network in networks}
    }
    return [estimated(network, fits[network.kind]) for network in networks]


_HEADS = ("network", "pixels", "M MACs", "M instructions", "fitted", "error", "held out", "error")


def rows(networks: Sequence[Counted], fit: Fit) -> list[list[str]]:
    """The table's rows."""
    lines = []
    for network, other in zip(networks, held_out(networks), strict=True):
        real = network.instructions
        cells = [
            network.name,
            str(network.pixels),
            f"{network.macs / 1e6:.2f}",
            f"{real / 1e6:.2f}",
        ]
        for value in (estimated(network, fit), other):
            if value is None:
                cells += ["-", "-"]
            else:
                cells += [f"{value / 1e6:.2f}", f"{100 * (value / real - 1):+.1f} %"]
        lines.append(cells)
    return lines


def summary(networks: Sequence[Counted], fit: Fit) -> str:
    """Errors of both estimates, and how well they and MACs rank the networks."""
    real = [float(network.instructions) for network in networks]
    lines = [f"{len(networks)} networks, {sum(len(n.layers) for n in networks)} layers"]
    own = [estimated(network, fit) for network in networks]
    for title, values in (("fitted", own), ("held out", held_out(networks))):
        pairs = [(v, r) for v, r in zip(values, real, strict=True) if v is not None]
        errors = [100 * (value / count - 1) for value, count in pairs]
        line = f"{title}: {len(pairs)} estimates"
        if errors:
            line += f", mean error {np.mean(np.abs(errors)):.2f} %"
            line += f", worst {max(errors, key=abs):+.2f} %"
        if len(pairs) > 1:
            line += f", rank correlation {spearman(*map(list, zip(*pairs, strict=True))):.3f}"
        lines.append(line)
    macs = [float(network.macs) for network in networks]
    ratios = [count / mac for count, mac in zip(real, macs, strict=True)]
    lines.append(
        f"MACs: rank correlation {spearman(macs, real):.3f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f} instructions a MAC"
    )
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> None:
    """Counts what is missing, fits, and prints the errors.

    Raises:
      UserError: the emulator is missing, or no network can be counted.
    """
    core = instructions.CORES[FLAGS.core]
    if core.in_c and (reason := compiled_c.EMULATED[core.name].missing()):
        raise UserError(reason)
    folder = Path(FLAGS.workdir)
    networks = []
    for name in tqdm(names or default_networks(FLAGS.core), disable=not sys.stderr.isatty()):
        try:
            networks.append(counted(name, folder))
        except UserError as error:
            tqdm.write(f"{name} is left out: {error}", file=sys.stderr)
    if not networks:
        raise UserError("no network could be counted")
    fit = fitted(networks)
    if FLAGS.format == "json":
        print(json.dumps({"kernels": fit}, indent=2))
    else:
        print(tables.text(FLAGS.format, _HEADS, rows(networks, fit)), end="")
        print(summary(networks, fit), end="")
    if FLAGS.write:
        write_bytes(Path(instructions.__file__).with_name(core.fitted), content(fit))


def content(fit: Fit) -> bytes:
    """The data file of a fit."""
    made_by = f"python -m benchmarks.studies.instructions --workdir=DIR --core={FLAGS.core} --write"
    values: dict[str, Any] = {"made_by": made_by}
    if instructions.CORES[FLAGS.core].in_c:
        values["compiler"] = compiled_c.EMULATED[FLAGS.core].version()
    values["kernels"] = fit
    return (json.dumps(values, indent=1) + "\n").encode()


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
