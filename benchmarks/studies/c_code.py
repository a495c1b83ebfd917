"""Compares networks in C with TensorFlow Lite Micro (TFLM): arena, flash, instructions.

    python -m benchmarks.studies.c_code elite9 elite9-relu6-nose --base_resolution=96 --classes=10

Each network is converted to int8 without training, compiled to C, and run on two images of noise by
an emulated Cortex-M4 or M55. Its logits must equal those of TFLM, otherwise the program stops. With
--by_kernel it prints which kernels the instructions are spent in instead.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import measure
from efficientnet_elite.export.packages.c.program import compiled
from efficientnet_elite.export.runtimes import c_steps, compiled_c, tflm, verify
from efficientnet_elite.networks.names import spec_by_name

FLAGS = flags.FlagValues()
command.define_network_size(FLAGS)
command.define_format(FLAGS)
flags.DEFINE_boolean(
    "by_kernel", False, "Print the instructions of each kernel instead.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "processor",
    "m4",
    ["m4", "m55"],
    "The emulated Cortex-M. The board with the m55 has 2 MiB for constants.",
    flag_values=FLAGS,
)

_HEADS = ("network", "pixels", "arena B", "bound B", "TFLM B", "share", "M instructions",
          "flash kB", "constants kB", "stack B")  # fmt: skip
_SECONDS = 300  # time limit of each runtime


def cells(name: str) -> list[str]:
    """The figures of one network, in the order of the headings."""
    spec = spec_by_name(name, classes=FLAGS.classes, base_resolution=FLAGS.base_resolution)
    model = measure.int8_bytes(spec)
    program = compiled(model)
    shape = (2, *spec.size, 3)
    images = np.random.default_rng(0).uniform(-1, 127 / 128, shape).astype(np.float32)
    expected = verify.RUNTIMES["TFLM"].run_images(model, images, _SECONDS)["logits"]
    answer = compiled_c.EMULATED[FLAGS.processor].run_images(model, images, _SECONDS)
    if not np.array_equal(answer["logits"], expected[: len(answer["logits"])]):
        raise UserError(f"{name}: the logits differ from those of TFLM")
    arena = tflm.arena_bytes(model)
    return [
        name,
        str(spec.resolution),
        f"{program.arena_bytes:,}",
        f"{program.bound_bytes:,}",
        f"{arena:,}",
        f"{program.arena_bytes / arena:.2f}",
        f"{np.median(answer['instructions']) / 1e6:.2f}",
        f"{int(answer['code'] + answer['constants']) / 1e3:.0f}",
        f"{program.constant_bytes / 1e3:.0f}",
        f"{int(answer['stack'])}",
    ]


_KERNEL_HEADS = ("network", "kernel", "calls", "M instructions", "share")


def kernel_cells(name: str) -> list[list[str]]:
    """A row for each kernel of a network, the one with most instructions first."""
    spec = spec_by_name(name, classes=FLAGS.classes, base_resolution=FLAGS.base_resolution)
    steps = c_steps.step_instructions(
        measure.int8_bytes(spec), compiled_c.EMULATED[FLAGS.processor]
    )
    calls = Counter(kernel for kernel, _ in steps)
    counts: Counter[str] = Counter()
    for kernel, count in steps:
        counts[kernel] += count
    total = counts.total()
    return [
        [name, kernel, str(calls[kernel]), f"{count / 1e6:.2f}", f"{count / total:.1%}"]
        for kernel, count in counts.most_common()
    ]


def main(networks: list[str]) -> None:
    """Prints a line for each network, or for each of its kernels."""
    if reason := compiled_c.CORTEX_M4.missing():
        raise UserError(reason)
    names = networks or ["elite9", "elite9-relu6-nose"]
    if FLAGS.by_kernel:
        by_kernel = [row for name in names for row in kernel_cells(name)]
        print(tables.text(FLAGS.format, _KERNEL_HEADS, by_kernel, left=2), end="")
        return
    rows = [cells(name) for name in names]
    print(tables.text(FLAGS.format, _HEADS, rows), end="")


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
