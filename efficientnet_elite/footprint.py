"""Size of the int8 file and arena of TFLM, estimated from a network's operators.

What is known exactly is counted: weights, biases, quantization parameters, the memory plan, TFLM's
records of tensors and operators. The rest - names and tables in the flatbuffer, TFLM's options of
each operator - is fitted to converted files (`benchmarks.estimates` with ``--fit``;
docs/metrics.md).

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from efficientnet_elite import memory
from efficientnet_elite.lowering import Program

_SCALE = 12  # a quantization's float32 scale and int64 zero point, in the file
_FACTOR = 8  # a channel's int32 multiplier and int32 shift, in the arena
_TENSOR, _OPERATOR = 24, 64  # TFLM's TfLiteEvalTensor and NodeAndRegistration on x86-64

# Fitted: names and tables in the file, in bytes: of any file, an operator (with the tensor that it
# writes), a constant.
_FILE, _FILE_OPERATOR, _FILE_CONSTANT = 2057, 142, 250

# Fitted: what TFLM keeps in bytes: of any network, an operator of a kind, of another kind.
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
    """Estimated size of the int8 file."""
    tables = _FILE_OPERATOR * len(program.operators) + _FILE_CONSTANT * len(program.constants)
    return known_file_bytes(program) + _FILE + tables


def arena_bytes(program: Program) -> int:
    """Estimated arena of TFLM as on x86-64: the greedy plan, and what stays."""
    kept = (_ARENA_OPERATOR.get(o.kind, _ARENA_OTHER) for o in program.operators)
    return head_bytes(program) + known_tail_bytes(program) + _ARENA + sum(kept)


def head_bytes(program: Program) -> int:
    """Activations and scratch memory, packed as TFLM packs them."""
    buffers = memory.activations(program) + memory.scratch(program)
    return memory.height(buffers, memory.greedy(buffers))


def known_file_bytes(program: Program) -> int:
    """Constants and their quantization parameters."""
    scales = sum(constant.scales for constant in program.constants)
    return program.constant_bytes() + _SCALE * scales


def known_tail_bytes(program: Program) -> int:
    """TFLM's records of tensors and operators, and requantization factors."""
    tensors = len(program.shapes) + len(program.constants)
    channels = sum(operator.channels for operator in program.operators)
    return tensors * _TENSOR + len(program.operators) * _OPERATOR + channels * _FACTOR
