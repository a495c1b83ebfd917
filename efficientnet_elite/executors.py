"""Where candidates are trained. An executor takes plain data and reports every finished epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from efficientnet_elite.config import TrainConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.spec import ArchSpec
from efficientnet_elite.training import EpochResult, Trainer


@dataclass(frozen=True)
class Task:
    """Train ``spec`` until it has seen ``until_epoch`` epochs in all, from its checkpoint on."""

    spec: ArchSpec
    until_epoch: int
    checkpoint: Path


class Executor(Protocol):
    """What a search needs of a place to train."""

    def run(
        self,
        task: Task,
        *,
        on_build: Callable[[float], None],
        on_epoch: Callable[[EpochResult], None],
        on_step: Callable[[int, int], None],
    ) -> None:
        """Runs a task to its end; `training.TrainingError` where it cannot go on.

        Reports every epoch that the task needs, those that were found in the checkpoint included
        (the receiver ignores the ones it knows), and the seconds of graph building.
        """

    def retire(self, name: str) -> None:
        """Frees what is kept in memory for a candidate; should it be trained again after all, its
        checkpoint tells from where.
        """


class LocalExecutor:
    """Trains in this process, one candidate at a time; keeps built candidates between rounds."""

    def __init__(self, train: TrainConfig, data: ImageData, *, base_resolution: int, seed: int):
        self._train, self._data = train, data
        self._base_resolution, self._seed = base_resolution, seed
        self._trainers: dict[str, Trainer] = {}

    def run(
        self,
        task: Task,
        *,
        on_build: Callable[[float], None],
        on_epoch: Callable[[EpochResult], None],
        on_step: Callable[[int, int], None],
    ) -> None:
        """See `Executor.run`."""
        trainer = self._trainers.get(task.spec.name)
        if trainer is None:
            trainer = Trainer(
                task.spec,
                self._train,
                self._data,
                base_resolution=self._base_resolution,
                seed=self._seed,
                checkpoint=task.checkpoint,
            )
            self._trainers[task.spec.name] = trainer
            for epoch in trainer.history:
                on_epoch(epoch)
            built = 0.0
        else:
            built = trainer.build_seconds
        try:
            trainer.run(task.until_epoch, on_epoch, on_step)
        finally:
            on_build(trainer.build_seconds - built)

    def retire(self, name: str) -> None:
        """See `Executor.retire`."""
        self._trainers.pop(name, None)
