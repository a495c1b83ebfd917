"""Phones with Android: TensorFlow Lite's ``benchmark_model``, run by adb.

The models take turns in several rounds, each a call of the program for some of the inferences.
"""

from __future__ import annotations

import random
import re
import shlex
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from efficientnet_elite.benchmarks import host
from efficientnet_elite.benchmarks.latency import Options, Row
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.job.boards import program
from efficientnet_elite.job.boards.definitions import Board, Result

_FOLDER = "/data/local/tmp/elite-boards"
_ROUNDS = 5
_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
_TIMES = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_MEMORY = re.compile(
    rf"Memory footprint delta from the start of the tool \(MB\): .*overall={_NUMBER}"
)


_DISCHARGING = "3"  # BatteryManager.BATTERY_STATUS_DISCHARGING
_APPLIED = re.compile(
    r"applied (\w+) delegate, and the model graph will be (completely|partially)"
    r"|Created TensorFlow Lite (\w+) delegate"
)


def check(board: Board) -> str:
    """See `Kind.check`."""
    _adb(board, "get-state")
    board.path("benchmark_model")
    return f"{_name(board)}, {_shell(board, 'uname -sm').strip()}"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`."""
    _adb(board, "get-state")
    folder = board.settings.get("folder", _FOLDER)
    _shell(board, f"rm -rf {shlex.quote(folder)} && mkdir -p {shlex.quote(folder)}")
    binary = f"{folder}/benchmark_model"
    _adb(board, "push", str(board.path("benchmark_model")), binary)
    _shell(board, f"chmod 755 {shlex.quote(binary)}")
    places = [f"{folder}/{index}.tflite" for index in range(len(models))]
    for model, place in zip(models, places, strict=True):
        _adb(board, "push", str(model), place)
    before = _state(board, scratch / "before")
    rounds: list[list[Row]] = [[] for _ in models]
    faults: dict[int, str] = {}
    order, shuffle = list(range(len(models))), random.Random(options.seed).shuffle
    for _ in range(min(_ROUNDS, options.runs)):
        shuffle(order)
        for index in order:
            if index not in faults:
                try:
                    rounds[index].append(_round(board, binary, places[index], options))
                except _ModelFault as fault:
                    faults[index] = str(fault)
    after = _state(board, scratch / "after")
    rows = [
        Row(model=str(model), error=faults[index])
        if index in faults
        else _joined(model, rounds[index], options)
        for index, model in enumerate(models)
    ]
    sound = [index for index in range(len(models)) if index not in faults]
    about = _host(board, scratch / "before")
    _shell(board, f"rm -rf {shlex.quote(folder)}")
    return {
        "host": asdict(about),
        "conditions": asdict(host.conditions(before, after, scratch / "after")),
        "options": asdict(options),
        "rows": [
            asdict(row) | {"ratio": _ratio(rounds[index], rounds[sound[0]]) if sound else None}
            for index, row in enumerate(rows)
        ],
    }


class _ModelFault(Exception):
    """The program cannot run a model; the message says why."""


def _round(board: Board, binary: str, place: str, options: Options) -> Row:
    """One call of the program."""
    runs = max(1, -(-options.runs // _ROUNDS))
    command = (
        f"{shlex.quote(binary)} --graph={shlex.quote(place)} --num_threads={options.threads} "
        f"--num_runs={runs} --warmup_runs={max(1, options.warmup)} --min_secs=0 "
        "--warmup_min_secs=0"
    )
    done = _call(board, "shell", f"{command} 2>&1")
    if done.returncode == 0 and _TIMES.search(done.stdout):
        return parsed(done.stdout)
    _adb(board, "get-state")  # a phone that is gone costs all of its rows
    raise _ModelFault(f"benchmark_model failed: {program.last_line(done.stdout)}")


def parsed(output: str) -> Row:
    """The figures that ``benchmark_model`` prints, which are in microseconds and MiB.

    Raises:
      UserError: it prints no median, as before TensorFlow 2.14.
    """
    times = _TIMES.search(output)
    lines = [line for line in output.splitlines() if "count=" in line and "first=" in line]
    found = dict(re.findall(rf"(\w+)={_NUMBER}", lines[-1])) if lines else {}
    if times is None or "median" not in found:
        raise UserError("benchmark_model prints no median: take that of a newer TensorFlow")
    memory = _MEMORY.search(output)
    applied = next((m for m in _APPLIED.finditer(output) if m[1]), _APPLIED.search(output))
    return Row(
        model="",
        runs=int(float(found["count"])),
        median_ms=float(found["median"]) / 1e3,
        min_ms=float(found["min"]) / 1e3,
        mean_ms=float(found["avg"]) / 1e3,
        p5_ms=float(found["p5"]) / 1e3,
        p95_ms=float(found["p95"]) / 1e3,
        initialisation_ms=float(times[1]) / 1e3,
        first_ms=float(times[2]) / 1e3,
        rss_mb=float(memory[1]) * 1.048576 if memory else None,
        delegate=(applied[1] or applied[3]) if applied else None,
        delegated=1.0 if applied and applied[2] == "completely" else None,
    )


def _joined(model: Path, rounds: Sequence[Row], options: Options) -> Row:
    """A row of all rounds: medians of their figures, but the least of all and the mean of means.

    The program prints no 90th percentile.
    """

    def median(name: str) -> float | None:
        values = [getattr(row, name) for row in rounds if getattr(row, name) is not None]
        return statistics.median(values) if values else None

    tensors = inspect.read(inspect.load(model)).inputs
    names = ("median_ms", "p5_ms", "p95_ms", "initialisation_ms", "first_ms", "rss_mb")
    return Row(
        model=str(model),
        file_bytes=model.stat().st_size,
        input=", ".join(f"{'x'.join(map(str, t.shape))} {t.type.lower()}" for t in tensors),
        threads=options.threads,
        runs=sum(row.runs or 0 for row in rounds),
        min_ms=min(row.min_ms or 0.0 for row in rounds),
        mean_ms=statistics.fmean(row.mean_ms or 0.0 for row in rounds),
        delegate=rounds[0].delegate,
        delegated=rounds[0].delegated,
        **{name: median(name) for name in names},
    )


def _ratio(rounds: Sequence[Row], first: Sequence[Row]) -> float | None:
    """The median over rounds of a model's median by that of the first one."""
    pairs = zip(rounds, first, strict=False)
    return statistics.median(r.median_ms / f.median_ms for r, f in pairs) if rounds else None


def _name(board: Board) -> str:
    """Such as ``Google Pixel 8 (Tensor G3), Android 14``."""
    names = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model")
    maker, model, soc = (_shell(board, f"getprop {name}").strip() for name in names)
    release = _shell(board, "getprop ro.build.version.release").strip()
    return f"{maker} {model}" + (f" ({soc})" if soc else "") + f", Android {release}"


def _host(board: Board, copies: Path) -> host.Host:
    cores = (copies / "proc/cpuinfo").read_text(encoding="utf-8").count("processor\t")
    return host.Host(
        cpu=_name(board),
        cores=cores or None,
        system=_shell(board, "uname -srm").strip(),
        python="",
        runtime="benchmark_model",
        peak_rss_mb=None,
        clusters=host.clusters(copies),
    )


def _state(board: Board, copies: Path) -> host.State:
    """The state of the phone, from copies of what Linux tells there."""
    (copies / "proc").mkdir(parents=True)
    (copies / "proc/cpuinfo").touch()
    patterns = " ".join(f"/{pattern}" for pattern in host.FILES)
    script = f'for f in {patterns}; do [ -r "$f" ] && echo "==== $f" && cat "$f"; done; true'
    for part in _shell(board, script).split("==== /")[1:]:
        name, _, text = part.partition("\n")
        path = copies / name.strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return _as_android_says(board, host.state(copies))


def _as_android_says(board: Board, state: host.State) -> host.State:
    """A state with what Android itself tells of battery and battery saver."""
    saver = _shell(board, "settings get global low_power 2>/dev/null || true").strip()
    saving = {"1": True, "0": False}.get(saver, state.saving)
    battery = _shell(board, "dumpsys battery 2>/dev/null || true")
    status = re.search(r"^\s*status: (\d+)", battery, re.M)
    discharging = state.discharging
    if discharging is None and status:
        discharging = status[1] == _DISCHARGING
    return replace(state, saving=saving, discharging=discharging)


def _shell(board: Board, script: str) -> str:
    return _adb(board, "shell", script)


def _adb(board: Board, *arguments: str) -> str:
    """Calls adb; UserError with the last line that it prints where it fails."""
    done = _call(board, *arguments)
    if done.returncode:
        fault = program.last_line(done.stderr or done.stdout)
        raise UserError(f"adb: {fault.removeprefix('adb: ').removeprefix('error: ')}")
    return done.stdout


def _call(board: Board, *arguments: str) -> subprocess.CompletedProcess[str]:
    serial = board.settings.get("serial")
    try:
        return program.call(["adb", *(["-s", serial] if serial else []), *arguments])
    except FileNotFoundError as error:
        raise UserError("adb is not installed: apt-get install adb") from error
