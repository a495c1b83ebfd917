/* Convolutions and fully connected layers.
 *
 * The inputs of two output pixels are gathered in scratch memory and multiplied with the weights of
 * two output channels at a time, so that each value that is loaded is used twice. The gathered
 * values are interleaved in blocks of four: four of the first pixel, four of the second. With the
 * DSP extension they are 16-bit numbers, in the order 0, 2, 1, 3 in which SXTB16 unpacks bytes.
 *
 * With Helium, the values of four pixels are gathered as they are, and multiplied with the weights
 * of one channel, 16 of each at a time. */
#include "nn_mve.h"

#if NN_DSP
typedef int16_t nn_value;
static const int32_t nn_place[4] = {0, 2, 1, 3};
#else
typedef int8_t nn_value;
static const int32_t nn_place[4] = {0, 1, 2, 3};
#endif

/* Puts value number i of a pixel into its place. */
static inline void nn_put(nn_value *values, int32_t i, int32_t value) {
  values[(i >> 2) * 8 + nn_place[i & 3]] = (nn_value)value;
}

/* Gathers the inputs of one output pixel for one group of channels. */
static void nn_gather_pixel(const nn_conv_layer *layer, const int8_t *in, int32_t pixel,
                            int32_t group, nn_value *values) {
  const int32_t depth = layer->in_c / layer->groups;
  const int32_t top = pixel / layer->out_w * layer->stride_h - layer->pad_top;
  const int32_t left = pixel % layer->out_w * layer->stride_w - layer->pad_left;
  int32_t i = 0, ky, kx, c;
  for (ky = 0; ky < layer->kernel_h; ++ky) {
    const int32_t y = top + ky * layer->dilation_h;
    for (kx = 0; kx < layer->kernel_w; ++kx) {
      const int32_t x = left + kx * layer->dilation_w;
      if (y < 0 || y >= layer->in_h || x < 0 || x >= layer->in_w) {
        for (c = 0; c < depth; ++c) nn_put(values, i++, layer->in_zero);
      } else {
        const int8_t *from = in + (y * layer->in_w + x) * layer->in_c + group * depth;
        c = 0;
#if NN_DSP
        if ((i & 3) == 0) {
          nn_value *to = values + 2 * i;
          for (; c + 4 <= depth; c += 4) {
            const uint32_t word = nn_load4(from + c);
            const uint32_t pairs[2] = {nn_even(word), nn_odd(word)};
            memcpy(to, pairs, 8);
            to += 8;
          }
          i += c;
        }
#endif
        for (; c < depth; ++c) nn_put(values, i++, from[c]);
      }
    }
  }
  while (i & 3) nn_put(values, i++, 0);
}

/* Products of two pixels with the weights of two channels: sums[channel][pixel]. */
static inline void nn_products_2x2(const nn_value *values, const int8_t *weights0,
                                   const int8_t *weights1, int32_t size, int32_t sums[2][2]) {
  const int8_t *const end = weights0 + size;
  int32_t sum00 = sums[0][0], sum01 = sums[0][1], sum10 = sums[1][0], sum11 = sums[1][1];
#if NN_DSP
  do {
    const uint32_t word0 = nn_load4(weights0), word1 = nn_load4(weights1);
    const uint32_t even0 = nn_even(word0), odd0 = nn_odd(word0);
    const uint32_t even1 = nn_even(word1), odd1 = nn_odd(word1);
    uint32_t x[4];
    memcpy(x, __builtin_assume_aligned(values, 4), 16);
    sum00 = nn_dot2(even0, x[0], sum00);
    sum10 = nn_dot2(even1, x[0], sum10);
    sum00 = nn_dot2(odd0, x[1], sum00);
    sum10 = nn_dot2(odd1, x[1], sum10);
    sum01 = nn_dot2(even0, x[2], sum01);
    sum11 = nn_dot2(even1, x[2], sum11);
    sum01 = nn_dot2(odd0, x[3], sum01);
    sum11 = nn_dot2(odd1, x[3], sum11);
    weights0 += 4;
    weights1 += 4;
    values += 8;
  } while (weights0 != end);
#else
  do {
    int32_t i;
    for (i = 0; i < 4; ++i) {
      sum00 += weights0[i] * values[i];
      sum01 += weights0[i] * values[i + 4];
      sum10 += weights1[i] * values[i];
      sum11 += weights1[i] * values[i + 4];
    }
    weights0 += 4;
    weights1 += 4;
    values += 8;
  } while (weights0 != end);
#endif
  sums[0][0] = sum00;
  sums[0][1] = sum01;
  sums[1][0] = sum10;
  sums[1][1] = sum11;
}

#if NN_MVE
/* Gathers the inputs of one output pixel for one group of channels, as they are. */
NN_NEVER_INLINE void nn_gather_bytes(const nn_conv_layer *layer, const int8_t *in,
                                     int32_t pixel, int32_t group, int8_t *to) {
  /* Copies, because the compiler must read a layer again after each store. */
  const int32_t in_h = layer->in_h, in_w = layer->in_w, in_c = layer->in_c;
  const int32_t kernel_w = layer->kernel_w;
  const int32_t down = layer->dilation_h, right = layer->dilation_w, zero = layer->in_zero;
  const int32_t depth = in_c / layer->groups;
  const int32_t out_y = pixel / layer->out_w, out_x = pixel - out_y * layer->out_w;
  const int32_t left = out_x * layer->stride_w - layer->pad_left;
  /* Whether the values of a row of the kernel lie side by side. */
  const int32_t together =
      layer->groups == 1 && right == 1 && left >= 0 && left + kernel_w <= in_w;
  int32_t y = out_y * layer->stride_h - layer->pad_top, ky, kx;
  for (ky = layer->kernel_h; ky > 0; --ky) {
    const int32_t inside = y >= 0 && y < in_h;
    const int8_t *const from = in + (y * in_w + left) * in_c + group * depth;
    if (together && inside) {
      nn_copy_bytes(to, from, kernel_w * depth);
      to += kernel_w * depth;
    } else {
      for (kx = 0; kx < kernel_w; ++kx) {
        const int32_t x = kx * right;
        if (inside && left + x >= 0 && left + x < in_w) {
          nn_copy_bytes(to, from + x * in_c, depth);
        } else {
          nn_fill_bytes(to, zero, depth);
        }
        to += depth;
      }
    }
    y += down;
  }
}

/* The products of four arrays of `size` bytes, `step` bytes apart, with another one. */
static inline int32x4_t nn_products_4x1(const int8_t *four, const int8_t *one, int32_t size,
                                        int32_t step) {
  const int8_t *row1 = four + step, *row2 = row1 + step, *row3 = row2 + step;
  int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
  __asm__("wlstp.8 lr, %[size], 1f\n"
          "2:\n\t"
          "vldrb.8 q0, [%[one]], #16\n\t"
          "vldrb.8 q1, [%[row0]], #16\n\t"
          "vmladava.s8 %[sum0], q0, q1\n\t"
          "vldrb.8 q2, [%[row1]], #16\n\t"
          "vmladava.s8 %[sum1], q0, q2\n\t"
          "vldrb.8 q1, [%[row2]], #16\n\t"
          "vmladava.s8 %[sum2], q0, q1\n\t"
          "vldrb.8 q2, [%[row3]], #16\n\t"
          "vmladava.s8 %[sum3], q0, q2\n\t"
          "letp lr, 2b\n"
          "1:"
          : [sum0] "+Te"(sum0), [sum1] "+Te"(sum1), [sum2] "+Te"(sum2), [sum3] "+Te"(sum3),
            [one] "+r"(one), [row0] "+r"(four), [row1] "+r"(row1), [row2] "+r"(row2),
            [row3] "+r"(row3)
          : [size] "r"(size)
          : "q0", "q1", "q2", "lr", "memory");
  return nn_vector4(sum0, sum1, sum2, sum3);
}

/* The outputs of one channel from the sums of four pixels. places: bytes from one to the next.
 *
 * VQRDMLAH adds a product that is rounded half up to what is in its register: to -1 where the
 * product will be negative, for the reason that nn_requantized4 gives. */
static inline void nn_finish_pixels(int32x4_t sums, const nn_channel *channel,
                                    const nn_ending *ending, int8_t *to, uint32x4_t places) {
  int32x4_t value = vaddq_n_s32(sums, channel->bias);
  value = vqrdmlahq_n_s32(vshrq_n_s32(value, 31), value, channel->multiplier);
  value = vrshlq_n_s32(value, nn_right(channel));
  vstrbq_scatter_offset_s32(to, places, nn_ended4(value, ending));
}

/* All channels of a group for four pixels, whose values lie side by side. */
NN_NEVER_INLINE void nn_conv_pixels(const nn_conv_layer *layer, const int8_t *values,
                                    int32_t size, int32_t first, int8_t *to) {
  const nn_ending ending = nn_ending_of(layer);
  const int32_t row = (size + 3) & ~(int32_t)3;
  const int32_t filters = layer->out_c / layer->groups;
  const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)layer->out_c);
  const nn_channel *channel = layer->channels + first;
  const int8_t *weights = layer->weights + first * row;
  const int8_t *const end = to + filters;
  if (size <= 16) {
    /* All values of the pixels stay in registers. */
    const mve_pred16_t lanes = vctp8q((uint32_t)size);
    const int8x16_t x0 = vldrbq_z_s8(values, lanes), x1 = vldrbq_z_s8(values + size, lanes);
    const int8x16_t x2 = vldrbq_z_s8(values + 2 * size, lanes);
    const int8x16_t x3 = vldrbq_z_s8(values + 3 * size, lanes);
    while (to != end) {
      const int8x16_t w = vldrbq_z_s8(weights, lanes);
      const int32x4_t sums = nn_vector4(vmladavq_s8(x0, w), vmladavq_s8(x1, w),
                                        vmladavq_s8(x2, w), vmladavq_s8(x3, w));
      nn_finish_pixels(sums, channel++, &ending, to++, places);
      weights += row;
    }
  } else {
    while (to != end) {
      const int32x4_t sums = nn_products_4x1(values, weights, size, size);
      nn_finish_pixels(sums, channel++, &ending, to++, places);
      weights += row;
    }
  }
}

/* All channels of a group for one pixel, four at a time, the last ones alone. */
NN_NEVER_INLINE void nn_conv_pixel(const nn_conv_layer *layer, const int8_t *values,
                                   int32_t size, int32_t first, int8_t *to) {
  const nn_ending ending = nn_ending_of(layer);
  const int32_t row = (size + 3) & ~(int32_t)3;
  const nn_channel *channel = layer->channels + first;
  const int8_t *weights = layer->weights + first * row;
  const int8_t *const end = to + layer->out_c / layer->groups;
  for (; to + 4 <= end; to += 4) {
    const int32x4_t sums = nn_products_4x1(weights, values, size, row);
    const int32x4_t value = nn_requantized4(sums, channel, 1, 4);
    vstrbq_s32(to, nn_ended4(value, &ending));
    weights += 4 * row;
    channel += 4;
  }
  for (; to != end; ++to) {
    const int32x4_t sums = nn_products_4x1(weights, values, size, 0);
    const int32x4_t value = nn_requantized4(sums, channel, 1, 1);
    *to = (int8_t)vgetq_lane_s32(nn_ended4(value, &ending), 0);
    weights += row;
    ++channel;
  }
}

static void nn_conv_vectors(const nn_conv_layer *layer, const int8_t *in, int8_t *out,
                            void *scratch) {
  const int32_t pixels = layer->out_h * layer->out_w, filters = layer->out_c / layer->groups;
  const int32_t size = layer->kernel_h * layer->kernel_w * (layer->in_c / layer->groups);
  const int32_t pointwise = layer->kernel_h * layer->kernel_w * layer->stride_h *
                                layer->stride_w * layer->groups == 1;
  /* The plan of memory knows pairs of pixels. Four are as safe if all is gathered before anything
   * is written, and their bytes take no more scratch memory. */
  const int32_t block = layer->groups == 1 ? 4 : 2;
  int8_t *const values = (int8_t *)scratch;
  int32_t pixel, group, p;
  for (pixel = 0; pixel < pixels; pixel += block) {
    const int32_t count = pixels - pixel < block ? pixels - pixel : block;
    int8_t *const to = out + pixel * layer->out_c;
    for (group = 0; group < layer->groups; ++group) {
      const int32_t first = group * filters;
      if (pointwise) {
        nn_copy_bytes(values, in + pixel * size, count * size);
      } else {
        for (p = 0; p < count; ++p) {
          nn_gather_bytes(layer, in, pixel + p, group, values + p * size);
        }
      }
      if (count == 4) {
        nn_conv_pixels(layer, values, size, first, to + first);
      } else {
        for (p = 0; p < count; ++p) {
          nn_conv_pixel(layer, values + p * size, size, first,
                        to + p * layer->out_c + first);
        }
      }
    }
  }
}
#endif

void nn_conv(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
  const int32_t pixels = layer->out_h * layer->out_w, out_c = layer->out_c;
  const int32_t filters = out_c / layer->groups;
  const int32_t size =
      (layer->kernel_h * layer->kernel_w * (layer->in_c / layer->groups) + 3) & ~(int32_t)3;
  const int32_t twice_zero_1 = 2 * layer->out_zero + 1, plain = nn_is_plain(layer);
  nn_value *const values = (nn_value *)scratch;
  int32_t pixel, group;
#if NN_MVE
  if (nn_bits_are_usual(layer)) {
    nn_conv_vectors(layer, in, out, scratch);
    return;
  }
#endif
  for (pixel = 0; pixel < pixels; pixel += 2) {
    const int32_t two = pixel + 1 < pixels;
    int8_t *const to = out + pixel * out_c;
    for (group = 0; group < layer->groups; ++group) {
      const int32_t end = (group + 1) * filters;
      int32_t c = group * filters;
      nn_gather_pixel(layer, in, pixel, group, values);
      if (two) nn_gather_pixel(layer, in, pixel + 1, group, values + 4);
      for (; c < end; c += 2) {
        const int32_t other = c + 1 < end; /* the last channel may be without a second one */
        const int8_t *const weights = layer->weights + c * size;
        const nn_channel *const channel = layer->channels + c;
        int32_t sums[2][2];
        sums[0][0] = sums[0][1] = channel[0].bias;
        sums[1][0] = sums[1][1] = channel[other].bias;
        nn_products_2x2(values, weights, weights + other * size, size, sums);
        to[c] = nn_finished(layer, channel, twice_zero_1, plain, sums[0][0]);
        if (other) to[c + 1] = nn_finished(layer, channel + 1, twice_zero_1, plain, sums[1][0]);
        if (two) {
          to[c + out_c] = nn_finished(layer, channel, twice_zero_1, plain, sums[0][1]);
          if (other) {
            to[c + 1 + out_c] =
                nn_finished(layer, channel + 1, twice_zero_1, plain, sums[1][1]);
          }
        }
      }
    }
  }
}

void nn_transpose_conv(const nn_conv_layer *layer, const int8_t *in, int8_t *out) {
  const int32_t twice_zero_1 = 2 * layer->out_zero + 1, plain = nn_is_plain(layer);
  const int32_t size = layer->kernel_h * layer->kernel_w * layer->in_c;
  int32_t y, x, c, ky, kx, i;
  for (y = 0; y < layer->out_h; ++y) {
    for (x = 0; x < layer->out_w; ++x) {
      for (c = 0; c < layer->out_c; ++c) {
        int32_t sum = layer->channels[c].bias;
        for (ky = 0; ky < layer->kernel_h; ++ky) {
          const int32_t down = y + layer->pad_top - ky, in_y = down / layer->stride_h;
          if (down < 0 || down % layer->stride_h || in_y >= layer->in_h) continue;
          for (kx = 0; kx < layer->kernel_w; ++kx) {
            const int32_t right = x + layer->pad_left - kx, in_x = right / layer->stride_w;
            const int8_t *from, *weights;
            if (right < 0 || right % layer->stride_w || in_x >= layer->in_w) continue;
            from = in + (in_y * layer->in_w + in_x) * layer->in_c;
            weights = layer->weights + c * size + (ky * layer->kernel_w + kx) * layer->in_c;
            for (i = 0; i < layer->in_c; ++i) sum += (from[i] - layer->in_zero) * weights[i];
          }
        }
        *out++ = nn_finished(layer, layer->channels + c, twice_zero_1, plain, sum);
      }
    }
  }
}
