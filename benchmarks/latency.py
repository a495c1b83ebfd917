"""Latency of TFLite models: ``python latency.py MODEL.tflite ... [--json=PATH] [--csv=PATH]``.

Runs wherever ``ai-edge-litert``, ``numpy`` and ``absl-py`` run (Python 3.9 or newer): copy this
folder to the board. Nothing else of this project, and no TensorFlow, is needed.

Several models given in one run are interleaved: each round gives every model one turn, in a newly
shuffled order, so whatever slows the machine down slows all of them down, and the ratios hold
where the milliseconds do not. A turn is one untimed inference and one timed one: without the
untimed one a model would start with caches full of the previous model's weights, which made small
models look 1.3 to 1.6 times slower than they are when run by themselves.

A file that cannot be loaded costs one line on stderr and an exit status of 1; the other models are
measured all the same. Usage errors exit with 2.
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
    """How to measure: timed and untimed inferences of each model, threads, seed."""

    runs: int = 100
    warmup: int = 10
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """One model's result; where `error` is set, the model could not be run and has no figures.

    Attributes:
      model: the path as it was given.
      file_bytes: size of the file.
      input: shape and type of the input(s), such as ``1x224x224x3 int8``.
      threads: threads an inference could use.
      runs: number of timed inferences.
      median_ms, p90_ms, min_ms, mean_ms: of one inference, in milliseconds.
      ratio: median over the rounds of this model's time divided by the first measured model's.
      error: why the model could not be run.
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

    `peak_rss_mb` is the greatest resident memory of the whole process so far, with the Python
    interpreter and all models together (None where the system does not tell).
    """

    cpu: str
    cores: int | None
    system: str
    python: str
    runtime: str
    peak_rss_mb: float | None


def measure(
    paths: Sequence[str | os.PathLike[str]],
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Times models against each other.

    Args:
      paths: the models; a path given twice is measured twice, which shows the noise.
      options: see `Options`.
      progress: called with the rounds done and the rounds in all.

    Returns:
      One row a path, in the order given.

    Raises:
      ModuleNotFoundError: ai-edge-litert is not installed.
    """
    rows = [Row(model=os.fspath(path)) for path in paths]
    interpreters: dict[int, Any] = {}
    for index, row in enumerate(rows):
        try:
            interpreters[index] = _load(Path(row.model), options)
        except (OSError, ValueError, RuntimeError) as error:  # what LiteRT raises for a bad file
            rows[index] = dataclasses.replace(row, error=" ".join(str(error).split()))

    times: dict[int, list[float]] = {index: [] for index in interpreters}
    order = list(interpreters)
    shuffle = random.Random(options.seed).shuffle
    for _ in range(options.warmup):
        for index in order:
            interpreters[index].invoke()
    for done in range(options.runs if order else 0):
        shuffle(order)
        for index in order:
            times[index].append(_turn(interpreters[index]))
        progress(done + 1, options.runs)

    baseline = np.array(next(iter(times.values()), []))
    for index, values in times.items():
        taken = np.array(values)
        rows[index] = dataclasses.replace(
            rows[index],
            file_bytes=Path(rows[index].model).stat().st_size,
            input=_describe_inputs(interpreters[index]),
            threads=options.threads,
            runs=options.runs,
            median_ms=float(np.median(taken)),
            p90_ms=float(np.percentile(taken, 90)),
            min_ms=float(taken.min()),
            mean_ms=float(taken.mean()),
            ratio=float(np.median(taken / baseline)),
        )
    return rows


def _load(path: Path, options: Options) -> Any:
    """An interpreter with random input that has run once."""
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise FileNotFoundError("no such file")
    interpreter = Interpreter(model_path=str(path), num_threads=options.threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(options.seed)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _random(rng, detail["shape"], detail["dtype"]))
    interpreter.invoke()
    return interpreter


def _random(rng: np.random.Generator, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Pixels of any value; zeros where integers may be indices rather than pixels."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.uniform(-1, 1, shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize <= 2:
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    return np.zeros(shape, kind)


def _turn(interpreter: Any) -> float:
    """Milliseconds of one inference with warm caches."""
    interpreter.invoke()
    start = time.perf_counter_ns()
    interpreter.invoke()
    return (time.perf_counter_ns() - start) / 1e6


def _describe_inputs(interpreter: Any) -> str:
    return ", ".join(
        f"{'x'.join(map(str, detail['shape']))} {np.dtype(detail['dtype']).name}"
        for detail in interpreter.get_input_details()
    )


def host() -> Host:
    """Describes this machine and this process."""
    return Host(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        runtime=_runtime(),
        peak_rss_mb=_peak_rss_mb(),
    )


def cpu_name(root: Path = Path("/")) -> str:
    """The board and processor, as well as the system names them.

    Arm kernels give no "model name", or only the architecture; the device tree then knows the
    board ("Raspberry Pi 4 Model B Rev 1.4"), and older kernels the "Hardware".

    Args:
      root: folder that holds ``proc/`` (another one in tests).
    """
    board = _read(root / "proc/device-tree/model").strip("\0 \n")  # device-tree strings end in NUL
    fields: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    processor = fields.get("model name") or fields.get("Hardware")
    known = [name for name in (board, processor) if name]
    return ", ".join(known) or platform.processor() or platform.machine() or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _runtime() -> str:
    for name in ("ai-edge-litert", "ai-edge-litert-nightly"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "ai-edge-litert, unknown version"


def _peak_rss_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # Linux counts in KiB


def as_json(rows: Sequence[Row], options: Options, machine: Host) -> str:
    """The whole result: ``{"host": ..., "options": ..., "rows": [...]}``."""
    parts = {
        "host": dataclasses.asdict(machine),
        "options": dataclasses.asdict(options),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    return json.dumps(parts, indent=2) + "\n"


def as_csv(rows: Sequence[Row], machine: Host) -> str:
    """One line a model, with the columns of `Row` and then those of `Host`."""
    columns = [field.name for kind in (Row, Host) for field in dataclasses.fields(kind)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**dataclasses.asdict(row), **dataclasses.asdict(machine)} for row in rows)
    return text.getvalue()


def as_table(rows: Sequence[Row], machine: Host) -> str:
    """What a person wants to see; models that could not be run are left out."""
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
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths))  # noqa: B905
        ).rstrip()
        for line in [heads, *cells]
    ]
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def main(argv: Sequence[str]) -> int:
    """The command line.

    Args:
      argv: the program's name, then flags and models.

    Returns:
      Exit status: 0, 1 (a model could not be run) or 2 (usage).
    """
    settings = new_flags()
    try:
        models = settings(argv)[1:]
        if settings.help:
            listed = settings.get_help(include_special_flags=False)
            print(f"usage: {argv[0]} MODEL.tflite ... [flags]\n{listed}")
            return 0
        _check(models, [settings.json, settings.csv])
    except (flags.Error, ValueError) as error:
        print(f"{argv[0]}: {error} (--help lists the flags)", file=sys.stderr)
        return 2

    options = Options(settings.runs, settings.warmup, settings.threads, settings.seed)
    try:
        rows = measure(models, options, _show if sys.stderr.isatty() else lambda done, total: None)
    except ModuleNotFoundError as error:
        if error.name != "ai_edge_litert":
            raise
        print(f"{argv[0]}: needs LiteRT: pip install ai-edge-litert", file=sys.stderr)
        return 1

    failed = [row for row in rows if row.error is not None]
    for row in failed:
        print(f"{argv[0]}: {row.model}: cannot be run: {row.error}", file=sys.stderr)
    machine = host()
    status = 1 if failed else 0
    try:
        if settings.json:
            _write(settings.json, as_json(rows, options, machine))
        if settings.csv:
            _write(settings.csv, as_csv(rows, machine))
    except OSError as error:  # a full disk; the figures below are not lost
        print(f"{argv[0]}: {error.filename}: {error.strerror}", file=sys.stderr)
        status = 1
    if len(failed) < len(rows) and "-" not in (settings.json, settings.csv):
        print(as_table(rows, machine), end="")
    return status


def new_flags() -> flags.FlagValues:
    """New flags, apart from the global ones: the process may have another --threads."""
    values = flags.FlagValues()
    for name, default, least, text in (
        ("runs", Options.runs, 1, "Timed inferences of each model."),
        ("warmup", Options.warmup, 0, "Untimed inferences of each model first."),
        ("threads", Options.threads, 1, "Threads an inference may use."),
        ("seed", Options.seed, 0, "Seed of the input values and of the order of turns."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)
    flags.DEFINE_string("json", None, "Write the result here ('-': stdout).", flag_values=values)
    flags.DEFINE_string(
        "csv", None, "Write one line a model here ('-': stdout).", flag_values=values
    )
    flags.DEFINE_boolean("help", False, "Print this text.", short_name="h", flag_values=values)
    return values


def _check(models: Sequence[str], outputs: Iterable[str | None]) -> None:
    """Finds what would fail after minutes of measuring."""
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


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rround {done} of {total}", end=end, file=sys.stderr, flush=True)


def _write(path: str, text: str) -> None:
    """Writes at once or not at all; '-' is stdout."""
    if path == "-":
        sys.stdout.write(text)
        return
    part = Path(f"{path}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
