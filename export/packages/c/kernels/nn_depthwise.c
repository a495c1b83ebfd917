/* Depthwise convolutions with one output channel for each input channel.
 *
 * Positions outside of the image point to a row of zero points in scratch memory, so that all
 * positions are computed alike. Four channels are computed at a time, with Helium 16. */
#include "nn_mve.h"

#if NN_MVE
/* Sets the taps of an output pixel to the addresses of its inputs. */
static void nn_aim(const nn_conv_layer *layer, const int8_t *in, int32_t y, int32_t x,
                   uint32_t *tap, const int8_t *outside) {
  const int32_t top = y * layer->stride_h - layer->pad_top;
  const int32_t left = x * layer->stride_w - layer->pad_left;
  int32_t ky, kx;
  for (ky = 0; ky < layer->kernel_h; ++ky) {
    const int32_t in_y = top + ky * layer->dilation_h;
    const int32_t width = in_y >= 0 && in_y < layer->in_h ? layer->in_w : 0;
    const int8_t *const row = in + in_y * layer->in_w * layer->in_c;
    int32_t in_x = left;
    for (kx = 0; kx < layer->kernel_w; ++kx) {
      const int32_t inside = in_x >= 0 && in_x < width;
      *tap++ = (uint32_t)(inside ? row + in_x * layer->in_c : outside);
      in_x += layer->dilation_w;
    }
  }
}

/* Moves all taps that are not outside by `step` bytes. */
static void nn_move_taps(uint32_t *tap, int32_t taps, int32_t step, const int8_t *outside) {
  for (; taps > 0; taps -= 4) {
    const mve_pred16_t lanes = vctp32q((uint32_t)taps);
    const uint32x4_t old = vldrwq_z_u32(tap, lanes);
    vstrwq_p_u32(tap, vaddq_n_u32(old, (uint32_t)step),
                 vcmpneq_m_n_u32(old, (uint32_t)outside, lanes));
    tap += 4;
  }
}

/* Adds the products of pairs of taps for 16 channels to sums: of channels 0, 4, 8 and 12 to sum0,
 * of 1, 5, 9 and 13 to sum1 and so on. The products of two taps are added in 16 bits, which
 * suffices because weights are at least -127. The reload of a vector saves a register.
 *
 * PREDICATE and T: empty, or an instruction that predicates the next two, and their suffix. */
#define NN_PAIRS_OF_TAPS(PREDICATE, T)          \
  "wls lr, %[pairs], 1f\n"                      \
  "2:\n\t"                                      \
  "ldrd %[first], %[second], [%[tap]], #8\n\t" \
  "add %[first], %[c]\n\t"                     \
  "add %[second], %[c]\n\t" PREDICATE          \
  "vldrb" T ".8 q0, [%[first]]\n\t"            \
  "vldrb" T ".8 q1, [%[weights]]\n\t"          \
  "add %[weights], %[step]\n\t"                \
  "vmullb.s8 q2, q0, q1\n\t"                   \
  "vmullt.s8 q0, q0, q1\n\t" PREDICATE         \
  "vldrb" T ".8 q1, [%[second]]\n\t"           \
  "vldrb" T ".8 q3, [%[weights]]\n\t"          \
  "add %[weights], %[step]\n\t"                \
  "vmullb.s8 q1, q1, q3\n\t"                   \
  "vadd.i16 q2, q2, q1\n\t" PREDICATE          \
  "vldrb" T ".8 q1, [%[second]]\n\t"           \
  "vmullt" T ".s8 q1, q1, q3\n\t"              \
  "vadd.i16 q0, q0, q1\n\t"                    \
  "vmovlb.s16 q1, q2\n\t"                      \
  "vadd.i32 %q[sum0], %q[sum0], q1\n\t"        \
  "vmovlt.s16 q2, q2\n\t"                      \
  "vadd.i32 %q[sum2], %q[sum2], q2\n\t"        \
  "vmovlb.s16 q1, q0\n\t"                      \
  "vadd.i32 %q[sum1], %q[sum1], q1\n\t"        \
  "vmovlt.s16 q0, q0\n\t"                      \
  "vadd.i32 %q[sum3], %q[sum3], q0\n\t"        \
  "le lr, 2b\n"                                \
  "1:"

/* One output pixel of 16 channels from number c on, or of those of them that there are. all: whether
 * there are 16, a constant. */
NN_ALWAYS_INLINE void nn_depthwise16(const nn_conv_layer *layer, const uint32_t *tap, int32_t c,
                                     int32_t all, int8_t *out) {
  const int32_t taps = layer->kernel_h * layer->kernel_w, step = layer->in_c;
  const int32_t count = all ? 16 : step - c;
  const nn_channel *const channel = layer->channels + c;
  const int8_t *weights = layer->weights + c, *first, *second;
  int32x4_t sum0 = vdupq_n_s32(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int16x8_t even, odd;
  int8x16_t value;
  if (all) {
    __asm__(NN_PAIRS_OF_TAPS("", "")
            : [tap] "+r"(tap), [weights] "+r"(weights), [first] "=&r"(first),
              [second] "=&r"(second), [sum0] "+w"(sum0), [sum1] "+w"(sum1), [sum2] "+w"(sum2),
              [sum3] "+w"(sum3)
            : [c] "r"(c), [step] "r"(step), [pairs] "r"(taps >> 1)
            : "q0", "q1", "q2", "q3", "lr", "memory");
  } else {
    __asm__(NN_PAIRS_OF_TAPS("vpstt\n\t", "t")
            : [tap] "+r"(tap), [weights] "+r"(weights), [first] "=&r"(first),
              [second] "=&r"(second), [sum0] "+w"(sum0), [sum1] "+w"(sum1), [sum2] "+w"(sum2),
              [sum3] "+w"(sum3)
            : [c] "r"(c), [step] "r"(step), [pairs] "r"(taps >> 1), "Up"(vctp8q((uint32_t)count))
            : "q0", "q1", "q2", "q3", "lr", "memory");
  }
  if (taps & 1) {
    const mve_pred16_t lanes = vctp8q((uint32_t)count);
    const int8_t *const last = (const int8_t *)*tap + c;
    const int8x16_t x = all ? vldrbq_s8(last) : vldrbq_z_s8(last, lanes);
    const int8x16_t w = all ? vldrbq_s8(weights) : vldrbq_z_s8(weights, lanes);
    even = vmullbq_int_s8(x, w);
    odd = vmulltq_int_s8(x, w);
    sum0 = vaddq_s32(sum0, vmovlbq_s16(even));
    sum2 = vaddq_s32(sum2, vmovltq_s16(even));
    sum1 = vaddq_s32(sum1, vmovlbq_s16(odd));
    sum3 = vaddq_s32(sum3, vmovltq_s16(odd));
  }
  sum0 = nn_requantized4(sum0, channel, 4, all ? 4 : (count + 3) >> 2);
  sum1 = nn_requantized4(sum1, channel + 1, 4, all ? 4 : (count + 2) >> 2);
  sum2 = nn_requantized4(sum2, channel + 2, 4, all ? 4 : (count + 1) >> 2);
  sum3 = nn_requantized4(sum3, channel + 3, 4, all ? 4 : count >> 2);
  even = vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(sum0), sum0), sum2);
  odd = vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(sum1), sum1), sum3);
  even = vqaddq_n_s16(even, (int16_t)layer->out_zero);
  odd = vqaddq_n_s16(odd, (int16_t)layer->out_zero);
  value = vqmovntq_s16(vqmovnbq_s16(vreinterpretq_s8_s16(even), even), odd);
  value = nn_ended16(value, layer);
  if (all) {
    vstrbq_s8(out, value);
  } else {
    vstrbq_p_s8(out, value, vctp8q((uint32_t)count));
  }
}

static void nn_depthwise_vectors(const nn_conv_layer *layer, const int8_t *in, int8_t *out,
                                 void *scratch) {
  const int32_t channels = layer->in_c, taps = layer->kernel_h * layer->kernel_w;
  const int32_t span = (layer->kernel_w - 1) * layer->dilation_w;
  uint32_t *const tap = (uint32_t *)scratch;
  int8_t *const outside = (int8_t *)(tap + taps);
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
      for (c = 0; c + 16 <= channels; c += 16) {
        nn_depthwise16(layer, tap, c, 1, out + c);
      }
      if (c < channels) nn_depthwise16(layer, tap, c, 0, out + c);
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
