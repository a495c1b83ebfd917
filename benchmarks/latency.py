"""Measures the latency of TFLite models.

    python latency.py MODEL.tflite ... [--json=PATH] [--csv=PATH]

The program needs Python 3.9 or newer with ``ai-edge-litert``, ``numpy`` and ``absl-py``, and
neither TensorFlow nor other parts of this project. To measure on a board, copy this folder to it.

Models that are given together take turns: in each round every model gets one turn, and each round
has a new random order. Whatever slows the machine down then slows all models down, so the ratios
between models are reliable even when the milliseconds are not. A turn is one untimed inference
followed by a timed one. Without the untimed inference the processor's caches would still hold the
previous model's weights, which made small models appear 1.3 to 1.6 times slower than they are when
they run alone.

If a file cannot be loaded, the program prints one line to stderr, measures the other models and
ends with exit status 1. Wrong flags end it with exit status 2.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
      runs: number of timed inferences of each model.
      warmup: number of untimed inferences of each model before the first timed one.
      threads: number of threads that an inference may use.
      seed: seed of the random input values and of the order of the turns.
    """

    runs: int = 100
    warmup: int = 10
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """The result of one model.

    Attributes:
      model: path of the model, as it was given.
      file_bytes: size of the file in bytes.
      input: shape and type of each input, such as ``1x224x224x3 int8``.
      threads: number of threads that an inference could use.
      runs: number of timed inferences.
      median_ms, p90_ms, min_ms, mean_ms: median, 90th percentile, minimum and mean latency of one
        inference in milliseconds.
      ratio: this model's latency divided by that of the first model that could be run, computed
        within each round; the median over all rounds.
      error: why the model could not be run, or None. If it is set, all other fields but `model` are
        None.
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


@dataclass(frozen=True)
class Host:
    """The machine and the process that measured.

    Attributes:
      cpu: name of the board and the processor.
      cores: number of logical processor cores, or None if it is unknown.
      system: operating system, its release, and the machine type.
      python: version of Python.
      runtime: name and version of the LiteRT package.
      peak_rss_mb: peak resident memory of the whole process so far in megabytes (10^6 bytes),
        including the Python interpreter and all models; None on Windows.
    """

    cpu: str
    cores: int | None
    system: str
    python: str
    runtime: str
    peak_rss_mb: float | None


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
            interpreters[index] = _load_model(Path(row.model), options)
        except (OSError, ValueError, RuntimeError) as error:  # LiteRT raises these for bad files
            rows[index] = dataclasses.replace(row, error=" ".join(str(error).split()))

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
        )
    return rows


def _load_model(path: Path, options: Options) -> Any:
    """Returns an interpreter that has random input and has run once."""
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise FileNotFoundError("no such file")
    interpreter = Interpreter(model_path=str(path), num_threads=options.threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(options.seed)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(
            detail["index"], _random_input(rng, detail["shape"], detail["dtype"])
        )
    interpreter.invoke()
    return interpreter


def _random_input(rng: np.random.Generator, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Returns random pixels; zeros for types whose values may be indices rather than pixels."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.uniform(-1, 1, shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize <= 2:
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    return np.zeros(shape, kind)


def _time_turn(interpreter: Any) -> float:
    """Runs one untimed and one timed inference; returns the milliseconds of the second."""
    interpreter.invoke()
    start = time.perf_counter_ns()
    interpreter.invoke()
    return (time.perf_counter_ns() - start) / 1e6


def _describe_inputs(interpreter: Any) -> str:
    return ", ".join(
        f"{'x'.join(map(str, detail['shape']))} {np.dtype(detail['dtype']).name}"
        for detail in interpreter.get_input_details()
    )


def describe_host() -> Host:
    """Returns a description of this machine and this process."""
    return Host(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        runtime=_runtime_version(),
        peak_rss_mb=_peak_rss_mb(),
    )


def cpu_name(root: Path = Path("/")) -> str:
    """Returns the names of the board and the processor, as far as the system knows them.

    On Arm, ``/proc/cpuinfo`` has no "model name", or one that is only the architecture. There the
    device tree names the board ("Raspberry Pi 4 Model B Rev 1.4"), and older kernels have a field
    "Hardware".

    Args:
      root: folder that contains ``proc/``; tests use another one than ``/``.
    """
    # Strings in the device tree end with a NUL character.
    board = _read(root / "proc/device-tree/model").strip("\0 \n")
    fields: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    processor = fields.get("model name") or fields.get("Hardware")
    names = [name for name in (board, processor) if name]
    return ", ".join(names) or platform.processor() or platform.machine() or "unknown"


def _read(path: Path) -> str:
    """Returns the text of a file, or an empty text if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _runtime_version() -> str:
    for name in ("ai-edge-litert", "ai-edge-litert-nightly"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "ai-edge-litert, unknown version"


def _peak_rss_mb() -> float | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # Linux reports KiB, macOS bytes


def as_json(rows: Sequence[Row], options: Options, machine: Host) -> str:
    """Returns the whole result as JSON: ``{"host": ..., "options": ..., "rows": [...]}``."""
    result = {
        "host": dataclasses.asdict(machine),
        "options": dataclasses.asdict(options),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    return json.dumps(result, indent=2) + "\n"


def as_csv(rows: Sequence[Row], machine: Host) -> str:
    """Returns CSV with one line for each model: the fields of `Row`, then those of `Host`."""
    columns = [field.name for kind in (Row, Host) for field in dataclasses.fields(kind)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**dataclasses.asdict(row), **dataclasses.asdict(machine)} for row in rows)
    return text.getvalue()


def as_table(rows: Sequence[Row], machine: Host) -> str:
    """Returns a table for the terminal, without the models that could not be run."""
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
    lines = [f"{machine.cpu}, {machine.cores} cores; {machine.system}; {machine.runtime}"]
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

    options = Options(settings.runs, settings.warmup, settings.threads, settings.seed)
    progress = _show_progress if sys.stderr.isatty() else lambda done, total: None
    try:
        rows = measure_latencies(models, options, progress)
    except ModuleNotFoundError as error:
        if error.name != "ai_edge_litert":
            raise
        print(f"{argv[0]}: needs LiteRT: pip install ai-edge-litert", file=sys.stderr)
        return 1

    failed = [row for row in rows if row.error is not None]
    for row in failed:
        print(f"{argv[0]}: {row.model}: cannot be run: {row.error}", file=sys.stderr)
    machine = describe_host()
    status = 1 if failed else 0
    try:
        if settings.json:
            _write_output(settings.json, as_json(rows, options, machine))
        if settings.csv:
            _write_output(settings.csv, as_csv(rows, machine))
    except OSError as error:  # such as a full disk; the table is still printed below
        print(f"{argv[0]}: {error.filename}: {error.strerror}", file=sys.stderr)
        status = 1
    if len(failed) < len(rows) and "-" not in (settings.json, settings.csv):
        print(as_table(rows, machine), end="")
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
