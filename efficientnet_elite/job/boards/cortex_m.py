"""The emulated Cortex-Ms that `elite verify` also has: networks as C, instructions counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from efficientnet_elite.benchmarks.host import Host
from efficientnet_elite.benchmarks.latency import Options, Row
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.runtimes.compiled_c import EMULATED, CompiledC
from efficientnet_elite.job.boards.definitions import Board, Result

_IMAGES = 2
_SECONDS = 300.0  # time limit of a network


def check(board: Board) -> str:
    """See `Kind.check`."""
    cpu, emulated = _processor(board)
    if reason := emulated.missing():
        raise UserError(reason)
    return f"{cpu}, {emulated.description}, {emulated.version()}"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`."""
    check(board)
    cpu, emulated = _processor(board)
    rows = []
    for model in models:
        try:
            row = _row(model, emulated, options)
        except (UserError, OSError) as error:
            row = Row(model=str(model), error=str(error))
        rows.append(asdict(row))
    about = Host(
        cpu=f"{cpu}, emulated by QEMU",
        cores=1,
        system="bare metal, emulated",
        python="",
        runtime=f"network in C, {emulated.version()}",
        peak_rss_mb=None,
        clusters=f"1x {cpu.title()}",
    )
    done = {"runs": _IMAGES, "threads": 1, "seed": options.seed}
    return {"host": asdict(about), "conditions": {}, "options": done, "rows": rows}


def _processor(board: Board) -> tuple[str, CompiledC]:
    """The name of a board's processor, and how networks run on it."""
    cpu = board.settings.get("cpu", "cortex-m4")
    return cpu, EMULATED[cpu.removeprefix("cortex-")]


def _row(model: Path, emulated: CompiledC, options: Options) -> Row:
    content = inspect.load(model)
    contents = inspect.read(content)
    if reason := emulated.unfit(contents):
        raise UserError(reason)
    shape = contents.inputs[0].shape
    noise = np.random.default_rng(options.seed).uniform(-1, 127 / 128, (_IMAGES, *shape[1:]))
    answer = emulated.run_images(content, noise.astype(np.float32), _SECONDS)
    return Row(
        model=str(model),
        file_bytes=len(content),
        input=f"{'x'.join(map(str, shape))} int8",
        threads=1,
        runs=len(answer["instructions"]),
        instructions=float(np.median(answer["instructions"])),
    )
