"""Makes an int8 file run its first layers patch by patch, as `elite export --patches` asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from efficientnet_elite.device import memory, patch_choice, patches
from efficientnet_elite.device.lowering import Program
from efficientnet_elite.device.patches import Patched
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.packages import micro, scratch
from efficientnet_elite.export.packages.c import graph as graphs
from efficientnet_elite.export.packages.c import simplify
from efficientnet_elite.export.packages.c.graph import Graph
from efficientnet_elite.export.packages.c.program import compiled
from efficientnet_elite.export.runtimes import isolated, runtime, tflm
from efficientnet_elite.export.runtimes.isolated import Arrays

from .program import of_graph
from .request import C, Request
from .rewriting import rewritten

_MEASURED = 20  # plans of which the arena is measured before giving up
_CHECKED_IMAGES = 2


@dataclass(frozen=True)
class Patching:
    """A file that runs patch by patch, and what the sidecar says of it."""

    content: bytes
    record: dict[str, Any]


def patched(model: bytes, asked: Request) -> Patching:
    """Rewrites an int8 file so that its first layers run patch by patch.

    The new file is run on noise here, and must compute the same in every byte.

    Args:
      model: content of a .tflite file that is int8 throughout.
      asked: the patches. If they are to be chosen and the file fits as it is, it stays so.

    Raises:
      UserError: the network cannot run in such patches, or patches do not make the arena smaller,
        or not small enough.
    """
    graph = graphs.read(model)
    program, tensors = of_graph(graph)
    arena = _arena(model, graph, program, asked.arena)
    limit = arena - 1 if asked.max_arena_kb is None else int(asked.max_arena_kb * 1000)
    if arena <= limit:
        return Patching(model, _record(model, model, program, None, (arena, arena), asked))
    _check_cuts(program)
    least = None
    for plan in _plans(graph, program, tensors, asked, limit):
        content = rewritten(model, plan, tensors)
        smaller = _arena(content, graphs.read(content), plan.program, asked.arena)
        least = min(smaller, least or smaller)
        if smaller <= limit:
            _check_equal(model, content)
            record = _record(model, content, program, plan, (arena, smaller), asked)
            return Patching(content, record)
    reached = "" if least is None else f"; the least is {least / 1000:,.1f} kB"
    if asked.grid is not None:
        rows, columns = asked.grid
        raise UserError(
            f"{rows}x{columns} patches do not make the arena of {arena / 1000:,.1f} kB smaller"
            f"{reached}: use fewer or more of them, or a larger image"
        )
    raise UserError(
        f"no patches bring the arena from {arena / 1000:,.1f} to {asked.max_arena_kb:g} kB"
        f"{reached}: allow more, or use a smaller image"
    )


def _check_cuts(program: Program) -> None:
    """UserError, naming the operator in the way, if there is no place for a cut."""
    if patches.cuts(program):
        return
    stops = program.operators[patches.patchable(program) :]
    reason = f"its {stops[0].kind} needs whole maps, and " if stops else ""
    raise UserError(
        f"the network cannot run in patches: {reason}no single map leads from its first layers to "
        "the others"
    )


def _plans(
    graph: Graph, program: Program, tensors: list[int], asked: Request, limit: int
) -> Iterator[Patched]:
    """Plans in the order in which they are tried; the last ones only to say what is possible."""
    planned, places, tail, slack = program, tensors, memory.tail_bytes, 1.01
    if asked.arena == C:
        # Generated code has no records of operators, and applies functions of values in place.
        planned, places = of_graph(simplify.simplified(graph))
        tail, slack = _no_tail, 1.1

    def whole(plan: Patched) -> Patched | None:
        """A plan of the simplified graph as one of the file."""
        last = places[planned.operators[plan.cut - 1].output]
        cuts = [
            cut
            for cut in patches.cuts(program)
            if tensors[program.operators[cut - 1].output] == last
        ]
        return patches.patched(program, cuts[0], plan.grid) if cuts else None

    grids = patch_choice.GRIDS if asked.grid is None else (asked.grid,)
    chosen: Iterator[Patched | None] = iter(())
    if asked.grid is None:
        # Some fit that are estimated to need a little more, and may do with less work.
        chosen = chain.from_iterable(
            islice(patch_choice.fitting(planned, most, tail), _MEASURED)
            for most in (slack * limit, limit)
        )
    # Found when it is asked for, since that takes seconds.
    smallest = (patch_choice.smallest(planned, grids, tail=tail) for _ in range(1))
    tried = set()
    for plan in chain(chosen, smallest):
        if plan is None or (plan.cut, plan.grid) in tried:
            continue
        tried.add((plan.cut, plan.grid))
        if made := whole(plan):
            yield made


def _no_tail(program: Program) -> int:
    return 0


def _arena(model: bytes, graph: Graph, program: Program, kind: str) -> int:
    """Bytes of the arena that a package has; of TFLM estimated where it is not installed."""
    if kind == C:
        return compiled(model).arena_bytes
    if tflm.available():
        return micro.arena_bytes(model, graph)
    return memory.arena_bytes(program) + scratch.cmsis_nn_bytes(graph)


def _check_equal(model: bytes, content: bytes) -> None:
    """UserError where two files differ in a byte of what LiteRT computes from noise."""
    files = {"model": model, "content": content}
    arguments = {name: np.frombuffer(file, np.uint8) for name, file in files.items()}
    if not isolated.call(_compare, arguments)["equal"]:
        raise UserError(
            "the network computes something else in patches, which is an error of this program: "
            "leave --patches out, and report the network"
        )


def _compare(arguments: Arrays) -> Arrays:
    """What the child process of `_check_equal` does."""
    runners = [runtime.Runner(arguments[name].tobytes()) for name in ("model", "content")]
    shape = _CHECKED_IMAGES, *runners[0].input.shape[1:]
    images = np.random.default_rng(0).integers(-128, 128, shape, np.int8)
    pairs = ([runner.infer(image) for runner in runners] for image in images)
    return {"equal": np.array(all(np.array_equal(*pair) for pair in pairs))}


def _record(
    model: bytes,
    content: bytes,
    program: Program,
    plan: Patched | None,
    arenas: tuple[int, int],
    asked: Request,
) -> dict[str, Any]:
    """What the sidecar says of the patches."""
    macs = patches.macs(program)
    cut = None
    if plan is not None:
        shape = program.shapes[program.operators[plan.cut - 1].output]
        cut = {"operators": plan.cut, "shape": list(shape)}
    return {
        "grid": plan and list(plan.grid),
        "cut": cut,
        "arena": asked.arena,
        "arena_measured": asked.arena == C or tflm.available(),
        "arena_bytes": {"whole": arenas[0], "patched": arenas[1]},
        "macs": {"whole": macs, "patched": macs if plan is None else plan.macs},
        "overhead": 0.0 if plan is None else plan.overhead,
        "file_bytes": {"whole": len(model), "patched": len(content)},
    }
