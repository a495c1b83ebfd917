"""The parts of a microcontroller package that differ between classification and segmentation.

These are templates (``string.Template``) with the same placeholders as those in ``micro_files/``;
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
      answers: C++ constants that name the classes and say how results are made of the output.
      declarations: what the public header declares before its functions.
      call_comment: the public header's comment on `call`.
      postprocessing: C++ functions that turn the network's output into a result.
      read_result: C++ statements that set the parameter from the variable ``output``.
      example: name of the Arduino sketch.
      sketch: the Arduino sketch.
      result_declaration: C++ statement of the README that declares the result.
      result_argument: how the README passes it.
      result_use: C++ statement of the README that prints it.
    """

    kind: str
    call: str
    parameter: str
    argument: str
    answers: str
    declarations: str
    call_comment: str
    postprocessing: str
    read_result: str
    example: str
    sketch: str
    result_declaration: str
    result_argument: str
    result_use: str


# The beginning and the setup function of both sketches.
_INCLUDES = """\
// The Arduino IDE finds TFLM by this header. Replace it by that of your TFLM library:
// <TensorFlowLite.h> of Arduino_TensorFlowLite, <TensorFlowLite_ESP32.h> of TensorFlowLite_ESP32.
#include <Chirale_TensorFlowLite.h>
#include <$net.h>
#include <tensorflow/lite/micro/system_setup.h>
"""
_SETUP = """\
void setup() {
  tflite::InitializeTarget();
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
    answers="""\
// The answer where no class is probable enough.
constexpr int kUnknown = kClasses;

// Names of the classes, and of kUnknown.
constexpr const char* kLabels[kClasses + 1] = {
$labels
    $unknown,
};

// The number that logits (or the logarithms of a softmax) are divided by, so that probabilities
// agree with how often answers are right (1 where that was not measured), and the probability below
// which an answer is unknown (0 where none was chosen).
constexpr float kTemperature = $temperature;
constexpr float kThreshold = $threshold;
""",
    declarations="""\
struct Result {
  int index;          // index of the most likely class, or kUnknown if its probability is below
                      // kThreshold
  const char* label;  // name of the class, or "unknown"
  float probability;  // probability of the most likely class, 0 to 1
};

""",
    call_comment="""\
// Finds the class of an image of width * height pixels, row by row.
""",
    postprocessing="""\
// Returns the probability of the class `index`: the softmax of the logits / kTemperature.
inline float Probability(const std::int8_t* output, int index) {
  constexpr float scale = kOutputScale / kTemperature;
  float sum = 0.0f;
  for (int i = 0; i < kClasses; ++i) {
    sum += std::exp(static_cast<float>(output[i] - output[index]) * scale);
  }
  return 1.0f / sum;
}""",
    read_result="""\
  const int best = Best(output);
  result->probability = Probability(output, best);
  result->index = result->probability < kThreshold ? kUnknown : best;
  result->label = kLabels[result->index];
""",
    example="classify",
    sketch="""\
// This sketch classifies a grey image. Copy your camera's picture into `image` instead.
"""
    + _INCLUDES
    + """\

static uint8_t image[$net::kInputElements];

"""
    + _SETUP
    + """\

void loop() {
  $net::Result result;
  if ($net::Classify(image, $net::kWidth, $net::kHeight, &result)) {
    Serial.print(result.label);
    Serial.print(" ");
    Serial.println(result.probability);
  }
  delay(1000);
}
""",
    result_declaration="$net::Result result;",
    result_argument="&result",
    result_use='std::printf("%s\\n", result.label);',
)

# In place of the softmax, for networks that end in a softmax or in sigmoids.
PROBABILITIES = """\
// Returns the probability of the class `index`, which is the network's output.
inline float Probability(const std::int8_t* output, int index) { return Logit(output[index]); }"""

CALIBRATED = """\
// The odds of an element of the output, which is the result of a softmax.
inline float Odds(std::int8_t element) {
  return std::pow(std::fmax(Logit(element), 1e-38f), 1.0f / kTemperature);
}

// Returns the probability of the class `index`, calibrated with kTemperature.
inline float Probability(const std::int8_t* output, int index) {
  float sum = 0.0f;
  for (int i = 0; i < kClasses; ++i) sum += Odds(output[i]);
  return Odds(output[index]) / sum;
}"""

SEGMENTATION = TaskSources(
    kind="segmentation network",
    call="Segment",
    parameter="std::uint8_t* mask",
    argument="mask",
    answers="""\
constexpr const char* kLabels[kClasses] = {
$labels
};
""",
    declarations="",
    call_comment="""\
// Finds the class of each pixel of an image of width * height pixels, row by row. Writes
// kHeight * kWidth class indices, row by row, to `mask`. They cover the centre crop of the image,
// see kCropFraction.
""",
    postprocessing="""\
static_assert(kClasses <= 256, "a mask has one byte per pixel");

// Writes the class index of each pixel to `mask`: kHeight * kWidth numbers.
inline void Mask(const std::int8_t* output, std::uint8_t* mask) {
  for (int i = 0; i < kHeight * kWidth; ++i) {
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

static uint8_t image[$net::kInputElements];
static uint8_t mask[$net::kHeight * $net::kWidth];

"""
    + _SETUP
    + """\

// Prints the number of pixels of each class.
void loop() {
  if ($net::Segment(image, $net::kWidth, $net::kHeight, mask)) {
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
    result_declaration="static std::uint8_t mask[$net::kHeight * $net::kWidth];",
    result_argument="mask",
    result_use='std::printf("%s\\n", $net::kLabels[mask[0]]);',
)
