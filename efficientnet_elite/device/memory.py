"""Memory and file size of a network in int8, from its lowered form (`device.lowering`).

An activation tensor is live from the operator that writes it to the last operator that reads it,
both included; no tensor is overwritten in place. The peak is the largest sum of the sizes of the
tensors that are live at the same time. No memory plan for this order of execution can need less.

TFLM (TensorFlow Lite for Microcontrollers) allocates one arena. Its head holds activations and
scratch memory, packed greedily; its tail holds records of tensors and operators. The head is
computed exactly. The tail and the size of the file are estimated, with constants that were fitted
to files of all families (`benchmarks/studies/estimates.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_elite.device.lowering import Program

ALIGNMENT = 16  # of TFLM's buffers, in bytes

# Bytes of a quantization scale (float32) with its zero point (int64) in the file.
_SCALE_BYTES = 12
# Bytes of the requantization multiplier (int32) and shift (int32) of a channel in the arena.
_CHANNEL_BYTES = 8
# Bytes of TFLM's records TfLiteEvalTensor and NodeAndRegistration on x86-64.
_TENSOR_BYTES, _OPERATOR_BYTES = 24, 64

# Fitted: bytes of names and tables in the file: in every file, for each operator with the tensor
# that it writes, and for each constant.
_FILE, _FILE_OPERATOR, _FILE_CONSTANT = 2057, 142, 250

# Fitted: further bytes in the tail of TFLM's arena: for every network, for each operator that
# _ARENA_OPERATOR lists, and for each other operator.
_ARENA, _ARENA_OTHER = 98, 50
_ARENA_OPERATOR = {
    "ADD": 17,
    "AVERAGE_POOL_2D": 53,
    "CONCATENATION": 74,
    "CONV_2D": 141,
    "DEPTHWISE_CONV_2D": 109,
    "FULLY_CONNECTED": 98,
    "HARD_SWISH": 56,
    "LOGISTIC": 36,
    "MAX_POOL_2D": 84,
    "MEAN": 34,
    "MUL": 30,
    "PAD": 47,
    "RELU": 42,
    "RESHAPE": 56,
    "STRIDED_SLICE": 84,
}


def file_bytes(program: Program) -> int:
    """Estimated size of the int8 file in bytes."""
    tables = _FILE_OPERATOR * len(program.operators) + _FILE_CONSTANT * len(program.constants)
    return known_file_bytes(program) + _FILE + tables


def known_file_bytes(program: Program) -> int:
    """Bytes of the constants in the file and of their quantization parameters."""
    scales = sum(constant.scales for constant in program.constants)
    return program.constant_bytes() + _SCALE_BYTES * scales


def arena_bytes(program: Program) -> int:
    """Estimated size in bytes of TFLM's arena on x86-64, head and tail."""
    return head_bytes(program) + tail_bytes(program)


def tail_bytes(program: Program) -> int:
    """Estimated size in bytes of the tail of TFLM's arena on x86-64."""
    fitted = sum(_ARENA_OPERATOR.get(o.kind, _ARENA_OTHER) for o in program.operators)
    return known_tail_bytes(program) + _ARENA + fitted


def head_bytes(program: Program) -> int:
    """Size in bytes of the head of TFLM's arena: activations and scratch memory."""
    buffers = activation_buffers(program) + scratch_buffers(program)
    return plan_bytes(buffers, greedy_offsets(buffers))


def known_tail_bytes(program: Program) -> int:
    """Bytes in the tail of the arena for records of tensors and operators, and requantization."""
    tensors = len(program.shapes) + len(program.constants)
    channels = sum(operator.channels for operator in program.operators)
    return (
        tensors * _TENSOR_BYTES
        + len(program.operators) * _OPERATOR_BYTES
        + channels * _CHANNEL_BYTES
    )


@dataclass(frozen=True)
class Buffer:
    """Memory that is needed during a range of steps.

    Attributes:
      size: in bytes.
      first: the first step.
      last: the last step, included.
    """

    size: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        """Whether both buffers are needed at some step."""
        return self.first <= other.last and other.first <= self.last


def activation_buffers(program: Program) -> list[Buffer]:
    """The activation tensors of a program as buffers.

    Operator i, counted from 0, runs at step i + 1. The image is needed from step 0, the result of
    the last operator at the last step.
    """
    first = dict.fromkeys(range(len(program.shapes)), 0)
    last = dict(first)
    for step, operator in enumerate(program.operators, start=1):
        first[operator.output] = last[operator.output] = step
        for tensor in operator.inputs:
            last[tensor] = step
    return [Buffer(size, first[i], last[i]) for i, size in enumerate(program.sizes)]


def scratch_buffers(program: Program) -> list[Buffer]:
    """The scratch memory of TFLM's kernels, which each need it while they run."""
    steps = enumerate(program.operators, start=1)
    return [Buffer(operator.scratch, step, step) for step, operator in steps if operator.scratch]


def peak_bytes(buffers: Iterable[Buffer]) -> int:
    """The largest sum of the sizes of buffers that are needed at the same step; 0 without any."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        changes[buffer.first] = changes.get(buffer.first, 0) + buffer.size
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - buffer.size
    peak = live = 0
    for step in sorted(changes):
        live += changes[step]
        peak = max(peak, live)
    return peak


def greedy_offsets(buffers: Sequence[Buffer]) -> list[int]:
    """Offset in bytes of every buffer, as TFLM's GreedyMemoryPlanner places them.

    Sizes are rounded up to multiples of 16 bytes. Buffers are placed from the largest to the
    smallest, each into the lowest gap between those that overlap with it and are already placed. In
    a tie the later buffer is placed first, because TFLM fills its table from the end.
    """
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for index in sorted(range(len(buffers)), key=lambda i: (-_aligned(buffers[i].size), -i)):
        offset = 0
        for other in sorted(placed, key=lambda i: offsets[i]):
            if not buffers[other].overlaps(buffers[index]):
                continue
            if offsets[other] - offset >= _aligned(buffers[index].size):
                break
            offset = max(offset, offsets[other] + _aligned(buffers[other].size))
        offsets[index] = offset
        placed.append(index)
    return offsets


def plan_bytes(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Size in bytes of the memory that buffers at these offsets take; 0 without buffers."""
    ends = (o + _aligned(b.size) for b, o in zip(buffers, offsets, strict=True))
    return max(ends, default=0)


def _aligned(size: int) -> int:
    """The size, rounded up to a multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
