/* Operators that compute each output value from one value of each input. */
#include "nn_mve.h"

void nn_table(const nn_table_layer *layer, const int8_t *in, int8_t *out) {
  const int8_t *const middle = layer->table + 128, *const end = in + layer->size;
#if NN_MVE
  for (; in + 16 <= end; in += 16) {
    vstrbq_s8(out, nn_looked_up16(vldrbq_s8(in), layer->table));
    out += 16;
  }
#endif
  while (in != end) *out++ = middle[*in++];
}

/* Calls VALUE, an expression of x (of a), y (of b) and layer, for all pairs in the order of the
 * output. */
#define NN_FOR_EACH_PAIR(VALUE)                                             \
  const int32_t *const n = layer->count;                                    \
  const int32_t n0 = n[0], a0 = layer->a[0], b0 = layer->b[0];              \
  int32_t i3, i2, i1, i0;                                                   \
  for (i3 = 0; i3 < n[3]; ++i3) {                                           \
    for (i2 = 0; i2 < n[2]; ++i2) {                                         \
      for (i1 = 0; i1 < n[1]; ++i1) {                                       \
        const int8_t *p = a + i3 * layer->a[3] + i2 * layer->a[2] + i1 * layer->a[1]; \
        const int8_t *q = b + i3 * layer->b[3] + i2 * layer->b[2] + i1 * layer->b[1]; \
        for (i0 = 0; i0 < n0; ++i0) {                                       \
          const int32_t x = *p, y = *q;                                     \
          *out++ = (int8_t)(VALUE);                                         \
          p += a0;                                                          \
          q += b0;                                                          \
        }                                                                   \
      }                                                                     \
    }                                                                       \
  }

#if NN_MVE
/* The same with x, y and VALUE as vectors of four. */
#define NN_FOR_EACH_FOUR_PAIRS(VALUE)                                                    \
  const int32_t *const n = layer->count;                                                 \
  const int32_t n0 = n[0], a0 = layer->a[0], b0 = layer->b[0];                           \
  const uint32x4_t a_places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)a0);             \
  const uint32x4_t b_places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)b0);             \
  int32_t i3, i2, i1, left;                                                              \
  for (i3 = 0; i3 < n[3]; ++i3) {                                                        \
    for (i2 = 0; i2 < n[2]; ++i2) {                                                      \
      for (i1 = 0; i1 < n[1]; ++i1) {                                                    \
        const int8_t *p = a + i3 * layer->a[3] + i2 * layer->a[2] + i1 * layer->a[1];    \
        const int8_t *q = b + i3 * layer->b[3] + i2 * layer->b[2] + i1 * layer->b[1];    \
        for (left = n0; left >= 4; left -= 4) {                                          \
          const int32x4_t x = vldrbq_gather_offset_s32(p, a_places);                     \
          const int32x4_t y = vldrbq_gather_offset_s32(q, b_places);                     \
          vstrbq_s32(out, VALUE);                                                        \
          out += 4;                                                                      \
          p += 4 * a0;                                                                   \
          q += 4 * b0;                                                                   \
        }                                                                                \
        if (left) {                                                                      \
          const mve_pred16_t lanes = vctp32q((uint32_t)left);                            \
          const int32x4_t x = vldrbq_gather_offset_z_s32(p, a_places, lanes);            \
          const int32x4_t y = vldrbq_gather_offset_z_s32(q, b_places, lanes);            \
          vstrbq_p_s32(out, VALUE, lanes);                                               \
          out += left;                                                                   \
        }                                                                                \
      }                                                                                  \
    }                                                                                    \
  }

/* How output values end; a copy, because the compiler must read a layer again after each store. */
typedef struct {
  int32_t zero;
  int32x4_t least, greatest;
} nn_binary_ending;

static inline nn_binary_ending nn_binary_ending_of(const nn_binary_layer *layer) {
  nn_binary_ending ending;
  ending.zero = layer->out_zero;
  ending.least = vdupq_n_s32(layer->least);
  ending.greatest = vdupq_n_s32(layer->greatest);
  return ending;
}

/* The outputs of values without the zero point. */
static inline int32x4_t nn_binary_ended4(int32x4_t x, const nn_binary_ending *ending) {
  return vminq_s32(vmaxq_s32(vaddq_n_s32(x, ending->zero), ending->least), ending->greatest);
}

/* An input of a sum at the common scale. */
static inline int32x4_t nn_term4(int32x4_t x, int32_t zero, const nn_factors *factors) {
  return nn_scaled4(vshlq_n_s32(vsubq_n_s32(x, zero), 20), factors);
}
#endif

/* Both inputs are brought to a common scale with 20 more bits, added or subtracted, and scaled. */
#define NN_SUM(SIGN)                                                                    \
  nn_clamped(                                                                           \
      nn_scaled(nn_scaled((x - layer->a_zero) * (1 << 20), layer->a_multiplier, layer->a_shift) \
                    SIGN nn_scaled((y - layer->b_zero) * (1 << 20), layer->b_multiplier, \
                                   layer->b_shift),                                     \
                layer->out_multiplier, layer->out_shift) +                              \
          layer->out_zero,                                                              \
      layer->least, layer->greatest)

void nn_add(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out) {
#if NN_MVE
  const nn_factors a_factors = nn_same_factors(layer->a_multiplier, layer->a_shift);
  const nn_factors b_factors = nn_same_factors(layer->b_multiplier, layer->b_shift);
  const nn_factors factors = nn_same_factors(layer->out_multiplier, layer->out_shift);
  const nn_binary_ending ending = nn_binary_ending_of(layer);
  const int32_t a_zero = layer->a_zero, b_zero = layer->b_zero;
  NN_FOR_EACH_FOUR_PAIRS(nn_binary_ended4(
      nn_scaled4(vaddq_s32(nn_term4(x, a_zero, &a_factors),
                           nn_term4(y, b_zero, &b_factors)),
                 &factors),
      &ending))
#else
  NN_FOR_EACH_PAIR(NN_SUM(+))
#endif
}

void nn_sub(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out) {
#if NN_MVE
  const nn_factors a_factors = nn_same_factors(layer->a_multiplier, layer->a_shift);
  const nn_factors b_factors = nn_same_factors(layer->b_multiplier, layer->b_shift);
  const nn_factors factors = nn_same_factors(layer->out_multiplier, layer->out_shift);
  const nn_binary_ending ending = nn_binary_ending_of(layer);
  const int32_t a_zero = layer->a_zero, b_zero = layer->b_zero;
  NN_FOR_EACH_FOUR_PAIRS(nn_binary_ended4(
      nn_scaled4(vsubq_s32(nn_term4(x, a_zero, &a_factors),
                           nn_term4(y, b_zero, &b_factors)),
                 &factors),
      &ending))
#else
  NN_FOR_EACH_PAIR(NN_SUM(-))
#endif
}

void nn_mul(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  /* out_shift is in the form of nn_channel.bits. */
#if NN_MVE
  const int32_t bits = layer->out_shift;
  const nn_factors factors =
      nn_same_factors(layer->out_multiplier, bits < 0 ? bits + 64 : -bits - 2);
  const nn_binary_ending ending = nn_binary_ending_of(layer);
  const int32_t a_zero = layer->a_zero, b_zero = layer->b_zero;
  NN_FOR_EACH_FOUR_PAIRS(nn_binary_ended4(
      nn_scaled4(vmulq_s32(vsubq_n_s32(x, a_zero), vsubq_n_s32(y, b_zero)),
                 &factors),
      &ending))
#else
  const int32_t multiplier = layer->out_multiplier, bits = layer->out_shift;
  const int32_t twice_zero_1 = 2 * layer->out_zero + 1;
  const int32_t a_zero = layer->a_zero, b_zero = layer->b_zero;
  const int32_t least = layer->least, greatest = layer->greatest;
  NN_FOR_EACH_PAIR(nn_clamped(
      nn_requantized((x - a_zero) * (y - b_zero), multiplier, bits, twice_zero_1), least, greatest))
#endif
}

void nn_prelu(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  NN_FOR_EACH_PAIR(nn_saturated(
      layer->out_zero +
      (x >= layer->a_zero
           ? nn_scaled(x - layer->a_zero, layer->a_multiplier, layer->a_shift)
           : nn_scaled((x - layer->a_zero) * (y - layer->b_zero), layer->b_multiplier,
                       layer->b_shift))))
}

void nn_maximum(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  NN_FOR_EACH_PAIR(x > y ? x : y)
}

void nn_minimum(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  NN_FOR_EACH_PAIR(x < y ? x : y)
}
