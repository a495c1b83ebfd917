/* Operators that only move values. */
#include "nn_mve.h"

static inline void nn_move(int8_t *to, const int8_t *from, int32_t count) {
#if NN_MVE
  nn_copy_bytes(to, from, count); /* without a call: most blocks are short */
#else
  memcpy(to, from, (size_t)count);
#endif
}

void nn_copy(const nn_copy_layer *layer, const int8_t *in, int8_t *out) {
  const int32_t *const n = layer->count, *const from = layer->from, *const to = layer->to;
  int32_t i4, i3, i2, i1, i0;
  if (layer->fill_bytes) memset(out, layer->fill, (size_t)layer->fill_bytes);
  in += layer->from_start;
  out += layer->to_start;
  for (i4 = 0; i4 < n[4]; ++i4) {
    for (i3 = 0; i3 < n[3]; ++i3) {
      for (i2 = 0; i2 < n[2]; ++i2) {
        for (i1 = 0; i1 < n[1]; ++i1) {
          const int8_t *source = in + i4 * from[4] + i3 * from[3] + i2 * from[2] + i1 * from[1];
          int8_t *target = out + i4 * to[4] + i3 * to[3] + i2 * to[2] + i1 * to[1];
          for (i0 = 0; i0 < n[0]; ++i0) {
            if (layer->block == 1) {
              *target = *source;
            } else {
              nn_move(target, source, layer->block);
            }
            source += from[0];
            target += to[0];
          }
        }
      }
    }
  }
}

void nn_gather(const nn_gather_layer *layer, const int8_t *in, int8_t *out) {
  const int32_t *const indices = layer->indices;
  const int32_t count = layer->count, inner = layer->inner;
  int32_t o, i;
  for (o = 0; o < layer->outer; ++o) {
    if (inner == 1) {
      for (i = 0; i < count; ++i) *out++ = in[indices[i]];
    } else {
      for (i = 0; i < count; ++i) {
        nn_move(out, in + indices[i] * inner, inner);
        out += inner;
      }
    }
    in += layer->axis * inner;
  }
}
