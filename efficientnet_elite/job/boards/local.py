"""This machine as a board."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from efficientnet_elite.benchmarks import host
from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.job.boards import program
from efficientnet_elite.job.boards.definitions import Board, Result


def check(board: Board) -> str:
    """See `Kind.check`."""
    about = host.describe_host()
    return f"{about.cpu}, {about.system}, {about.runtime}"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`."""
    python = [sys.executable, "-P", "-m", "efficientnet_elite.benchmarks"]
    files = [str(model) for model in models]
    command = program.pinned(board) + program.command(python, files, options)
    done = program.call(command)
    return program.parse(done.stdout, done.stderr, done.returncode, models)
