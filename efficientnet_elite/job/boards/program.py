"""The latency program, run by something that takes a command: this machine, or ssh.

Also the processes that threads wait for while boards are measured: `call` starts them, and they end
with the command.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.boards.definitions import Board, Result
from efficientnet_elite.text import signal_name

PROGRAM = Path(latency.__file__).parent

_running: set[subprocess.Popen[bytes]] = set()
_interrupted = threading.Event()


@contextlib.contextmanager
def ended_with_the_command() -> Iterator[None]:
    """A context that, where it is left by an exception, ends what `call` has started in threads."""
    _interrupted.clear()
    try:
        yield
    except BaseException:
        _interrupted.set()
        for process in list(_running):
            process.terminate()
        raise


def call(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end.

    Args:
      command: program and arguments.
      stdin: what it reads.
      environment: its variables; without, those of this process.
      folder: where it runs.

    Raises:
      FileNotFoundError: there is no such program.
      UserError: the command was interrupted, and nothing is to be started any more.
    """
    if _interrupted.is_set():
        raise UserError("interrupted")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder
    ) as process:
        _running.add(process)
        if _interrupted.is_set():  # while it started, when it was not among the running ones yet
            process.terminate()
        try:
            output, errors = (part.decode(errors="replace") for part in process.communicate(stdin))
        finally:
            _running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


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
