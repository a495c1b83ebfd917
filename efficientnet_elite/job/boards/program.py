"""The latency program, run by something that takes a command: this machine, or ssh."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.boards.definitions import Board, Result
from efficientnet_elite.text import signal_name

PROGRAM = Path(latency.__file__).parent


def sources() -> list[Path]:
    """The files of the program."""
    return sorted(PROGRAM.glob("*.py"))


def command(python: Sequence[str], models: Sequence[str], options: latency.Options) -> list[str]:
    """How to run the program.

    Args:
      python: how to start Python with the program's module.
      models: the files, as the board knows them.
      options: how to measure.
    """
    flags = [f"--{name}={value}" for name, value in asdict(options).items()]
    return [*python, "--json=-", *flags, "--", *models]


def pinned(board: Board) -> list[str]:
    """What stands before a command so that it keeps to the cores of the board's setting."""
    cores = board.settings.get("cores")
    return ["taskset", "-c", cores] if cores else []


def parse(output: str, errors: str, status: int, models: Sequence[Path]) -> Result:
    """What the program wrote, with the files as they are called here.

    Args:
      output, errors: of the program.
      status: its exit status; negative or above 128 after a signal.
      models: the files, in the order in which it got them.

    Raises:
      UserError: it wrote no result.
    """
    try:
        result: Result = json.loads(output)
        rows = [
            row | {"model": str(model)} for row, model in zip(result["rows"], models, strict=True)
        ]
    except (ValueError, KeyError, TypeError) as error:
        number = -status if status < 0 else status - 128
        if number > 0:
            raise UserError(f"the program was ended by {signal_name(number)}") from error
        raise UserError(f"the program failed: {last_line(errors)}") from error
    return result | {"rows": rows}


def last_line(text: str) -> str:
    """The last line with something in it, where programs say what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
