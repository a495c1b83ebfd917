"""A model that Vela has compiled, for the microcontroller package: TFLM calls the Ethos-U.

TFLM's operator for it needs Arm's driver, so that nothing of this can be run here: the arena is
computed from the plan that Vela puts into the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, rewrite
from efficientnet_elite.export.runtimes import tflm

from . import ethos_u, scratch
from .c.graph import Graph

METHOD = "AddEthosU"
"""Of TFLM's resolver: registers the operator that runs on the accelerator."""

_MEMORY_MODE = "Shared_Sram"  # the arena in SRAM, weights in flash, which is TFLM's memory, too
_PLAN = b"OfflineMemoryAllocation"
_HEADER = 3  # version, subgraph, number of tensors
_ALIGNMENT = 16

SECTION = """
## The accelerator

Vela $vela compiled the model for $accelerator ($system, $memory_mode): $cycles cycles, which are
$milliseconds ms at $megahertz MHz, by Vela's estimate. It takes $operator_share of the operators
and $mac_share of the multiply-accumulates. Left to the processor: $left.

- Build TFLM with Arm's driver (in TFLM's makefile `CO_PROCESSOR=ethos_u`, with
  `OPTIMIZED_KERNEL_DIR=cmsis_nn`), and call `ethosu_init()` before `$net::Begin()`. Without the
  driver TFLM has no such operator, and `Begin()` returns false.
- The arena must lie in SRAM, and the model where the accelerator can read it.
- Nothing of this was run: no such device, nor its model, was at hand. The arena is computed: the
  memory that Vela planned, and TFLM's records of the model that was not compiled.
"""


@dataclass(frozen=True)
class Compiled:
    """A model for TFLM and an accelerator.

    Attributes:
      content: of the .tflite file that Vela wrote.
      report: Vela's estimates.
      operators: operators that stay on the processor, name to number of occurrences.
      arena_bytes: size of TFLM's arena, computed.
      persistent_bytes: the part of it that stays in use between inferences, at most.
    """

    content: bytes
    report: ethos_u.Report
    operators: dict[str, int]
    arena_bytes: int
    persistent_bytes: int


def compiled(model: bytes, graph: Graph, accelerator: str) -> Compiled:
    """Compiles a model.

    Args:
      model: content of an int8 .tflite file.
      graph: what it contains.
      accelerator: one of `ethos_u.ACCELERATORS`.

    Raises:
      UserError: Vela or TFLM is not installed, or cannot take the model; or the accelerator would
        run nothing of it.
    """
    content, report = ethos_u.compile_model(model, accelerator, memory_mode=_MEMORY_MODE)
    if report.operator_share <= 0:
        raise UserError(f"{accelerator} can run no operator of the model: leave --accelerator out")
    persistent = tflm.allocation(model).tail
    kernels = scratch.cmsis_nn_bytes(graph) if report.cpu_operators else 0
    arena = planned_bytes(content) + persistent + kernels
    return Compiled(
        content=content,
        report=report,
        operators=report.cpu_operators,
        arena_bytes=-(-arena // _ALIGNMENT) * _ALIGNMENT,
        persistent_bytes=persistent,
    )


def planned_bytes(content: bytes) -> int:
    """The memory for tensors that the plan in a compiled file takes, in bytes.

    Raises:
      UserError: the file has no plan.
    """
    tree = rewrite.tree_of(content)
    plans = [tree.buffers[each.buffer].data for each in tree.metadata or [] if each.name == _PLAN]
    if not plans:
        raise UserError("Vela planned no memory: install another version, pip install ethos-u-vela")
    offsets = np.frombuffer(bytes(plans[0]), np.int32)[_HEADER:].tolist()
    tensors = inspect.read(content).tensors
    sizes = [prod(tensor.shape) for tensor in tensors]  # of int8 and uint8; constants have no place
    return max(o + size for o, size in zip(offsets, sizes, strict=False) if o >= 0)


def section(values: Compiled) -> dict[str, object]:
    """The values of `SECTION`."""
    report = values.report
    return {
        "vela": report.vela,
        "accelerator": report.accelerator,
        "system": report.system,
        "memory_mode": report.memory_mode,
        "cycles": f"{report.cycles:,.0f}",
        "milliseconds": f"{report.milliseconds:.3f}",
        "megahertz": f"{report.megahertz:.0f}",
        "operator_share": f"{100 * report.operator_share:.1f} %",
        "mac_share": f"{100 * report.mac_share:.1f} %",
        "left": ", ".join(report.cpu_layers) or "nothing",
    }
