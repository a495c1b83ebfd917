/* Integer arithmetic of TensorFlow Lite Micro's reference kernels, bit for bit.
 *
 * A real factor is stored as multiplier * 2^(shift - 31), with a multiplier of 0 or in [2^30, 2^31).
 * A product with it is rounded twice: once to an integer, half up, after the multiplication, and
 * once, half away from zero, where bits are shifted out. */
#ifndef NN_ARITHMETIC_H_
#define NN_ARITHMETIC_H_

#include <stdint.h>
#include <string.h>

/* The DSP extension of Armv7E-M and Armv8-M (Cortex-M4, M7, M33, M55). */
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(NN_PORTABLE)
#define NN_DSP 1
#else
#define NN_DSP 0
#endif

/* Helium, the integer vectors of Armv8.1-M (Cortex-M55, M85); its kernels use nn_mve.h. They were
 * tried with GCC alone, and need more registers than there are without optimization; elsewhere the
 * DSP extension serves. */
#if defined(__ARM_FEATURE_MVE) && defined(__GNUC__) && defined(__OPTIMIZE__) && \
    !defined(__clang__) && !defined(NN_PORTABLE)
#define NN_MVE (__ARM_FEATURE_MVE & 1)
#else
#define NN_MVE 0
#endif

/* For functions that are written once and compiled for each value of a constant argument. */
#if defined(__GNUC__)
#define NN_ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define NN_ALWAYS_INLINE static inline
#endif

/* (x * multiplier) / 2^31, rounded half up. */
static inline int32_t nn_high_product(int32_t x, int32_t multiplier) {
  return (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << 30)) >> 31);
}

/* x / 2^bits, rounded half away from zero; 0 <= bits <= 31. */
static inline int32_t nn_rounded_shift(int32_t x, int32_t bits) {
  const int32_t mask = (int32_t)(((uint32_t)1 << bits) - 1);
  const int32_t threshold = (mask >> 1) + (x < 0);
  return (x >> bits) + ((x & mask) > threshold);
}

/* x * factor for any shift from -31 to 30. */
static inline int32_t nn_scaled(int32_t x, int32_t multiplier, int32_t shift) {
  if (shift > 0) return nn_high_product((int32_t)((uint32_t)x << shift), multiplier);
  return nn_rounded_shift(nn_high_product(x, multiplier), -shift);
}

/* How accumulators of one output channel become int8: int8 = bias' + factor * (accumulator + bias).
 *
 * bits is the number of bits that are shifted out, minus 2, from 0 to 21. Factors that need another
 * number of bits have bits = shift - 64, which is negative. */
typedef struct {
  int32_t bias;
  int32_t multiplier;
  int32_t bits;
} nn_channel;

/* zero + factor * x, as nn_scaled computes it, where twice_zero_1 = 2 * zero + 1.
 *
 * Both roundings and the sum are one 64-bit multiply-accumulate. With e bits to shift out, half
 * away from zero means: add 2^(e-1), and subtract 1 if the product is negative, then shift. All
 * terms are multiples of 2^31 here, apart from the 2^30 of the first rounding; the 1 to subtract is
 * 2^31, which makes 2^30 the bit pattern 0xC0000000 with a borrow from the high word. The product
 * is negative exactly if x is, or the difference does not matter (x = -1, multiplier = 2^30). */
static inline int32_t nn_requantized(int32_t x, int32_t multiplier, int32_t bits,
                                     int32_t twice_zero_1) {
  if (bits < 0) return (twice_zero_1 >> 1) + nn_scaled(x, multiplier, bits + 64);
  {
    const uint32_t low = ((uint32_t)x & 0x80000000u) | 0x40000000u;
    const int32_t high = (int32_t)((uint32_t)twice_zero_1 << bits) + (x >> 31);
#if NN_DSP
    uint32_t sum_low = low;
    int32_t sum_high = high;
    __asm__("smlal %0, %1, %2, %3" : "+r"(sum_low), "+r"(sum_high) : "r"(x), "r"(multiplier));
    return (sum_high >> bits) >> 1;
#else
    const int64_t start = (int64_t)(((uint64_t)(uint32_t)high << 32) | low);
    return (int32_t)((start + (int64_t)x * multiplier) >> 32 >> bits) >> 1;
#endif
  }
}

static inline int32_t nn_clamped(int32_t x, int32_t least, int32_t greatest) {
  return x < least ? least : x > greatest ? greatest : x;
}

static inline int32_t nn_saturated(int32_t x) {
#if NN_DSP
  int32_t y;
  __asm__("ssat %0, #8, %1" : "=r"(y) : "r"(x));
  return y;
#else
  return nn_clamped(x, -128, 127);
#endif
}

#if NN_DSP
/* Reads four bytes; the address need not be aligned. */
static inline uint32_t nn_load4(const int8_t *from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}

/* Bytes 0 and 2 of a word as two 16-bit numbers. */
static inline uint32_t nn_even(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
  return pair;
}

/* Bytes 1 and 3 of a word as two 16-bit numbers. */
static inline uint32_t nn_odd(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}

/* Two 16-bit sums with bytes 0 and 2 of a word added to them. */
static inline uint32_t nn_add_even(uint32_t word, uint32_t sums) {
  __asm__("sxtab16 %0, %0, %1" : "+r"(sums) : "r"(word));
  return sums;
}

/* Two 16-bit sums with bytes 1 and 3 of a word added to them. */
static inline uint32_t nn_add_odd(uint32_t word, uint32_t sums) {
  __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sums) : "r"(word));
  return sums;
}

/* The greater ones of four pairs of bytes. SSUB8 notes where the first one is not less; its result
 * is of no use. */
static inline uint32_t nn_greater4(uint32_t x, uint32_t y) {
  uint32_t unused;
  __asm__("ssub8 %1, %2, %0\n\tsel %0, %2, %0" : "+r"(y), "=&r"(unused) : "r"(x) : "cc");
  return y;
}

/* The lesser ones, likewise. */
static inline uint32_t nn_lesser4(uint32_t x, uint32_t y) {
  uint32_t unused;
  __asm__("ssub8 %1, %2, %0\n\tsel %0, %0, %2" : "+r"(y), "=&r"(unused) : "r"(x) : "cc");
  return y;
}

/* sum + x.low * y.low + x.high * y.high */
static inline int32_t nn_dot2(uint32_t x, uint32_t y, int32_t sum) {
  __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
  return sum;
}

/* sum + x.low * y.low */
static inline int32_t nn_low(uint32_t x, uint32_t y, int32_t sum) {
  __asm__("smlabb %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
  return sum;
}

/* sum + x.high * y.high */
static inline int32_t nn_high(uint32_t x, uint32_t y, int32_t sum) {
  __asm__("smlatt %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
  return sum;
}
#endif

#endif /* NN_ARITHMETIC_H_ */
