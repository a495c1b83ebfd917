/* Kernels of int8 networks, shared by all networks that efficientnet-elite compiles to C.
 *
 * No kernel allocates memory or keeps state. Arrays are int8 in the order height, width, channel.
 * Where a comment says "in place", the output may overlap with the input as the generator plans it:
 * a kernel writes its output in the order of its addresses, and reads no byte again that it may
 * have overwritten. */
#ifndef NN_KERNELS_H_
#define NN_KERNELS_H_

#include <stddef.h>

#include "nn_arithmetic.h"

#ifdef __cplusplus
extern "C" {
#endif

/* CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED and TRANSPOSE_CONV.
 *
 * weights: for a convolution [out_c][kernel_h][kernel_w][in_c / groups], each output channel padded
 *   with zeros to a multiple of 4; for a depthwise one [kernel_h][kernel_w][in_c]; for a transposed
 *   one [out_c][kernel_h][kernel_w][in_c].
 * channels: one for each output channel. The bias contains what the input's zero point adds.
 * least, greatest: range of the output, which a fused ReLU narrows.
 * table: replaces each output value v by table[v + 128]; NULL for none. */
typedef struct {
  int32_t in_h, in_w, in_c;
  int32_t out_h, out_w, out_c;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t dilation_h, dilation_w;
  int32_t pad_top, pad_left;
  int32_t groups;
  int32_t in_zero, out_zero;
  int32_t least, greatest;
  const int8_t *weights;
  const nn_channel *channels;
  const int8_t *table;
} nn_conv_layer;

/* The output value of an accumulator. plain: whether neither least, greatest nor table change it. */
static inline int8_t nn_finished(const nn_conv_layer *layer, const nn_channel *channel,
                                 int32_t twice_zero_1, int32_t plain, int32_t sum) {
  int32_t value =
      nn_saturated(nn_requantized(sum, channel->multiplier, channel->bits, twice_zero_1));
  if (!plain) {
    value = nn_clamped(value, layer->least, layer->greatest);
    if (layer->table) value = layer->table[value + 128];
  }
  return (int8_t)value;
}

static inline int32_t nn_is_plain(const nn_conv_layer *layer) {
  return layer->least == -128 && layer->greatest == 127 && !layer->table;
}

/* In place. scratch: 4 bytes for each weight of an output channel, rounded up to a multiple of 4
 * weights; aligned to 4 bytes. */
void nn_conv(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);
/* In place. scratch: in_c bytes, and 4 for each weight of a channel, or a pointer's size. */
void nn_depthwise(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);
void nn_transpose_conv(const nn_conv_layer *layer, const int8_t *in, int8_t *out);

/* A function of single values: table[v + 128]. In place. */
typedef struct {
  int32_t size;
  const int8_t *table;
} nn_table_layer;
void nn_table(const nn_table_layer *layer, const int8_t *in, int8_t *out);

/* ADD, SUB, MUL, PRELU, MAXIMUM, MINIMUM of two arrays. In place.
 *
 * count: the output's dimensions, the last one first; a, b: steps of the inputs along them, 0 where
 *   an input is repeated.
 * a_multiplier ...: the factors of the operator, see nn_elementwise.c. */
typedef struct {
  int32_t count[4], a[4], b[4];
  int32_t a_zero, b_zero, out_zero;
  int32_t a_multiplier, a_shift, b_multiplier, b_shift, out_multiplier, out_shift;
  int32_t least, greatest;
} nn_binary_layer;
void nn_add(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_sub(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_mul(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_prelu(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_maximum(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_minimum(const nn_binary_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);

/* MEAN and SUM over the middle one of three dimensions. */
typedef struct {
  int32_t outer, count, inner;
  int32_t in_zero, out_zero, multiplier, shift;
} nn_reduce_layer;
void nn_reduce(const nn_reduce_layer *layer, const int8_t *in, int8_t *out);
/* REDUCE_MAX over the middle one of three dimensions; uses the dimensions only. */
void nn_reduce_max(const nn_reduce_layer *layer, const int8_t *in, int8_t *out);

/* AVERAGE_POOL_2D and MAX_POOL_2D. In place. */
typedef struct {
  int32_t in_h, in_w, out_h, out_w, channels;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
  int32_t least, greatest;
} nn_pool_layer;
void nn_average_pool(const nn_pool_layer *layer, const int8_t *in, int8_t *out);
void nn_max_pool(const nn_pool_layer *layer, const int8_t *in, int8_t *out);

/* Moves blocks of bytes: PAD, CONCATENATION, TRANSPOSE, SLICE, SPLIT and the like.
 *
 * fill_bytes: so many bytes of the output are first set to fill.
 * count: number of blocks along up to five dimensions, the last one first; from, to: the steps
 *   between blocks along them, in bytes. */
typedef struct {
  int32_t fill_bytes, fill;
  int32_t block, from_start, to_start;
  int32_t count[5], from[5], to[5];
} nn_copy_layer;
void nn_copy(const nn_copy_layer *layer, const int8_t *in, int8_t *out);

/* GATHER: out[o][i] = in[o][indices[i]], each of inner bytes. */
typedef struct {
  int32_t outer, axis, inner, count;
  const int32_t *indices;
} nn_gather_layer;
void nn_gather(const nn_gather_layer *layer, const int8_t *in, int8_t *out);

/* RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR. */
typedef struct {
  int32_t in_h, in_w, out_h, out_w, channels;
  int32_t align_corners, half_pixel_centers;
} nn_resize_layer;
void nn_resize_bilinear(const nn_resize_layer *layer, const int8_t *in, int8_t *out);
/* rows, columns: for each row and column of the output that of the input. */
typedef struct {
  int32_t in_w, out_h, out_w, channels;
  const int32_t *rows, *columns;
} nn_nearest_layer;
void nn_resize_nearest(const nn_nearest_layer *layer, const int8_t *in, int8_t *out);

/* SOFTMAX over the last dimension. exps[d]: exp of a value that is d below the greatest, times
 * 2^31; 0 where it does not count. In place. */
typedef struct {
  int32_t rows, depth;
  const int32_t *exps;
} nn_softmax_layer;
void nn_softmax(const nn_softmax_layer *layer, const int8_t *in, int8_t *out);

/* How the pixels of an image are stored. */
typedef enum {
  NN_GREY,   /* one byte */
  NN_RGB888, /* three bytes: red, green, blue */
  NN_RGB565  /* two bytes, the less significant one first: rrrrrggg gggbbbbb as a 16-bit number */
} nn_format;

/* An image on its way to a network's input: cropped to a central box, whose sides are crop * those of
 * the largest one with the input's aspect ratio, and resized to the input's pixels as in the tests
 * (bicubic, widened against aliasing), in fixed-point arithmetic. A box that has the input's size
 * already is only copied. A network with one channel gets the brightness of each pixel before
 * anything else. */
typedef struct {
  int32_t width, height, out_width, out_height, channels;
  nn_format format;
  float left, top, across, down; /* the box in pixels */
  int32_t first, last;      /* the columns of pixels that count */
  int32_t lines;            /* number of lines that were given */
  int32_t done;             /* number of rows of the input that are complete */
  int32_t rows;             /* number of rows whose sums are kept at the same time */
  int32_t copied;           /* whether pixels are only copied */
  int32_t *sums, *weights;  /* in the caller's memory */
  int8_t *out;
} nn_image;

/* Begins an image.
 *
 * out_width, out_height: of the input in pixels.
 * channels: of the input: 3, or 1 for grey.
 * by_lines: 1 if its lines will be given one by one, 0 if the whole image will be given.
 * memory, bytes: memory for the time being, aligned to 4 bytes; NN_IMAGE_BYTES suffice.
 * out: memory for channels * out_width * out_height values pixel - 128.
 *
 * Returns 1, or 0 if the image is empty or the memory does not suffice. */
int32_t nn_image_begin(nn_image *image, int32_t width, int32_t height, nn_format format, float crop,
                       int32_t out_width, int32_t out_height, int32_t channels, int32_t by_lines,
                       void *memory, size_t bytes, int8_t *out);
/* Gives the next line: width pixels. The input is complete after the last one. */
void nn_image_line(nn_image *image, const uint8_t *pixels);
/* Gives all width * height pixels, row by row. */
void nn_image_whole(nn_image *image, const uint8_t *pixels);

/* Bytes of memory that suffice for an image of which a box of at most `across` columns is resized to
 * out_width columns: rows is 1 for whole images, and for lines NN_IMAGE_ROWS of a box with at least
 * `down` rows. NN_IMAGE_ACROSS and NN_IMAGE_DOWN bound the box of an image by its shorter side. */
#define NN_IMAGE_ACROSS(shorter, out_width, out_height)                                        \
  ((out_width) > (out_height) ? ((shorter) * (out_width) + (out_height) - 1) / (out_height)    \
                              : (shorter))
#define NN_IMAGE_DOWN(shorter, out_width, out_height)                                          \
  ((out_width) > (out_height) ? (shorter) * (out_height) / (out_width) : (shorter))
#define NN_IMAGE_SPAN(across, out_width) ((across) > (out_width) ? (across) : (out_width))
#define NN_IMAGE_ROWS(down, out_height) ((down) < (out_height) ? 4 * (out_height) / (down) + 2 : 5)
#define NN_IMAGE_BYTES(across, out_width, channels, rows)                                      \
  (4 * ((channels) * (rows) *                                                                  \
            ((across) + 4 * NN_IMAGE_SPAN(across, out_width) / (out_width) + 4) +              \
        4 * NN_IMAGE_SPAN(across, out_width) + 3 * (out_width)))
/* Writes the softmax of scale * values, or scale * (value - zero) itself if they are probabilities
 * already, and returns the index of the greatest, of equal ones the first. */
int32_t nn_probabilities(const int8_t *values, int32_t count, float scale, int32_t zero,
                         int32_t are_probabilities, float *probabilities);
/* Calibrates probabilities: replaces them by the softmax of their logarithms / temperature. */
void nn_calibrate(float *probabilities, int32_t count, float temperature);

#ifdef __cplusplus
}
#endif

#endif /* NN_KERNELS_H_ */
