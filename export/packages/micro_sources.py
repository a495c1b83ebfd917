"""The texts of a microcontroller package; `micro_package` fills them in.

What differs between networks that give an image a class and those that give each pixel one is in
`micro_answers`.

C++11 without exceptions, heap or standard containers. Placeholders are ``string.Template``'s:
``$net`` is the package's namespace and the stem of its file names, ``$NET`` the same for macros.
"""

CONFIG = """\
// What a program must know of $name. Written by efficientnet-elite. The macros are for build flags
// (-D...), or to be edited here: a #define in a sketch does not reach the library's own sources.
#ifndef ${NET}_CONFIG_H_
#define ${NET}_CONFIG_H_

#include <cstddef>
#include <cstdint>

// Widest image that $call() takes: it decides the size of a row buffer.
#ifndef ${NET}_MAX_IMAGE_WIDTH
#define ${NET}_MAX_IMAGE_WIDTH $width
#endif

// Added to kArenaBytes for the scratch memory of kernels made for a processor.
#ifndef ${NET}_EXTRA_ARENA_BYTES
#define ${NET}_EXTRA_ARENA_BYTES 0
#endif

// Where the arena lies, such as __attribute__((section(".ext_ram.bss"))); else with other data.
#ifndef ${NET}_ARENA_ATTRIBUTE
#define ${NET}_ARENA_ATTRIBUTE
#endif

namespace $net {

// Of the square input, in pixels; its elements are pixel - 128.
constexpr int kSide = $side;
constexpr int kInputElements = 3 * kSide * kSide;
constexpr float kInputScale = $input_scale;
constexpr int kInputZeroPoint = $input_zero_point;

// A logit is kOutputScale * (element - kOutputZeroPoint).
constexpr int kClasses = $classes;
constexpr float kOutputScale = $output_scale;
constexpr int kOutputZeroPoint = $output_zero_point;

// Share of an image's shorter side that the network was tested on, around the centre.
constexpr float kCropFraction = $crop_fraction;

// Smallest tensor arena in which TensorFlow Lite Micro ran the network on a 64-bit machine with its
// portable kernels. The structs it holds beside the activations have pointers of half that size on
// a 32-bit device: an upper bound there. Kernels made for a processor (CMSIS-NN, ESP-NN) may ask
// for scratch memory of their own: where Begin() fails with them, let ${NET}_EXTRA_ARENA_BYTES be
// what TFLM says is missing.
constexpr std::size_t kArenaBytes = $arena;

constexpr const char* kLabels[kClasses] = {
$labels
};

}  // namespace $net

#endif  // ${NET}_CONFIG_H_
"""

MODEL_HEADER = """\
// The network $name as a .tflite file in flash memory. Written by efficientnet-elite; do not edit.
#ifndef ${NET}_MODEL_H_
#define ${NET}_MODEL_H_

#include <cstddef>

namespace $net {

constexpr std::size_t kModelBytes = $model_bytes;
// Aligned as the flatbuffer wants it: without that some processors stop with a hard fault.
extern const unsigned char kModel[kModelBytes];

}  // namespace $net

#endif  // ${NET}_MODEL_H_
"""

MODEL_SOURCE = """\
// SHA-256 of the file: $sha256
#include "${net}_model.h"

namespace $net {

alignas(16) const unsigned char kModel[kModelBytes] = {
$array
};

}  // namespace $net
"""

OPERATORS = """\
// The operators of $name and no others: each one registered costs flash memory.
#ifndef ${NET}_OPERATORS_H_
#define ${NET}_OPERATORS_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace $net {

using OpResolver = tflite::MicroMutableOpResolver<$operator_count>;

// False where one of them could not be registered.
inline bool RegisterOperators(OpResolver& resolver) {
  return $registrations;
}

}  // namespace $net

#endif  // ${NET}_OPERATORS_H_
"""

IMAGE = """\
// From an image to the input of $name and from its output to an answer; needs no TensorFlow.
#ifndef ${NET}_IMAGE_H_
#define ${NET}_IMAGE_H_

#include <cmath>
#include <cstdint>

#include "${net}_config.h"

namespace $net {

// Cubic convolution (Keys 1981, a = -1/2) at the distance x >= 0.
inline float Cubic(float x) {
  if (x >= 2.0f) return 0.0f;
  if (x >= 1.0f) return ((-0.5f * x + 2.5f) * x - 4.0f) * x + 2.0f;
  return ((1.5f * x - 2.5f) * x) * x + 1.0f;
}

// The source pixels [begin, end) of one pixel of the input along one axis, and their weights.
struct Taps {
  int begin, end;
  float center, spread, norm;

  float Weight(int source) const { return Raw(source) * norm; }

  float Raw(int source) const {
    return Cubic(std::fabs((static_cast<float>(source) + 0.5f - center) / spread));
  }
};

// Taps of input pixel `index` where the input covers [start, start + length) of `size` pixels.
inline Taps MakeTaps(int index, float start, float length, int size) {
  const float zoom = static_cast<float>(kSide) / length;
  const float step = 1.0f / zoom;
  const float origin = -step * (-start * zoom);
  Taps taps;
  taps.center = (static_cast<float>(index) + 0.5f) * step + origin;
  taps.spread = step > 1.0f ? step : 1.0f;  // wider against aliasing where the image shrinks
  taps.begin = static_cast<int>(std::ceil(taps.center - 2.0f * taps.spread - 0.5f));
  taps.end = static_cast<int>(std::floor(taps.center + 2.0f * taps.spread - 0.5f)) + 1;
  if (taps.begin < 0) taps.begin = 0;
  if (taps.end > size) taps.end = size;
  float sum = 0.0f;
  for (int source = taps.begin; source < taps.end; ++source) sum += taps.Raw(source);
  taps.norm = 1.0f / sum;
  return taps;
}

// Crops the centre, resizes it and writes kInputElements to `input`.
//   rgb: width * height pixels of three bytes, row by row.
//   row: room for 3 * width numbers.
inline void Preprocess(const std::uint8_t* rgb, int width, int height, float* row,
                       std::int8_t* input) {
  const float length = static_cast<float>(width < height ? width : height) * kCropFraction;
  const float left = (static_cast<float>(width) - length) / 2.0f;
  const float top = (static_cast<float>(height) - length) / 2.0f;
  const int first = 3 * MakeTaps(0, left, length, width).begin;
  const int last = 3 * MakeTaps(kSide - 1, left, length, width).end;
  for (int y = 0; y < kSide; ++y) {
    const Taps rows = MakeTaps(y, top, length, height);
    for (int i = first; i < last; ++i) row[i] = 0.0f;
    for (int source = rows.begin; source < rows.end; ++source) {
      const float weight = rows.Weight(source);
      const std::uint8_t* line = rgb + 3 * static_cast<long>(width) * source;
      for (int i = first; i < last; ++i) row[i] += weight * static_cast<float>(line[i]);
    }
    for (int x = 0; x < kSide; ++x) {
      const Taps columns = MakeTaps(x, left, length, width);
      float sums[3] = {0.0f, 0.0f, 0.0f};
      for (int source = columns.begin; source < columns.end; ++source) {
        const float weight = columns.Weight(source);
        for (int c = 0; c < 3; ++c) sums[c] += weight * row[3 * source + c];
      }
      for (int c = 0; c < 3; ++c) {
        const float pixel = std::nearbyint(sums[c]);
        *input++ = static_cast<std::int8_t>(
            (pixel < 0.0f ? 0 : pixel > 255.0f ? 255 : static_cast<int>(pixel)) - 128);
      }
    }
  }
}

inline float Logit(std::int8_t element) {
  return static_cast<float>(element - kOutputZeroPoint) * kOutputScale;
}

// The class with the greatest of kClasses logits, the first of equals.
inline int Best(const std::int8_t* output) {
  int best = 0;
  for (int i = 1; i < kClasses; ++i) {
    if (output[i] > output[best]) best = i;
  }
  return best;
}

$after

}  // namespace $net

#endif  // ${NET}_IMAGE_H_
"""

HEADER = """\
// Runs the $kind $name on TensorFlow Lite Micro.
#ifndef ${NET}_H_
#define ${NET}_H_

#include <cstdint>

#include "${net}_config.h"

namespace $net {

${before}// Once, before all else. False where TFLM cannot set up the network; it prints why.
bool Begin();

${promise}// False before Begin(), where TFLM fails, and for images wider than
// ${NET}_MAX_IMAGE_WIDTH.
bool $call(const std::uint8_t* rgb, int width, int height, $parameter);

// The same without the steps before the network, which compute in float: write kInputElements
// numbers, pixel - 128, to Input() before each Run(), for TFLM may use their memory again.
std::int8_t* Input();  // nullptr before Begin()
bool Run($parameter);

}  // namespace $net

#endif  // ${NET}_H_
"""

SOURCE = """\
#include "$net.h"

#include "${net}_image.h"
#include "${net}_model.h"
#include "${net}_operators.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace $net {
namespace {

constexpr std::size_t kBytes = kArenaBytes + ${NET}_EXTRA_ARENA_BYTES;
alignas(16) ${NET}_ARENA_ATTRIBUTE std::uint8_t arena[kBytes];
float row[3 * ${NET}_MAX_IMAGE_WIDTH];
tflite::MicroInterpreter* interpreter = nullptr;

}  // namespace

bool Begin() {
  if (interpreter != nullptr) return true;
  static OpResolver resolver;
  static const bool registered = RegisterOperators(resolver);
  if (!registered) return false;
  static tflite::MicroInterpreter instance(tflite::GetModel(kModel), resolver, arena, kBytes);
  if (instance.AllocateTensors() != kTfLiteOk) return false;
  interpreter = &instance;
  return true;
}

std::int8_t* Input() {
  return interpreter == nullptr ? nullptr : interpreter->input(0)->data.int8;
}

bool Run($parameter) {
  if (interpreter == nullptr || interpreter->Invoke() != kTfLiteOk) return false;
  const std::int8_t* output = interpreter->output(0)->data.int8;
${read}  return true;
}

bool $call(const std::uint8_t* rgb, int width, int height, $parameter) {
  if (interpreter == nullptr || width < 1 || height < 1) return false;
  if (width > ${NET}_MAX_IMAGE_WIDTH) return false;
  Preprocess(rgb, width, height, row, Input());
  return Run($argument);
}

}  // namespace $net
"""

ARDUINO = """\
name=$net
version=1.0.0
author=efficientnet-elite
maintainer=efficientnet-elite
sentence=The $kind $name for TensorFlow Lite Micro.
paragraph=$classes classes, $side x $side pixels, $model_bytes bytes of flash, arena $arena bytes.
category=Data Processing
url=https://www.tensorflow.org/lite/microcontrollers
architectures=*
includes=$net.h
"""

README = """\
# $name on a microcontroller

$classes classes, input $side x $side pixels. Flash: $model_bytes bytes beside TFLM's own code. RAM:
an arena of $arena bytes (measured by TFLM on a 64-bit machine: an upper bound for 32 bits with its
portable kernels). Operators: $operators.

1. Have TensorFlow Lite Micro in your project, of 2023 or newer (no `ErrorReporter` to pass).
2. Arduino: copy this folder into `libraries/`, and begin the sketch with your TFLM library's own
   header, such as `#include <TensorFlowLite.h>`: Arduino finds libraries by headers at their top.
   PlatformIO: copy it into `lib/`. Else: compile `src/*.cc` with `src/` in the include path.
3. `#include <$net.h>`
4. Once: `if (!$net::Begin()) { /* too little memory: TFLM prints why */ }`
5. For each image (RGB, three bytes a pixel, up to ${NET}_MAX_IMAGE_WIDTH wide):
   `$usage`
6. `$call` crops and resizes as the network was tested, in float. For an image of $side x $side that
   is not to be cropped, write `pixel - 128` to `$net::Input()` and call `$net::Run($argument)`.
7. More memory for kernels made for your processor (CMSIS-NN, ESP-NN), another place for the arena
   (PSRAM), wider images: the macros of `src/${net}_config.h`.
8. `src/${net}_image.h`, the steps before and after the network, compiles anywhere without TFLM.
"""
