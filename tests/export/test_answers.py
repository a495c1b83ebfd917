"""Packages answer as `elite predict` does: a class or unknown, with the calibrated probability.

The images are photographs and digits of the network's size, so that nothing is resized. Where a
runtime rounds differently from the one of `elite predict`, its own logits are given to the latter.
"""

from __future__ import annotations

import csv
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from efficientnet_elite.benchmarks.studies import answers, command
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import classifier as classifiers
from efficientnet_elite.export import formats, inspect
from efficientnet_elite.export.classifier import Classifier
from efficientnet_elite.export.confidence import UNKNOWN, Confidence
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.runtimes import compiled_c, runtime, tflm
from efficientnet_elite.job import prediction
from tests.support import micro, tiny_tflite
from tests.support.c_programs import needs_compiler
from tests.support.calibrated import calibrate
from tests.support.tiny_tflite import LABELS, SIDE

TEMPERATURE = 1.7
TOLERANCE = 1e-5  # of probabilities
HEADS = ("logits", "softmax", "sigmoid")
FORMS = (formats.FLOAT32, formats.INT8, tiny_tflite.UINT8)


def case(part: object) -> str:
    """How a format or head is called in a test's name."""
    return str(getattr(part, "name", part))


@functools.cache
def pictures() -> np.ndarray:
    """Squares of two photographs, and digits; (N, SIDE, SIDE, 3) uint8."""
    squares = [
        photograph[y : y + SIDE, x : x + SIDE]
        for photograph in load_sample_images().images
        for y in range(0, 400, 120)
        for x in range(0, 600, 160)
    ]
    return np.concatenate([squares, tiny_tflite.digits()[0][1400:1460]])


@functools.cache
def converted(head: str) -> dict[formats.Format, bytes]:
    """The tiny network with the softmax or sigmoids behind it, or with nothing."""
    if head == "logits":
        return tiny_tflite.converted()
    network = tiny_tflite.model()
    if head == "softmax":
        network = convert.with_output(network, head)
    else:
        network = keras.Model(network.inputs, keras.ops.sigmoid(network.outputs[0]))
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][:50])
    return dict(zip(FORMS, convert.to_tflite_formats(network, images, FORMS), strict=True))


class Export:
    """A file with a sidecar by which some of the pictures are unknown.

    Attributes:
      model: its path.
      classifier: what `elite predict` makes of it.
      threshold: the probability below which an answer is unknown.
    """

    def __init__(self, folder: Path, form: formats.Format, head: str):
        self.model = folder / f"tiny.{form.name}.tflite"
        self.model.write_bytes(converted(head)[form])
        (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
        calibrate(self.model, Confidence(TEMPERATURE))
        sure = np.sort(self._load().probabilities(pictures()).max(-1))
        # The widest gap between the probabilities in the middle.
        first, last = len(sure) // 6, len(sure) // 2
        least = first + int(np.diff(sure[first:last]).argmax())
        self.threshold = float(sure[least : least + 2].mean())
        calibrate(self.model, Confidence(TEMPERATURE, self.threshold))
        self.classifier = self._load()
        self.paths = [str(folder / f"{number}.png") for number in range(len(pictures()))]
        for path, pixels in zip(self.paths, pictures(), strict=True):
            Image.fromarray(pixels).save(path)

    def _load(self) -> Classifier:
        return classifiers.in_this_process(prediction.load(self.model))

    def check(self, found: Sequence[tuple[str, float]], outputs: np.ndarray | None = None):
        """Compares names and probabilities of answers with those of `elite predict`.

        Args:
          found: one answer for each picture.
          outputs: what the runtime's network computes; by default it computes what the one of
            `elite predict` does.
        """
        classifier = self.classifier
        if outputs is not None:
            classifier = replace(classifier, run=lambda _: outputs)
        expected = list(prediction.predict(classifier, self.paths, on_skipped=pytest.fail))
        assert [name for name, _ in found] == [each.answer for each in expected]
        np.testing.assert_allclose(
            [probability for _, probability in found],
            [each.probability for each in expected],
            rtol=0,
            atol=TOLERANCE,
        )
        names = [name for name, _ in found]
        assert 5 < names.count(UNKNOWN) < len(names) / 2 and len(set(names)) > 3


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Callable[..., Export]:
    """Makes the export of a format, by default of the network that ends in logits."""

    @functools.cache
    def make(form: formats.Format, head: str = "logits") -> Export:
        return Export(tmp_path_factory.mktemp("export"), form, head)

    return make


# Stands in for the network in the programs that `elite verify` compiles: its input is pixels, its
# output the answer, the probabilities and the network's output.
ANSWERS = """
#include <string.h>
#include "net_tiny.h"
enum { ANSWER_BYTES = 4 + 5 * NET_TINY_CLASSES };
static int8_t pixels[NET_TINY_INPUT_BYTES];
static int8_t *pixels_of(void *arena) {
  (void)arena;
  return pixels;
}
static void answer(const int8_t *input, int8_t *output, void *arena) {
  float probabilities[NET_TINY_CLASSES];
  int8_t *const image = net_tiny_input(arena);
  const int32_t index = net_tiny_classify((const uint8_t *)input, NET_TINY_SIDE, NET_TINY_SIDE,
                                          NN_RGB888, probabilities, arena);
  int32_t i;
  memcpy(output, &index, 4);
  memcpy(output + 4, probabilities, sizeof probabilities);
  for (i = 0; i < NET_TINY_INPUT_BYTES; ++i) image[i] = (int8_t)((uint8_t)input[i] - 128);
  net_tiny_run(image, output + 4 + sizeof probabilities, arena);
}
"""
MACROS = {
    "NET_HEADER": '"answers.h"',
    "NET_RUN": "answer",
    "NET_INPUT": "pixels_of",
    "NET_ARENA_BYTES": "NET_TINY_ARENA_BYTES",
    "NET_INPUT_BYTES": "NET_TINY_INPUT_BYTES",
    "NET_OUTPUT_BYTES": "ANSWER_BYTES",
}
COMPILED = [
    pytest.param(
        chosen,
        id=chosen.main,
        marks=pytest.mark.skipif(chosen.missing() is not None, reason=str(chosen.missing())),
    )
    for chosen in (compiled_c.HOST, compiled_c.CORTEX_M4)
]


@pytest.mark.parametrize("head", ["logits", "softmax"])
@pytest.mark.parametrize("chosen", COMPILED)
def test_the_c_package(export, tmp_path, chosen, head):
    exported = export(formats.INT8, head)
    folder = packages.of_file(exported.model, "c", out_dir=tmp_path).folder
    (folder / "answers.h").write_text(ANSWERS)
    (folder / "images.bin").write_bytes(pictures().tobytes())
    program = Path(compiled_c.__file__).with_name("c_programs") / chosen.main
    macros = [f"-D{name}={value}" for name, value in MACROS.items()]
    sources = [program, *sorted(path.name for path in folder.glob("*.c"))]
    compile_it = [*chosen.compiler, "-I.", *macros, *sources, *chosen.libraries, "-o", "program"]
    subprocess.run(compile_it, cwd=folder, check=True)
    subprocess.run(
        [*chosen.command, folder / "program"], cwd=folder, check=True, capture_output=True
    )
    classes = len(LABELS)
    written = np.dtype(
        [("index", "<i4"), ("probabilities", "<f4", classes), ("output", "i1", classes)]
    )
    rows = np.fromfile(folder / "outputs.bin", written)
    names = [*LABELS, UNKNOWN]
    _, (output,) = runtime.interfaces(inspect.read(exported.model.read_bytes()))
    exported.check(
        [(names[row["index"]], row["probabilities"].max()) for row in rows],
        runtime.dequantize_outputs(rows["output"], output),
    )
    np.testing.assert_allclose(rows["probabilities"].sum(-1), 1, atol=1e-6)


# Plays TFLM: the network's output comes from the standard input.
MICRO = """
#include <cstdio>
#include "net_tiny.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"
static int8_t elements[net_tiny::kClasses];
TfLiteStatus tflite::MicroInterpreter::AllocateTensors() { return kTfLiteOk; }
TfLiteStatus tflite::MicroInterpreter::Invoke() { return kTfLiteOk; }
TfLiteTensor* tflite::MicroInterpreter::input(std::size_t) { return output(0); }
TfLiteTensor* tflite::MicroInterpreter::output(std::size_t) {
  static TfLiteTensor tensor{{elements}};
  return &tensor;
}
const tflite::Model* tflite::GetModel(const void*) { return nullptr; }
tflite::MicroAllocator* tflite::MicroAllocator::Create(uint8_t* arena, std::size_t) {
  return reinterpret_cast<MicroAllocator*>(arena);
}
int main() {
  net_tiny::Result result;
  if (!net_tiny::Begin()) return 1;
  while (std::fread(elements, 1, sizeof elements, stdin) == sizeof elements) {
    if (!net_tiny::Run(&result)) return 2;
    const bool unknown = result.probability < net_tiny::kThreshold;
    if ((result.index == net_tiny::kUnknown) != unknown) return 3;
    std::printf("%s\\t%.9g\\n", result.label, static_cast<double>(result.probability));
  }
}
"""


@needs_compiler
@pytest.mark.parametrize("head", HEADS)
def test_the_micro_package(export, head, tmp_path):
    pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")
    exported = export(formats.INT8, head)
    folder = packages.of_file(exported.model, "micro", out_dir=tmp_path / "package").folder
    content = exported.model.read_bytes()
    elements = tflm.outputs(content, (pictures().astype(np.int16) - 128).astype(np.int8))
    program = micro.linked(MICRO, folder, tmp_path)
    lines = micro.output(program, given=elements.tobytes()).decode().splitlines()
    rows = [line.split("\t") for line in lines]
    _, (output,) = runtime.interfaces(inspect.read(content))
    exported.check(
        [(name, float(probability)) for name, probability in rows],
        runtime.dequantize_outputs(elements, output),
    )


PAGE = """
import {readFileSync} from "node:fs";
import {UNKNOWN, classify} from "./classify.mjs";
const info = JSON.parse(readFileSync("model.json"));
const answers = JSON.parse(readFileSync("outputs.json")).map((output) => classify(output, info));
for (const {index, label, classes} of answers) {
  if ((index === info.labels.length) !== (label === UNKNOWN)) throw new Error("another index");
  if (classes.some(({probability}, i) => i && probability > classes[i - 1].probability)) {
    throw new Error("not in the order of probabilities");
  }
}
console.log(JSON.stringify(answers.map(({label, probability}) => [label, probability])));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
@pytest.mark.parametrize(
    ("form", "head"),
    [
        *((form, "logits") for form in FORMS),
        (formats.INT8, "softmax"),
        (tiny_tflite.UINT8, "sigmoid"),
    ],
    ids=case,
)
def test_the_web_package(registry, export, tmp_path, form, head):
    """LiteRT.js gives the logits of XNNPACK, see `test_browser`."""
    exported = export(form, head)
    folder = packages.of_file(exported.model, "web", out_dir=tmp_path / "page").folder
    runner = runtime.Runner(exported.model.read_bytes())
    images = runtime.quantize_images(tiny_tflite.normalised(pictures()), runner.input)
    outputs = [runner.infer(image).reshape(-1).tolist() for image in images]
    (folder / "outputs.json").write_text(json.dumps(outputs))
    (folder / "classify.js").rename(folder / "classify.mjs")  # as no package.json says it
    (folder / "test.mjs").write_text(PAGE)
    done = subprocess.run(["node", "test.mjs"], cwd=folder, capture_output=True, check=True)
    exported.check(json.loads(done.stdout))


ANDROID = [(formats.FLOAT32, "logits"), *((tiny_tflite.UINT8, head) for head in HEADS)]


@pytest.mark.parametrize(("form", "head"), ANDROID, ids=case)
def test_the_android_package(export, tmp_path, form, head):
    """Its file gives the probabilities; the Kotlin classes only compare them."""
    exported = export(form, head)
    folder = packages.of_file(exported.model, "android", out_dir=tmp_path / "app").folder
    model = folder / "network/src/main/assets/net_tiny/tiny.tflite"
    inside = classifiers.in_this_process(prediction.load(model))
    scores = inside.probabilities(pictures())
    sure = scores.max(-1)
    names = np.where(sure < exported.threshold, UNKNOWN, np.array(LABELS)[scores.argmax(-1)])
    exported.check(list(zip(names.tolist(), sure.tolist(), strict=True)))
    text = (folder / "network/src/main/kotlin/Network.kt").read_text()
    assert f"const val CLASSES = {len(LABELS)}\n" in text
    assert 'const val UNKNOWN = "unknown"\n' in text
    assert f"const val THRESHOLD = {np.float32(exported.threshold)!s}f\n" in text


# In a process of its own: MediaPipe and TensorFlow bring their own copies of the same libraries.
MEDIAPIPE = """
import json, sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
pictures = np.load(sys.argv[1])
def answers(model, least):
    options = vision.ImageClassifierOptions(
        BaseOptions(model_asset_path=model), max_results=1, score_threshold=least
    )
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for pixels in pictures:
            picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, pixels)
            found = classifier.classify(picture).classifications[0].categories
            yield [[each.category_name, each.score] for each in found]
for model, threshold in zip(sys.argv[2::2], map(float, sys.argv[3::2])):
    print(json.dumps([list(answers(model, 0.0)), list(answers(model, threshold))]))
"""


@pytest.mark.slow
def test_mediapipes_own_threshold_finds_the_unknown_ones(export, tmp_path):
    pytest.importorskip("mediapipe")
    np.save(tmp_path / "pictures.npy", pictures())
    arguments = [str(tmp_path / "pictures.npy")]
    for number, (form, head) in enumerate(ANDROID):
        exported = export(form, head)
        app = tmp_path / str(number)
        packages.of_file(exported.model, "android", out_dir=app)
        arguments += [
            str(app / "network/src/main/assets/net_tiny/tiny.tflite"),
            str(exported.threshold),
        ]
    done = subprocess.run(
        [sys.executable, "-c", MEDIAPIPE, *arguments], capture_output=True, check=True
    )
    lines = done.stdout.decode().splitlines()[-len(ANDROID) :]
    for line, (form, head) in zip(lines, ANDROID, strict=True):
        every, sure = json.loads(line)
        found = [
            (best[0] if kept else UNKNOWN, best[1])
            for (best,), kept in zip(every, sure, strict=True)
        ]
        export(form, head).check(found)


@needs_compiler
def test_the_study_finds_no_difference_but_that_of_logits(export, capsys):
    exported = export(formats.INT8)
    command.parse(answers.FLAGS, ["answers", "--format=csv"])
    answers.main([str(exported.model), str(exported.model.parent)])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    count = str(len(pictures()))
    assert [row["images"] for row in rows] == [count] * 3
    assert rows[-1]["same answer"] == count and float(rows[-1]["greatest"]) < TOLERANCE
    # Without resizing, the package's own steps are those of the evaluation.
    assert list(rows[0].values())[1:] == list(rows[1].values())[1:]


def test_without_calibration_every_answer_is_a_class(export, tmp_path):
    model = tmp_path / "tiny.tflite"
    model.write_bytes(export(formats.INT8).model.read_bytes())
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    header = (packages.of_file(model, "c").folder / "net_tiny.h").read_text()
    assert "TEMPERATURE 1.0f" in header and "THRESHOLD 0.0f" in header


def test_a_damaged_calibration_is_refused(tmp_path):
    exported = Export(tmp_path, formats.INT8, "logits")
    calibrate(exported.model, Confidence(-1.0))
    with pytest.raises(UserError, match=r"sidecar of .* is damaged: export the model again"):
        packages.of_file(exported.model, "c")
