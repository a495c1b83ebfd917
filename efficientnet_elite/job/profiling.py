"""Where the time of an inference goes: each operator of a file measured alone, and the whole file.

The Python runtime of LiteRT tells no time by operator. So every operator becomes a file of its own
(`export.cuts`), and these take turns with the whole file, as models do in the latency program. An
operator alone has its inputs ready in memory and is not run together with its neighbours, so that
the sum differs from the whole: the ratio of both is part of the result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import cuts, inspect, layers, macs
from efficientnet_elite.export.runtimes import isolated
from efficientnet_elite.job import latencies
from efficientnet_elite.text import signal_name

# Its arguments: the options as JSON, the file, and the files of its operators.
_PROGRAM = """
import dataclasses, json, sys
from pathlib import Path
from efficientnet_elite.benchmarks import alone, delegates, latency
options = latency.Options(**json.loads(sys.argv[1]))
rows = latency.measure_latencies(sys.argv[2:], options)
taken = delegates.taken(alone.load(Path(sys.argv[2]), options.threads, options.seed))
print(json.dumps({
    "rows": [dataclasses.asdict(row) for row in rows],
    "taken": None if taken is None else sorted(taken),
}))
"""


@dataclass(frozen=True)
class Operator:
    """An operator of a file.

    Attributes:
      place: its place in the order of execution, from 0.
      operator: its name in the TFLite schema, such as ``CONV_2D``.
      layer: the Keras layer that it comes from, as the name of its output tells.
      output: shape of its first output.
      macs: its multiply-accumulates; 0 for operators without weights.
      median_ms: milliseconds of an inference of the operator alone; None if it could not be run.
      share: of the sum of all operators (0..1); None with `median_ms`.
      delegated: whether a delegate runs it in the whole file; None if that is unknown.
    """

    place: int
    operator: str
    layer: str
    output: tuple[int, ...]
    macs: int
    median_ms: float | None
    share: float | None
    delegated: bool | None


@dataclass(frozen=True)
class Kind:
    """All operators of a name in a file.

    Attributes:
      operator: the name.
      count: how many there are.
      delegated: how many of them a delegate runs in the whole file; None if that is unknown.
      macs: their multiply-accumulates.
      ms: the sum of the milliseconds of those that could be run alone.
      share: of the sum of all operators (0..1).
    """

    operator: str
    count: int
    delegated: int | None
    macs: int
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The operators of a file, and the whole.

    Attributes:
      model: path of the file.
      whole_ms: median milliseconds of an inference of the whole file.
      sum_ms: sum of the medians of the operators alone.
      delegate: the delegate that runs at least one operator; None if there is none.
      delegated: fraction (0..1) of the operators that it runs; None if that is unknown.
      threads: number of threads that an inference could use.
      operators: in the order of execution.
    """

    model: str
    whole_ms: float
    sum_ms: float
    delegate: str | None
    delegated: float | None
    threads: int
    operators: tuple[Operator, ...]

    @property
    def not_run(self) -> int:
        """How many operators could not be run alone."""
        return sum(each.median_ms is None for each in self.operators)

    def kinds(self) -> list[Kind]:
        """The operators by name, those with most time first."""
        members: dict[str, list[Operator]] = defaultdict(list)
        for operator in self.operators:
            members[operator.operator].append(operator)
        kinds = [
            Kind(
                operator=name,
                count=len(found),
                delegated=None
                if any(each.delegated is None for each in found)
                else sum(bool(each.delegated) for each in found),
                macs=sum(each.macs for each in found),
                ms=sum(each.median_ms or 0.0 for each in found),
                share=sum(each.share or 0.0 for each in found),
            )
            for name, found in members.items()
        ]
        return sorted(kinds, key=lambda kind: -kind.ms)


def profile(model: Path, options: Options) -> Profile:
    """Measures a file and each of its operators.

    Args:
      model: path of a .tflite file.
      options: how to measure; there are no runs without a pause.

    Raises:
      UserError: the file is missing, damaged, or cannot be run.
    """
    content = inspect.load(model)
    contents = inspect.read(content)
    isolated.call(latencies.run_once, {"path": str(model)})  # a crash ends another process
    with tempfile.TemporaryDirectory() as scratch:
        paths: dict[int, Path] = {}
        for place, alone in enumerate(cuts.single_operators(content)):
            if alone is not None:
                paths[place] = Path(scratch, f"{place}.tflite")
                paths[place].write_bytes(alone)
        measured = _measured([model, *paths.values()], options)
    whole, *rows = measured["rows"]
    if whole["error"] is not None:
        raise UserError(f"{model} cannot be run: {whole['error']}")
    times = {place: row["median_ms"] for place, row in zip(paths, rows, strict=True)}
    known = [ms for ms in times.values() if ms is not None]
    total = sum(known)
    taken = measured["taken"]
    operators = tuple(
        Operator(
            place=place,
            operator=step.operator,
            layer=layers.layer_of(contents.tensors[step.outputs[0]].name) if step.outputs else "",
            output=contents.tensors[step.outputs[0]].shape if step.outputs else (),
            macs=macs.of_step(contents, step),
            median_ms=(ms := times.get(place)),
            share=None if ms is None or not total else ms / total,
            delegated=None if taken is None else place in taken,
        )
        for place, step in enumerate(contents.steps)
    )
    return Profile(
        model=str(model),
        whole_ms=whole["median_ms"],
        sum_ms=total,
        delegate=whole["delegate"],
        delegated=whole["delegated"],
        threads=options.threads,
        operators=operators,
    )


def _measured(paths: Sequence[Path], options: Options) -> Any:
    program = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(asdict(options))]
    done = subprocess.run([*program, *map(str, paths)], capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise UserError(f"the measurement was ended by {signal_name(-done.returncode)}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"the measurement failed: {last}")
    return json.loads(done.stdout.splitlines()[-1])
