"""What of a microcontroller package depends on a network's answer: a class, or one for each pixel.

Texts as in `micro_sources`, which they are put into.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """How a package answers.

    Attributes:
      kind: what such a network is called.
      call: name of the C++ function that runs it.
      header: the public header.
      after: from the output to the answer, without TensorFlow.
      inference: definition of `call`.
      example: name of the sketch.
      sketch: an Arduino sketch.
      usage: a line of C++ that shows the call.
    """

    kind: str
    call: str
    header: str
    after: str
    inference: str
    example: str
    sketch: str
    usage: str


# What both kinds check and do before they look at the output.
_RUN = """\
  if (interpreter == nullptr || width < 1 || height < 1) return false;
  if (width > ${NET}_MAX_IMAGE_WIDTH) return false;
  Preprocess(rgb, width, height, row, interpreter->input(0)->data.int8);
  if (interpreter->Invoke() != kTfLiteOk) return false;
"""
# How both sketches begin.
_SETUP = """\
void setup() {
  Serial.begin(115200);
  if (!$net::Begin()) Serial.println("the network could not be set up");
  for (uint8_t& value : image) value = 128;
}
"""

CLASS = Answer(
    kind="image classifier",
    call="Classify",
    header="""\
// Classifies images with $name on TensorFlow Lite Micro.
#ifndef ${NET}_H_
#define ${NET}_H_

#include <cstdint>

#include "${net}_config.h"

namespace $net {

struct Result {
  int index;          // of the class, and of its label in kLabels
  const char* label;  // its name
  float probability;  // softmax
};

// Once, before the first Classify(). False where TFLM cannot set up the network; it prints why.
bool Begin();

// The class of an image: width * height pixels of three bytes (RGB), row by row. False before
// Begin(), for an image wider than ${NET}_MAX_IMAGE_WIDTH, and where TFLM fails.
bool Classify(const std::uint8_t* rgb, int width, int height, Result* result);

}  // namespace $net

#endif  // ${NET}_H_
""",
    after="""\
// Softmax of the logits, at one class.
inline float Probability(const std::int8_t* output, int index) {
  float sum = 0.0f;
  for (int i = 0; i < kClasses; ++i) sum += std::exp(Logit(output[i]) - Logit(output[index]));
  return 1.0f / sum;
}""",
    inference="""\
bool Classify(const std::uint8_t* rgb, int width, int height, Result* result) {
"""
    + _RUN
    + """\
  const std::int8_t* output = interpreter->output(0)->data.int8;
  result->index = Best(output);
  result->label = kLabels[result->index];
  result->probability = Probability(output, result->index);
  return true;
}""",
    example="classify",
    sketch="""\
// Put your camera's picture into `image`; this sketch classifies a grey one.
#include <$net.h>

static uint8_t image[3 * $net::kSide * $net::kSide];

"""
    + _SETUP
    + """\

void loop() {
  $net::Result result;
  if ($net::Classify(image, $net::kSide, $net::kSide, &result)) {
    Serial.print(result.label);
    Serial.print(" ");
    Serial.println(result.probability);
  }
  delay(1000);
}
""",
    usage="$net::Result result; "
    "if ($net::Classify(rgb, width, height, &result)) puts(result.label);",
)

MASK = Answer(
    kind="segmentation network",
    call="Segment",
    header="""\
// Gives each pixel of an image a class with $name on TensorFlow Lite Micro.
#ifndef ${NET}_H_
#define ${NET}_H_

#include <cstdint>

#include "${net}_config.h"

namespace $net {

// Once, before the first Segment(). False where TFLM cannot set up the network; it prints why.
bool Begin();

// The class of each pixel of an image: width * height pixels of three bytes (RGB), row by row.
// `mask` gets kSide * kSide numbers below kClasses, row by row: those of the square around the
// centre that the network sees, kCropFraction of the image's shorter side wide. False before
// Begin(), for an image wider than ${NET}_MAX_IMAGE_WIDTH, and where TFLM fails.
bool Segment(const std::uint8_t* rgb, int width, int height, std::uint8_t* mask);

}  // namespace $net

#endif  // ${NET}_H_
""",
    after="""\
static_assert(kClasses <= 256, "a mask has a byte a pixel");

// The class of each pixel: kSide * kSide numbers.
inline void Mask(const std::int8_t* output, std::uint8_t* mask) {
  for (int i = 0; i < kSide * kSide; ++i) {
    mask[i] = static_cast<std::uint8_t>(Best(output + kClasses * i));
  }
}""",
    inference="""\
bool Segment(const std::uint8_t* rgb, int width, int height, std::uint8_t* mask) {
"""
    + _RUN
    + """\
  Mask(interpreter->output(0)->data.int8, mask);
  return true;
}""",
    example="segment",
    sketch="""\
// Put your camera's picture into `image`; this sketch segments a grey one.
#include <$net.h>

static uint8_t image[3 * $net::kSide * $net::kSide];
static uint8_t mask[$net::kSide * $net::kSide];

"""
    + _SETUP
    + """\

// Prints how many pixels each class has.
void loop() {
  if ($net::Segment(image, $net::kSide, $net::kSide, mask)) {
    unsigned long counts[$net::kClasses] = {};
    for (uint8_t index : mask) ++counts[index];
    for (int index = 0; index < $net::kClasses; ++index) {
      Serial.print($net::kLabels[index]);
      Serial.print(" ");
      Serial.println(counts[index]);
    }
  }
  delay(1000);
}
""",
    usage="static uint8_t mask[$net::kSide * $net::kSide]; "
    "if ($net::Segment(rgb, width, height, mask)) puts($net::kLabels[mask[0]]);",
)
