"""Which operators of a network in C become tables of 256 values.

An operator is a table if each of its output values depends on one value of one tensor: LOGISTIC,
for example, or MUL of a tensor with its own LOGISTIC (swish). A chain of such operators is one
table. Where nothing else reads the tensor before the chain, the operator that writes this tensor
applies the table. The C code (``export/packages/c/simplify.py``) and the estimate of its
instructions (`instructions`) both follow this rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

UNARY = ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "QUANTIZE", "RELU6", "LEAKY_RELU")
BINARY = ("ADD", "SUB", "MUL")
# Operators that only give a tensor another shape.
RESHAPING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
# Operators that can apply a table to their output.
_APPLYING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class Step:
    """An operator, as far as it matters here.

    Attributes:
      kind: its name in TFLite.
      inputs: tensors that it reads, without constants.
      outputs: tensors that it writes.
      single: whether each constant that it reads is a single value.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    single: bool


@dataclass(frozen=True)
class Kept:
    """A step that remains, or a table.

    Attributes:
      position: of the step; that of the last step of a table that is looked up on its own.
      source: the tensor whose values are looked up; None without a table.
      made: the tensor that a table makes of them; None without a table.
      alone: whether the table is looked up on its own, and not by the step that writes `source`.
    """

    position: int
    source: int | None = None
    made: int | None = None
    alone: bool = False


@dataclass(frozen=True)
class Plan:
    """What remains of a network.

    Attributes:
      kept: in the order of execution.
      same_as: tensor to the one in whose memory it lies, because it only has another shape.
    """

    kept: tuple[Kept, ...]
    same_as: Mapping[int, int]


def plan(steps: Sequence[Step], output: int, size: Callable[[int], int]) -> Plan:
    """Joins the steps of a network to tables, and leaves out those that only reshape.

    Args:
      steps: in the order of execution.
      output: the network's result.
      size: the number of values of a tensor.
    """
    same_as: dict[int, int] = {}
    tables: dict[int, tuple[int, int]] = {}  # tensor: the one it is a function of, position
    kept: list[Kept] = []
    for position, step in enumerate(steps):
        inputs = tuple(same_as.get(tensor, tensor) for tensor in step.inputs)
        if step.kind in RESHAPING:
            same_as[step.outputs[0]] = inputs[0]
            continue
        if step.kind in (*UNARY, *BINARY) and step.single:
            roots = {tables[tensor][0] if tensor in tables else tensor for tensor in inputs}
            sizes = {size(tensor) for tensor in (*inputs, step.outputs[0])}
            if len(roots) == len(sizes) == 1:
                tables[step.outputs[0]] = roots.pop(), position
                continue
        kept.append(Kept(position))
    read = [tensor for entry in kept for tensor in steps[entry.position].inputs]
    needed = {same_as.get(tensor, tensor) for tensor in (*read, output)}
    made = {tensor: entry for tensor, entry in tables.items() if tensor in needed}
    sources = [source for source, _ in made.values()]
    for tensor, (source, position) in made.items():
        writers = (i for i, entry in enumerate(kept) if source in steps[entry.position].outputs)
        at = next(writers, None) if source not in needed and sources.count(source) == 1 else None
        if at is not None and steps[kept[at].position].kind in _APPLYING:
            kept[at] = Kept(kept[at].position, source, tensor)
        else:
            kept.append(Kept(position, source, tensor, alone=True))
    return Plan(tuple(sorted(kept, key=lambda entry: entry.position)), same_as)
