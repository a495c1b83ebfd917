"""Runs the same test images in every installed runtime, each in its own process, and compares the
outputs. The exit status is 1 if a runtime cannot run the model, or if its outputs differ too much
from those of the runtime with the same arithmetic. With --workdir the images, their split and the
crop are those of that search. Of a file from elsewhere, --input says which pixel values it takes
where the file does not. Networks for segmentation are judged by mIoU, on as many images as
fit into memory together with their outputs.

  elite verify net.int8.tflite --dataset=digits
  elite verify --workdir=runs/digits runs/digits/export/elite9/elite9.int8.tflite --format=json
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import DataConfig, InputSize
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger

FLAGS = absl_flags.FlagValues()
common.define_images(FLAGS, "model")
absl_flags.DEFINE_integer(
    "seed", 0, "Random seed of the split into parts and of the choice of images.", flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "images",
    200,
    "Number of test images, taken from each class in turn.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "timeout", 300, "Most seconds that each runtime may take.", lower_bound=0.1, flag_values=FLAGS
)
common.define_format(FLAGS, formats=("table", "json"))
common.define_input(FLAGS)
common.define_trust(FLAGS)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints a line for each runtime to stdout; returns 1 where one of them fails."""
    if len(arguments) != 1:
        raise UserError("name one .tflite file")
    from efficientnet_elite.export import beside, inspect, pixel_rule
    from efficientnet_elite.job import evaluation, settings

    # The seed also chooses among the images.
    names = [name for name in settings.names_of("data") if name != "seed"]
    evaluation.check_images(flags.workdir, common.values(flags, *names, "base_resolution"))
    path = Path(arguments[0]).expanduser()
    content = inspect.load(path)
    contents = inspect.read(content)
    inspect.check_own_operators(contents)
    height, width, channels = inspect.image_shape(contents)
    size = InputSize(height, width)
    rule = pixel_rule.of_file(
        content,
        contents,
        takes=flags.input,
        exported=bool(beside.checked_sidecar(path, content)),
    )
    common.quiet_tensorflow()
    from tqdm import tqdm

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.data.channels import for_network
    from efficientnet_elite.export.runtimes import images as images_lib
    from efficientnet_elite.export.runtimes import verify
    from efficientnet_elite.search import run as search

    if flags.workdir:
        with Ledger(common.workdir(flags)) as ledger:
            config, data = search.recorded(ledger, trusted=flags.trust)
        base = config.base_size
    else:
        base = InputSize.of(flags.base_resolution or size)
        asked = for_network(common.data_config(flags, DataConfig()), channels)
        data = data_lib.load(asked, max_side=base.stored_side)
    if data.channels != channels:
        raise UserError(
            f"the model takes (height, width, {channels}) images, and the networks of the work "
            f"directory (height, width, {data.channels}): name the images with --dataset instead"
        )
    try:
        inspect.check_labels(contents, data.num_classes, per_pixel=data.masks, single=True)
    except UserError as error:
        raise UserError(f"the model is not for {data.name}: {error}") from error
    count = min(flags.images, verify.most_images(contents), data.sizes["test"])
    if count < min(flags.images, data.sizes["test"]):
        print(
            f"only {count} of {flags.images} images: more of this size would take too much memory",
            file=sys.stderr,
        )
    images, labels = images_lib.choose(
        data, size=size, base_resolution=base, count=count, seed=flags.seed
    )
    rows = list(
        tqdm(
            verify.verify(content, images, labels, rule=rule, timeout=flags.timeout),
            "runtimes",
            total=len(verify.RUNTIMES),
            disable=None,
        )
    )
    rows.append(verify.compile_for_npu(content))
    score = "mIoU" if data.masks else "top-1"
    if flags.format == "json":
        report = {"model": arguments[0], "images": len(images), "seed": flags.seed, "score": score}
        print(
            json.dumps({**report, "runtimes": [dataclasses.asdict(row) for row in rows]}, indent=2)
        )
    else:
        print(common.table(_cells(rows, score, len(images))), end="")
    return 0 if all(row.passed for row in rows) else 1


def _cells(rows: list[Any], score: str, images: int) -> list[list[str]]:
    cells = [
        ["runtime", "version", score, "median ms", "memory kB", "differs by", "from", "verdict"]
    ]
    for row in rows:
        if row.cycles is not None:
            memory = f"{row.memory_bytes / 1000:.0f}"
            verdict = f"compiles: {row.cycles / 1e6:.2f} M cycles"
            cells.append([row.runtime, row.version, "", "", memory, "", "", verdict])
            continue
        if row.accuracy is None:
            reason = f"skipped, {row.skipped}" if row.skipped else f"fails: {row.error}"
            cells.append([row.runtime, row.version or "", "", "", "", "", "", reason])
            continue
        differs = "" if row.difference is None else f"{row.difference:.3g} {row.unit}"
        verdict = {True: "agrees", False: "DIFFERS", None: "runs"}[row.agrees]
        if row.instructions is not None:
            constants = row.flash_bytes - row.code_bytes
            verdict += (
                f": {row.instructions / 1e6:.1f} M instructions, flash {row.code_bytes / 1000:.0f} "
                f"kB code + {constants / 1000:.0f} kB constants"
            )
            if row.stack_bytes is not None:
                verdict += f", used: arena {row.arena_peak_bytes:,} B, stack {row.stack_bytes:,} B"
        if row.images < images:
            verdict += f", {row.images} of {images} images in time"
        cells.append(
            [
                row.runtime,
                row.version,
                f"{row.accuracy:.2%}",
                "" if row.median_ms is None else f"{row.median_ms:.3f}",
                f"{row.memory_bytes / 1000:.0f}",
                differs,
                row.reference or "",
                verdict,
            ]
        )
    return cells
