"""Instructions of a network on a processor, estimated from its lowered form.

On a Cortex-M they are those of the network in C: ``elite export --target=c`` makes of each operator
a call of a kernel (``export/packages/c``). On a Cortex-A they are those of LiteRT with XNNPACK. How
often the loops of a kernel run follows from the shapes: `calls` says so. What a turn of each loop
takes was counted in an emulator and fitted: ``cortex_m4.json`` and the like hold these instructions
by kernel and loop, and the command that wrote them. docs/firmware.md and docs/boards.md have the
errors. The values of weights and images hardly matter, and the estimate does not know them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from efficientnet_elite import registry
from efficientnet_elite.device import kernel_loops, tables, vector_loops, xnnpack_loops
from efficientnet_elite.device.kernel_loops import TABLE, Call, Layer, Loops
from efficientnet_elite.device.lowering import Operator, Program


@dataclass(frozen=True)
class Core:
    """A processor whose instructions are estimated.

    Attributes:
      name: as `--latency_target` and the studies name it.
      description: its name in texts.
      kernels: kind of an operator to the calls of kernels that it makes.
      in_c: whether it runs the network in C, otherwise LiteRT.
    """

    name: str
    description: str
    kernels: Mapping[str, Loops]
    in_c: bool = True

    @property
    def metric(self) -> str:
        """The cost metric of these instructions."""
        return f"cortex_{self.name}_instructions"

    @property
    def fitted(self) -> str:
        """The file with what a turn of each loop takes."""
        return f"cortex_{self.name}.json"


CORES = registry.table(
    Core("m4", "Cortex-M4", kernel_loops.KERNELS),
    Core("m55", "Cortex-M55", {**kernel_loops.KERNELS, **vector_loops.KERNELS}),
    Core("a53", "Cortex-A53", xnnpack_loops.KERNELS, in_c=False),
    Core("a76", "Cortex-A76", xnnpack_loops.KERNELS, in_c=False),
)
MICROCONTROLLERS: Mapping[str, Core] = {name: core for name, core in CORES.items() if core.in_c}
"""Those that run the network in C."""


def estimate(program: Program, core: Core) -> float:
    """Instructions of one inference.

    Raises:
      ValueError: an operator has no kernel, or none that was measured.
    """
    fitted = _fitted(core.fitted)
    total = 0.0
    for call in calls(program, core):
        if call.kernel not in fitted:
            raise ValueError(f"the instructions of {call.kernel} were not measured")
        total += instructions(call, fitted[call.kernel])
    return total


def instructions(call: Call, fitted: Mapping[str, float]) -> float:
    """Instructions of a call, from those of one turn of each of its kernel's loops.

    Raises:
      ValueError: a loop was not measured.
    """
    total = 0.0
    for loop, count in call.counts.items():
        if count and loop not in fitted:
            raise ValueError(f"the instructions of {loop!r} in {call.kernel} were not measured")
        total += count * fitted.get(loop, 0.0)
    return total


@cache
def _fitted(file: str) -> Mapping[str, Mapping[str, float]]:
    """Kernel to loop to instructions of one turn."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    return json.loads(text)["kernels"]


def calls(program: Program, core: Core) -> list[Call]:
    """The calls of kernels in the order of execution, with the loops that a core runs.

    Raises:
      ValueError: an operator has no kernel.
    """
    found = []
    layers = _layers(program) if core.in_c else map(Layer, program.operators)
    for layer in layers:
        kind = layer.operator.kind
        if kind not in core.kernels:
            raise ValueError(f"no instructions are known for {kind}")
        found += core.kernels[kind](program.shapes, layer)
    return [replace(call, counts={"call": 1, **call.counts}) for call in found]


def _layers(program: Program) -> list[Layer]:
    """The operators that call kernels: tables joined to convolutions, no changes of shape."""
    steps = [
        tables.Step(
            operator.kind,
            operator.inputs,
            (operator.output,),
            single=all(constant.values == 1 for constant in operator.constants),
        )
        for operator in program.operators
    ]
    last = len(program.shapes) - 1  # the tensor that the last operator writes
    sizes = program.sizes
    layers = []
    for kept in tables.plan(steps, last, lambda tensor: sizes[tensor]).kept:
        operator = program.operators[kept.position]
        if kept.alone and kept.source is not None and kept.made is not None:
            operator = Operator(TABLE, (kept.source,), kept.made)
        layers.append(Layer(operator, table=kept.made is not None and not kept.alone))
    return layers
