"""The progress bar of a search."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

_NAMED = 3  # running candidates that are named


class Display:
    """A progress bar on stderr. Use as a context manager.

    Args:
      progress: whether to show it.
    """

    def __init__(self, progress: bool) -> None:
        self._shown = False
        self._bar = tqdm(
            total=1.0,
            disable=not progress,
            smoothing=0,  # workers end epochs in bursts, whose pace says nothing about what is left
            bar_format="{desc}|{bar:20}| {percentage:3.0f}% [{elapsed}<{remaining}]{postfix}",
        )

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def clear(self) -> None:
        """Removes the bar to make room for a line of text; the next `show` draws it again."""
        self._bar.clear()

    def latest(self, score: str, value: float) -> None:
        """Shows the latest score, 0..1, and which metric it is."""
        self._bar.set_postfix_str(f"{score} {value:.3f}", refresh=False)

    def show(self, running: Sequence[tuple[str, int, int, str]], share: float | None) -> None:
        """Shows what is being trained.

        Args:
          running: name, epoch, last epoch and state of each candidate that is being trained.
          share: share of the work that is done, 0..1; None where nothing is left to do.
        """
        if self._bar.disable:
            return
        texts = []
        for name, epoch, until, state in running[:_NAMED]:
            text = f"{name} epoch {epoch}/{until}"
            texts.append(f"{text} {state}".rstrip() if len(running) == 1 else text)
        if len(running) > _NAMED:
            texts.append(f"{len(running) - _NAMED} more")
        idle = "done" if share is None else "waiting for workers"
        self._bar.set_description_str(f"{', '.join(texts) or idle} ", refresh=False)
        share = 1.0 if share is None else share
        if not self._shown:
            self._bar.n = self._bar.initial = share  # done before, in time that was not measured
            self._shown = True
        rise = share - self._bar.n
        self._bar.update(max(0.0, rise))  # redraws at tqdm's own pace
