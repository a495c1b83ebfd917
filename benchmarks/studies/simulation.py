"""A simulated search at scale: 10,000 candidates, 1,000 workers that fail, no training.

Tournament, scheduling, driver and ledger are those of a real search; only the executor is invented:
it has a clock of its own, takes its scores from recorded learning curves, its durations from
multiply-accumulates, and loses workers at random. Prints what the search cost and what it lost.

  python -m benchmarks.studies.simulation --curves=cifar100.csv --workdir=runs/simulation

The curves are a CSV file as `elite replay` reads it. Simulated are the order of events and the
time they take, not a file system that a thousand workers share, nor a network.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from absl import app, flags

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import replay, rules
from efficientnet_elite.search.candidates import Candidate, pool_candidates
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.protocol import (
    Built,
    EpochDone,
    Event,
    Finished,
    Lost,
    OnEvent,
    Ready,
    WorkItem,
)
from efficientnet_elite.search.ledger import FILE_NAME, Ledger
from efficientnet_elite.training.outcome import EpochResult


@dataclass(frozen=True)
class Scale:
    """What is simulated; see the flags of the same names."""

    candidates: int = 10_000
    group_size: int = 10
    epochs: int = 350
    round_epochs: int | None = None
    rule: str = rules.RECOMMENDED
    workers: int = 1000
    epoch_minutes: float = 10.0
    failures_an_hour: float = 1.0
    repair_minutes: float = 2.0
    seed: int = 0


_BUILD_SECONDS = 30.0  # graph building on a new worker; a guess on the large side


@dataclass(frozen=True)
class Pace:
    """How long things take, in simulated seconds.

    Attributes:
      epoch: of each candidate.
      build: of a graph.
      repair: until a lost worker is back.
      failures: a worker's mean number of failures a second.
    """

    epoch: Mapping[str, float]
    build: float
    repair: float
    failures: float


@dataclass
class Account:
    """What became of the workers' time, in simulated seconds, and how often they failed."""

    training: float = 0.0
    building: float = 0.0
    lost_training: float = 0.0
    broken: float = 0.0
    failures: int = 0
    events: int = 0


class SimulatedExecutor:
    """Workers with an invented clock; an executor as `executors.protocol` describes it.

    A worker fails after an exponentially distributed time of work. It then loses the epoch it was
    in and all it has built, and is back after the repair.

    Args:
      workers: number of slots.
      curves: candidate to validation accuracies and train losses by epoch.
      pace: of everything.
      seed: of the failures.
    """

    def __init__(
        self,
        workers: int,
        curves: Mapping[str, Sequence[tuple[float, float]]],
        pace: Pace,
        seed: int,
    ):
        self.now = 0.0
        self.trained: list[tuple[float, float]] = []  # end and length of every epoch
        self.saturated = 0.0  # until when no worker that was up had to wait for work
        self._idle: set[int] = set()
        self.account = Account()
        self._curves, self._pace, self._random = curves, pace, Random(seed)
        self._events: list[tuple[float, int, int, Event]] = []
        self._order = count()
        self._built: list[set[str]] = [set() for _ in range(workers)]
        self._done: dict[str, int] = {}  # epochs in the checkpoint
        for slot in range(workers):
            self._plan(slot, 0.0, Ready())

    def submit(self, slot: int, item: WorkItem) -> None:
        """See `Executor.submit`: plans the epochs of a work item up to the worker's failure."""
        self._idle.discard(slot)
        name, life = item.spec.name, self._left()
        at = 0.0
        if name not in self._built[slot]:
            at = min(self._pace.build, life)
            self.account.building += at
            if at == life:
                self._fail(slot, at)
                return
            self._built[slot].add(name)
            self._plan(slot, at, Built(at))
            for epoch in range(item.done + 1, self._done.get(name, 0) + 1):
                self._plan(slot, at, EpochDone(self._result(name, epoch)))
        length = self._pace.epoch[name]
        for epoch in range(self._done.get(name, 0) + 1, item.until_epoch + 1):
            if at + length > life:
                self.account.lost_training += life - at
                self._fail(slot, life)
                return
            at += length
            self.account.training += length
            self._done[name] = epoch
            self._plan(slot, at, EpochDone(self._result(name, epoch)))
        self._plan(slot, at, Finished())

    def _left(self) -> float:
        return self._random.expovariate(self._pace.failures) if self._pace.failures else math.inf

    def _fail(self, slot: int, at: float) -> None:
        self.account.failures += 1
        self.account.broken += self._pace.repair
        self._built[slot].clear()
        self._plan(slot, at, Lost("simulated failure", blameless=True))
        self._plan(slot, at + self._pace.repair, Ready())

    def _result(self, name: str, epoch: int) -> EpochResult:
        accuracy, loss = self._curves[name][epoch - 1]
        return EpochResult(epoch, accuracy, loss, self._pace.epoch[name])

    def _plan(self, slot: int, delay: float, event: Event) -> None:
        heappush(self._events, (self.now + delay, next(self._order), slot, event))

    def wait(self, on_event: OnEvent) -> None:
        """See `Executor.wait`: turns the clock on to the next event."""
        if not self._events:
            raise UserError("the simulated search waits for nothing: the driver is at fault")
        if not self._idle:
            self.saturated = self.now
        self.now, _, slot, event = heappop(self._events)
        if isinstance(event, Ready | Finished):
            self._idle.add(slot)
        self.account.events += 1
        if isinstance(event, EpochDone):
            self.trained.append((self.now, event.result.seconds))
        on_event(slot, event)

    def retire(self, slot: int, name: str) -> None:
        """See `Executor.retire`."""
        self._built[slot].discard(name)

    def close(self) -> None:
        """See `Executor.close`."""


def invented_pool(candidates: int, group_size: int, seed: int) -> list[Candidate]:
    """Networks of the eLite pool over and over, in groups of similar multiply-accumulates."""
    kinds = pool_candidates("elite")
    chosen = Random(seed).choices(range(len(kinds)), k=candidates)
    chosen.sort(key=lambda kind: -kinds[kind].spec.macs)
    return [
        replace(
            kinds[kind],
            name=f"c{number:05d}",
            spec=replace(kinds[kind].spec, name=f"c{number:05d}"),
            group=number // group_size,
        )
        for number, kind in enumerate(chosen)
    ]


def invented_curves(
    recorded: Sequence[replay.Curve], names: Sequence[str], epochs: int, seed: int
) -> dict[str, list[tuple[float, float]]]:
    """A recorded curve for each name, stretched to ``epochs``, shifted and roughened at random.

    Returns:
      Name to (validation accuracy 0..1, train loss) of each epoch.
    """
    random = np.random.default_rng(seed)
    curves = {}
    for name in names:
        curve = recorded[int(random.integers(len(recorded)))]
        at = np.linspace(1, len(curve.accuracies), epochs)
        known = np.arange(1, len(curve.accuracies) + 1)
        accuracies = np.interp(at, known, curve.accuracies)
        accuracies += random.normal(0.0, 1.0) + random.normal(0.0, 0.3, epochs)
        losses = np.interp(at, known, curve.losses) if curve.losses else np.zeros(epochs)
        curves[name] = [
            (float(accuracy), float(loss))
            for accuracy, loss in zip(np.clip(accuracies / 100, 0, 1), losses, strict=True)
        ]
    return curves


def _utilisation(trained: Sequence[tuple[float, float]], until: float, workers: int) -> float:
    """Share of the workers' time that went into epochs finished by then, of all that time."""
    return sum(length for end, length in trained if end <= until) / (workers * until)


def simulate(
    scale: Scale, workdir: Path, recorded: Sequence[replay.Curve], *, progress: bool = True
) -> dict[str, float]:
    """Runs a search of this scale to its end in a new work directory; returns its figures."""
    config = SearchConfig(
        rule=scale.rule,
        round_epochs=scale.round_epochs,
        train=TrainConfig(epochs=scale.epochs),
    )
    pool = invented_pool(scale.candidates, scale.group_size, scale.seed)
    macs = {candidate.name: candidate.spec.macs for candidate in pool}
    minute = 60.0
    mean = sum(macs.values()) / len(macs)
    pace = Pace(
        epoch={name: scale.epoch_minutes * minute * cost / mean for name, cost in macs.items()},
        build=_BUILD_SECONDS,
        repair=scale.repair_minutes * minute,
        failures=scale.failures_an_hour / 3600,
    )
    executor = SimulatedExecutor(
        scale.workers,
        invented_curves(recorded, list(macs), scale.epochs, scale.seed),
        pace,
        scale.seed,
    )
    with Ledger(workdir, create=True) as ledger:
        if ledger.meta():
            raise UserError(f"{workdir} holds a search already: use another --workdir")
        ledger.start(pool, {"config": asdict(config)})
        began = time.perf_counter()
        champions = drive(ledger, executor, workdir, progress=progress)
        seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in workdir.glob(f"{FILE_NAME}*"))
    account, worker_time = executor.account, scale.workers * executor.now
    # No scheduling can be faster: epochs of one network follow each other.
    longest = max(scale.epochs * pace.epoch[champion["name"]] for champion in champions)
    return {
        "candidates": len(pool),
        "champions": len(champions),
        "epochs": len(executor.trained),
        "simulated_days": executor.now / 86400,
        "longest_champion_days": longest / 86400,
        "driver_seconds": seconds,
        "events_a_second": account.events / seconds,
        "driver_ms_an_epoch": 1000 * seconds / len(executor.trained),
        "driver_share": seconds / executor.now,
        "ledger_mb": size / 1e6,
        "utilisation": account.training / worker_time,
        "saturated_days": executor.saturated / 86400,
        "utilisation_while_saturated": _utilisation(
            executor.trained, executor.saturated, scale.workers
        ),
        "building": account.building / worker_time,
        "lost_training": account.lost_training / worker_time,
        "broken": account.broken / worker_time,
        "failures": account.failures,
    }


FLAGS = flags.FLAGS


def _define_flags() -> None:
    default = Scale()
    flags.DEFINE_string("workdir", None, "Where the ledger goes.", required=True)
    flags.DEFINE_string("curves", None, "Recorded learning curves, CSV.", required=True)
    flags.DEFINE_integer("candidates", default.candidates, "Of the pool.", lower_bound=1)
    flags.DEFINE_integer("group_size", default.group_size, "Candidates a group.", lower_bound=1)
    flags.DEFINE_integer("epochs", default.epochs, "Of a whole training.", lower_bound=1)
    flags.DEFINE_integer("round_epochs", default.round_epochs, "Length of a round.", lower_bound=1)
    flags.DEFINE_string("rule", default.rule, "Of elimination.")
    flags.DEFINE_integer("workers", default.workers, "One candidate at a time each.", lower_bound=1)
    flags.DEFINE_float(
        "epoch_minutes", default.epoch_minutes, "Of a candidate of mean cost.", lower_bound=1e-6
    )
    flags.DEFINE_float(
        "failures_an_hour", default.failures_an_hour, "Of one worker, on average.", lower_bound=0.0
    )
    flags.DEFINE_float(
        "repair_minutes", default.repair_minutes, "Until a lost worker is back.", lower_bound=0.0
    )
    flags.DEFINE_integer("seed", default.seed, "Of the pool, the curves and the failures.")


def main(argv: list[str]) -> None:
    """Prints the figures as JSON to stdout."""
    del argv
    try:
        path = Path(FLAGS.curves)
        if not path.is_file():
            raise UserError(f"--curves={path}: no such file")
        with path.open(newline="") as lines:
            recorded = replay.read_curves(lines, path.name)
        settings: dict[str, Any] = {field.name: FLAGS[field.name].value for field in fields(Scale)}
        figures = simulate(Scale(**settings), Path(FLAGS.workdir), recorded)
    except UserError as error:
        raise SystemExit(f"simulation: {error}") from None
    print(json.dumps({key: float(f"{value:.4g}") for key, value in figures.items()}, indent=2))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
