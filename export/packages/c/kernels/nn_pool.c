/* Pooling, reductions, resizing and softmax. */
#include "nn_mve.h"

static int32_t nn_least(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t nn_greatest(int32_t a, int32_t b) { return a > b ? a : b; }

static void nn_pool(const nn_pool_layer *layer, const int8_t *in, int8_t *out, int32_t average) {
  int32_t y, x, c, in_y, in_x;
  for (y = 0; y < layer->out_h; ++y) {
    const int32_t top = y * layer->stride_h - layer->pad_top, y0 = nn_greatest(top, 0);
    const int32_t y1 = nn_least(top + layer->kernel_h, layer->in_h);
    for (x = 0; x < layer->out_w; ++x) {
      const int32_t left = x * layer->stride_w - layer->pad_left, x0 = nn_greatest(left, 0);
      const int32_t x1 = nn_least(left + layer->kernel_w, layer->in_w);
      const int32_t count = (y1 - y0) * (x1 - x0);
      for (c = 0; c < layer->channels; ++c) {
        int32_t value = average ? 0 : -128;
        for (in_y = y0; in_y < y1; ++in_y) {
          const int8_t *from = in + (in_y * layer->in_w + x0) * layer->channels + c;
          for (in_x = x0; in_x < x1; ++in_x) {
            value = average ? value + *from : nn_greatest(value, *from);
            from += layer->channels;
          }
        }
        if (average) value = (value > 0 ? value + count / 2 : value - count / 2) / count;
        *out++ = (int8_t)nn_clamped(value, layer->least, layer->greatest);
      }
    }
  }
}

void nn_average_pool(const nn_pool_layer *layer, const int8_t *in, int8_t *out) {
  nn_pool(layer, in, out, 1);
}

void nn_max_pool(const nn_pool_layer *layer, const int8_t *in, int8_t *out) {
  nn_pool(layer, in, out, 0);
}

#if NN_MVE
/* Eight outputs, or all that are left: sums in 16 bits, of so many terms as they can hold. */
static void nn_reduce8(const nn_reduce_layer *layer, const int8_t *in, int32_t outputs,
                       int8_t *out) {
  const nn_factors factors = nn_same_factors(layer->multiplier, layer->shift);
  const mve_pred16_t lanes = vctp16q((uint32_t)outputs);
  int32x4_t even = vdupq_n_s32(-layer->in_zero * layer->count), odd = even;
  int16x8_t value;
  int32_t left;
  for (left = layer->count; left > 0; left -= 255) {
    int16x8_t sum = vdupq_n_s16(0);
    int32_t k;
    for (k = left < 255 ? left : 255; k > 0; --k) {
      sum = vaddq_s16(sum, vldrbq_z_s16(in, lanes));
      in += layer->inner;
    }
    even = vaddq_s32(even, vmovlbq_s16(sum));
    odd = vaddq_s32(odd, vmovltq_s16(sum));
  }
  even = vaddq_n_s32(nn_scaled4(even, &factors), layer->out_zero);
  odd = vaddq_n_s32(nn_scaled4(odd, &factors), layer->out_zero);
  value = vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), even), odd);
  value = vmaxq_s16(vminq_s16(value, vdupq_n_s16(127)), vdupq_n_s16(-128));
  vstrbq_p_s16(out, value, lanes);
}
#endif

void nn_reduce(const nn_reduce_layer *layer, const int8_t *in, int8_t *out) {
  int32_t o, i, k;
#if NN_MVE
  if (layer->inner >= 4) {
    for (o = 0; o < layer->outer; ++o) {
      for (i = 0; i < layer->inner; i += 8) nn_reduce8(layer, in + i, layer->inner - i, out + i);
      in += layer->count * layer->inner;
      out += layer->inner;
    }
    return;
  }
#endif
  for (o = 0; o < layer->outer; ++o) {
    for (i = 0; i < layer->inner; ++i) {
      const int8_t *from = in + o * layer->count * layer->inner + i;
      int32_t sum = -layer->in_zero * layer->count;
      for (k = 0; k < layer->count; ++k) {
        sum += *from;
        from += layer->inner;
      }
      *out++ = (int8_t)nn_saturated(nn_scaled(sum, layer->multiplier, layer->shift) +
                                    layer->out_zero);
    }
  }
}

void nn_reduce_max(const nn_reduce_layer *layer, const int8_t *in, int8_t *out) {
  int32_t o, i, k;
  for (o = 0; o < layer->outer; ++o) {
    for (i = 0; i < layer->inner; ++i) {
      const int8_t *from = in + o * layer->count * layer->inner + i;
      int32_t value = -128;
      for (k = 0; k < layer->count; ++k) value = nn_greatest(value, from[k * layer->inner]);
      *out++ = (int8_t)value;
    }
  }
}

/* Position, in 1/1024 pixels of the input, of a pixel of the output, and its two neighbours. */
static void nn_neighbours(const nn_resize_layer *layer, int32_t index, int32_t in_size,
                          int32_t out_size, int32_t *position, int32_t *first, int32_t *second) {
  int32_t scale = (1024 * in_size + out_size / 2) / out_size;
  if (layer->align_corners && out_size > 1) {
    scale = (1024 * (in_size - 1) + (out_size - 1) / 2) / (out_size - 1);
  }
  *position = index * scale;
  if (layer->half_pixel_centers) *position += scale / 2 - 512;
  *first = nn_greatest(*position / 1024, 0);
  *second = nn_least((*position + 1023) / 1024, in_size - 1);
}

void nn_resize_bilinear(const nn_resize_layer *layer, const int8_t *in, int8_t *out) {
  int32_t y, x, c;
  for (y = 0; y < layer->out_h; ++y) {
    int32_t down, y0, y1;
    nn_neighbours(layer, y, layer->in_h, layer->out_h, &down, &y0, &y1);
    for (x = 0; x < layer->out_w; ++x) {
      int32_t right, x0, x1;
      nn_neighbours(layer, x, layer->in_w, layer->out_w, &right, &x0, &x1);
      {
        const int8_t *const a = in + (y0 * layer->in_w + x0) * layer->channels;
        const int8_t *const b = in + (y1 * layer->in_w + x0) * layer->channels;
        const int8_t *const d = in + (y0 * layer->in_w + x1) * layer->channels;
        const int8_t *const e = in + (y1 * layer->in_w + x1) * layer->channels;
        const int32_t low = down - 1024 * y0, side = right - 1024 * x0;
        for (c = 0; c < layer->channels; ++c) {
          const int64_t sum = (int64_t)a[c] * (1024 - low) * (1024 - side) +
                              (int64_t)b[c] * low * (1024 - side) +
                              (int64_t)d[c] * (1024 - low) * side + (int64_t)e[c] * low * side;
          *out++ = (int8_t)((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
        }
      }
    }
  }
}

void nn_resize_nearest(const nn_nearest_layer *layer, const int8_t *in, int8_t *out) {
  int32_t y, x;
  for (y = 0; y < layer->out_h; ++y) {
    for (x = 0; x < layer->out_w; ++x) {
      memcpy(out, in + (layer->rows[y] * layer->in_w + layer->columns[x]) * layer->channels,
             (size_t)layer->channels);
      out += layer->channels;
    }
  }
}

/* 1 / (1 + x) times 2^31 for x in [0, 1) in units of 2^-31: three steps of Newton's method. */
static int32_t nn_one_over_one_plus(int32_t x) {
  const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
  int32_t y = 1515870810 + nn_high_product(half, -1010580540), i;
  for (i = 0; i < 3; ++i) {
    const int32_t rest = (1 << 29) - nn_high_product(half, y);
    const int64_t step = (int64_t)nn_high_product(y, rest) * 4;
    y += (int32_t)(step > INT32_MAX ? INT32_MAX : step < INT32_MIN ? INT32_MIN : step);
  }
  return y > (INT32_MAX >> 1) ? INT32_MAX : y < -(INT32_MAX >> 1) ? INT32_MIN : y * 2;
}

void nn_softmax(const nn_softmax_layer *layer, const int8_t *in, int8_t *out) {
  int32_t row, c;
  for (row = 0; row < layer->rows; ++row) {
    int32_t greatest = -128, sum = 0, headroom = 0, reciprocal;
    for (c = 0; c < layer->depth; ++c) greatest = nn_greatest(greatest, in[c]);
    for (c = 0; c < layer->depth; ++c) sum += nn_rounded_shift(layer->exps[greatest - in[c]], 12);
    while (headroom < 32 && !(((uint32_t)sum << headroom) & 0x80000000u)) ++headroom;
    reciprocal = nn_one_over_one_plus((int32_t)(((uint32_t)sum << headroom) - 0x80000000u));
    for (c = 0; c < layer->depth; ++c) {
      const int32_t product = nn_high_product(reciprocal, layer->exps[greatest - in[c]]);
      out[c] = (int8_t)nn_saturated(nn_rounded_shift(product, 12 - headroom + 23) - 128);
    }
    in += layer->depth;
    out += layer->depth;
  }
}
