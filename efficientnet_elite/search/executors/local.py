"""Training in this process, one candidate at a time."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten

from efficientnet_elite import machine
from efficientnet_elite.config import SizeLike, TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.starts import from_scratch
from efficientnet_elite.search.workdir import write_bytes
from efficientnet_elite.training.checkpoint import DamagedCheckpoint
from efficientnet_elite.training.outcome import EpochResult, OutOfMemory, TrainingError
from efficientnet_elite.training.trainer import Quantize, Trainer

from .protocol import (
    Built,
    EpochDone,
    Event,
    Failed,
    Finished,
    Int8Done,
    OnEvent,
    Ready,
    Stepped,
    Timed,
    Warned,
    WorkItem,
)

_STEP_SECONDS = 0.2  # between two `Stepped` events: fast enough for a progress bar
_TIMED_STEPS = 8  # steps of a `Timed` training; the first one is left out, as it includes building


class _Enough(Exception):
    """Ends a training of which enough steps have been timed."""


class LocalExecutor:
    """The executor of a single process: one slot, number 0.

    A worker of a pool or cluster holds one, too.

    Args:
      train: the recipe.
      data: the images.
      base_resolution: input size in pixels at resolution coefficient 1.
      seed: seed of the search.
      quantize: how to make int8 forms, for work items that ask for their accuracy.
      memory: bytes that this process may take. Beyond it, trainings of waiting candidates are
        dropped, the least recently trained first; they continue from their checkpoints.

    Attributes:
      slots: see `Executor`.
    """

    slots = 1

    def __init__(
        self,
        train: TrainConfig,
        data: ImageData,
        *,
        base_resolution: SizeLike,
        seed: int,
        quantize: Quantize | None = None,
        memory: float = float("inf"),
    ):
        self._train, self._data = train, data
        self._base_resolution, self._seed = base_resolution, seed
        self._quantize = quantize
        self._memory = memory
        self._largest = 0  # bytes: the most that a training has added to the memory in use
        self._trainers: dict[str, Trainer] = {}  # the least recently trained first
        self._item: WorkItem | None = None

    def submit(self, slot: int, item: WorkItem) -> None:
        """See `Executor.submit`."""
        self._item = item

    def wait(self, on_event: OnEvent) -> None:
        """See `Executor.wait`; runs the whole work item."""
        item, self._item = self._item, None
        if item is None:
            on_event(0, Ready())
            return
        raised_by_driver: list[Exception] = []

        def report(slot: int, event: Event) -> None:
            try:
                on_event(slot, event)
            except Exception as error:
                raised_by_driver.append(error)
                raise

        try:
            self._run_with_free_memory(item, report)
        except TrainingError as error:
            self.retire(0, item.spec.name)
            on_event(0, Failed(str(error)))
        except (UserError, OSError):  # such as a full disk: no fault of the candidate
            raise
        except Exception as error:
            if error in raised_by_driver:
                raise
            self.retire(0, item.spec.name)
            on_event(0, Failed(_described(error, item), unexpected=True))
        else:
            on_event(0, Finished())

    def _run_with_free_memory(self, item: WorkItem, on_event: OnEvent) -> None:
        try:
            self._run(item, on_event)
        except OutOfMemory:
            # Graphs of idle candidates may occupy the memory. They are freed and built again later.
            others = self._trainers.keys() - {item.spec.name}
            self._trainers.clear()
            if not others:
                raise
        else:
            return
        machine.free_memory()  # outside of the handler, whose traceback holds the trainer
        self._run(item, on_event)

    def _run(self, item: WorkItem, on_event: OnEvent) -> None:
        name = item.spec.name
        is_new = name not in self._trainers
        self._make_room(name, self._largest if is_new else 0)
        before = machine.used_bytes()
        try:
            self._train_item(item, on_event)
        finally:
            if is_new:
                self._largest = max(self._largest, machine.used_bytes() - before)

    def _make_room(self, name: str, needed: int) -> None:
        """Drops trainings of other candidates until so many bytes are left in the budget."""
        while machine.used_bytes() + needed > self._memory:
            oldest = next((other for other in self._trainers if other != name), None)
            if oldest is None:
                return
            del self._trainers[oldest]
            machine.free_memory()

    def _train_item(self, item: WorkItem, on_event: OnEvent) -> None:
        if item.timed:
            with TemporaryDirectory() as folder:
                path = Path(folder, "timed.npz")
                on_event(0, _time(self._open(replace(item, checkpoint=path), on_event)))
            return
        trainer = self._trainers.pop(item.spec.name, None)
        if trainer is not None and item.int8_at_end and trainer.epochs_done > item.until_epoch:
            trainer = None  # `_open` sets it back
        built = 0.0
        if trainer is None:
            trainer = self._open(item, on_event)
            for epoch in trainer.history:
                on_event(0, EpochDone(epoch))
        else:
            built = trainer.build_seconds
        self._trainers[item.spec.name] = trainer  # the last in their order
        shown = time.monotonic()

        def report_building() -> None:
            # The first step of a training is part of building.
            nonlocal built
            if trainer.build_seconds > built:
                on_event(0, Built(trainer.build_seconds - built))
                built = trainer.build_seconds

        def on_epoch(result: EpochResult) -> None:
            report_building()
            on_event(0, EpochDone(result))

        def on_step(step: int, steps: int) -> None:
            nonlocal shown
            if time.monotonic() - shown >= _STEP_SECONDS:
                shown = time.monotonic()
                on_event(0, Stepped(step, steps))

        try:
            trainer.run(item.until_epoch, on_epoch, on_step)
        finally:
            report_building()
        if item.int8_at_end:
            assert self._quantize is not None
            on_event(0, Int8Done(trainer.evaluate_int8(self._quantize)))

    def _open(self, item: WorkItem, on_event: OnEvent) -> Trainer:
        train = self._train
        data = self._data.in_fold(item.fold) if item.fold else self._data
        if item.from_scratch:
            train, data = from_scratch(train, data)
        if item.epochs is not None:
            train = replace(train, epochs=item.epochs)

        def trainer() -> Trainer:
            return Trainer(
                item.spec,
                train,
                data,
                base_resolution=self._base_resolution,
                seed=self._seed + item.seed,
                checkpoint=item.checkpoint,
            )

        try:
            opened = trainer()
        except DamagedCheckpoint:
            problem = "damaged"
        else:
            # The weights that are measured must be those of that epoch. Where a ledger is older
            # than its checkpoints, they have been trained further.
            if not (item.int8_at_end and opened.epochs_done > item.until_epoch):
                return opened
            problem = "ahead"
        # Training is deterministic: the same epochs again give the scores on record.
        aside = item.checkpoint.with_suffix(f".{problem}")
        item.checkpoint.replace(aside)
        on_event(0, Warned(f"{item.checkpoint} is {problem}: kept as {aside.name}, trained anew"))
        return trainer()

    def retire(self, slot: int, name: str) -> None:
        """See `Executor.retire`."""
        self._trainers.pop(name, None)

    def close(self) -> None:
        """See `Executor.close`."""
        self._trainers.clear()


def _time(trainer: Trainer) -> Timed:
    """Trains a new network for some steps."""
    times: list[float] = []

    def on_step(step: int, steps: int) -> None:
        if step == 1:
            times.clear()  # between two epochs lies the validation
        times.append(time.perf_counter())
        if steps > 1 and len(times) > min(_TIMED_STEPS, steps - 1):
            raise _Enough

    with suppress(_Enough):
        trainer.run(2, lambda result: None, on_step)
    if len(times) < 2:  # an epoch of one step; building it is timed apart
        return Timed(trainer.history[-1].seconds, trainer.build_seconds)
    return Timed((times[-1] - times[0]) / (len(times) - 1), trainer.build_seconds)


def _described(error: Exception, item: WorkItem) -> str:
    """An error in one line; where it was raised is written to a file beside the checkpoint."""
    path = item.checkpoint.with_suffix(".error.txt")
    write_bytes(path, "".join(traceback.format_exception(error)).encode())
    text = shorten(f"{type(error).__name__}: {error}", 200)
    return f"{text} (see {path.parent.name}/{path.name})"
