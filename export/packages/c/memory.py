"""Places the activations of generated code in one arena.

An operator may write its output over an input that nobody reads again, as far as it has read it:
the output may begin a certain number of bytes before the input, or earlier (`Overlap`). Everything
else that is needed at the same time lies apart.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 4  # bytes, of every buffer
_TRIALS = 300  # orders in which buffers are placed


@dataclass(frozen=True)
class Buffer:
    """Memory that is needed from one step to another, both included."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Offsets of the buffers in bytes, and the size of the arena."""

    offsets: tuple[int, ...]
    size: int


# (input, output), as indices of buffers, to the number of bytes by which the output must begin
# before the input at least; a negative number allows it to begin later.
Overlap = Mapping[tuple[int, int], int]


def plan(buffers: Sequence[Buffer], overlaps: Overlap) -> Plan:
    """Places buffers so that the arena is small; the same buffers give the same plan.

    Buffers are placed one after the other, each at its lowest possible offset. The order decides:
    the largest first, then random changes of the best order so far, until the arena reaches the
    lower bound.
    """
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, i))
    conflicts = _conflicts(buffers, overlaps)
    best_order, best = order, _placed(order, buffers, conflicts)
    bound = lower_bound(buffers, overlaps)
    rng = random.Random(0)
    by_time = sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -buffers[i].size))
    for trial in range(_TRIALS):
        if best.size <= bound:
            break
        candidate = list(by_time if trial == 0 else by_time[::-1] if trial == 1 else best_order)
        if trial > 1:
            # What ends highest is what an earlier place can help most.
            if rng.random() < 0.5:
                tops = [
                    i for i in order if best.offsets[i] + _aligned(buffers[i].size) >= best.size
                ]
                moved = rng.choice(tops)
            else:
                moved = rng.choice(candidate)
            candidate.remove(moved)
            candidate.insert(rng.randrange(len(candidate) + 1), moved)
        trial_plan = _placed(candidate, buffers, conflicts)
        if trial_plan.size <= best.size:
            best_order, best = candidate, trial_plan
    return best


def lower_bound(buffers: Sequence[Buffer], overlaps: Overlap) -> int:
    """Bytes that no plan can do without, from each single step."""
    bound = 0
    for step in range(max((buffer.last for buffer in buffers), default=0) + 1):
        live = [i for i, buffer in enumerate(buffers) if buffer.first <= step <= buffer.last]
        total = sum(_aligned(buffers[i].size) for i in live)
        saved = 0
        for (source, target), before in overlaps.items():
            if source in live and target in live:
                a, b = _aligned(buffers[source].size), _aligned(buffers[target].size)
                together = max(b, a + before, a)
                saved = max(saved, a + b - together)
        bound = max(bound, total - saved)
    return bound


def _conflicts(buffers: Sequence[Buffer], overlaps: Overlap) -> list[list[tuple[int, int, int]]]:
    """For each buffer the others that it meets, and where it must not begin relative to them.

    Returns:
      For each buffer tuples (other, low, high): its offset minus the other's offset must not lie
      strictly between low and high.
    """
    conflicts: list[list[tuple[int, int, int]]] = [[] for _ in buffers]
    for i, one in enumerate(buffers):
        for j, other in enumerate(buffers):
            if i == j or one.first > other.last or other.first > one.last:
                continue
            low, high = -_aligned(one.size), _aligned(other.size)
            if (j, i) in overlaps:  # `one` is the output: it may begin so much before the input
                low = max(low, -_aligned(overlaps[j, i]))
            elif (i, j) in overlaps:
                high = min(high, _aligned(overlaps[i, j]))
            if low < high:
                conflicts[i].append((j, low, high))
    return conflicts


def _placed(
    order: Sequence[int],
    buffers: Sequence[Buffer],
    conflicts: Sequence[Sequence[tuple[int, int, int]]],
) -> Plan:
    offsets = [-1] * len(buffers)
    size = 0
    for i in order:
        forbidden = sorted(
            (offsets[j] + low, offsets[j] + high)
            for j, low, high in conflicts[i]
            if offsets[j] >= 0
        )
        offset = 0
        for low, high in forbidden:
            if low < offset < high:
                offset = high
        offsets[i] = offset
        size = max(size, offset + _aligned(buffers[i].size))
    return Plan(tuple(offsets), size)


def _aligned(size: int) -> int:
    """A number of bytes, rounded up to a multiple of the alignment; it may be negative."""
    return -(-size // ALIGNMENT) * ALIGNMENT
