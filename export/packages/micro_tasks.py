"""The parts of a microcontroller package that differ between classification and segmentation.

These are templates (``string.Template``) with the same placeholders as those of `micro_sources`;
`micro` fills them in and inserts them into the templates there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskSources:
    """C++ sources and texts for the networks of one task.

    Attributes:
      kind: what documentation calls such a network.
      call: name of the C++ function that runs the network on an image.
      parameter: C++ declaration of the parameter that receives the result.
      argument: name of this parameter.
      declarations: what the public header declares before its functions.
      call_comment: the public header's comment on `call`.
      postprocessing: C++ functions that turn the network's output into a result.
      read_result: C++ statements that set the parameter from the variable ``output``.
      example: name of the Arduino sketch.
      sketch: the Arduino sketch.
      usage: one line of C++ that shows the call.
    """

    kind: str
    call: str
    parameter: str
    argument: str
    declarations: str
    call_comment: str
    postprocessing: str
    read_result: str
    example: str
    sketch: str
    usage: str


# The beginning and the setup function of both sketches.
_INCLUDES = """\
// The Arduino IDE finds TFLM by this header. Replace it by the header of your TFLM library if that
// has another name.
#include <TensorFlowLite.h>
#include <$net.h>
"""
_SETUP = """\
void setup() {
  Serial.begin(115200);
  if (!$net::Begin()) Serial.println("the network could not be set up");
  for (uint8_t& value : image) value = 128;
}
"""

CLASSIFICATION = TaskSources(
    kind="image classifier",
    call="Classify",
    parameter="Result* result",
    argument="result",
    declarations="""\
struct Result {
  int index;          // index of the most likely class, and of its name in kLabels
  const char* label;  // name of this class
  float probability;  // probability of this class (softmax of the logits), 0 to 1
};

""",
    call_comment="""\
// Finds the class of an image of width * height pixels of three bytes (RGB), row by row.
""",
    postprocessing="""\
// Returns the probability of the class `index`: the softmax of the logits.
inline float Probability(const std::int8_t* output, int index) {
  float sum = 0.0f;
  for (int i = 0; i < kClasses; ++i) sum += std::exp(Logit(output[i]) - Logit(output[index]));
  return 1.0f / sum;
}""",
    read_result="""\
  result->index = Best(output);
  result->label = kLabels[result->index];
  result->probability = Probability(output, result->index);
""",
    example="classify",
    sketch="""\
// This sketch classifies a grey image. Copy your camera's picture into `image` instead.
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

SEGMENTATION = TaskSources(
    kind="segmentation network",
    call="Segment",
    parameter="std::uint8_t* mask",
    argument="mask",
    declarations="",
    call_comment="""\
// Finds the class of each pixel of an image of width * height pixels of three bytes (RGB), row by
// row. Writes kSide * kSide class indices, row by row, to `mask`. They cover the centre square of
// the image with a side of kCropFraction times the image's shorter side.
""",
    postprocessing="""\
static_assert(kClasses <= 256, "a mask has one byte per pixel");

// Writes the class index of each pixel to `mask`: kSide * kSide numbers.
inline void Mask(const std::int8_t* output, std::uint8_t* mask) {
  for (int i = 0; i < kSide * kSide; ++i) {
    mask[i] = static_cast<std::uint8_t>(Best(output + kClasses * i));
  }
}""",
    read_result="""\
  Mask(output, mask);
""",
    example="segment",
    sketch="""\
// This sketch segments a grey image. Copy your camera's picture into `image` instead.
"""
    + _INCLUDES
    + """\

static uint8_t image[3 * $net::kSide * $net::kSide];
static uint8_t mask[$net::kSide * $net::kSide];

"""
    + _SETUP
    + """\

// Prints the number of pixels of each class.
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
