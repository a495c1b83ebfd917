"""A network as calls of kernels on planned memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from efficientnet_elite.errors import UserError

from . import graph as graphs
from . import memory, simplify
from .graph import Graph
from .more_steps import MAKERS
from .steps import Array, Step


@dataclass(frozen=True)
class Program:
    """What the generated code does.

    Attributes:
      graph: the simplified graph.
      steps: the calls of kernels in order.
      offsets: tensor to its offset in the arena in bytes.
      scratch: for each step the offset of its scratch memory; 0 where it needs none.
      arena_bytes: size of the arena.
      bound_bytes: what no plan of the same steps can do without.
    """

    graph: Graph
    steps: tuple[Step, ...]
    offsets: dict[int, int]
    scratch: tuple[int, ...]
    arena_bytes: int
    bound_bytes: int

    @property
    def arrays(self) -> list[Array]:
        """The constant arrays; of those with equal content only the first."""
        unique: dict[tuple[str, bytes], Array] = {}
        for step in self.steps:
            for value in (*step.fields.values(), *step.inputs):
                if isinstance(value, Array):
                    unique.setdefault(key(value), value)
        return list(unique.values())

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constant arrays: weights, biases and factors, tables."""
        return sum(array.bytes for array in self.arrays)


def key(array: Array) -> tuple[str, bytes]:
    """What equal arrays have in common."""
    return array.type, array.values.tobytes()


def compiled(model: bytes) -> Program:
    """Compiles a .tflite file.

    Args:
      model: its content.

    Raises:
      UserError: the file is not int8 throughout, or contains an operator that there is no kernel
        for; the message names it.
    """
    graph = graphs.read(model)
    known = {*MAKERS, *simplify.KINDS}
    if unknown := sorted({o.kind for o in graph.operators} - known):
        raise UserError(
            f"there is no C kernel for {', '.join(unknown)}: build the network from other layers, "
            "or use --target=micro"
        )
    graph = simplify.simplified(graph)
    steps = tuple(
        _in_memory(graph, step) for o in graph.operators for step in MAKERS[o.kind](graph, o)
    )
    if not any(step.output == graph.output for step in steps):
        raise UserError("the model computes nothing: its output is its input or a constant")
    first: dict[int, int] = {graph.input: 0}
    last: dict[int, int] = {graph.input: 0, graph.output: len(steps)}
    for number, step in enumerate(steps, start=1):
        first.setdefault(step.output, number)
        last[step.output] = max(last.get(step.output, 0), number)
        for source in step.inputs:
            if isinstance(source, int):
                last[source] = number
    last[graph.output] = len(steps)
    tensors = list(first)
    buffers = [memory.Buffer(graph.tensors[t].size, first[t], last[t]) for t in tensors]
    overlaps = {
        (tensors.index(source), tensors.index(step.output)): before
        for number, step in enumerate(steps, start=1)
        for source, before in step.overlaps.items()
        if last[source] == first[step.output] == number
    }
    needing = [(number, step) for number, step in enumerate(steps, start=1) if step.scratch]
    buffers += [memory.Buffer(step.scratch, number, number) for number, step in needing]
    plan = memory.plan(buffers, overlaps)
    scratch = dict(zip((n for n, _ in needing), plan.offsets[len(tensors) :], strict=True))
    return Program(
        graph=graph,
        steps=steps,
        offsets=dict(zip(tensors, plan.offsets, strict=False)),
        scratch=tuple(scratch.get(number, 0) for number in range(1, len(steps) + 1)),
        arena_bytes=plan.size,
        bound_bytes=memory.lower_bound(buffers, overlaps),
    )


def _in_memory(graph: Graph, step: Step) -> Step:
    """A step that names the tensors in whose memory its inputs lie."""
    inputs = tuple(i if isinstance(i, Array) else graph.memory_of(i) for i in step.inputs)
    overlaps = {graph.memory_of(tensor): before for tensor, before in step.overlaps.items()}
    return replace(step, inputs=inputs, overlaps=overlaps)
