"""Which waiting candidate a free slot trains next. No decision of the search depends on it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class WorkQueue:
    """Candidates that wait for a slot, those with the most work left first.

    The *home* of a candidate is the slot that has built its graph. Another slot would have to build
    the graph again. A slot therefore first takes candidates of its own and those without a home. It
    takes a candidate from another slot only if that saves time.
    """

    def __init__(self) -> None:
        self._heaps: dict[int | None, list[tuple[float, int, str]]] = {}
        self._order = count()

    def __bool__(self) -> bool:
        return bool(self._heaps)

    def push(self, name: str, work: float, home: int | None) -> None:
        """Adds a candidate.

        Args:
          name: name of the candidate.
          work: the work that is left if it becomes champion, in any unit; the longest chain of
            rounds should not be started last.
          home: the slot that is its home; None if it has none.
        """
        heappush(self._heaps.setdefault(home, []), (-work, next(self._order), name))

    def pop(self, slot: int, moving_pays: Callable[[int], bool]) -> str | None:
        """Takes out the next candidate for a slot; None where there is none for it.

        Args:
          slot: the free slot.
          moving_pays: whether it saves time to take a candidate away from the home that is given.
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
        """Forgets a home that has lost its graphs, so that its candidates can go to any slot."""
        for item in self._heaps.pop(home, ()):
            heappush(self._heaps.setdefault(None, []), item)
