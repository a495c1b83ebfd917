"""Executors that train nothing: invented scores, but real checkpoint files and real events.

Imported by worker processes, which it spares TensorFlow.
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from heapq import heappop, heappush
from itertools import count, cycle
from pathlib import Path
from typing import ClassVar

import numpy as np

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.candidates import pool_candidates
from efficientnet_elite.search.executors.protocol import (
    Built,
    EpochDone,
    Event,
    Failed,
    Finished,
    Int8Done,
    Lost,
    OnEvent,
    Ready,
    Stepped,
    WorkItem,
)
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.outcome import EpochResult, Int8Result, TrainingError

POOL = pool_candidates("elite", base_resolution=8, classes=10)


def score(name: str, epoch: int) -> float:
    """Rises, with noise; a function of name and epoch alone."""
    level, noise = (zlib.crc32(text.encode()) / 2**32 for text in (name, f"{name}{epoch}"))
    return (0.5 + 0.3 * level) * (1 - 0.8**epoch) + 0.1 * noise


def ledger_of(
    workdir: Path,
    groups: Mapping[int, str],
    config: SearchConfig,
    repeats: Sequence[Repeat] = (),
    **meta: object,
) -> Ledger:
    """A new ledger with so many candidates in each group, named 0a, 0b, ..., and more settings."""
    pool = cycle(POOL)
    candidates = []
    for number, letters in groups.items():
        for letter in letters:
            name, member = f"{number}{letter}", next(pool)
            spec = replace(member.spec, name=name)
            candidates.append(replace(member, name=name, spec=spec, group=number))
    ledger = Ledger(workdir, create=True)
    ledger.start(candidates, {"config": asdict(config), **meta}, repeats)
    return ledger


@dataclass
class Invented:
    """Trains one candidate at a time, as `LocalExecutor` does.

    Attributes:
      accuracies: of candidates whose score is always the same.
      failing: candidate to the epochs after which its training diverges.
      broken: candidates whose training raises an error that nobody expects.
      deadly: candidate to the epoch in which its worker is killed: always, or as often as there are
        lines missing in the log.
      deaths: how often; None for always.
      refused: candidate in whose training the disk is full.
      changes: candidate to what int8 adds to its accuracy (0 by default); None: no int8 form.
      deadly_int8: candidate in whose int8 measurement the process is killed, as often as `deaths`.
      seconds: that an epoch takes.
      log: file that gets a line for every epoch that was really trained: name, epoch, process; and
        for every measurement: name, int8, process.
    """

    accuracies: dict[str, float] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    deadly: dict[str, int] = field(default_factory=dict)
    deaths: int | None = None
    refused: str = ""
    changes: dict[str, float | None] = field(default_factory=dict)
    deadly_int8: str = ""
    seconds: float = 0.0
    log: Path | None = None
    slots: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.retired: list[str] = []
        self.too_late: list[str] = []  # trained although retired
        self._kept: dict[str, list[EpochResult]] = {}
        self._item: WorkItem | None = None

    def __call__(self, slot: int) -> Invented:
        """As a worker is made."""
        return self

    def submit(self, slot: int, item: WorkItem) -> None:
        self._item = item

    def wait(self, on_event: OnEvent) -> None:
        item, self._item = self._item, None
        if item is None:
            on_event(0, Ready())
            return
        try:
            self._train(item, on_event)
        except TrainingError as error:
            on_event(0, Failed(str(error)))
        except ZeroDivisionError as error:
            on_event(0, Failed(str(error), unexpected=True))
        else:
            on_event(0, Finished())

    def _train(self, item: WorkItem, on_event: OnEvent) -> None:
        name = item.spec.name
        self.too_late += [name] if name in self.retired else []
        if name not in self._kept:
            saved = item.checkpoint.is_file()
            history = Checkpoint.load(item.checkpoint).history if saved else []
            self._kept[name] = [EpochResult(**entry) for entry in history]
            on_event(0, Built(0.1))
            for result in self._kept[name]:
                on_event(0, EpochDone(result))
        history = self._kept[name]
        while len(history) < item.until_epoch:
            epoch = len(history) + 1
            if name in self.broken:
                raise ZeroDivisionError("division by zero")
            if name == self.refused:
                raise UserError("no space left on device")
            if self.failing.get(name) == epoch - 1:
                raise TrainingError("the loss became nan")
            time.sleep(self.seconds)
            if self.deadly.get(name) == epoch and self._dies(item.checkpoint.parent / "deaths"):
                os.kill(os.getpid(), signal.SIGKILL)
            on_event(0, Stepped(1, 1))
            accuracy = self.accuracies.get(name, score(name, epoch))
            history.append(EpochResult(epoch, accuracy, 1.0, self.seconds))
            if self.log:
                with self.log.open("a") as file:
                    file.write(f"{name} {epoch} {os.getpid()}\n")
            state = [np.full(1000, epoch)]
            Checkpoint(
                item.spec.to_json(),
                [asdict(result) for result in history],
                {"weights": state, "average": state, "optimizer": state},
            ).save(item.checkpoint)
            on_event(0, EpochDone(history[-1]))
        if item.int8_at_end:
            assert len(history) == item.until_epoch, "the weights are not those to be measured"
            on_event(0, Int8Done(self._measure(item, history[-1])))

    def _measure(self, item: WorkItem, latest: EpochResult) -> Int8Result:
        name = item.spec.name
        if self.deadly_int8 == name and self._dies(item.checkpoint.parent / "deaths"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{name} int8 {os.getpid()}\n")
        change, accuracy = self.changes.get(name, 0.0), latest.validation_accuracy
        if change is None:
            return Int8Result(latest.epoch, accuracy, None, 100, self.seconds, "a dead layer")
        return Int8Result(latest.epoch, accuracy, accuracy + change, 100, self.seconds)

    def _dies(self, deaths: Path) -> bool:
        before = len(deaths.read_text()) if deaths.exists() else 0
        if self.deaths is not None and before >= self.deaths:
            return False
        deaths.parent.mkdir(exist_ok=True)
        deaths.write_text("x" * (before + 1))
        return True

    def retire(self, slot: int, name: str) -> None:
        self.retired.append(name)
        self._kept.pop(name, None)

    def close(self) -> None:
        self._kept.clear()


class Simulated:
    """Slots that share an invented clock; building takes as long as an epoch.

    Args:
      slots: how many.
      seconds: of an epoch of a candidate.
      lost: (slot, second) of every loss of a worker; it is back a second later.
    """

    def __init__(
        self,
        slots: int,
        seconds: Callable[[str], float],
        lost: tuple[tuple[int, float], ...] = (),
    ) -> None:
        self.slots, self.now, self.busy = slots, 0.0, [0.0] * slots
        self.built: list[str] = []
        self._seconds, self._order = seconds, count()
        self._kept: list[set[str]] = [set() for _ in range(slots)]
        self._epochs: dict[str, int] = {}  # what the checkpoints hold
        self._life = [0] * slots
        self._events: list[tuple[float, int, int, int, Event, str]] = []
        for slot in range(slots):
            self._at(0.0, slot, Ready())
        for slot, second in lost:
            self._at(second, slot, Lost("switched off"))

    def clock(self) -> float:
        return self.now

    def _at(self, when: float, slot: int, event: Event, name: str = "") -> None:
        life = -1 if isinstance(event, Lost) else self._life[slot]
        heappush(self._events, (when, next(self._order), slot, life, event, name))

    def submit(self, slot: int, item: WorkItem) -> None:
        name, clock = item.spec.name, self.now
        if name not in self._kept[slot]:
            self._kept[slot].add(name)
            clock += self._seconds(name)
            self.built.append(name)
            self._at(clock, slot, Built(self._seconds(name)), name)
        for epoch in range(self._epochs.get(name, 0) + 1, item.until_epoch + 1):
            clock += self._seconds(name)
            result = EpochResult(epoch, score(name, epoch), 1.0, self._seconds(name))
            self._at(clock, slot, EpochDone(result), name)
        self._at(clock, slot, Finished(), name)

    def wait(self, on_event: OnEvent) -> None:
        when, _, slot, life, event, name = heappop(self._events)
        if isinstance(event, Lost):
            self._life[slot] += 1
            self._kept[slot].clear()
            self._at(when + 1.0, slot, Ready())
        elif life != self._life[slot]:
            return
        self.now = when
        if isinstance(event, EpochDone):
            self._epochs[name] = event.result.epoch
            self.busy[slot] += event.result.seconds
        elif isinstance(event, Built):
            self.busy[slot] += event.seconds
        on_event(slot, event)

    def retire(self, slot: int, name: str) -> None:
        self._kept[slot].discard(name)

    def close(self) -> None:
        self._events.clear()
