"""What the driver of a search needs of an executor, and the events that it gets from there.

An executor has slots, numbered from 0. A slot trains one candidate at a time and keeps the graph
that it has built for it. The driver decides what is trained, where and when; an executor trains and
reports events.
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
    """Some epochs of one candidate, continued from its checkpoint.

    Attributes:
      spec: the network; its name is that of the candidate.
      done: epochs that the driver has on record.
      until_epoch: epochs that the candidate has been trained for in all when the item is done.
      checkpoint: file to continue from, and to write after every epoch.
      int8_at_end: whether to measure the int8 accuracy after ``until_epoch``. Where that many
        epochs are done already, nothing else is to be done.
      seed: added to the seed of the search.
      fold: number of the fold that validates, see `ImageData.in_fold`.
      from_scratch: whether the network starts from random weights although the recipe names
        pretrained ones, because those do not fit it.
      epochs: length of the whole training, to which learning rates belong; None for the recipe's.
      timed: whether some steps of a new training are timed, of which nothing is kept (`Timed`);
        the item has no epochs, and no file is written at ``checkpoint``.
    """

    spec: ArchSpec
    done: int
    until_epoch: int
    checkpoint: Path
    int8_at_end: bool = False
    seed: int = 0
    fold: int = 0
    from_scratch: bool = False
    epochs: int | None = None
    timed: bool = False


@dataclass(frozen=True)
class Ready:
    """A slot is ready for its first work item, or for its first one after it was lost."""


@dataclass(frozen=True)
class Built:
    """The graph has been built, with the seconds that it took; the slot keeps it until `retire`."""

    seconds: float


@dataclass(frozen=True)
class Stepped:
    """The number of steps of the epoch that are done. Sent now and then for the progress bar."""

    step: int
    steps: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch is done and its checkpoint written. Epochs of an older checkpoint are sent, too."""

    result: EpochResult


@dataclass(frozen=True)
class Int8Done:
    """The int8 accuracy after the last epoch of the item."""

    result: Int8Result


@dataclass(frozen=True)
class Timed:
    """How long the training of a work item takes that is `WorkItem.timed`.

    Attributes:
      step: seconds of one training step.
      build: seconds for building the graph.
    """

    step: float
    build: float


@dataclass(frozen=True)
class Warned:
    """A line for the user, also of a slot that trains nothing."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The work item is done; the slot is free."""


@dataclass(frozen=True)
class Failed:
    """The training of the candidate cannot go on; the slot is free.

    Attributes:
      reason: the reason, as text.
      unexpected: whether it is none of the ways in which trainings are known to fail. The cause may
        then be one that all candidates share.
    """

    reason: str
    unexpected: bool = False


@dataclass(frozen=True)
class Lost:
    """The slot was lost, with its work item and all graphs; `Ready` says when it is back.

    Attributes:
      reason: the reason, as text.
      blameless: whether the item cannot have been the cause, as where a whole machine was lost.
    """

    reason: str
    blameless: bool = False


Event: TypeAlias = (
    Ready | Built | Stepped | EpochDone | Int8Done | Timed | Warned | Finished | Failed | Lost
)
OnEvent: TypeAlias = Callable[[int, Event], None]


class Executor(Protocol):
    """A place where work items are trained. Used by one thread.

    Attributes:
      slots: number of slots, also of those that are not ready yet.
    """

    slots: int

    def submit(self, slot: int, item: WorkItem) -> None:
        """Gives a free slot its next work item."""

    def wait(self, on_event: OnEvent) -> None:
        """Blocks until something has happened, and calls ``on_event(slot, event)`` for it.

        Raises errors that make the whole search impossible, such as `UserError` on a full disk.
        """

    def retire(self, slot: int, name: str) -> None:
        """Frees the graph that a slot keeps for a candidate, as soon as the slot is free."""

    def close(self) -> None:
        """Ends all work. Candidates that are being trained can be continued from checkpoints."""
