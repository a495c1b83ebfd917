"""What the search's driver needs of a place to train, and the events it hears from there.

An executor has slots, numbered from 0: a slot trains one candidate at a time, and keeps what it has
built for it. The driver decides what is trained where and when; an executor only trains, and tells.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.outcome import EpochResult, Int8Result


@dataclass(frozen=True)
class WorkItem:
    """Train a candidate, from its checkpoint on.

    Attributes:
      spec: the network; its name is the candidate's.
      done: epochs that the driver knows of.
      until_epoch: epochs in all when the item is done.
      checkpoint: file to continue from, and to keep up to date.
      int8_at_end: whether to measure the int8 accuracy after ``until_epoch``. Where that many
        epochs are done already, this is the whole item.
      seed: added to the search's.
    """

    spec: ArchSpec
    done: int
    until_epoch: int
    checkpoint: Path
    int8_at_end: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Ready:
    """A slot can take its first item, or its first one after it was lost."""


@dataclass(frozen=True)
class Built:
    """The item's graph has been built, in so many seconds; the slot keeps it until `retire`."""

    seconds: float


@dataclass(frozen=True)
class Stepped:
    """So many of the epoch's steps are done. Sent now and then, for those who watch."""

    step: int
    steps: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch's checkpoint is on disk. One that was found there is reported again."""

    result: EpochResult


@dataclass(frozen=True)
class Int8Done:
    """What the item's last epoch is worth in int8."""

    result: Int8Result


@dataclass(frozen=True)
class Warned:
    """Something that the user should read, in one line."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The item is done, and the slot free."""


@dataclass(frozen=True)
class Failed:
    """The candidate cannot be trained on; the slot is free."""

    reason: str


@dataclass(frozen=True)
class Lost:
    """The slot is gone, with its item and all it has kept; `Ready` says when it is back.

    Attributes:
      reason: in words.
      blameless: the item cannot have been the cause, such as where a whole machine has gone.
    """

    reason: str
    blameless: bool = False


Event: TypeAlias = (
    Ready | Built | Stepped | EpochDone | Int8Done | Warned | Finished | Failed | Lost
)
OnEvent: TypeAlias = Callable[[int, Event], None]


class Executor(Protocol):
    """A place to train. Used by one thread."""

    def submit(self, slot: int, item: WorkItem) -> None:
        """Gives a free slot its next item."""

    def wait(self, on_event: OnEvent) -> None:
        """Blocks until something has happened, and calls ``on_event(slot, event)`` for it.

        Raises what makes the whole search impossible, such as `UserError` on a full disk.
        """

    def retire(self, slot: int, name: str) -> None:
        """Frees what a slot has kept for a candidate, as soon as the slot is free."""

    def close(self) -> None:
        """Ends all work; what was being trained goes on from its checkpoint another time."""
