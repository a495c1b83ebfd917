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
      call: name of the C++ function that runs it on an image.
      parameter: declaration of what gets the answer.
      argument: its name.
      before: what the public header declares first.
      promise: its comment on `call`.
      after: from the output to the answer, without TensorFlow.
      read: from `output` to the answer.
      example: name of the sketch.
      sketch: an Arduino sketch.
      usage: a line of C++ that shows the call.
    """

    kind: str
    call: str
    parameter: str
    argument: str
    before: str
    promise: str
    after: str
    read: str
    example: str
    sketch: str
    usage: str


# How both sketches begin.
_INCLUDES = """\
#include <TensorFlowLite.h>  // Arduino finds TFLM by it: name your library's header, if another
#include <$net.h>
"""
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
    parameter="Result* result",
    argument="result",
    before="""\
struct Result {
  int index;          // of the class, and of its label in kLabels
  const char* label;  // its name
  float probability;  // softmax
};

""",
    promise="""\
// The class of an image: width * height pixels of three bytes (RGB), row by row.
""",
    after="""\
// Softmax of the logits, at one class.
inline float Probability(const std::int8_t* output, int index) {
  float sum = 0.0f;
  for (int i = 0; i < kClasses; ++i) sum += std::exp(Logit(output[i]) - Logit(output[index]));
  return 1.0f / sum;
}""",
    read="""\
  result->index = Best(output);
  result->label = kLabels[result->index];
  result->probability = Probability(output, result->index);
""",
    example="classify",
    sketch="""\
// Put your camera's picture into `image`; this sketch classifies a grey one.
"""
    + _INCLUDES
    + """\

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
    parameter="std::uint8_t* mask",
    argument="mask",
    before="",
    promise="""\
// The class of each pixel of an image: width * height pixels of three bytes (RGB), row by row.
// `mask` gets kSide * kSide numbers below kClasses, row by row: those of the square around the
// centre that the network sees, kCropFraction of the image's shorter side wide.
""",
    after="""\
static_assert(kClasses <= 256, "a mask has a byte a pixel");

// The class of each pixel: kSide * kSide numbers.
inline void Mask(const std::int8_t* output, std::uint8_t* mask) {
  for (int i = 0; i < kSide * kSide; ++i) {
    mask[i] = static_cast<std::uint8_t>(Best(output + kClasses * i));
  }
}""",
    read="""\
  Mask(output, mask);
""",
    example="segment",
    sketch="""\
// Put your camera's picture into `image`; this sketch segments a grey one.
"""
    + _INCLUDES
    + """\

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
