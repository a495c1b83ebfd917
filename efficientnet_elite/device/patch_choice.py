"""Chooses where a network is cut, and into how many patches, see `device.patches`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, prod

from efficientnet_elite.device import memory, patches
from efficientnet_elite.device.lowering import Pair, Program
from efficientnet_elite.device.patches import Patched

_MOST_SIDE, MOST_PATCHES = 8, 36
# Rows and columns that are tried. More patches than these repeat more than they save.
GRIDS = tuple(
    (rows, columns)
    for rows in range(1, _MOST_SIDE + 1)
    for columns in range(1, _MOST_SIDE + 1)
    if 1 < rows * columns <= MOST_PATCHES
)


# For `arena_bytes`, which is asked of many networks.
_FEW_GRIDS = ((1, 2), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4), (5, 5), (6, 6))
MOST_OVERHEAD = 0.3

# Bytes of the arena besides activations and scratch memory.
Tail = Callable[[Program], int]


def arena_bytes(program: Program) -> int:
    """Estimated size in bytes of TFLM's arena if the first layers may run patch by patch.

    Patches may cost `MOST_OVERHEAD` as additional MACs, as a share of those of the network. A few
    grids are tried. Without patches that help, it is the arena of the program as it is.
    """
    plain = memory.arena_bytes(program)
    plan = smallest(program, _FEW_GRIDS, MOST_OVERHEAD)
    return plain if plan is None else min(plain, memory.arena_bytes(plan.program))


def smallest(
    program: Program,
    grids: Sequence[Pair] = GRIDS,
    most_overhead: float = inf,
    tail: Tail = memory.tail_bytes,
) -> Patched | None:
    """The patched program with the smallest arena.

    Args:
      program: the whole network.
      grids: rows and columns of patches to choose from.
      most_overhead: the most additional MACs, as a share of those of the network.
      tail: see `Tail`; by default that of TFLM.

    Returns:
      None if the network cannot be patched so.
    """
    best, least = None, inf
    found = _trials(program, grids, most_overhead, tail)
    for trial in sorted(found, key=lambda t: (t.least_arena, t.overhead)):
        if trial.least_arena >= least:
            break
        if plan := trial.patched(least - 1):
            best, least = plan, memory.head_bytes(plan.program) + tail(plan.program)
    return best


def fitting(
    program: Program, arena_bytes: float, tail: Tail = memory.tail_bytes
) -> Iterator[Patched]:
    """The patched programs with a small enough arena, those with the least additional MACs first.

    Args:
      program: the whole network.
      arena_bytes: the most that the arena may take, as estimated.
      tail: see `Tail`; by default that of TFLM.
    """
    found = _trials(program, GRIDS, inf, tail)
    for trial in sorted(found, key=lambda t: (t.overhead, prod(t.grid), t.least_arena)):
        if trial.least_arena <= arena_bytes and (plan := trial.patched(arena_bytes)):
            yield plan


@dataclass(frozen=True)
class _Trial:
    """A cut and a grid that may be chosen, before the program is made."""

    program: Program
    cut: int
    grid: Pair
    overhead: float
    tail: Tail

    @cached_property
    def least_arena(self) -> int:
        """Bytes that the arena takes at least."""
        program, count = self.program, prod(self.grid)
        # The border that PAD adds may be left out in a patch; constants are in the file once.
        kept = [o for o in program.operators[: self.cut] if o.kind != "PAD"]
        repeated = Program(
            [program.shapes[o.output] for o in kept], [replace(o, constants=()) for o in kept]
        )
        more = (count - 1) * (self.tail(repeated) - self.tail(Program()))
        sizes = program.sizes
        sides = program.shapes[program.operators[self.cut - 1].output][:2]
        rows, columns = (
            # The parts of the first patch; at the borders patches are smallest.
            patches.needs(program, self.cut, axis, patches.tiles(side, parts)[0])
            for axis, side, parts in zip((0, 1), sides, self.grid, strict=True)
        )

        def part(tensor: int) -> int:
            if tensor == 0:
                return 0  # the image is counted in any case
            (top, bottom), (left, right) = rows[tensor], columns[tensor]
            return (bottom - top) * (right - left) * program.shapes[tensor][-1]

        sums = (
            part(o.output) + sum(part(tensor) for tensor in set(o.inputs))
            for o in kept
            if o.output in rows
        )
        working = max(sums, default=0)
        joined = 2 * sizes[program.operators[self.cut - 1].output]
        behind = _peak_behind(program, self.cut)
        return max(sizes[0] + working, joined, behind) + self.tail(program) + more

    def patched(self, arena_bytes: float) -> Patched | None:
        """The program; None if its arena is larger than this."""
        plan = patches.patched(self.program, self.cut, self.grid)
        if plan is None:
            return None
        head = arena_bytes - self.tail(plan.program)
        if memory.peak_bytes(memory.activation_buffers(plan.program)) > head:
            return None
        return plan if memory.head_bytes(plan.program) <= head else None


def _peak_behind(program: Program, cut: int) -> int:
    """The most activations that the operators behind a cut need at the same time."""
    buffers = memory.activation_buffers(program)
    return memory.peak_bytes(buffer for buffer in buffers if buffer.last > cut)


def _trials(
    program: Program, grids: Sequence[Pair], most_overhead: float, tail: Tail
) -> list[_Trial]:
    """All cuts and grids that a network allows."""
    found = []
    for cut in patches.cuts(program):
        for grid in grids:
            overhead = patches.overhead(program, cut, grid)
            if overhead is not None and overhead <= most_overhead:
                found.append(_Trial(program, cut, grid, overhead, tail))
    return found
