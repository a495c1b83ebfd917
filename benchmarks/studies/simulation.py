"""Simulates a large search: 10,000 candidates, 1,000 workers that fail, no training.

    python -m benchmarks.studies.simulation --curves=cifar100.csv --workdir=runs/simulation

Tournament, scheduling, driver and ledger are those of a real search. Only the executor is
simulated: it has its own clock, takes accuracies and losses from recorded learning curves, computes
the durations of epochs from MACs, and loses workers at random. ``--curves`` is a CSV file as `elite
replay` reads it. The program prints as JSON how long the search takes and what the workers' time is
spent on (docs/engine.md). It does not simulate a shared file system or a network connection.
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
from absl import flags

from efficientnet_elite.benchmarks.studies import command
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
    """The size of the simulated search; the flags of the same names explain the fields."""

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


_BUILD_SECONDS = 30.0  # for building a network's graph on a worker; an estimate, rather too high


@dataclass(frozen=True)
class Durations:
    """How long the workers take, in simulated seconds.

    Attributes:
      epoch: candidate's name to the duration of its epochs.
      build: duration of building a network's graph.
      repair: time until a lost worker is back.
      failure_rate: mean number of failures of a worker per second.
    """

    epoch: Mapping[str, float]
    build: float
    repair: float
    failure_rate: float


@dataclass
class TimeUse:
    """What the workers spent their time on, in simulated seconds, and how often they failed.

    Attributes:
      training: time in epochs that were finished.
      building: time of building graphs.
      lost_training: time in epochs that a failure interrupted.
      broken: time until lost workers were back.
      failures: number of failures.
      events: number of events that the driver received.
    """

    training: float = 0.0
    building: float = 0.0
    lost_training: float = 0.0
    broken: float = 0.0
    failures: int = 0
    events: int = 0


class SimulatedExecutor:
    """An executor with a simulated clock (see `executors.protocol.Executor`).

    Each worker fails after an exponentially distributed time of work. It then loses the current
    epoch and all graphs that it has built, and is back after the repair.

    Args:
      workers: number of workers, which are the executor's slots.
      curves: candidate's name to validation accuracy (0..1) and training loss of each epoch.
      durations: how long the workers take.
      seed: seed of the failures.

    Attributes:
      slots: number of workers.
      now: simulated seconds since the start.
      trained: simulated time of the end, and duration in seconds, of each finished epoch.
      saturated: last simulated time at which no working worker had to wait for work.
      time_use: what the workers spent their time on.
    """

    def __init__(
        self,
        workers: int,
        curves: Mapping[str, Sequence[tuple[float, float]]],
        durations: Durations,
        seed: int,
    ):
        self.slots, self.now = workers, 0.0
        self.trained: list[tuple[float, float]] = []
        self.saturated = 0.0
        self.time_use = TimeUse()
        self._curves, self._durations, self._random = curves, durations, Random(seed)
        self._idle: set[int] = set()
        # Time, running number (which decides between equal times), slot and event, as a heap.
        self._events: list[tuple[float, int, int, Event]] = []
        self._event_numbers = count()
        self._built: list[set[str]] = [set() for _ in range(workers)]  # of each slot
        self._checkpoint_epochs: dict[str, int] = {}  # candidate's name to epochs in its checkpoint
        for slot in range(workers):
            self._schedule(slot, 0.0, Ready())

    def submit(self, slot: int, item: WorkItem) -> None:
        """See `Executor.submit`; schedules the epochs, up to the worker's next failure."""
        self._idle.discard(slot)
        name, time_to_failure = item.spec.name, self._time_to_failure()
        at = 0.0
        if name not in self._built[slot]:
            at = min(self._durations.build, time_to_failure)
            self.time_use.building += at
            if at == time_to_failure:
                self._fail(slot, at)
                return
            self._built[slot].add(name)
            self._schedule(slot, at, Built(at))
            for epoch in range(item.done + 1, self._checkpoint_epochs.get(name, 0) + 1):
                self._schedule(slot, at, EpochDone(self._result(name, epoch)))
        duration = self._durations.epoch[name]
        for epoch in range(self._checkpoint_epochs.get(name, 0) + 1, item.until_epoch + 1):
            if at + duration > time_to_failure:
                self.time_use.lost_training += time_to_failure - at
                self._fail(slot, time_to_failure)
                return
            at += duration
            self.time_use.training += duration
            self._checkpoint_epochs[name] = epoch
            self._schedule(slot, at, EpochDone(self._result(name, epoch)))
        self._schedule(slot, at, Finished())

    def _time_to_failure(self) -> float:
        rate = self._durations.failure_rate
        return self._random.expovariate(rate) if rate else math.inf

    def _fail(self, slot: int, at: float) -> None:
        self.time_use.failures += 1
        self.time_use.broken += self._durations.repair
        self._built[slot].clear()
        self._schedule(slot, at, Lost("simulated failure", blameless=True))
        self._schedule(slot, at + self._durations.repair, Ready())

    def _result(self, name: str, epoch: int) -> EpochResult:
        accuracy, loss = self._curves[name][epoch - 1]
        return EpochResult(epoch, accuracy, loss, self._durations.epoch[name])

    def _schedule(self, slot: int, delay: float, event: Event) -> None:
        heappush(self._events, (self.now + delay, next(self._event_numbers), slot, event))

    def wait(self, on_event: OnEvent) -> None:
        """See `Executor.wait`; moves the clock forward to the next event."""
        if not self._events:
            raise UserError(
                "the simulated search waits for an event, but no work is submitted: this is an "
                "error in the driver"
            )
        if not self._idle:
            self.saturated = self.now
        self.now, _, slot, event = heappop(self._events)
        if isinstance(event, Ready | Finished):
            self._idle.add(slot)
        self.time_use.events += 1
        if isinstance(event, EpochDone):
            self.trained.append((self.now, event.result.seconds))
        on_event(slot, event)

    def retire(self, slot: int, name: str) -> None:
        """See `Executor.retire`."""
        self._built[slot].discard(name)

    def close(self) -> None:
        """See `Executor.close`."""


def large_pool(candidates: int, group_size: int, seed: int) -> list[Candidate]:
    """Returns candidates drawn from the eLite pool with repetition, in groups of similar MACs.

    Args:
      candidates: number of candidates.
      group_size: number of candidates in each cost group.
      seed: seed of the draw.
    """
    elite_pool = pool_candidates("elite")
    drawn = Random(seed).choices(elite_pool, k=candidates)
    drawn.sort(key=lambda candidate: -candidate.spec.macs)
    return [
        replace(
            candidate,
            name=f"c{number:05d}",
            spec=replace(candidate.spec, name=f"c{number:05d}"),
            group=number // group_size,
        )
        for number, candidate in enumerate(drawn)
    ]


def stretched_curves(
    recorded: Sequence[replay.Curve], names: Sequence[str], epochs: int, seed: int
) -> dict[str, list[tuple[float, float]]]:
    """Draws a recorded curve for each name, stretches it and adds random offsets and noise.

    Args:
      recorded: recorded learning curves.
      names: names of the candidates.
      epochs: number of epochs of each new curve.
      seed: seed of all random numbers.

    Returns:
      Name to (validation accuracy 0..1, training loss) of each epoch.
    """
    random = np.random.default_rng(seed)
    curves = {}
    for name in names:
        curve = recorded[int(random.integers(len(recorded)))]
        at = np.linspace(1, len(curve.accuracies), epochs)
        recorded_epochs = np.arange(1, len(curve.accuracies) + 1)
        accuracies = np.interp(at, recorded_epochs, curve.accuracies)
        accuracies += random.normal(0.0, 1.0) + random.normal(0.0, 0.3, epochs)
        losses = np.interp(at, recorded_epochs, curve.losses) if curve.losses else np.zeros(epochs)
        curves[name] = [
            (float(accuracy), float(loss))
            for accuracy, loss in zip(np.clip(accuracies / 100, 0, 1), losses, strict=True)
        ]
    return curves


def _utilisation(trained: Sequence[tuple[float, float]], until: float, workers: int) -> float:
    """Returns the fraction of the workers' time that epochs took which were finished by `until`."""
    return sum(seconds for end, seconds in trained if end <= until) / (workers * until)


def simulate(
    scale: Scale, workdir: Path, recorded: Sequence[replay.Curve], *, progress: bool = True
) -> dict[str, float]:
    """Runs a simulated search to its end.

    Args:
      scale: size of the search.
      workdir: work directory for the ledger; it must not contain a search yet.
      recorded: recorded learning curves.
      progress: whether to show progress bars.

    Returns:
      Name of a figure to its value. ``simulated_days`` and ``saturated_days`` are simulated time;
      ``driver_seconds`` is real time; ``utilisation``, ``building``, ``lost_training`` and
      ``broken`` are fractions of the workers' time.

    Raises:
      UserError: the work directory contains a search already.
    """
    config = SearchConfig(
        rule=scale.rule,
        round_epochs=scale.round_epochs,
        train=TrainConfig(epochs=scale.epochs),
    )
    pool = large_pool(scale.candidates, scale.group_size, scale.seed)
    macs = {candidate.name: candidate.spec.macs for candidate in pool}
    mean_macs = sum(macs.values()) / len(macs)
    seconds_per_mac = 60 * scale.epoch_minutes / mean_macs
    durations = Durations(
        epoch={name: seconds_per_mac * cost for name, cost in macs.items()},
        build=_BUILD_SECONDS,
        repair=60 * scale.repair_minutes,
        failure_rate=scale.failures_an_hour / 3600,
    )
    executor = SimulatedExecutor(
        scale.workers,
        stretched_curves(recorded, list(macs), scale.epochs, scale.seed),
        durations,
        scale.seed,
    )
    with Ledger(workdir, create=True) as ledger:
        if ledger.meta():
            raise UserError(f"{workdir} holds a search already: use another --workdir")
        ledger.start(pool, {"config": asdict(config)})
        start = time.perf_counter()
        champions = drive(ledger, executor, workdir, progress=progress)
        seconds = time.perf_counter() - start
    ledger_bytes = sum(path.stat().st_size for path in workdir.glob(f"{FILE_NAME}*"))
    time_use, worker_time = executor.time_use, scale.workers * executor.now
    # No schedule can be shorter than this, because the epochs of one network follow each other.
    longest = max(scale.epochs * durations.epoch[champion["name"]] for champion in champions)
    return {
        "candidates": len(pool),
        "champions": len(champions),
        "epochs": len(executor.trained),
        "simulated_days": executor.now / 86400,
        "longest_champion_days": longest / 86400,
        "driver_seconds": seconds,
        "events_a_second": time_use.events / seconds,
        "driver_ms_an_epoch": 1000 * seconds / len(executor.trained),
        "driver_share": seconds / executor.now,
        "ledger_mb": ledger_bytes / 1e6,
        "utilisation": time_use.training / worker_time,
        "saturated_days": executor.saturated / 86400,
        "utilisation_while_saturated": _utilisation(
            executor.trained, executor.saturated, scale.workers
        ),
        "building": time_use.building / worker_time,
        "lost_training": time_use.lost_training / worker_time,
        "broken": time_use.broken / worker_time,
        "failures": time_use.failures,
    }


FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "Folder for the ledger; it must not contain a search yet.")
flags.DEFINE_string(
    "curves",
    None,
    "CSV file with recorded learning curves, as for `elite replay`.",
    required=True,
    flag_values=FLAGS,
)
flags.DEFINE_string("rule", Scale.rule, "Elimination rule.", flag_values=FLAGS)
for _name, _text in (
    ("candidates", "Number of candidates."),
    ("group_size", "Number of candidates in each cost group."),
    ("epochs", "Number of epochs of a whole training."),
    ("round_epochs", "Number of epochs between two eliminations."),
    ("workers", "Number of workers; each trains one candidate at a time."),
):
    flags.DEFINE_integer(_name, getattr(Scale, _name), _text, lower_bound=1, flag_values=FLAGS)
for _name, _least, _text in (
    ("epoch_minutes", 1e-6, "Minutes that an epoch of a candidate with the mean MACs takes."),
    ("failures_an_hour", 0.0, "Mean number of failures of a worker in an hour of work."),
    ("repair_minutes", 0.0, "Minutes until a lost worker is back."),
):
    flags.DEFINE_float(_name, getattr(Scale, _name), _text, lower_bound=_least, flag_values=FLAGS)
flags.DEFINE_integer(
    "seed", Scale.seed, "Seed of the candidates, the curves and the failures.", flag_values=FLAGS
)


def main() -> None:
    """Prints the figures as JSON to stdout."""
    path = Path(FLAGS.curves)
    if not path.is_file():
        raise UserError(f"--curves={path}: no such file")
    with path.open(newline="") as lines:
        recorded = replay.read_curves(lines, path.name)
    settings: dict[str, Any] = {field.name: FLAGS[field.name].value for field in fields(Scale)}
    figures = simulate(Scale(**settings), Path(FLAGS.workdir), recorded)
    print(json.dumps({key: float(f"{value:.4g}") for key, value in figures.items()}, indent=2))


if __name__ == "__main__":
    command.run(FLAGS, main)
