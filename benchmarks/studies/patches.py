"""Shows what running the first layers patch by patch saves and costs (docs/patches.md).

    python -m benchmarks.studies.patches elite9-nose elite9-relu6-nose --side=224 --classes=10

Each network is converted to int8 without training and rewritten by `elite export`'s function. The
logits of every file on two images of noise must equal those of the whole network, in TFLM and, for
generated code, on an emulated Cortex-M4; otherwise the program stops.
"""

from __future__ import annotations

import itertools

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import measure
from efficientnet_elite.export.patches import patching
from efficientnet_elite.export.patches.request import AUTO, TFLM, C, Request, request
from efficientnet_elite.export.runtimes import compiled_c, verify
from efficientnet_elite.networks.names import spec_by_name

FLAGS = flags.FlagValues()
command.define_network_size(FLAGS)
flags.DEFINE_integer("side", 224, "Side of the image in pixels.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_list("limits_kb", ["512", "256"], "Limits of the arena in kB.", flag_values=FLAGS)
flags.DEFINE_string("grid", "4x4", "Grid that is tried besides.", flag_values=FLAGS)

_HEADS = ("network", "arena of", "asked", "patches", "layers", "arena kB", "MACs", "file kB",
          "M instructions")  # fmt: skip
_SECONDS = 600  # time limit of each runtime


def rows(name: str) -> list[list[str]]:
    """The rows of one network."""
    spec = spec_by_name(name, classes=FLAGS.classes, base_resolution=FLAGS.base_resolution)
    model = measure.int8_bytes(spec.resized((FLAGS.side, FLAGS.side, 3)))
    shape = (2, FLAGS.side, FLAGS.side, 3)
    images = np.random.default_rng(0).uniform(-1, 127 / 128, shape).astype(np.float32)
    expected = verify.RUNTIMES["TFLM"].run_images(model, images, _SECONDS)["logits"]
    found = []
    for arena in (TFLM, C):
        every = [
            ("whole", request(AUTO, 1e6, arena)),
            (FLAGS.grid, request(FLAGS.grid, None, arena)),
        ]
        every += [(f"{kb} kB", request(AUTO, float(kb), arena)) for kb in FLAGS.limits_kb]
        for asked, wanted in every:
            assert wanted is not None
            found.append([name, arena, asked, *_figures(model, wanted, images, expected)])
    return found


def _figures(model: bytes, wanted: Request, images: np.ndarray, expected: np.ndarray) -> list[str]:
    """The figures of one rewritten file; what is impossible is said in the first cell."""
    try:
        result = patching.patched(model, wanted)
    except UserError as error:
        return [str(error).partition(";")[0].partition(":")[0], *[""] * 5]
    record, instructions = result.record, ""
    runtime = compiled_c.CORTEX_M4 if wanted.arena == C else verify.RUNTIMES["TFLM"]
    answer = runtime.run_images(result.content, images, _SECONDS)
    if not np.array_equal(answer["logits"], expected[: len(answer["logits"])]):
        raise UserError("the logits differ from those of TFLM with whole maps")
    if wanted.arena == C:
        instructions = f"{np.median(answer['instructions']) / 1e6:.1f}"
    grid = record["grid"]
    return [
        "none" if grid is None else f"{grid[0]}x{grid[1]}",
        "" if grid is None else str(record["cut"]["operators"]),
        f"{record['arena_bytes']['patched'] / 1000:,.1f}",
        f"{record['overhead']:+.1%}",
        f"{record['file_bytes']['patched'] / 1000:,.0f}",
        instructions,
    ]


def main(networks: list[str]) -> None:
    """Prints a line for each network, runtime and limit."""
    if reason := compiled_c.CORTEX_M4.missing():
        raise UserError(reason)
    each = (rows(name) for name in networks or ["elite9-nose", "elite9-relu6-nose"])
    tables.print_markdown(itertools.chain([_HEADS], itertools.chain.from_iterable(each)))


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
