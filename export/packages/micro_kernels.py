"""Kernels of microcontroller packages that are faster than TensorFlow Lite Micro's, to the byte.

TFLM evaluates LOGISTIC for each value in fixed-point numbers, and CMSIS-NN has neither MEAN nor a
MUL of a map by one value for each channel. A package replaces their function ``invoke`` by one
that calls the kernels of the C package (`c`); where an operator is of another kind, TFLM's own is
called. The kernels depend on TFLM's records of these operators, such as ``OpDataMul``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .c import arithmetic, simplify
from .c.graph import Graph

LOGISTIC = """
// Tables of the 256 values of the logistic function for the scales of this network.
struct LogisticTable {
  std::int32_t zero_point, multiplier, shift;
  std::int8_t values[256];
};

constexpr LogisticTable kLogisticTables[] = {
$tables
};

TfLiteStatus (*logistic)(TfLiteContext*, TfLiteNode*) = nullptr;  // TFLM's kernel

TfLiteStatus Logistic(TfLiteContext* context, TfLiteNode* node) {
  const auto* data = static_cast<const tflite::OpDataLogistic*>(node->user_data);
  const TfLiteEvalTensor* input = tflite::micro::GetEvalInput(context, node, 0);
  TfLiteEvalTensor* output = tflite::micro::GetEvalOutput(context, node, 0);
  if (input->type != kTfLiteInt8) return logistic(context, node);
  for (const LogisticTable& table : kLogisticTables) {
    if (table.zero_point != data->input_zero_point ||
        table.multiplier != data->input_multiplier || table.shift != data->input_left_shift) {
      continue;
    }
    std::int32_t size = 1;
    for (int i = 0; i < input->dims->size; ++i) size *= input->dims->data[i];
    const ${net}_nn_table_layer layer = {size, table.values};
    ${net}_nn_table(&layer, input->data.int8, output->data.int8);
    return kTfLiteOk;
  }
  return logistic(context, node);
}
"""

MEAN = """
TfLiteStatus (*mean)(TfLiteContext*, TfLiteNode*) = nullptr;  // TFLM's kernel

// Over height and width.
TfLiteStatus Mean(TfLiteContext* context, TfLiteNode* node) {
  const auto* data = static_cast<const tflite::OpDataReduce*>(node->user_data);
  const TfLiteEvalTensor* input = tflite::micro::GetEvalInput(context, node, 0);
  const TfLiteEvalTensor* axis = tflite::micro::GetEvalInput(context, node, 1);
  TfLiteEvalTensor* output = tflite::micro::GetEvalOutput(context, node, 0);
  const int* size = input->dims->data;
  if (input->type != kTfLiteInt8 || input->dims->size != 4 || size[0] != 1 ||
      axis->dims->size != 1 || axis->dims->data[0] != 2 ||
      axis->data.i32[0] * axis->data.i32[1] != 2 || axis->data.i32[0] < 0) {
    return mean(context, node);
  }
  const std::int32_t count = size[1] * size[2];
  // TFLM divides the multiplier by the count, with as many more bits as fit.
  int more = 0;
  while (more < 31 && (count >> (more + 1)) != 0) ++more;
  if (more > 31 + data->shift) more = 31 + data->shift;
  const auto multiplier = static_cast<std::int32_t>(
      (static_cast<std::int64_t>(data->multiplier) << more) / count);
  const ${net}_nn_reduce_layer layer = {
      1, count, size[3], data->input_zp, data->output_zp, multiplier, data->shift - more};
  ${net}_nn_reduce(&layer, input->data.int8, output->data.int8);
  return kTfLiteOk;
}
"""

MUL = """
TfLiteStatus (*mul)(TfLiteContext*, TfLiteNode*) = nullptr;  // TFLM's kernel

// Whether b has one value for each channel of a.
bool IsGate(const TfLiteEvalTensor* a, const TfLiteEvalTensor* b) {
  if (a->dims->size != 4 || b->dims->size != 4) return false;
  const int *m = a->dims->data, *n = b->dims->data;
  return m[0] == 1 && n[0] == 1 && n[1] == 1 && n[2] == 1 && m[3] == n[3];
}

// Of a map by one value for each channel.
TfLiteStatus Mul(TfLiteContext* context, TfLiteNode* node) {
  const auto* data = static_cast<const tflite::OpDataMul*>(node->user_data);
  const TfLiteEvalTensor* a = tflite::micro::GetEvalInput(context, node, 0);
  const TfLiteEvalTensor* b = tflite::micro::GetEvalInput(context, node, 1);
  TfLiteEvalTensor* output = tflite::micro::GetEvalOutput(context, node, 0);
  const bool swapped = !IsGate(a, b);
  if (a->type != kTfLiteInt8 || (swapped && !IsGate(b, a))) return mul(context, node);
  const TfLiteEvalTensor *map = swapped ? b : a, *gate = swapped ? a : b;
  const int* size = map->dims->data;
  const int shift = data->output_shift;
  ${net}_nn_binary_layer layer = {};
  layer.count[0] = size[3];
  layer.count[1] = size[1] * size[2];
  layer.count[2] = layer.count[3] = 1;
  layer.a[0] = layer.b[0] = 1;
  layer.a[1] = size[3];
  layer.a_zero = swapped ? data->input2_zero_point : data->input1_zero_point;
  layer.b_zero = swapped ? data->input1_zero_point : data->input2_zero_point;
  layer.out_zero = data->output_zero_point;
  layer.out_multiplier = data->output_multiplier;
  layer.out_shift = shift <= -2 && shift >= -23 ? -shift - 2 : shift - 64;
  layer.least = data->output_activation_min;
  layer.greatest = data->output_activation_max;
  ${net}_nn_mul(&layer, map->data.int8, gate->data.int8, output->data.int8);
  return kTfLiteOk;
}
"""


@dataclass(frozen=True)
class ExactKernel:
    """A kernel that replaces TFLM's.

    Attributes:
      kind: the operator's name in TFLite.
      source: its C++ code, a template (``string.Template``).
      function: its name in the code; TFLM's kernel has the same name in lower case.
      header: TFLM's header with the record of the operator.
    """

    kind: str
    source: str
    function: str
    header: str


_KERNELS = (
    ExactKernel("LOGISTIC", LOGISTIC, "Logistic", "logistic.h"),
    ExactKernel("MEAN", MEAN, "Mean", "reduce.h"),
    ExactKernel("MUL", MUL, "Mul", "mul.h"),
)


def of_network(kinds: Iterable[str]) -> list[ExactKernel]:
    """The kernels of this package for a network with these operators."""
    present = set(kinds)
    return [kernel for kernel in _KERNELS if kernel.kind in present]


def logistic_tables(graph: Graph) -> str:
    """The initializers of the tables of a network's LOGISTIC operators, each of them once."""
    tables = {}
    for operator in graph.operators:
        if operator.kind == "LOGISTIC":
            tensor, output = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
            key = (tensor.zero, *arithmetic.quantized_multiplier(tensor.scale * (1 << 27)))
            function = simplify.sigmoid(tensor, output, operator)
            tables[key] = [function(value) for value in range(-128, 128)]
    return "\n".join(_logistic_table(key, values) for key, values in tables.items())


def _logistic_table(key: tuple[int, int, int], values: list[int]) -> str:
    lines = [", ".join(map(str, values[start : start + 16])) for start in range(0, 256, 16)]
    rows = ",\n      ".join(lines)
    zero, multiplier, shift = key
    return f"    {{{zero}, {multiplier}, {shift},\n     {{{rows}}}}},"
