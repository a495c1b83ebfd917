/* Depthwise convolutions with one output channel for each input channel.
 *
 * Positions outside of the image point to a row of zero points in scratch memory, so that all
 * positions are computed alike. Four channels are computed at a time. */
#include "nn_mve.h"

#if NN_MVE
/* Lets the taps of an output pixel point to its inputs. */
static void nn_aim(const nn_conv_layer *layer, const int8_t *in, int32_t y, int32_t x,
                   const int8_t **tap, const int8_t *outside) {
  const int32_t top = y * layer->stride_h - layer->pad_top;
  const int32_t left = x * layer->stride_w - layer->pad_left;
  int32_t ky, kx;
  for (ky = 0; ky < layer->kernel_h; ++ky) {
    const int32_t in_y = top + ky * layer->dilation_h;
    const int32_t width = in_y >= 0 && in_y < layer->in_h ? layer->in_w : 0;
    const int8_t *const row = in + in_y * layer->in_w * layer->in_c;
    int32_t in_x = left;
    for (kx = 0; kx < layer->kernel_w; ++kx) {
      *tap++ = (uint32_t)in_x < (uint32_t)width ? row + in_x * layer->in_c : outside;
      in_x += layer->dilation_w;
    }
  }
}

/* Moves all taps that are not outside by `step` bytes. */
static void nn_move_taps(const int8_t **tap, int32_t taps, int32_t step, const int8_t *outside) {
  uint32_t *at = (uint32_t *)tap;
  for (; taps > 0; taps -= 4) {
    const mve_pred16_t lanes = vctp32q((uint32_t)taps);
    const uint32x4_t old = vldrwq_z_u32(at, lanes);
    vstrwq_p_u32(at, vaddq_n_u32(old, (uint32_t)step),
                 vcmpneq_m_n_u32(old, (uint32_t)outside, lanes));
    at += 4;
  }
}

/* Products of eight channels at one tap. all: whether all lanes are on, a constant. */
NN_ALWAYS_INLINE int16x8_t nn_products8(const int8_t *values, const int8_t *weights, int32_t all,
                                     mve_pred16_t lanes) {
  if (all) return vmulq_s16(vldrbq_s16(values), vldrbq_s16(weights));
  return vmulq_s16(vldrbq_z_s16(values, lanes), vldrbq_z_s16(weights, lanes));
}

/* One output pixel of eight channels from number c on, or of those of them that there are.
 *
 * The products of two taps are added in 16 bits: weights are at least -127. Even and odd channels
 * are then in vectors of their own. */
NN_ALWAYS_INLINE void nn_depthwise8(const nn_conv_layer *layer, const nn_ending *ending,
                                 const int8_t *const *tap, int32_t c, int32_t all, int8_t *out) {
  const int32_t taps = layer->kernel_h * layer->kernel_w, channels = layer->in_c;
  const uint32_t count = all ? 8 : (uint32_t)(channels - c);
  const mve_pred16_t lanes = vctp16q(count);
  const uint32x4_t offsets = nn_channel_offsets(2);
  const nn_channel *const channel = layer->channels + c;
  const nn_channel4 even = nn_load_channels(channel, offsets, vctp32q((count + 1) / 2));
  const nn_channel4 odd = nn_load_channels(channel + 1, offsets, vctp32q(count / 2));
  const int8_t *weights = layer->weights + c;
  const int8_t *const *const last = tap + (taps & ~1);
  int32x4_t even_sum = even.bias, odd_sum = odd.bias;
  int16x8_t value;
  while (tap != last) {
    int16x8_t sum = nn_products8(tap[0] + c, weights, all, lanes);
    weights += channels;
    sum = vaddq_s16(sum, nn_products8(tap[1] + c, weights, all, lanes));
    weights += channels;
    even_sum = vaddq_s32(even_sum, vmovlbq_s16(sum));
    odd_sum = vaddq_s32(odd_sum, vmovltq_s16(sum));
    tap += 2;
  }
  if (taps & 1) {
    const int16x8_t product = nn_products8(tap[0] + c, weights, all, lanes);
    even_sum = vaddq_s32(even_sum, vmovlbq_s16(product));
    odd_sum = vaddq_s32(odd_sum, vmovltq_s16(product));
  }
  value = vqmovnbq_s32(vdupq_n_s16(0), nn_requantized4(even_sum, &even));
  value = vqmovntq_s32(value, nn_requantized4(odd_sum, &odd));
  value = vqaddq_n_s16(value, (int16_t)ending->zero);
  value = vmaxq_s16(value, vdupq_n_s16((int16_t)ending->least));
  value = vminq_s16(value, vdupq_n_s16((int16_t)ending->greatest));
  if (ending->table) {
    value = vldrbq_gather_offset_z_s16(ending->table, vreinterpretq_u16_s16(value), lanes);
  }
  if (all) {
    vstrbq_s16(out, value);
  } else {
    vstrbq_p_s16(out, value, lanes);
  }
}

static void nn_depthwise_vectors(const nn_conv_layer *layer, const int8_t *in, int8_t *out,
                                 void *scratch) {
  const int32_t channels = layer->in_c, taps = layer->kernel_h * layer->kernel_w;
  const int32_t span = (layer->kernel_w - 1) * layer->dilation_w;
  const nn_ending ending = nn_ending_of(layer);
  const int8_t **const tap = (const int8_t **)scratch;
  int8_t *const outside = (int8_t *)scratch + taps * (int32_t)sizeof(*tap);
  int32_t y, x, c;
  memset(outside, layer->in_zero, (size_t)channels);
  for (y = 0; y < layer->out_h; ++y) {
    for (x = 0; x < layer->out_w; ++x) {
      const int32_t left = x * layer->stride_w - layer->pad_left;
      /* Where all columns are inside of the image, and were so before. */
      if (x > 0 && left >= layer->stride_w && left + span < layer->in_w) {
        nn_move_taps(tap, taps, layer->stride_w * channels, outside);
      } else {
        nn_aim(layer, in, y, x, tap, outside);
      }
      for (c = 0; c + 8 <= channels; c += 8) {
        nn_depthwise8(layer, &ending, tap, c, 1, out + c);
      }
      if (c < channels) nn_depthwise8(layer, &ending, tap, c, 0, out + c);
      out += channels;
    }
  }
}
#endif

void nn_depthwise(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
  const int32_t channels = layer->in_c, taps = layer->kernel_h * layer->kernel_w;
  const int32_t twice_zero_1 = 2 * layer->out_zero + 1;
  const int32_t plain = nn_is_plain(layer);
  const int8_t **const tap = (const int8_t **)scratch;
  int8_t *const outside = (int8_t *)scratch + taps * (int32_t)sizeof(*tap);
  int32_t y, x, ky, kx, c, t;
#if NN_MVE
  if (nn_bits_are_usual(layer)) {
    nn_depthwise_vectors(layer, in, out, scratch);
    return;
  }
#endif
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
