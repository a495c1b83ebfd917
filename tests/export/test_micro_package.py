"""The microcontroller package: compiled, and compared with Python."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from efficientnet_elite.data import geometry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, measure
from efficientnet_elite.export.packages import micro
from efficientnet_elite.export.runtimes import runtime, tflm
from efficientnet_elite.networks.names import spec_by_name
from tests.support import tflm_runs, tiny_tflite
from tests.support.micro import COMPILER, STRICT, check_syntax, compiled, needs_compiler, output

pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")
FRACTION = 0.875
# A quote, an escape, a trigraph, another script.
LABELS = [*tiny_tflite.LABELS[:8], 'a "\\n" ??= b', "Äpfel 林檎"]


PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include "net_tiny_image.h"
#include "net_tiny_model.h"
using namespace net_tiny;
static std::vector<unsigned char> Input() {
  std::vector<unsigned char> bytes;
  for (int byte; (byte = std::getchar()) != EOF;) bytes.push_back(static_cast<unsigned char>(byte));
  return bytes;
}
int main(int, char** argv) {
  if (std::strcmp(argv[1], "model") == 0) {
    std::fwrite(kModel, 1, kModelBytes, stdout);
    return static_cast<int>(reinterpret_cast<std::size_t>(kModel) % 16);
  }
  const std::vector<unsigned char> bytes = Input();
  if (std::strcmp(argv[1], "before") == 0) {
    const int width = std::atoi(argv[2]), height = std::atoi(argv[3]);
    std::vector<float> row(3 * static_cast<std::size_t>(width));
    std::vector<std::int8_t> input(kInputElements);
    Preprocess(bytes.data(), width, height, row.data(), input.data());
    std::fwrite(input.data(), 1, input.size(), stdout);
    return 0;
  }
  const std::int8_t* end = reinterpret_cast<const std::int8_t*>(bytes.data()) + bytes.size();
  for (const std::int8_t* output = end - bytes.size(); output < end; output += kClasses) {
    const int best = Best(output);
    std::printf("%d\\t%a\\t%.9g\\t%s\\n", best, static_cast<double>(Logit(output[best])),
                static_cast<double>(Probability(output, best)), kLabels[best]);
  }
}
"""


@functools.cache
def int8() -> bytes:
    return tiny_tflite.pair()[1]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("micro") / "package"
    micro.write_micro_package(
        int8(), name="tiny", labels=LABELS, out_dir=folder, crop_fraction=FRACTION
    )
    return folder


@pytest.fixture(scope="module")
def program(package) -> Path:
    source = package / "src"
    return compiled(PROGRAM, source, source / "net_tiny_model.cc")


@needs_compiler
def test_the_array_is_aligned_and_is_the_model(program):
    assert output(program, "model") == int8()  # the exit status is the address modulo 16


@needs_compiler
@pytest.mark.parametrize(
    "image",
    [
        *tiny_tflite.digits()[0][:5],
        tiny_tflite.digits()[0][5, ::4, ::4],
        load_sample_image("china.jpg"),
        load_sample_image("flower.jpg")[:, 200:460],
        load_sample_image("flower.jpg")[100:133, 200:231],
    ],
    ids=lambda image: "x".join(map(str, image.shape[:2])),
)
def test_preprocessing_is_that_of_the_evaluation(program, image):
    height, width, _ = image.shape
    got = output(program, "before", width, height, given=image.tobytes())
    box = geometry.center_box(image.shape, FRACTION)
    expected = geometry.crop_and_resize(image, box, tiny_tflite.SIDE).numpy()
    np.testing.assert_array_equal(
        np.frombuffer(got, np.int8).reshape(expected.shape), expected.astype(int) - 128
    )


@needs_compiler
def test_postprocessing_is_that_of_python(program):
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1500])
    runner = runtime.Runner(int8())
    elements = np.stack([runner.infer(i) for i in runtime.quantize_images(images, runner.input)])
    logits = runner.run(images)
    lines = output(program, "after", given=elements.tobytes()).decode().splitlines()
    assert len(lines) == len(images)
    for line, row in zip(lines, logits, strict=True):
        best, logit, probability, label = line.split("\t")
        assert int(best) == row.argmax()
        assert float.fromhex(logit) == row.max()
        softmax = np.exp(row.astype(float)) / np.exp(row.astype(float)).sum()
        assert float(probability) == pytest.approx(softmax.max(), rel=1e-5)
        assert label == LABELS[int(best)]
    assert len({line[0] for line in lines}) > 3  # the network tells them apart


@needs_compiler
@pytest.mark.parametrize(
    "macros",
    [
        (),
        (
            "-DNET_TINY_EXTRA_ARENA_BYTES=4096",
            '-DNET_TINY_ARENA_ATTRIBUTE=__attribute__((section(".ext_ram.bss")))',
        ),
    ],
    ids=["plain", "placed"],
)
def test_the_library_compiles_against_tflms_interface(package, tmp_path, macros):
    check_syntax(package / "src/net_tiny.cc", tmp_path, *macros)


# Calls the library as a program without floating point would; TFLM is played by a network that
# has nothing but room.
LIBRARY = """
#include <cstdio>
#include <vector>
#include "net_tiny.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"
static int8_t room[4000000];
TfLiteStatus tflite::MicroInterpreter::AllocateTensors() { return kTfLiteOk; }
TfLiteStatus tflite::MicroInterpreter::Invoke() { return kTfLiteOk; }
TfLiteTensor* tflite::MicroInterpreter::input(std::size_t) {
  static TfLiteTensor tensor{{room}};
  return &tensor;
}
TfLiteTensor* tflite::MicroInterpreter::output(std::size_t) { return input(0); }
const tflite::Model* tflite::GetModel(const void*) { return nullptr; }
int main() {
  net_tiny::Result result;
  std::vector<unsigned char> image(3 * net_tiny::kSide * net_tiny::kSide, 128);
  std::printf("%d%d ", net_tiny::Input() == nullptr, net_tiny::Run(&result));
  std::printf("%d ", net_tiny::Begin());
  std::printf("%d ", net_tiny::Classify(image.data(), net_tiny::kSide, net_tiny::kSide, &result));
  net_tiny::Input()[3] = 99;
  std::printf("%d ", net_tiny::Run(&result));
  std::printf("%d", result.index);
}
"""


@needs_compiler
@pytest.mark.parametrize("side", [tiny_tflite.SIDE, 384])
def test_a_program_runs_it_with_and_without_the_steps_before(tmp_path, monkeypatch, side):
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(int8()))
    graph = tree.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, side, side, 3]
    builder = flatbuffers.Builder(len(int8()))
    builder.Finish(tree.Pack(builder), b"TFL3")
    monkeypatch.setattr(tflm, "arena_bytes", lambda model: 1024)
    folder = tmp_path / "package"
    micro.write_micro_package(bytes(builder.Output()), name="tiny", labels=LABELS, out_dir=folder)
    check_syntax(folder / "src/net_tiny.cc", tmp_path)
    source = tmp_path / "main.cc"
    source.write_text(LIBRARY)
    program, folders = tmp_path / "program", [f"-I{tmp_path}", f"-I{folder / 'src'}"]
    sources = [source, folder / "src/net_tiny.cc", folder / "src/net_tiny_model.cc"]
    subprocess.run([COMPILER, *STRICT, *folders, "-o", program, *sources], check=True)
    assert output(program) == b"10 1 1 1 3"


def test_the_resolver_registers_exactly_the_operators(package):
    text = (package / "src/net_tiny_operators.h").read_text()
    registered = re.findall(r"resolver\.(\w+)\(\)", text)
    operators = inspect.operators(int8())
    assert registered == [micro.METHODS[name] for name in operators]
    assert f"MicroMutableOpResolver<{len(operators)}>" in text
    assert {"AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected"} <= set(registered)


def test_the_arena_is_the_smallest_that_works(package):
    (arena,) = re.findall(r"kArenaBytes = (\d+);", (package / "src/net_tiny_config.h").read_text())
    assert int(arena) == tflm.arena_bytes(int8())
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][:2])
    tflm_runs.run(int8(), images, int(arena))
    with pytest.raises(UserError, match="TFLM cannot load the model: Failed to"):
        tflm_runs.run(int8(), images, int(arena) - tflm.ALIGNMENT)


def test_an_arena_in_which_tflm_crashes_is_too_small():
    """Of the sizes that are tried for this network one ends the process."""
    spec = spec_by_name("mobilenetv3-small-minimalistic-w3d4r2", base_resolution=8, classes=10)
    model = measure.int8_bytes(spec)
    image = np.zeros((1, *spec.input_shape), np.float32)
    assert tflm_runs.run(model, image, tflm.arena_bytes(model)).shape == (1, 10)


def test_arduino_finds_tflm_by_the_sketchs_first_header(package):
    (sketch,) = package.rglob("*.ino")
    includes = re.findall(r"#include <(.*?)>", sketch.read_text())
    assert includes == ["TensorFlowLite.h", "net_tiny.h"]
    assert "#include <TensorFlowLite.h>" in (package / "README.md").read_text()


def test_what_arduino_and_platformio_read(package):
    properties = dict(
        line.split("=", 1) for line in (package / "library.properties").read_text().splitlines()
    )
    assert {"name", "version", "author", "architectures", "sentence"} <= set(properties)
    assert (package / "src" / properties["includes"]).is_file()
    described = json.loads((package / "library.json").read_text())
    assert (package / "src" / described["headers"]).is_file()
    assert (package / "labels.txt").read_text().splitlines() == LABELS
    assert "$" not in "".join(p.read_text() for p in package.rglob("*") if p.is_file())


def test_writing_again_gives_the_same_bytes(package, tmp_path):
    def contents(folder: Path) -> dict[Path, bytes]:
        return {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*.*")
            if path.is_file()
        }

    options = {"name": "tiny", "labels": LABELS, "crop_fraction": FRACTION}
    for _ in range(2):
        micro.write_micro_package(int8(), out_dir=tmp_path, **options)
        assert contents(tmp_path) == contents(package)


@pytest.mark.parametrize(
    ("labels", "which", "message"),
    [
        (tiny_tflite.LABELS, 0, "not int8 throughout"),
        (tiny_tflite.LABELS[:9], 1, r"shape \(1, 10\), but there are 9 labels"),
    ],
)
def test_what_is_no_pixel_classifier_is_refused(tmp_path, labels, which, message):
    with pytest.raises(UserError, match=message):
        micro.write_micro_package(
            tiny_tflite.pair()[which], name="tiny", labels=labels, out_dir=tmp_path
        )
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_names_become_namespaces(name):
    net = micro.namespace(name)
    assert re.fullmatch(r"net_[a-z0-9_]*", net)
    assert "__" not in net


@needs_compiler
@settings(max_examples=1, deadline=None, phases=[Phase.generate])  # each one is a compilation
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=200, max_size=200
    )
)
def test_any_label_survives_the_compiler(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("labels") / "src"
    folder.mkdir()
    strings = ",".join(map(micro.c_string, labels))
    source = f"""
    #include <cstdio>
    #include <cstring>
    #include <initializer_list>
    int main() {{
      for (const char* label : {{{strings}}}) std::fwrite(label, 1, std::strlen(label) + 1, stdout);
    }}"""
    expected = b"".join(label.encode() + b"\0" for label in labels)
    assert output(compiled(source, folder)) == expected
