/* Depthwise convolutions with one output channel for each input channel.
 *
 * Positions outside of the image point to a row of zero points in scratch memory, so that all
 * positions are computed alike. Four channels are computed at a time. */
#include "nn_kernels.h"

void nn_depthwise(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
  const int32_t channels = layer->in_c, taps = layer->kernel_h * layer->kernel_w;
  const int32_t twice_zero_1 = 2 * layer->out_zero + 1;
  const int32_t plain = nn_is_plain(layer);
  const int8_t **const tap = (const int8_t **)scratch;
  int8_t *const outside = (int8_t *)scratch + taps * (int32_t)sizeof(*tap);
  int32_t y, x, ky, kx, c, t;
  memset(outside, layer->in_zero, (size_t)channels);
  for (y = 0; y < layer->out_h; ++y) {
    for (x = 0; x < layer->out_w; ++x) {
      const int32_t top = y * layer->stride_h - layer->pad_top;
      const int32_t left = x * layer->stride_w - layer->pad_left;
      const nn_channel *channel = layer->channels;
      t = 0;
      for (ky = 0; ky < layer->kernel_h; ++ky) {
        const int32_t in_y = top + ky * layer->dilation_h;
        const int32_t row_inside = in_y >= 0 && in_y < layer->in_h;
        const int8_t *const row = in + in_y * layer->in_w * channels;
        for (kx = 0; kx < layer->kernel_w; ++kx) {
          const int32_t in_x = left + kx * layer->dilation_w;
          tap[t++] =
              row_inside && in_x >= 0 && in_x < layer->in_w ? row + in_x * channels : outside;
        }
      }
      c = 0;
#if NN_DSP
      for (; c + 4 <= channels; c += 4) {
        const int8_t *weights = layer->weights + c;
        const int8_t *const *const last = tap + taps;
        const int8_t *const *at = tap;
        int32_t sum0 = channel[0].bias, sum1 = channel[1].bias;
        int32_t sum2 = channel[2].bias, sum3 = channel[3].bias;
        do {
          const uint32_t word = nn_load4(*at++ + c), factor = nn_load4(weights);
          const uint32_t even = nn_even(word), odd = nn_odd(word);
          const uint32_t even_factor = nn_even(factor), odd_factor = nn_odd(factor);
          sum0 = nn_low(even, even_factor, sum0);
          sum2 = nn_high(even, even_factor, sum2);
          sum1 = nn_low(odd, odd_factor, sum1);
          sum3 = nn_high(odd, odd_factor, sum3);
          weights += channels;
        } while (at != last);
        out[0] = nn_finished(layer, channel, twice_zero_1, plain, sum0);
        out[1] = nn_finished(layer, channel + 1, twice_zero_1, plain, sum1);
        out[2] = nn_finished(layer, channel + 2, twice_zero_1, plain, sum2);
        out[3] = nn_finished(layer, channel + 3, twice_zero_1, plain, sum3);
        out += 4;
        channel += 4;
      }
#endif
      for (; c < channels; ++c) {
        const int8_t *weights = layer->weights + c;
        int32_t sum = channel->bias;
        for (t = 0; t < taps; ++t) sum += tap[t][c] * weights[t * channels];
        *out++ = nn_finished(layer, channel++, twice_zero_1, plain, sum);
      }
    }
  }
}
