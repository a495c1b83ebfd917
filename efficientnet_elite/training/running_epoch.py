"""The epoch that is being trained: what its steps have given, and its file beside the checkpoint.

A long epoch is written to this file every few minutes, so that a training which is killed goes on
at a step. The checkpoint of the training itself holds whole epochs only: what is recorded, reported
and exported does not change. When the epoch ends, the file is removed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from efficientnet_elite.errors import UserError
from efficientnet_elite.training.checkpoint import Checkpoint


class RunningEpoch:
    """The losses and seconds of an epoch so far.

    Args:
      checkpoint: file of the training's checkpoint; the one of the epoch lies beside it.
      minutes: time between two writes; 0: nothing is written within an epoch.

    Attributes:
      path: the file of the epoch.
    """

    def __init__(self, checkpoint: Path, minutes: float) -> None:
        self.path = checkpoint.with_suffix(".epoch")
        self._minutes = minutes
        self.begin()

    def begin(self, losses: Sequence[float] = (), seconds: float = 0.0) -> None:
        """Begins an epoch, or goes on with one.

        Args:
          losses: of the steps that are done.
          seconds: that they took.
        """
        self._losses: list[Any] = [*losses]
        self._began = time.perf_counter() - seconds
        self._written = time.perf_counter()

    @property
    def steps(self) -> int:
        """Number of steps that are done."""
        return len(self._losses)

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss of each step."""
        # They are converted when they are asked for: before, a step may not be done.
        self._losses = [float(loss) for loss in self._losses]
        return tuple(self._losses)

    @property
    def seconds(self) -> float:
        """Time since the epoch began, without pauses between processes."""
        return time.perf_counter() - self._began

    def add(self, loss: Any) -> None:
        """Adds the loss of a step, a scalar."""
        self._losses.append(loss)

    def leave_out(self, seconds: float) -> None:
        """Does not count some seconds that have passed."""
        self._began += seconds

    @property
    def is_due(self) -> bool:
        """Whether it is time to write."""
        return 0 < 60 * self._minutes <= time.perf_counter() - self._written

    def write(self, state: Checkpoint) -> None:
        """Writes the epoch's file, atomically, if anything is to be written within an epoch.

        Args:
          state: of the training now, with `losses` and `seconds`.

        Raises:
          UserError: the file cannot be written, for example because the disk is full.
        """
        if self._minutes:
            state.save(self.path)
            self._written = time.perf_counter()

    def read(self, history: Sequence[Mapping[str, Any]], steps: int) -> Checkpoint | None:
        """The state in the epoch's file; None if there is none that continues this training.

        A file that cannot be used is removed: it is of another epoch if the process was killed just
        before the file would have been removed.

        Args:
          history: of the training, as in its checkpoint.
          steps: in an epoch.
        """
        if not self.path.is_file():
            return None
        try:
            saved = Checkpoint.load(self.path)
        except UserError as error:
            tqdm.write(f"{error} (this epoch begins again)", file=sys.stderr)
        else:
            if saved.history == [*history] and len(saved.losses) <= steps:
                return saved
        self.remove()
        return None

    def remove(self) -> None:
        """Removes the epoch's file, if there is one."""
        self.path.unlink(missing_ok=True)
