"""Measures models on several boards together, and keeps what each board gave."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.job.boards import program, results
from efficientnet_elite.job.boards.definitions import Board, Result
from efficientnet_elite.search.workdir import write_bytes

Item = TypeVar("Item")
Found = TypeVar("Found")

# A signal that comes just before a wait is noticed only after it: no wait is longer.
_LOOK_SECONDS = 1.0


def run(
    boards: Sequence[Board],
    models: Sequence[Path],
    options: Options,
    folder: Path,
    *,
    fresh: bool = False,
    on_message: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Measures all models on all boards.

    Boards on the same machine follow one another; different machines are busy at the same time.
    A board that was measured already, with the same files and options, is not measured again. One
    that fails costs its own rows: its result has an ``error`` in their place, and is not kept.

    Args:
      boards: where to measure.
      models: .tflite files.
      options: how to measure.
      folder: where ``BOARD.json`` and ``BOARD.csv`` are kept.
      fresh: measure also what was measured already.
      on_message: called with a line when a board has given its figures.

    Returns:
      For each board what was measured (see `Result`), with ``board``, ``kind``, ``measured_at``
      and ``error``.

    Raises:
      UserError: a file is missing or no model.
    """
    hashes = [_hash(model) for model in models]

    def one(board: Board) -> Result:
        again = fresh or board.kind.reads
        result = None if again else _kept(board, models, hashes, options, folder)
        if result is not None:
            on_message(f"{board.name}: measured already, at {result['measured_at']}")
            return result
        result = _measured(board, models, options)
        if result["error"] is not None:
            return result
        result["key"] = _key(board, hashes, options)
        write_bytes(folder / f"{board.name}.json", results.as_json(result).encode())
        write_bytes(folder / f"{board.name}.csv", results.as_csv([result]).encode())
        on_message(f"{board.name}: measured")
        return result

    machines: dict[tuple[Any, ...], list[Board]] = {}
    for board in boards:
        machines.setdefault(board.machine, []).append(board)
    groups = list(machines.values())
    done: dict[str, Result] = {}
    # Left first, the inner context ends the processes that the threads wait for.
    with (
        ThreadPoolExecutor(max_workers=len(machines)) as threads,
        program.ended_with_the_command(),
    ):
        for found in _each(threads, lambda group: [one(board) for board in group], groups):
            done.update({result["board"]: result for result in found})
    return [done[board.name] for board in boards]


def check(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Whether each board can be reached and has what it needs: ``board``, ``kind``, ``ready``,
    and what it ``is``, or what it lacks."""  # fmt: skip

    def one(board: Board) -> dict[str, Any]:
        try:
            about, ready = board.check(), True
        except UserError as error:
            about, ready = str(error), False
        return {"board": board.name, "kind": board.kind.name, "ready": ready, "is": about}

    with ThreadPoolExecutor(max_workers=len(boards)) as threads:
        return _each(threads, one, boards)


def _each(
    threads: ThreadPoolExecutor, function: Callable[[Item], Found], items: Sequence[Item]
) -> list[Found]:
    """What the function returns for each item; the first error that it raises ends the wait."""
    calls = [threads.submit(function, item) for item in items]
    left = set(calls)
    while left:
        ended, left = wait(left, _LOOK_SECONDS, FIRST_COMPLETED)
        for call in ended:
            call.result()
    return [call.result() for call in calls]


def _measured(board: Board, models: Sequence[Path], options: Options) -> Result:
    about = {
        "board": board.name,
        "kind": board.kind.name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "error": None,
    }
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return about | board.measure(models, options, Path(scratch))
        except (UserError, OSError) as error:
            nothing: Mapping[str, Any] = {"host": {}, "conditions": {}, "options": asdict(options)}
            return about | dict(nothing) | {"error": str(error), "rows": []}


def _hash(model: Path) -> str:
    return hashlib.sha256(inspect.load(model)).hexdigest()


def _key(board: Board, hashes: Sequence[str], options: Options) -> str:
    """What a result depends on: the board as the file describes it, the models and options."""
    parts = board.kind.name, sorted(board.settings.items()), list(hashes), asdict(options)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _kept(
    board: Board, models: Sequence[Path], hashes: Sequence[str], options: Options, folder: Path
) -> Result | None:
    """What the board gave before for the same files, by their present names."""
    try:
        result: Result = json.loads((folder / f"{board.name}.json").read_text(encoding="utf-8"))
        if result["key"] != _key(board, hashes, options):
            return None
        rows = [
            row | {"model": str(model)} for row, model in zip(result["rows"], models, strict=True)
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result | {"rows": rows}
