"""Runs the first operators of a network patch by patch, so that large images need little memory.

The operators before a *cut* compute their last map in a grid of patches. Each patch is a chain of
the same operators on just the part of every map that it needs: its own part and the margin that the
windows of later operators reach into. Margins are computed once for each patch that needs them,
which costs multiply-accumulates (MACs); in return none of the large maps is ever whole.

The patched program has only stock operators: SLICE takes a part of a map, PAD adds the border that
an operator would have added at the edge of the whole map, CONCATENATION joins the patches. It
computes the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod

from efficientnet_elite.device.lowering import (
    POINT,
    Constant,
    Operator,
    Pair,
    Program,
    integers,
    same_padding,
)
from efficientnet_elite.networks.ops import Shape

Interval = tuple[int, int]  # first position, and the one after the last
Region = tuple[Interval, Interval]  # rows and columns
# For each row of patches, and for each column, the part of every tensor that it needs.
_Axes = tuple[list[dict[int, Interval]], list[dict[int, Interval]]]

_IMAGE = 0  # the tensor that holds the image


@dataclass(frozen=True)
class Piece:
    """Where an operator of a patched program comes from.

    Attributes:
      source: index of the operator of the original program that it repeats; None for those that
        only move values.
      begin: for SLICE, the first row and column.
      pads: for PAD, rows (before, after) and columns (before, after).
      axis: for CONCATENATION, 0 to join rows, 1 to join columns.
      same: whether it pads its input as ``same`` does; otherwise not at all.
    """

    source: int | None = None
    begin: Pair = (0, 0)
    pads: tuple[Pair, Pair] = ((0, 0), (0, 0))
    axis: int = 0
    same: bool = False


@dataclass(frozen=True)
class Patched:
    """A program of which the first operators run patch by patch.

    Attributes:
      original: the program that it computes the same as.
      cut: number of operators of the original program that run patch by patch.
      grid: rows and columns of patches.
      program: its operators.
      pieces: for each operator of the program, where it comes from.
      tensors: for each tensor of the program the one of the original program of which it is a part.
      joined: the tensor with the whole map at the cut. Only the image and the tensors from this one
        on are whole.
    """

    original: Program
    cut: int
    grid: Pair
    program: Program = field(repr=False)
    pieces: tuple[Piece, ...] = field(repr=False)
    tensors: tuple[int, ...] = field(repr=False)
    joined: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return macs(self.program)

    @property
    def overhead(self) -> float:
        """Additional MACs, as a share of those of the original program."""
        before = macs(self.original)
        return (self.macs - before) / before if before else 0.0


def macs(program: Program) -> int:
    """Multiply-accumulates of one inference."""
    return sum(operator.macs for operator in program.operators)


def cuts(program: Program) -> list[int]:
    """The numbers of first operators that can run patch by patch.

    All of them must work on maps of which a part of the output depends on a part of the input, and
    only one map may be read by the operators behind them.
    """
    last_reader = {t: i for i, o in enumerate(program.operators) for t in o.inputs}
    found = []
    for index, operator in enumerate(program.operators[: patchable(program)]):
        made = [_IMAGE, *(o.output for o in program.operators[: index + 1])]
        if [t for t in made if last_reader.get(t, -1) > index] == [operator.output]:
            found.append(index + 1)
    return found


def patchable(program: Program) -> int:
    """The number of first operators that compute a part of a map from parts of maps."""
    counts = range(len(program.operators))
    stops = (i for i in counts if not _keeps_places(program, program.operators[i]))
    return next(stops, len(program.operators))


def _keeps_places(program: Program, operator: Operator) -> bool:
    """Whether a part of the output can be computed from parts of the inputs."""
    shapes = [program.shapes[t] for t in (*operator.inputs, operator.output)]
    if operator.window is None or operator.whole or not operator.inputs:
        return False
    if any(len(shape) != 3 for shape in shapes):
        return False
    return len({shape[:2] for shape in shapes[:-1]}) == 1


def patched(program: Program, cut: int, grid: Pair) -> Patched | None:
    """The program with its first operators run patch by patch.

    Args:
      program: the whole network.
      cut: one of `cuts`.
      grid: rows and columns of patches, which divide the map at the cut as evenly as possible.

    Returns:
      None where the map at the cut has fewer rows or columns than the grid, or where a patch would
      consist of padding alone.
    """
    axes = _parts(program, cut, grid)
    return None if axes is None else _Builder(program, cut, grid, axes).patched()


def overhead(program: Program, cut: int, grid: Pair) -> float | None:
    """`Patched.overhead`, without making the program; None where `patched` returns None."""
    axes = _parts(program, cut, grid)
    if axes is None:
        return None
    # Positions along each axis that all patches together compute of each map.
    sums: list[Counter[int]] = [Counter(), Counter()]
    for counts, parts in zip(sums, axes, strict=True):
        for part in parts:
            for tensor, (first, end) in part.items():
                counts[tensor] += end - first
    more, before = 0, macs(program)
    for operator in program.operators[:cut]:
        positions = sums[0][operator.output] * sums[1][operator.output]
        more += operator.macs * positions // prod(program.shapes[operator.output][:2])
        more -= operator.macs
    return more / before if before else 0.0


def _parts(program: Program, cut: int, grid: Pair) -> _Axes | None:
    """What each row and each column of patches `needs`; None where there is no such grid."""
    sides = program.shapes[program.operators[cut - 1].output][:2]
    if grid[0] > sides[0] or grid[1] > sides[1]:
        return None
    try:
        rows, columns = (
            [needs(program, cut, axis, tile) for tile in tiles(sides[axis], grid[axis])]
            for axis in (0, 1)
        )
    except _OnlyPaddingError:
        return None
    return rows, columns


def tiles(size: int, count: int) -> list[Interval]:
    """An axis in as many parts, which differ by at most one position."""
    bounds = [size * i // count for i in range(count + 1)]
    return list(pairwise(bounds))


def needs(program: Program, cut: int, axis: int, tile: Interval) -> dict[int, Interval]:
    """The part of each map that a patch computes, along one axis.

    Args:
      program, cut: see `patched`.
      axis: 0 for rows, 1 for columns.
      tile: the part of the map at the cut.

    Returns:
      For each tensor that the patch needs, the image among them, the positions that contain all
      those that its readers read.
    """
    first = program.operators[:cut]
    needed = {first[-1].output: tile}
    for operator in reversed(first):
        if operator.output not in needed:
            continue
        for tensor in operator.inputs:
            size = program.shapes[tensor][axis]
            (begin, end), _ = reads(operator, axis, needed[operator.output], size)
            least, greatest = needed.get(tensor, (begin, end))
            needed[tensor] = min(begin, least), max(end, greatest)
    return needed


def reads(operator: Operator, axis: int, interval: Interval, size: int) -> tuple[Interval, Pair]:
    """What an operator reads along an axis for a part of its output.

    Args:
      operator: one with a window.
      axis: 0 for rows, 1 for columns.
      interval: the part of the output.
      size: of the input along the axis.

    Returns:
      The part of the input, and the positions of padding before and after it.
    """
    window = operator.window or POINT
    stride = window.stride[axis]
    begin = interval[0] * stride - window.before[axis]
    last = (interval[1] - 1) * stride - window.before[axis]
    end = last + (window.kernel[axis] - 1) * window.dilation[axis] + 1
    inside = max(begin, 0), min(end, size)
    if inside[0] >= inside[1]:
        raise _OnlyPaddingError
    return inside, (inside[0] - begin, end - inside[1])


class _OnlyPaddingError(Exception):
    """A part of a map would be read that consists of padding alone."""


@dataclass(frozen=True)
class _Part:
    """A part of a map in the patched program: the tensor that holds it, rows and columns."""

    tensor: int
    region: Region


def _sides(region: Region) -> Pair:
    (top, bottom), (left, right) = region
    return bottom - top, right - left


class _Builder:
    """Makes a `Patched`."""

    def __init__(self, program: Program, cut: int, grid: Pair, axes: _Axes):
        self._axes = axes
        self._original, self._cut, self._grid = program, cut, grid
        self._first = program.operators[:cut]
        self._program = Program()
        self._pieces: list[Piece] = []
        self._tensors: list[int] = []
        self._image = self._tensor(_IMAGE, program.shapes[_IMAGE])
        self._repeated: set[int] = set()

    def patched(self) -> Patched:
        """The whole program."""
        shapes, target = self._original.shapes, self._first[-1].output
        rows, columns = self._axes
        strips = [self._joined([self._patch(row, column) for column in columns], 1) for row in rows]
        joined = self._joined(strips, 0).tensor
        moved = {_IMAGE: self._image, target: joined}
        for index, operator in enumerate(self._original.operators[self._cut :], start=self._cut):
            inputs = tuple(moved[tensor] for tensor in operator.inputs)
            output = self._tensor(operator.output, shapes[operator.output])
            moved[operator.output] = output
            self._append(replace(operator, inputs=inputs, output=output), Piece(index))
        return Patched(
            self._original,
            self._cut,
            self._grid,
            self._program,
            tuple(self._pieces),
            tuple(self._tensors),
            joined,
        )

    def _tensor(self, original: int, shape: Shape) -> int:
        self._tensors.append(original)
        return self._program.add_tensor(shape)

    def _append(self, operator: Operator, piece: Piece) -> None:
        self._program.operators.append(operator)
        self._pieces.append(piece)

    def _move(
        self,
        kind: str,
        parts: Sequence[_Part],
        original: int,
        region: Region,
        piece: Piece,
        *values: Constant,
    ) -> _Part:
        """Appends an operator that moves values into a part of one of the original tensors."""
        shape = (*_sides(region), self._original.shapes[original][-1])
        output = self._tensor(original, shape)
        inputs = tuple(part.tensor for part in parts)
        self._append(Operator(kind, inputs, output, values), piece)
        return _Part(output, region)

    def _patch(self, rows: dict[int, Interval], columns: dict[int, Interval]) -> _Part:
        """Appends the operators of one patch; returns its part of the map at the cut."""
        height, width = self._original.shapes[_IMAGE][:2]
        parts = {_IMAGE: _Part(self._image, ((0, height), (0, width)))}
        slices: dict[tuple[int, Region], _Part] = {}
        for index, operator in enumerate(self._first):
            if operator.output in rows:
                region = rows[operator.output], columns[operator.output]
                parts[operator.output] = self._repeat(index, region, parts, slices)
        return parts[self._first[-1].output]

    def _repeat(
        self,
        index: int,
        region: Region,
        parts: dict[int, _Part],
        slices: dict[tuple[int, Region], _Part],
    ) -> _Part:
        """Appends an operator that computes a part of its map.

        Args:
          index: of the operator.
          region: the part of its output.
          parts: the parts of maps that the patch has computed.
          slices: parts of these that other operators of the patch have taken.
        """
        operator = self._first[index]
        height, width = self._original.shapes[operator.inputs[0]][:2]
        rows, above_below = reads(operator, 0, region[0], height)
        columns, beside = reads(operator, 1, region[1], width)
        needed, pads = (rows, columns), (above_below, beside)
        inputs = []
        for tensor in operator.inputs:
            part = parts[tensor]
            if part.region != needed:
                known = slices.get((tensor, needed))
                part = slices[tensor, needed] = known or self._sliced(part, needed)
            inputs.append(part)
        same = pads != _NO_PADS and _pads_as_same(operator, needed, region, pads)
        if pads != _NO_PADS and not same:
            kind = "PADV2" if operator.kind == "MAX_POOL_2D" else "PAD"
            inputs = [self._padded(kind, part, pads) for part in inputs]
        shape = self._original.shapes[operator.output]
        if _is_border(self._original, operator):  # what is left of it has just been added
            return _Part(inputs[0].tensor, region)
        output = self._tensor(operator.output, (*_sides(region), shape[-1]))
        repeated = replace(
            operator,
            inputs=tuple(part.tensor for part in inputs),
            output=output,
            # The file holds the constants once.
            constants=() if index in self._repeated else operator.constants,
            macs=operator.macs * prod(_sides(region)) // prod(shape[:2]),
        )
        self._repeated.add(index)
        self._append(repeated, Piece(index, same=same))
        return _Part(output, region)

    def _sliced(self, part: _Part, region: Region) -> _Part:
        begin = region[0][0] - part.region[0][0], region[1][0] - part.region[1][0]
        original = self._tensors[part.tensor]
        channels = self._original.shapes[original][-1]
        bounds = integers(0, *begin, 0), integers(1, *_sides(region), channels)
        return self._move("SLICE", [part], original, region, Piece(begin=begin), *bounds)

    def _padded(self, kind: str, part: _Part, pads: tuple[Pair, Pair]) -> _Part:
        (top, bottom), (left, right) = part.region
        region = (top - pads[0][0], bottom + pads[0][1]), (left - pads[1][0], right + pads[1][1])
        constants = [integers(0, 0, *pads[0], *pads[1], 0, 0)]
        if kind == "PADV2":  # the least value, which no maximum chooses
            constants.append(Constant(1, content=(-128,)))
        original = self._tensors[part.tensor]
        return self._move(kind, [part], original, region, Piece(pads=pads), *constants)

    def _joined(self, parts: Sequence[_Part], axis: int) -> _Part:
        """Patches that lie beside one another (axis 1) or strips below one another (axis 0)."""
        if len(parts) == 1:
            return parts[0]
        first, last = parts[0].region, parts[-1].region
        region = (first[0][0], last[0][1]), (first[1][0], last[1][1])
        target = self._first[-1].output
        return self._move("CONCATENATION", parts, target, region, Piece(axis=axis))


def _is_border(program: Program, operator: Operator) -> bool:
    """Whether an operator adds rows and columns and does nothing else."""
    shapes = program.shapes[operator.inputs[0]], program.shapes[operator.output]
    return operator.kind == "PAD" and shapes[0][-1] == shapes[1][-1]


_NO_PADS = ((0, 0), (0, 0))


def _pads_as_same(
    operator: Operator, needed: Region, region: Region, pads: tuple[Pair, Pair]
) -> bool:
    """Whether an operator with ``same`` padding adds just these borders to its input."""
    window = operator.window or POINT
    for axis, (size, out) in enumerate(zip(_sides(needed), _sides(region), strict=True)):
        kernel, stride, dilation = (
            getattr(window, name)[axis] for name in ("kernel", "stride", "dilation")
        )
        if same_padding(size, out, kernel, stride, dilation) != pads[axis]:
            return False
        if -(-size // stride) != out:
            return False
    return operator.kind != "PAD"
