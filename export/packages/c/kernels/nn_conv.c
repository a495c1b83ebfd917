/* Convolutions and fully connected layers.
 *
 * The inputs of two output pixels are gathered in scratch memory and multiplied with the weights of
 * two output channels at a time, so that each value that is loaded is used twice. The gathered
 * values are interleaved in blocks of four: four of the first pixel, four of the second. With the
 * DSP extension they are 16-bit numbers, in the order 0, 2, 1, 3 in which SXTB16 unpacks bytes. */
#include "nn_kernels.h"

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

void nn_conv(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
  const int32_t pixels = layer->out_h * layer->out_w, out_c = layer->out_c;
  const int32_t filters = out_c / layer->groups;
  const int32_t size =
      (layer->kernel_h * layer->kernel_w * (layer->in_c / layer->groups) + 3) & ~(int32_t)3;
  const int32_t twice_zero_1 = 2 * layer->out_zero + 1, plain = nn_is_plain(layer);
  nn_value *const values = (nn_value *)scratch;
  int32_t pixel, group;
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
