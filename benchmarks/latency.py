"""Measures the latency of TFLite models.

    python -m benchmarks MODEL.tflite ... [--json=PATH] [--csv=PATH]

The program needs Python 3.9 or newer with ``ai-edge-litert``, ``numpy`` and ``absl-py``, and
neither TensorFlow nor other parts of this project. To measure on a board, copy this folder to it.

Models that are given together take turns: in each round every model gets one turn, and each round
has a new random order. Whatever slows the machine down then slows all models down, so the ratios
between models are reliable even when the milliseconds are not. A turn is one untimed inference
followed by a timed one. Without the untimed inference the processor's caches would still hold the
previous model's weights, which made small models appear 1.3 to 1.6 times slower than they are when
they run alone.

Before that, each model runs once in a process of its own, which shows the time to load it, its
first inference and its memory (alone.py).

If a file cannot be loaded, the program prints one line to stderr, measures the other models and
ends with exit status 1. Wrong flags end it with exit status 2.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from . import alone, delegates, host
from .host import Host


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
      runs: number of timed inferences of each model.
      warmup: number of untimed inferences of each model before the first timed one.
      threads: number of threads that an inference may use.
      seed: seed of the random input values and of the order of the turns.
      sustained: seconds that each model then runs without a pause; 0 leaves that out.
    """

    runs: int = 100
    warmup: int = 10
    threads: int = 1
    seed: int = 0
    sustained: int = 0


@dataclass(frozen=True)
class Row:
    """The result of one model.

    Attributes:
      model: path of the model, as it was given.
      file_bytes: size of the file in bytes.
      input: shape and type of each input, such as ``1x224x224x3 int8``.
      threads: number of threads that an inference could use.
      runs: number of timed inferences.
      median_ms, p90_ms, min_ms, mean_ms, p5_ms, p95_ms: median, 90th percentile, minimum, mean, 5th
        and 95th percentile of the latency of one inference in milliseconds.
      ratio: this model's latency divided by that of the first model that could be run, computed
        within each round; the median over all rounds.
      error: why the model could not be run, or None. If it is set, all other fields but `model` are
        None.
      initialisation_ms: milliseconds to load the file and plan its memory, in a process of its own.
      first_ms: milliseconds of the first inference there.
      rss_mb: peak resident memory there in megabytes (10^6 bytes), without Python and the runtime.
      sustained_ms: median of each second while the model runs without a pause.
      instructions: of one inference, where an emulator counts them; then there is no latency.
      delegate: name of the delegate that runs at least one operator, such as ``XNNPACK``; None if
        none does or it is unknown.
      delegated: fraction (0..1) of the operators that it runs, where the runtime tells it.
      energy_mj: millijoules of one inference while the model runs without a pause: all that the
        processor takes then, also for other programs. None where Linux does not tell it, or the
        model had no such seconds.
    """

    model: str
    file_bytes: int | None = None
    input: str | None = None
    threads: int | None = None
    runs: int | None = None
    median_ms: float | None = None
    p90_ms: float | None = None
    min_ms: float | None = None
    mean_ms: float | None = None
    ratio: float | None = None
    error: str | None = None
    p5_ms: float | None = None
    p95_ms: float | None = None
    initialisation_ms: float | None = None
    first_ms: float | None = None
    rss_mb: float | None = None
    sustained_ms: tuple[float, ...] | None = None
    instructions: float | None = None
    delegate: str | None = None
    delegated: float | None = None
    energy_mj: float | None = None


def measure_latencies(
    paths: Sequence[str | os.PathLike[str]],
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Measures the latencies of models that take turns.

    Args:
      paths: .tflite files. A path that is given twice is measured twice, which shows the noise.
      options: how to measure.
      progress: called after each round with the number of finished rounds and of all rounds.

    Returns:
      One row for each path, in the same order.

    Raises:
      ModuleNotFoundError: ai-edge-litert is not installed.
    """
    rows = [Row(model=os.fspath(path)) for path in paths]
    interpreters: dict[int, Any] = {}
    for index, row in enumerate(rows):
        try:
            interpreters[index] = alone.load(Path(row.model), options.threads, options.seed)
            interpreters[index].invoke()
        except alone.LOAD_ERRORS as error:
            interpreters.pop(index, None)
            rows[index] = dataclasses.replace(row, error=alone.one_line(error))

    times: dict[int, list[float]] = {index: [] for index in interpreters}
    order = list(interpreters)
    shuffle = random.Random(options.seed).shuffle
    for _ in range(options.warmup):
        for index in order:
            interpreters[index].invoke()
    for finished_rounds in range(options.runs if order else 0):
        shuffle(order)
        for index in order:
            times[index].append(_time_turn(interpreters[index]))
        progress(finished_rounds + 1, options.runs)

    baseline = np.array(next(iter(times.values()), []))
    for index, values in times.items():
        milliseconds = np.array(values)
        delegated = delegates.share(interpreters[index])
        sustained_ms, energy_mj = _sustained(interpreters[index], options.sustained)
        rows[index] = dataclasses.replace(
            rows[index],
            file_bytes=Path(rows[index].model).stat().st_size,
            input=_describe_inputs(interpreters[index]),
            threads=options.threads,
            runs=options.runs,
            median_ms=float(np.median(milliseconds)),
            p90_ms=float(np.percentile(milliseconds, 90)),
            min_ms=float(milliseconds.min()),
            mean_ms=float(milliseconds.mean()),
            ratio=float(np.median(milliseconds / baseline)),
            p5_ms=float(np.percentile(milliseconds, 5)),
            p95_ms=float(np.percentile(milliseconds, 95)),
            sustained_ms=sustained_ms,
            energy_mj=energy_mj,
            delegate=delegates.NAME if delegated else None,
            delegated=delegated,
        )
    return rows


def measure_all(
    paths: Sequence[str],
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Measures what models need alone, and then the latencies of those that can be run.

    The arguments and the result are those of `measure_latencies`.
    """
    rows = [Row(model=path) for path in paths]
    needs: dict[int, dict[str, Any]] = {}
    for index, path in enumerate(paths):
        try:
            needs[index] = alone.needs_of(Path(path), options.threads, options.seed)
        except alone.FailedAlone as error:
            rows[index] = dataclasses.replace(rows[index], error=str(error))
    measured = measure_latencies([paths[index] for index in needs], options, progress)
    for index, row in zip(needs, measured):  # noqa: B905 (Python 3.9)
        rows[index] = row if row.error else dataclasses.replace(row, **needs[index])
    return rows


def _time_turn(interpreter: Any) -> float:
    """Runs one untimed and one timed inference; returns the milliseconds of the second."""
    interpreter.invoke()
    start = time.perf_counter_ns()
    interpreter.invoke()
    return (time.perf_counter_ns() - start) / 1e6


def _sustained(interpreter: Any, seconds: int) -> tuple[tuple[float, ...] | None, float | None]:
    """Runs inferences without a pause.

    Returns:
      The median of each second in milliseconds, and the millijoules of an inference.
    """
    if not seconds:
        return None, None
    energy = host.energy()
    times: list[list[float]] = [[] for _ in range(seconds)]
    start = now = time.perf_counter_ns()
    while (second := (now - start) // 10**9) < seconds:
        interpreter.invoke()
        before, now = now, time.perf_counter_ns()
        times[second].append((now - before) / 1e6)
    joules = host.joules(energy, host.energy())
    # A second in which no inference began has none.
    medians = tuple(float(np.median(each)) for each in times if each)
    return medians, None if joules is None else 1e3 * joules / sum(map(len, times))


def _describe_inputs(interpreter: Any) -> str:
    return ", ".join(
        f"{'x'.join(map(str, detail['shape']))} {np.dtype(detail['dtype']).name}"
        for detail in interpreter.get_input_details()
    )


def as_json(
    rows: Sequence[Row],
    options: Options,
    machine: Host,
    conditions: host.Conditions | None = None,
) -> str:
    """Returns the whole result as JSON: ``{"host": ..., "options": ..., "rows": [...]}``.

    With conditions, they follow the host.
    """
    result = {
        "host": dataclasses.asdict(machine),
        **({"conditions": dataclasses.asdict(conditions)} if conditions else {}),
        "options": dataclasses.asdict(options),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    return json.dumps(result, indent=2) + "\n"


def as_csv(rows: Sequence[Row], machine: Host, conditions: host.Conditions | None = None) -> str:
    """Returns CSV with a line for each model: the fields of `Row`, `Host` and `Conditions`."""
    about = dataclasses.asdict(machine)
    about.update(dataclasses.asdict(conditions) if conditions else {})
    columns = [field.name for field in dataclasses.fields(Row)] + list(about)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {**dataclasses.asdict(row), **about}
        if row.sustained_ms:
            cells["sustained_ms"] = " ".join(f"{ms:.4g}" for ms in row.sustained_ms)
        writer.writerow(cells)
    return text.getvalue()


def as_table(rows: Sequence[Row], machine: Host, conditions: host.Conditions) -> str:
    """Returns a table for the terminal, without the models that could not be run.

    The first line says what speaks against the figures.
    """
    heads = ("model", "input", "kB", "median ms", "p90", "min", "mean", "ratio")
    cells = [
        (
            row.model,
            row.input or "",
            _number((row.file_bytes or 0) / 1000, 0),
            *(_number(value, 3) for value in (row.median_ms, row.p90_ms, row.min_ms, row.mean_ms)),
            _number(row.ratio, 2),
        )
        for row in rows
        if row.error is None
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells)]  # noqa: B905 (Python 3.9)
    marks = f"; {conditions.marks}" if conditions.marks else ""
    lines = [f"{machine.cpu}, {machine.cores} cores; {machine.system}; {machine.runtime}{marks}"]
    lines += [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))  # noqa: B905
        ).rstrip()
        for line in [heads, *cells]
    ]
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def main(argv: Sequence[str]) -> int:
    """Runs the command line.

    Args:
      argv: name of the program, then flags and models.

    Returns:
      The exit status: 0, 1 if a model could not be run or a file not written, 2 for wrong flags.
    """
    settings = new_flags()
    try:
        models = settings(argv)[1:]
        if settings.help:
            flag_help = settings.get_help(include_special_flags=False)
            print(f"usage: {argv[0]} MODEL.tflite ... [flags]\n{flag_help}")
            return 0
        _check(models, [settings.json, settings.csv])
    except (flags.Error, ValueError) as error:
        print(f"{argv[0]}: {error} (--help lists the flags)", file=sys.stderr)
        return 2

    options = Options(
        settings.runs, settings.warmup, settings.threads, settings.seed, settings.sustained
    )
    progress = _show_progress if sys.stderr.isatty() else lambda done, total: None
    if importlib.util.find_spec("ai_edge_litert") is None:
        print(f"{argv[0]}: needs LiteRT: pip install ai-edge-litert", file=sys.stderr)
        return 1
    before = host.state()
    rows = measure_all(models, options, progress)
    after = host.state()

    failed = [row for row in rows if row.error is not None]
    for row in failed:
        print(f"{argv[0]}: {row.model}: cannot be run: {row.error}", file=sys.stderr)
    machine, conditions = host.describe_host(), host.conditions(before, after)
    status = 1 if failed else 0
    try:
        if settings.json:
            _write_output(settings.json, as_json(rows, options, machine, conditions))
        if settings.csv:
            _write_output(settings.csv, as_csv(rows, machine, conditions))
    except OSError as error:  # such as a full disk; the table is still printed below
        print(f"{argv[0]}: {error.filename}: {error.strerror}", file=sys.stderr)
        status = 1
    if len(failed) < len(rows) and "-" not in (settings.json, settings.csv):
        print(as_table(rows, machine, conditions), end="")
    return status


def new_flags() -> flags.FlagValues:
    """Returns this program's flags in a new `FlagValues`.

    They are not in absl's global flags, because `elite` may define flags of the same names there.
    """
    values = flags.FlagValues()
    for name, default, least, text in (
        ("runs", Options.runs, 1, "Number of timed inferences of each model."),
        ("warmup", Options.warmup, 0, "Number of untimed inferences of each model at the start."),
        ("threads", Options.threads, 1, "Number of threads that an inference may use."),
        ("seed", Options.seed, 0, "Seed of the random input values and of the order of turns."),
        ("sustained", Options.sustained, 0, "Seconds that each model then runs without a pause."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)
    for name, text in (
        ("json", "Write the result as JSON to this file; '-' is stdout."),
        ("csv", "Write the result as CSV, one line per model, to this file; '-' is stdout."),
    ):
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_boolean("help", False, "Print this help.", short_name="h", flag_values=values)
    return values


def _check(models: Sequence[str], outputs: Iterable[str | None]) -> None:
    """Raises ValueError for mistakes that would otherwise show only after minutes of measuring."""
    if not models:
        raise ValueError("no model given")
    files = [path for path in outputs if path]
    if len(set(files)) < len(files):
        raise ValueError(f"--json and --csv both write to {files[0]}")
    for path in files:
        folder = Path(path).absolute().parent
        if path != "-" and not folder.is_dir():
            raise ValueError(f"the folder of {path} does not exist")
        if path != "-" and not os.access(folder, os.W_OK):
            raise ValueError(f"the folder of {path} cannot be written to")


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rround {done} of {total}", end=end, file=sys.stderr, flush=True)


def _write_output(path: str, text: str) -> None:
    """Writes a file, completely or not at all; '-' is stdout."""
    if path == "-":
        sys.stdout.write(text)
        return
    part = Path(f"{path}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
