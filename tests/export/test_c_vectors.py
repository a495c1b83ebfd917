"""Kernels in C with vectors (Helium) and the DSP extension against the portable ones, emulated."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.export.packages.c import package
from efficientnet_elite.export.runtimes import compiled_c
from tests.support.c_programs import needs_emulator

KERNELS = Path(package.__file__).parent / "kernels"
FILES = ("nn_conv.c", "nn_copy.c", "nn_depthwise.c", "nn_elementwise.c", "nn_pool.c")
PAIRED = (  # kernels that exist twice in the program: with vectors, and portable
    *("nn_conv", "nn_depthwise", "nn_table", "nn_add", "nn_sub", "nn_mul", "nn_reduce"),
    *("nn_transpose_conv", "nn_prelu", "nn_maximum", "nn_minimum", "nn_reduce_max"),
    *("nn_average_pool", "nn_max_pool", "nn_resize_bilinear", "nn_resize_nearest", "nn_softmax"),
    *("nn_copy", "nn_gather"),
)
TESTED = (
    *("nn_conv", "nn_depthwise", "nn_table", "nn_add", "nn_sub", "nn_mul", "nn_reduce"),
    *("nn_average_pool", "nn_max_pool", "nn_reduce_max", "nn_copy", "nn_gather"),
)
CASES, SEEDS = 30, 4

HEADER = """
#include "nn_kernels.h"
#define ARENA_BYTES (1 << 16)
int8_t *vectors_input(void *arena);
void vectors_run(const int8_t *input, int8_t *output, void *arena);
"""

# Each image of the emulated program is a seed; its output is the number of cases of each kernel
# whose results differ, of which the whole memory of results is compared.
SOURCE = """
#include <string.h>
#include "vectors.h"

void portable_nn_conv(const nn_conv_layer *, const int8_t *, int8_t *, void *);
void portable_nn_depthwise(const nn_conv_layer *, const int8_t *, int8_t *, void *);
void portable_nn_table(const nn_table_layer *, const int8_t *, int8_t *);
void portable_nn_add(const nn_binary_layer *, const int8_t *, const int8_t *, int8_t *);
void portable_nn_sub(const nn_binary_layer *, const int8_t *, const int8_t *, int8_t *);
void portable_nn_mul(const nn_binary_layer *, const int8_t *, const int8_t *, int8_t *);
void portable_nn_reduce(const nn_reduce_layer *, const int8_t *, int8_t *);
void portable_nn_average_pool(const nn_pool_layer *, const int8_t *, int8_t *);
void portable_nn_max_pool(const nn_pool_layer *, const int8_t *, int8_t *);
void portable_nn_reduce_max(const nn_reduce_layer *, const int8_t *, int8_t *);
void portable_nn_copy(const nn_copy_layer *, const int8_t *, int8_t *);
void portable_nn_gather(const nn_gather_layer *, const int8_t *, int8_t *);

enum { BYTES = 12000, CHANNELS = 64 };
static uint32_t state;
static int8_t in[BYTES], other[BYTES], weights[BYTES], vectors[BYTES], portable[BYTES];
static int8_t table[256];
static nn_channel channels[CHANNELS];
static double scratch[BYTES / 8];

static int32_t any(int32_t least, int32_t greatest) {
  state = state * 1664525 + 1013904223;
  return least + (int32_t)((state >> 8) % (uint32_t)(greatest - least + 1));
}
static void fill(int8_t *array, int32_t least) {
  int32_t i;
  /* Extreme values are frequent. */
  for (i = 0; i < BYTES; ++i) {
    array[i] = (int8_t)(any(0, 3) ? any(least, 127) : any(0, 1) ? least : 127);
  }
}
static int32_t factor(void) { return (1 << 30) + any(0, (1 << 24) - 1) * 63; }
static int32_t differ(void) { return memcmp(vectors, portable, BYTES) != 0; }
static void clear(void) {
  memset(vectors, 0x5A, BYTES);
  memset(portable, 0x5A, BYTES);
}

static int32_t out_size(int32_t in_size, int32_t kernel, int32_t stride, int32_t dilation,
                        int32_t pad) {
  return (in_size + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1;
}

static void any_conv(nn_conv_layer *layer, int32_t depthwise) {
  const int32_t kernel = any(0, 2) ? any(1, 5) : 1;
  int32_t c, usual = any(0, 4);
  do {
    layer->in_h = any(1, 9);
    layer->in_w = any(1, 9);
    layer->kernel_h = kernel;
    layer->kernel_w = any(0, 3) ? kernel : any(1, 5);
    layer->stride_h = layer->stride_w = any(1, 2);
    layer->dilation_h = layer->dilation_w = any(0, 3) ? 1 : 2;
    layer->pad_top = kernel > 1 ? any(0, kernel / 2) : 0;
    layer->pad_left = layer->kernel_w > 1 ? any(0, layer->kernel_w / 2) : 0;
    layer->out_h = out_size(layer->in_h, layer->kernel_h, layer->stride_h, layer->dilation_h,
                            layer->pad_top);
    layer->out_w = out_size(layer->in_w, layer->kernel_w, layer->stride_w, layer->dilation_w,
                            layer->pad_left);
  } while (layer->in_h + 2 * layer->pad_top < (layer->kernel_h - 1) * layer->dilation_h + 1 ||
           layer->in_w + 2 * layer->pad_left < (layer->kernel_w - 1) * layer->dilation_w + 1);
  layer->groups = !depthwise && any(0, 3) == 0 ? any(1, 4) : 1;
  layer->in_c = layer->groups * any(1, depthwise ? 40 : 40 / layer->groups);
  layer->out_c = depthwise ? layer->in_c : layer->groups * any(1, 9);
  layer->in_zero = any(-128, 127);
  layer->out_zero = any(-128, 127);
  layer->least = any(0, 1) ? -128 : any(-128, 0);
  layer->greatest = any(0, 1) ? 127 : any(0, 127);
  layer->weights = weights;
  layer->channels = channels;
  layer->table = any(0, 2) ? NULL : table;
  for (c = 0; c < CHANNELS; ++c) {
    channels[c].bias = any(-20000, 20000);
    channels[c].multiplier = any(0, 20) ? factor() : 0;
    channels[c].bits = usual ? any(3, 13) : any(-67, -62);
    if (channels[c].multiplier == 0) channels[c].bits = 0;
  }
}

static void any_binary(nn_binary_layer *layer) {
  int32_t i;
  layer->count[0] = any(1, 40);
  layer->count[1] = any(1, 5);
  layer->count[2] = any(1, 3);
  layer->count[3] = any(1, 2);
  for (i = 0; i < 4; ++i) {
    layer->a[i] = any(0, 4) ? any(1, 3) : 0;
    layer->b[i] = any(0, 4) ? any(1, 3) : 0;
  }
  layer->a_zero = any(-128, 127);
  layer->b_zero = any(-128, 127);
  layer->out_zero = any(-128, 127);
  layer->a_multiplier = factor();
  layer->b_multiplier = factor();
  layer->out_multiplier = factor();
  layer->a_shift = any(-4, 0);
  layer->b_shift = any(-4, 0);
  layer->out_shift = any(-20, -16);
  layer->least = any(0, 1) ? -128 : any(-128, 0);
  layer->greatest = any(0, 1) ? 127 : any(0, 127);
}

/* Windows of up to 25 values, or one of up to 400 as large as the image. */
static void any_pool(nn_pool_layer *layer) {
  const int32_t global = any(0, 3) == 0;
  layer->in_h = any(1, global ? 20 : 9);
  layer->in_w = any(1, global ? 20 : 9);
  layer->kernel_h = global ? layer->in_h : any(1, layer->in_h < 5 ? layer->in_h : 5);
  layer->kernel_w = global ? layer->in_w : any(1, layer->in_w < 5 ? layer->in_w : 5);
  layer->stride_h = any(1, 2);
  layer->stride_w = any(1, 2);
  layer->pad_top = any(0, layer->kernel_h / 2);
  layer->pad_left = any(0, layer->kernel_w / 2);
  layer->out_h = out_size(layer->in_h, layer->kernel_h, layer->stride_h, 1, layer->pad_top);
  layer->out_w = out_size(layer->in_w, layer->kernel_w, layer->stride_w, 1, layer->pad_left);
  layer->channels = any(1, global ? 25 : 40);
  layer->least = any(0, 1) ? -128 : any(-128, 0);
  layer->greatest = any(0, 1) ? 127 : any(0, 127);
}

static void any_copy(nn_copy_layer *layer) {
  int32_t i;
  layer->fill_bytes = any(0, 100);
  layer->fill = any(-128, 127);
  layer->block = any(0, 3) ? any(1, 40) : 1;
  layer->from_start = any(0, 100);
  layer->to_start = any(0, 100);
  for (i = 0; i < 5; ++i) {
    layer->count[i] = any(1, 3);
    layer->from[i] = any(0, 200);
    layer->to[i] = any(1, 200);
  }
}

/* The kernel and the portable one compute the same; both write to `result`. */
#define COMPARE(index, kernel, ...)  \\
  do {                               \\
    clear();                         \\
    result = vectors;                \\
    kernel(__VA_ARGS__);             \\
    result = portable;               \\
    portable_##kernel(__VA_ARGS__);  \\
    output[index] += differ();       \\
  } while (0)

int8_t *vectors_input(void *arena) { return (int8_t *)arena; }

void vectors_run(const int8_t *input, int8_t *output, void *arena) {
  int32_t number;
  (void)arena;
  memcpy(&state, input, 4);
  memset(output, 0, TESTED);
  for (number = 0; number < CASES; ++number) {
    nn_conv_layer conv;
    nn_binary_layer binary;
    nn_reduce_layer reduce;
    nn_table_layer values;
    nn_pool_layer pool;
    nn_copy_layer copy;
    nn_gather_layer gather;
    int32_t indices[20], i;
    int8_t *result;
    fill(in, -128);
    fill(other, -128);
    fill(table, -128);
    fill(weights, -127);
    any_conv(&conv, 0);
    COMPARE(0, nn_conv, &conv, in, result, scratch);
    any_conv(&conv, 1);
    COMPARE(1, nn_depthwise, &conv, in, result, scratch);
    values.size = any(1, 100);
    values.table = table;
    COMPARE(2, nn_table, &values, in, result);
    any_binary(&binary);
    COMPARE(3, nn_add, &binary, in, other, result);
    COMPARE(4, nn_sub, &binary, in, other, result);
    binary.out_shift = any(0, 5) ? any(0, 12) : any(-67, -62);
    COMPARE(5, nn_mul, &binary, in, other, result);
    reduce.outer = any(1, 2);
    reduce.count = any(1, any(0, 3) ? 40 : 300);
    reduce.inner = any(1, 20);
    reduce.in_zero = any(-128, 127);
    reduce.out_zero = any(-128, 127);
    reduce.multiplier = factor();
    reduce.shift = any(-9, 1);
    COMPARE(6, nn_reduce, &reduce, in, result);
    any_pool(&pool);
    COMPARE(7, nn_average_pool, &pool, in, result);
    COMPARE(8, nn_max_pool, &pool, in, result);
    COMPARE(9, nn_reduce_max, &reduce, in, result);
    any_copy(&copy);
    COMPARE(10, nn_copy, &copy, in, result);
    gather.outer = any(1, 5);
    gather.axis = any(1, 20);
    gather.inner = any(0, 1) ? any(1, 40) : 1;
    gather.count = any(1, 20);
    gather.indices = indices;
    for (i = 0; i < 20; ++i) indices[i] = any(0, gather.axis - 1);
    COMPARE(11, nn_gather, &gather, in, result);
  }
}
"""


def differing(board: compiled_c.CompiledC, folder: Path, *, count: int) -> np.ndarray:
    """(seeds, kernels): how many cases of each kernel differ from the portable kernel's."""
    (folder / "vectors.h").write_text(HEADER)
    (folder / "vectors.c").write_text(SOURCE)
    compiler = [
        *board.compiler,
        f"-I{KERNELS}",
        "-I.",
        f"-DCASES={CASES}",
        f"-DTESTED={len(TESTED)}",
    ]
    renamed = [f"-D{name}=portable_{name}" for name in PAIRED]
    objects = []
    for file in FILES:
        objects.append(f"portable_{file}.o")
        command = [*compiler, "-DNN_PORTABLE", *renamed, "-c", KERNELS / file, "-o", objects[-1]]
        subprocess.run(command, check=True, cwd=folder)
    macros = {
        **{"NET_HEADER": '"vectors.h"', "NET_RUN": "vectors_run", "NET_INPUT": "vectors_input"},
        **{"NET_ARENA_BYTES": 8, "NET_INPUT_BYTES": 4, "NET_OUTPUT_BYTES": len(TESTED)},
    }
    main = Path(compiled_c.__file__).parent / "c_programs" / board.main
    command = [
        *compiler,
        *(f"-D{name}={value}" for name, value in macros.items()),
        *(main, "vectors.c", *(KERNELS / file for file in FILES), *objects, *board.libraries),
        *("-o", "program"),
    ]
    subprocess.run(command, check=True, cwd=folder)
    seeds = np.random.default_rng(0).integers(0, 2**32, count, np.uint32)
    (folder / "images.bin").write_bytes(seeds.tobytes())
    board.run(folder / "program", 120)
    return np.fromfile(folder / "outputs.bin", np.int8).reshape(-1, len(TESTED))


@needs_emulator
@pytest.mark.parametrize(
    "board", [compiled_c.CORTEX_M4, compiled_c.CORTEX_M55], ids=lambda board: board.name
)
def test_kernels_compute_what_portable_ones_do(board, tmp_path):
    found = differing(board, tmp_path, count=SEEDS)
    assert len(found) == SEEDS
    assert dict(zip(TESTED, found.sum(0).tolist(), strict=True)) == dict.fromkeys(TESTED, 0)
