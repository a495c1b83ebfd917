/* Helium (MVE), the vectors of Cortex-M55 and M85: what the kernels share.
 *
 * A vector holds 16 values of 8 bits, 8 of 16 or 4 of 32. Where it may reach beyond the end of an
 * array, a predicate switches its last lanes off: they read and write no memory. Every function
 * computes what its namesake in nn_arithmetic.h and nn_kernels.h computes, bit for bit. */
#ifndef NN_MVE_H_
#define NN_MVE_H_

#include "nn_kernels.h"

#if NN_MVE
#include <arm_mve.h>

/* For loops that need the registers for themselves. */
#define NN_NEVER_INLINE static __attribute__((noinline))

/* Factors of four values. right: the bits to shift out, negative or 0; left: those before. */
typedef struct {
  int32x4_t multiplier, left, right;
} nn_factors;

/* The same factor four times; shift as in nn_scaled. */
static inline nn_factors nn_same_factors(int32_t multiplier, int32_t shift) {
  nn_factors factors;
  factors.multiplier = vdupq_n_s32(multiplier);
  factors.left = vdupq_n_s32(shift > 0 ? shift : 0);
  factors.right = vdupq_n_s32(shift < 0 ? shift : 0);
  return factors;
}

/* nn_scaled of four values. */
static inline int32x4_t nn_scaled4(int32x4_t x, const nn_factors *factors) {
  x = vqrdmulhq_s32(vshlq_s32(x, factors->left), factors->multiplier);
  x = vaddq_s32(x, vshrq_n_s32(vandq_s32(x, factors->right), 31)); /* not where right is 0 */
  return vrshlq_s32(x, factors->right);
}

/* Whether no channel of a layer has a negative number of bits, which vectors do not handle. */
static inline int32_t nn_bits_are_usual(const nn_conv_layer *layer) {
  int32_t c, all = 0;
  for (c = 0; c < layer->out_c; ++c) all |= layer->channels[c].bits;
  return all >= 0;
}

/* How far the bits of a channel shift to the left: -bits - 2. */
static inline int32_t nn_right(const nn_channel *channel) {
  int32_t bits = ~channel->bits;
  __asm__("" : "+r"(bits)); /* GCC 12 makes three instructions of -2 - bits */
  return bits - 1;
}

/* factor * (x + bias) of `count` channels, `step` apart, without the zero point: nn_requantized for
 * bits that are usual. A count of 4 should be a constant.
 *
 * VQRDMULH and VRSHL round half up. Half away from zero is the same after 1 is subtracted from
 * what is negative. */
NN_ALWAYS_INLINE int32x4_t nn_requantized4(int32x4_t x, const nn_channel *channel, uint32_t step,
                                           int32_t count) {
  const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), step * (uint32_t)sizeof(*channel));
  int32x4_t bias, multiplier, bits;
  if (count == 4) {
    bias = vldrwq_gather_offset_s32(&channel->bias, offsets);
    multiplier = vldrwq_gather_offset_s32(&channel->multiplier, offsets);
    bits = vldrwq_gather_offset_s32(&channel->bits, offsets);
  } else {
    const mve_pred16_t lanes = vctp32q((uint32_t)count);
    bias = vldrwq_gather_offset_z_s32(&channel->bias, offsets, lanes);
    multiplier = vldrwq_gather_offset_z_s32(&channel->multiplier, offsets, lanes);
    bits = vldrwq_gather_offset_z_s32(&channel->bits, offsets, lanes);
  }
  x = vqrdmulhq_s32(vaddq_s32(x, bias), multiplier);
  x = vaddq_s32(x, vshrq_n_s32(x, 31));
  return vrshlq_s32(x, vsubq_n_s32(vmvnq_s32(bits), 1));
}

/* How a layer's output values end: with a table, all numbers are 128 more, so that a value is an
 * index. */
typedef struct {
  int32_t zero, least, greatest;
  const int8_t *table;
} nn_ending;

static inline nn_ending nn_ending_of(const nn_conv_layer *layer) {
  const int32_t more = layer->table ? 128 : 0;
  nn_ending ending;
  ending.zero = layer->out_zero + more;
  ending.least = layer->least + more;
  ending.greatest = layer->greatest + more;
  ending.table = layer->table;
  return ending;
}

/* The outputs of values without the zero point. */
static inline int32x4_t nn_ended4(int32x4_t x, const nn_ending *ending) {
  x = vaddq_n_s32(x, ending->zero);
  x = vmaxq_s32(x, vdupq_n_s32(ending->least));
  x = vminq_s32(x, vdupq_n_s32(ending->greatest));
  return ending->table ? vldrbq_gather_offset_s32(ending->table, vreinterpretq_u32_s32(x)) : x;
}

/* table[x + 128] of 16 values. */
static inline int8x16_t nn_looked_up16(int8x16_t x, const int8_t *table) {
  return vldrbq_gather_offset_s8(table, veorq_u8(vreinterpretq_u8_s8(x), vdupq_n_u8(128)));
}

/* The outputs of values with the zero point. */
static inline int8x16_t nn_ended16(int8x16_t x, const nn_conv_layer *layer) {
  x = vmaxq_s8(x, vdupq_n_s8((int8_t)layer->least));
  x = vminq_s8(x, vdupq_n_s8((int8_t)layer->greatest));
  return layer->table ? nn_looked_up16(x, layer->table) : x;
}

/* Four integers in one vector. */
static inline int32x4_t nn_vector4(int32_t a, int32_t b, int32_t c, int32_t d) {
  int32x4_t vector;
  __asm__("vmov %q0[2], %q0[0], %1, %2\n\tvmov %q0[3], %q0[1], %3, %4"
          : "=&w"(vector)
          : "r"(a), "r"(c), "r"(b), "r"(d));
  return vector;
}

/* Copies bytes: a loop whose last turn has fewer lanes. */
static inline void nn_copy_bytes(int8_t *to, const int8_t *from, int32_t count) {
  __asm__ volatile(
      "wlstp.8 lr, %2, 1f\n"
      "2:\n\t"
      "vldrb.8 q0, [%1], #16\n\t"
      "vstrb.8 q0, [%0], #16\n\t"
      "letp lr, 2b\n"
      "1:"
      : "+r"(to), "+r"(from)
      : "r"(count)
      : "q0", "lr", "memory");
}

/* Sets bytes to a value, likewise. */
static inline void nn_fill_bytes(int8_t *to, int32_t value, int32_t count) {
  const int8x16_t values = vdupq_n_s8((int8_t)value);
  __asm__ volatile(
      "wlstp.8 lr, %1, 1f\n"
      "2:\n\t"
      "vstrb.8 %q2, [%0], #16\n\t"
      "letp lr, 2b\n"
      "1:"
      : "+r"(to)
      : "r"(count), "w"(values)
      : "lr", "memory");
}
#endif

#endif /* NN_MVE_H_ */
