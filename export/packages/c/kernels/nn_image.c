/* From the pixels of an image to a network's input, and from its output to probabilities. */
#include <float.h>
#include <math.h>

#include "nn_kernels.h"

/* Cubic convolution kernel (Keys 1981, a = -1/2) at the distance x >= 0. */
static float nn_cubic(float x) {
  if (x >= 2.0f) return 0.0f;
  if (x >= 1.0f) return ((-0.5f * x + 2.5f) * x - 4.0f) * x + 2.0f;
  return ((1.5f * x - 2.5f) * x) * x + 1.0f;
}

/* The source pixels [begin, end) that contribute to one pixel along one axis, and their weights. */
typedef struct {
  int32_t begin, end;
  float center, spread, norm;
} nn_taps;

static float nn_tap(const nn_taps *taps, int32_t source) {
  return nn_cubic(fabsf(((float)source + 0.5f - taps->center) / taps->spread));
}

/* The taps of pixel `index` of `side` if these cover the source pixels [start, start + length) of
 * an image that is `size` pixels long. */
static nn_taps nn_make_taps(int32_t index, int32_t side, float start, float length, int32_t size) {
  const float zoom = (float)side / length;
  const float step = 1.0f / zoom;
  const float origin = -step * (-start * zoom);
  nn_taps taps;
  int32_t source;
  float sum = 0.0f;
  taps.center = ((float)index + 0.5f) * step + origin;
  taps.spread = step > 1.0f ? step : 1.0f; /* against aliasing when the image shrinks */
  taps.begin = (int32_t)ceilf(taps.center - 2.0f * taps.spread - 0.5f);
  taps.end = (int32_t)floorf(taps.center + 2.0f * taps.spread - 0.5f) + 1;
  if (taps.begin < 0) taps.begin = 0;
  if (taps.end > size) taps.end = size;
  for (source = taps.begin; source < taps.end; ++source) sum += nn_tap(&taps, source);
  taps.norm = 1.0f / sum;
  return taps;
}

/* Fixed-point weights: fractions of 2^20, with which sums of weighted pixels stay below 2^30. */
enum { NN_WEIGHT_BITS = 20 };

static int32_t nn_weight(const nn_taps *taps, int32_t source) {
  return (int32_t)floorf(nn_tap(taps, source) * taps->norm * (float)(1 << NN_WEIGHT_BITS) + 0.5f);
}

/* Rounds a sum of weighted pixels to a pixel. */
static int32_t nn_pixel(int32_t sum) {
  return nn_clamped((sum + (1 << (NN_WEIGHT_BITS - 1))) >> NN_WEIGHT_BITS, 0, 255);
}

/* The taps of row y, and those of column x. */
static nn_taps nn_row(const nn_image *image, int32_t y) {
  return nn_make_taps(y, image->out_height, image->top, image->down, image->height);
}

static nn_taps nn_column(const nn_image *image, int32_t x) {
  return nn_make_taps(x, image->out_width, image->left, image->across, image->width);
}

/* Reads pixel x of a line, into three bytes of which a grey network takes the first. */
static void nn_read(const nn_image *image, const uint8_t *line, int32_t x, uint8_t *rgb) {
  if (image->format == NN_GREY) {
    rgb[0] = rgb[1] = rgb[2] = line[x];
  } else if (image->format == NN_RGB888) {
    memcpy(rgb, line + 3 * x, 3);
  } else {
    const uint32_t pixel = line[2 * x] | (uint32_t)line[2 * x + 1] << 8;
    const uint32_t red = pixel >> 11, green = pixel >> 5 & 63, blue = pixel & 31;
    rgb[0] = (uint8_t)(red << 3 | red >> 2);
    rgb[1] = (uint8_t)(green << 2 | green >> 4);
    rgb[2] = (uint8_t)(blue << 3 | blue >> 2);
  }
  if (image->channels == 1 && image->format != NN_GREY) { /* ITU-R BT.601, as Pillow rounds it */
    rgb[0] = (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
  }
}

/* Adds weight * a line of pixels to sums, which begin with the column `first`. */
static void nn_add_line(const nn_image *image, const uint8_t *line, int32_t weight, int32_t *sums) {
  const int32_t channels = image->channels;
  int32_t x, i;
  if (image->format == (channels == 3 ? NN_RGB888 : NN_GREY)) {
    line += channels * image->first;
    for (i = 0; i < channels * (image->last - image->first); ++i) sums[i] += weight * line[i];
    return;
  }
  for (x = image->first; x < image->last; ++x) {
    uint8_t rgb[3];
    nn_read(image, line, x, rgb);
    for (i = 0; i < channels; ++i) *sums++ += weight * rgb[i];
  }
}

/* The number of sums of a row. */
static size_t nn_row_length(const nn_image *image) {
  return (size_t)(image->channels * (image->last - image->first));
}

/* The sums of row y. */
static int32_t *nn_sums(const nn_image *image, int32_t y) {
  return image->sums + nn_row_length(image) * (size_t)(y % image->rows);
}

static void nn_clear(const nn_image *image, int32_t y) {
  memset(nn_sums(image, y), 0, sizeof(int32_t) * nn_row_length(image));
}

/* Writes row y from its sums. Columns came first, now rows, with rounding after each, as in the
 * evaluation. */
static void nn_finish(const nn_image *image, int32_t y) {
  int32_t *const sums = nn_sums(image, y);
  const int32_t *weights = image->weights;
  const int32_t channels = image->channels, length = (int32_t)nn_row_length(image);
  int8_t *out = image->out + channels * image->out_width * y;
  int32_t x, c, i;
  for (i = 0; i < length; ++i) sums[i] = nn_pixel(sums[i]);
  for (x = 0; x < image->out_width; ++x) {
    const int32_t *const pixels = sums + channels * *weights++;
    const int32_t taps = *weights++;
    for (c = 0; c < channels; ++c) {
      int32_t sum = 0;
      for (i = 0; i < taps; ++i) sum += weights[i] * pixels[channels * i + c];
      *out++ = (int8_t)(nn_pixel(sum) - 128);
    }
    weights += taps;
  }
}

int32_t nn_image_begin(nn_image *image, int32_t width, int32_t height, nn_format format, float crop,
                       int32_t out_width, int32_t out_height, int32_t channels, int32_t by_lines,
                       void *memory, size_t bytes, int8_t *out) {
  /* These are equal where the image has the input's aspect ratio. Otherwise the smaller one says
   * which side of the image the box does not fill. */
  const float wide = (float)width * (float)out_height, high = (float)height * (float)out_width;
  int32_t x, y, first_open = 0;
  size_t weights = 0;
  if (width < 1 || height < 1) return 0;
  image->width = width;
  image->height = height;
  image->format = format;
  image->out_width = out_width;
  image->out_height = out_height;
  image->channels = channels;
  image->across = (high < wide ? high / (float)out_height : (float)width) * crop;
  image->down = (wide < high ? wide / (float)out_width : (float)height) * crop;
  image->left = ((float)width - image->across) / 2.0f;
  image->top = ((float)height - image->down) / 2.0f;
  image->out = out;
  image->lines = 0;
  image->done = 0;
  image->copied = image->across == (float)out_width && image->down == (float)out_height &&
                  image->left == floorf(image->left) && image->top == floorf(image->top);
  if (image->copied) return 1;
  image->first = nn_column(image, 0).begin;
  image->last = nn_column(image, out_width - 1).end;
  image->rows = 1;
  for (y = 0; by_lines && y < out_height; ++y) { /* row y begins while row first_open is not complete */
    const int32_t begin = nn_row(image, y).begin;
    while (nn_row(image, first_open).end <= begin) ++first_open;
    if (image->rows < y - first_open + 1) image->rows = y - first_open + 1;
  }
  image->sums = (int32_t *)memory;
  image->weights = image->sums + (size_t)image->rows * nn_row_length(image);
  for (x = 0; x < out_width; ++x) {
    const nn_taps taps = nn_column(image, x);
    int32_t *const to = image->weights + weights;
    int32_t source;
    weights += 2 + (size_t)(taps.end - taps.begin);
    if ((size_t)(image->weights - image->sums) + weights > bytes / sizeof(int32_t)) return 0;
    to[0] = taps.begin - image->first;
    to[1] = taps.end - taps.begin;
    for (source = taps.begin; source < taps.end; ++source) {
      to[2 + source - taps.begin] = nn_weight(&taps, source);
    }
  }
  return 1;
}

void nn_image_line(nn_image *image, const uint8_t *pixels) {
  const int32_t line = image->lines++;
  int32_t y;
  if (image->copied) {
    int8_t *out = image->out + image->channels * image->out_width * (line - (int32_t)image->top);
    int32_t x, c;
    if (line < (int32_t)image->top || line >= (int32_t)image->top + image->out_height) return;
    for (x = 0; x < image->out_width; ++x) {
      uint8_t rgb[3];
      nn_read(image, pixels, (int32_t)image->left + x, rgb);
      for (c = 0; c < image->channels; ++c) *out++ = (int8_t)(rgb[c] - 128);
    }
    return;
  }
  for (y = image->done; y < image->out_height; ++y) {
    const nn_taps taps = nn_row(image, y);
    if (line < taps.begin) break;
    if (line == taps.begin) nn_clear(image, y);
    nn_add_line(image, pixels, nn_weight(&taps, line), nn_sums(image, y));
    if (line == taps.end - 1) {
      nn_finish(image, y);
      image->done = y + 1;
    }
  }
}

void nn_image_whole(nn_image *image, const uint8_t *pixels) {
  const size_t pixel = image->format == NN_GREY ? 1 : image->format == NN_RGB888 ? 3 : 2;
  const size_t bytes = pixel * (size_t)image->width;
  int32_t y, line;
  if (image->copied) {
    for (y = 0; y < image->height; ++y) nn_image_line(image, pixels + bytes * (size_t)y);
    return;
  }
  for (y = 0; y < image->out_height; ++y) {
    const nn_taps taps = nn_row(image, y);
    nn_clear(image, y);
    for (line = taps.begin; line < taps.end; ++line) {
      nn_add_line(image, pixels + bytes * (size_t)line, nn_weight(&taps, line), nn_sums(image, y));
    }
    nn_finish(image, y);
  }
}

int32_t nn_probabilities(const int8_t *values, int32_t count, float scale, int32_t zero,
                         int32_t are_probabilities, float *probabilities) {
  int32_t best = 0, i;
  float sum = 0.0f;
  for (i = 1; i < count; ++i) {
    if (values[i] > values[best]) best = i;
  }
  for (i = 0; i < count; ++i) {
    if (are_probabilities) {
      probabilities[i] = (float)(values[i] - zero) * scale;
    } else {
      probabilities[i] = expf((float)(values[i] - values[best]) * scale);
      sum += probabilities[i];
    }
  }
  for (i = 0; i < count && !are_probabilities; ++i) probabilities[i] /= sum;
  return best;
}

void nn_calibrate(float *probabilities, int32_t count, float temperature) {
  float greatest = -FLT_MAX, sum = 0.0f;
  int32_t i;
  for (i = 0; i < count; ++i) {
    const float positive = probabilities[i] > FLT_MIN ? probabilities[i] : FLT_MIN;
    probabilities[i] = logf(positive) / temperature;
    if (probabilities[i] > greatest) greatest = probabilities[i];
  }
  for (i = 0; i < count; ++i) {
    probabilities[i] = expf(probabilities[i] - greatest);
    sum += probabilities[i];
  }
  for (i = 0; i < count; ++i) probabilities[i] /= sum;
}
