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

/* For functions that are written once for all vectors and for the last, shorter ones. */
#define NN_ALWAYS_INLINE static inline __attribute__((always_inline))

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

/* x / 2^-right, rounded half away from zero; all elements of right are negative. VRSHL rounds half
 * up, which is the same after 1 is subtracted from what is negative. */
static inline int32x4_t nn_rounded_shift4(int32x4_t x, int32x4_t right) {
  return vrshlq_s32(vaddq_s32(x, vshrq_n_s32(x, 31)), right);
}

/* nn_scaled of four values. */
static inline int32x4_t nn_scaled4(int32x4_t x, const nn_factors *factors) {
  x = vqrdmulhq_s32(vshlq_s32(x, factors->left), factors->multiplier);
  x = vaddq_s32(x, vshrq_n_s32(vandq_s32(x, factors->right), 31)); /* not where right is 0 */
  return vrshlq_s32(x, factors->right);
}

/* The bytes between the constants of a channel and those of the one `step` channels on, four
 * times. */
static inline uint32x4_t nn_channel_offsets(uint32_t step) {
  return vmulq_n_u32(vidupq_n_u32(0, 1), step * (uint32_t)sizeof(nn_channel));
}

/* Whether no channel of a layer has a negative number of bits, which vectors do not handle. */
static inline int32_t nn_bits_are_usual(const nn_conv_layer *layer) {
  int32_t c, all = 0;
  for (c = 0; c < layer->out_c; ++c) all |= layer->channels[c].bits;
  return all >= 0;
}

/* The constants of four channels, the first at `channel`. */
typedef struct {
  int32x4_t bias, multiplier, right;
} nn_channel4;

static inline nn_channel4 nn_load_channels(const nn_channel *channel, uint32x4_t offsets,
                                           mve_pred16_t lanes) {
  nn_channel4 four;
  four.bias = vldrwq_gather_offset_z_s32(&channel->bias, offsets, lanes);
  four.multiplier = vldrwq_gather_offset_z_s32(&channel->multiplier, offsets, lanes);
  /* -bits - 2 */
  four.right = vsubq_n_s32(
      vmvnq_s32(vldrwq_gather_offset_z_s32(&channel->bits, offsets, lanes)), 1);
  return four;
}

/* The same of one channel: how far to shift to the left. */
static inline int32_t nn_right(const nn_channel *channel) {
  int32_t bits = ~channel->bits;
  __asm__("" : "+r"(bits)); /* GCC 12 makes three instructions of -2 - bits */
  return bits - 1;
}

/* factor * x of four channels, without the zero point: nn_requantized for bits that are usual. */
static inline int32x4_t nn_requantized4(int32x4_t x, const nn_channel4 *four) {
  return nn_rounded_shift4(vqrdmulhq_s32(x, four->multiplier), four->right);
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
#endif

#endif /* NN_MVE_H_ */
