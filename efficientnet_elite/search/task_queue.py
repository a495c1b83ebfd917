"""Which waiting candidate a free slot trains next. No decision of the search depends on it.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Queue:
    """Candidates that wait for a slot, the ones with the most work ahead of them first.

    A candidate's *home* is the slot that has built its graph. To move it costs another building, so
    a slot takes its own and the homeless first, and one from elsewhere only where that pays.
    """

    def __init__(self) -> None:
        self._heaps: dict[int | None, list[tuple[float, int, str]]] = {}
        self._order = count()

    def __bool__(self) -> bool:
        return bool(self._heaps)

    def push(self, name: str, work: float, home: int | None) -> None:
        """Adds a candidate.

        Args:
          name: of the candidate.
          work: that is ahead of it if it stays in the race to the end, in any unit: the longest
            chain of rounds should not be begun last.
          home: its slot, if it has one.
        """
        heappush(self._heaps.setdefault(home, []), (-work, next(self._order), name))

    def pop(self, slot: int, moving_pays: Callable[[int], bool]) -> str | None:
        """Takes out the next candidate for a slot; None where there is none for it.

        Args:
          slot: that is free.
          moving_pays: whether to take a candidate from the home that is given.
        """
        homes = [home for home in (slot, None) if home in self._heaps]
        if not homes:
            homes = [home for home in self._heaps if home is not None and moving_pays(home)]
        if not homes:
            return None
        best = min(homes, key=lambda home: self._heaps[home][0])
        name = heappop(self._heaps[best])[-1]
        if not self._heaps[best]:
            del self._heaps[best]
        return name

    def evict(self, home: int) -> None:
        """A slot has lost what it had built: its candidates can go anywhere."""
        for item in self._heaps.pop(home, ()):
            heappush(self._heaps.setdefault(None, []), item)
