/* Pooling, reductions, resizing and softmax. */
#include "nn_mve.h"

static int32_t nn_least(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t nn_greatest(int32_t a, int32_t b) { return a > b ? a : b; }

/* The window of one output pixel, as far as it lies inside of the image. */
typedef struct {
  const int8_t *from;
  int32_t rows, columns, row_bytes, channels;
  int32_t least, greatest;
} nn_window;

/* Sums of so many bytes fit in 16 bits. */
enum { NN_MOST_TERMS = 255 };

/* sum / count, rounded half away from zero. */
static inline int32_t nn_mean(int32_t sum, int32_t count) {
  return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

#if NN_MVE
/* A division by count as a product: x / count = (2 * x * factor) >> 16 >> bits for x below 2^15. */
typedef struct {
  uint16_t factor, twice_half;
  int32_t bits;
} nn_divisor;

static inline nn_divisor nn_divisor_of(uint32_t count) {
  nn_divisor divisor;
  divisor.bits = count > 1 ? 32 - __builtin_clz(count - 1) : 0;
  divisor.factor = (uint16_t)((((uint32_t)1 << (15 + divisor.bits)) + count - 1) / count);
  divisor.twice_half = (uint16_t)(count & ~1u);
  return divisor;
}

/* nn_mean of eight sums. */
static inline int16x8_t nn_means8(int16x8_t sums, nn_divisor divisor) {
  const uint16x8_t sizes = vreinterpretq_u16_s16(vabsq_s16(sums));
  const uint16x8_t twice = vaddq_n_u16(vshlq_n_u16(sizes, 1), divisor.twice_half);
  const uint16x8_t product = vmulhq_u16(twice, vdupq_n_u16(divisor.factor));
  const int16x8_t means = vreinterpretq_s16_u16(vshlq_r_u16(product, -divisor.bits));
  return vnegq_m_s16(means, means, vcmpltq_n_s16(sums, 0));
}

/* 16 channels of a window, or all that are left: their greatest values, or means. */
NN_ALWAYS_INLINE int8x16_t nn_pooled16(const nn_window *window, const int8_t *from,
                                       mve_pred16_t lanes, int32_t average, nn_divisor divisor) {
  int8x16_t greatest = vdupq_n_s8(-128);
  int16x8_t even = vdupq_n_s16(0), odd = even;
  int32_t rows, columns;
  for (rows = window->rows; rows > 0; --rows) {
    const int8_t *at = from;
    for (columns = window->columns; columns > 0; --columns) {
      const int8x16_t values = vldrbq_z_s8(at, lanes);
      if (average) {
        even = vaddq_s16(even, vmovlbq_s8(values));
        odd = vaddq_s16(odd, vmovltq_s8(values));
      } else {
        greatest = vmaxq_s8(greatest, values);
      }
      at += window->channels;
    }
    from += window->row_bytes;
  }
  if (!average) return greatest;
  even = nn_means8(even, divisor);
  odd = nn_means8(odd, divisor);
  return vmovntq_s16(vmovnbq_s16(greatest, even), odd);
}

NN_ALWAYS_INLINE void nn_pool_vectors(const nn_window *window, int32_t average, int8_t *out) {
  const nn_divisor divisor = nn_divisor_of((uint32_t)(window->rows * window->columns));
  int32_t c;
  for (c = 0; c < window->channels; c += 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)(window->channels - c));
    int8x16_t value = nn_pooled16(window, window->from + c, lanes, average, divisor);
    value = vmaxq_s8(value, vdupq_n_s8((int8_t)window->least));
    value = vminq_s8(value, vdupq_n_s8((int8_t)window->greatest));
    vstrbq_p_s8(out + c, value, lanes);
  }
}
#elif NN_DSP
/* A byte four times. */
static inline uint32_t nn_four(int32_t byte) { return 0x01010101u * (uint8_t)byte; }

/* Four channels of a window from number c on: their greatest values, or means. */
NN_ALWAYS_INLINE void nn_pool4(const nn_window *window, int32_t c, int32_t average, int8_t *out) {
  const int32_t count = window->rows * window->columns;
  const int8_t *from = window->from + c;
  uint32_t even = 0, odd = 0, word = nn_four(-128);
  int32_t rows, columns;
  for (rows = window->rows; rows > 0; --rows) {
    const int8_t *at = from;
    for (columns = window->columns; columns > 0; --columns) {
      if (average) {
        word = nn_load4(at);
        even = nn_add_even(word, even);
        odd = nn_add_odd(word, odd);
      } else {
        word = nn_greater4(nn_load4(at), word);
      }
      at += window->channels;
    }
    from += window->row_bytes;
  }
  if (average) {
    word = (uint8_t)nn_mean((int16_t)even, count);
    word |= (uint32_t)(uint8_t)nn_mean((int16_t)odd, count) << 8;
    word |= (uint32_t)(uint8_t)nn_mean((int32_t)even >> 16, count) << 16;
    word |= (uint32_t)nn_mean((int32_t)odd >> 16, count) << 24;
  }
  word = nn_greater4(nn_four(window->least), word);
  word = nn_lesser4(nn_four(window->greatest), word);
  memcpy(out, &word, 4);
}
#endif

/* All channels of one output pixel. average: whether means are computed, a constant. */
NN_ALWAYS_INLINE void nn_pool_window(const nn_window *window, int32_t average, int8_t *out) {
  const int32_t channels = window->channels, count = window->rows * window->columns;
  int32_t c = 0, row, column;
#if NN_MVE
  if (!average || count <= NN_MOST_TERMS) {
    nn_pool_vectors(window, average, out);
    return;
  }
#elif NN_DSP
  if (!average || count <= NN_MOST_TERMS) {
    for (; c + 4 <= channels; c += 4) nn_pool4(window, c, average, out + c);
  }
#endif
  for (; c < channels; ++c) {
    int32_t value = average ? 0 : -128;
    for (row = 0; row < window->rows; ++row) {
      const int8_t *from = window->from + row * window->row_bytes + c;
      for (column = 0; column < window->columns; ++column) {
        value = average ? value + *from : nn_greatest(value, *from);
        from += channels;
      }
    }
    if (average) value = nn_mean(value, count);
    out[c] = (int8_t)nn_clamped(value, window->least, window->greatest);
  }
}

NN_ALWAYS_INLINE void nn_pool(const nn_pool_layer *layer, const int8_t *in, int8_t *out,
                              int32_t average) {
  nn_window window;
  int32_t y, x;
  window.row_bytes = layer->in_w * layer->channels;
  window.channels = layer->channels;
  window.least = layer->least;
  window.greatest = layer->greatest;
  for (y = 0; y < layer->out_h; ++y) {
    const int32_t top = y * layer->stride_h - layer->pad_top, y0 = nn_greatest(top, 0);
    window.rows = nn_least(top + layer->kernel_h, layer->in_h) - y0;
    for (x = 0; x < layer->out_w; ++x) {
      const int32_t left = x * layer->stride_w - layer->pad_left, x0 = nn_greatest(left, 0);
      window.columns = nn_least(left + layer->kernel_w, layer->in_w) - x0;
      window.from = in + y0 * window.row_bytes + x0 * layer->channels;
      nn_pool_window(&window, average, out);
      out += layer->channels;
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
  for (left = layer->count; left > 0; left -= NN_MOST_TERMS) {
    int16x8_t sum = vdupq_n_s16(0);
    int32_t k;
    for (k = nn_least(left, NN_MOST_TERMS); k > 0; --k) {
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
  nn_pool_layer pool; /* each outer place is a row, the terms lie side by side */
  pool.in_h = pool.out_h = layer->outer;
  pool.in_w = pool.kernel_w = layer->count;
  pool.out_w = pool.kernel_h = pool.stride_h = pool.stride_w = 1;
  pool.channels = layer->inner;
  pool.pad_top = pool.pad_left = 0;
  pool.least = -128;
  pool.greatest = 127;
  nn_max_pool(&pool, in, out);
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
