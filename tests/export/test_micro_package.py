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
import yaml
from ai_edge_litert import schema_py_generated as schema
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from efficientnet_elite.config import InputSize
from efficientnet_elite.data import geometry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, measure
from efficientnet_elite.export.packages import micro, names, scratch
from efficientnet_elite.export.packages.c import arithmetic, simplify
from efficientnet_elite.export.packages.c import graph as graphs
from efficientnet_elite.export.packages.micro_operators import METHODS
from efficientnet_elite.export.packages.targets import Source
from efficientnet_elite.export.runtimes import runtime, tflm
from efficientnet_elite.networks.names import spec_by_name
from tests.support import tflm_runs, tiny_tflite
from tests.support.micro import (
    COMPILER,
    STRICT,
    check_syntax,
    compiled,
    linked,
    needs_compiler,
    output,
    write_tflm,
)

pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")
FRACTION = 0.875
# A quote, an escape, a trigraph, another script.
LABELS = [*tiny_tflite.LABELS[:8], 'a "\\n" ??= b', "Äpfel 林檎"]


PROGRAM = """
#include <cstdio>
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
    micro.write_micro_package(Source(int8(), "tiny", LABELS, folder, crop_fraction=FRACTION))
    return folder


@pytest.fixture(scope="module")
def program(package) -> Path:
    source = package / "src"
    return compiled(PROGRAM, source, source / "net_tiny_model.cpp")


@needs_compiler
def test_the_array_is_aligned_and_is_the_model(program):
    assert output(program, "model") == int8()  # the exit status is the address modulo 16


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
    check_syntax(package / "src/net_tiny.cpp", tmp_path, *macros)


# Calls the library; TFLM is played by a network that has nothing but room, and whose output is its
# input.
LIBRARY = """
#include <cstdio>
#include <vector>
#include "net_tiny.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"
static int8_t room[4000000];
static int allocators = 0;
TfLiteStatus tflite::MicroInterpreter::AllocateTensors() { return kTfLiteOk; }
TfLiteStatus tflite::MicroInterpreter::Invoke() { return kTfLiteOk; }
TfLiteTensor* tflite::MicroInterpreter::input(std::size_t) {
  static TfLiteTensor tensor{{room}};
  return &tensor;
}
TfLiteTensor* tflite::MicroInterpreter::output(std::size_t) { return input(0); }
const tflite::Model* tflite::GetModel(const void*) { return nullptr; }
tflite::MicroAllocator* tflite::MicroAllocator::Create(uint8_t* arena, std::size_t) {
  ++allocators;
  return reinterpret_cast<MicroAllocator*>(arena);
}
using namespace net_tiny;
int main(int, char** argv) {
  const int width = std::atoi(argv[1]), height = std::atoi(argv[2]);
  Result result;
  std::vector<unsigned char> pixels(static_cast<std::size_t>(3 * width * height));
  if (std::fread(pixels.data(), 1, pixels.size(), stdin) != pixels.size()) return 1;
  if (Input() != nullptr || Run(&result) || ArenaUsed() != 0) return 2;
  if (Classify(pixels.data(), width, height, &result)) return 3;
  if (Begin(static_cast<tflite::MicroAllocator*>(nullptr))) return 4;
  alignas(16) static std::uint8_t arena[kArenaBytes];
  if (!Begin(arena, sizeof arena) || !Begin() || allocators != 1 || ArenaUsed() != 77) return 5;
  if (!Classify(pixels.data(), width, height, &result)) return 6;
  std::fwrite(Input(), 1, kInputElements, stdout);
  std::vector<std::int32_t> memory(LineBytes(width < height ? width : height) / 4);
  if (BeginImage(width, height, kRgb888, memory.data(), 16)) return 7;
  if (!BeginImage(width, height, kRgb888, memory.data(), 4 * memory.size())) return 8;
  for (int y = 0; y < height; ++y) AddLine(pixels.data() + 3 * width * y);
  std::fwrite(Input(), 1, kInputElements, stdout);
  if (Classify(pixels.data(), 5000, 5000, &result)) return 9;
  Input()[3] = 127;
  if (!Run(&result) || result.index != (Input()[0] == 127 ? 0 : 3)) return 10;
  return 0;
}
"""
IMAGES = [
    tiny_tflite.digits()[0][5],
    tiny_tflite.digits()[0][5, ::4, ::4],
    load_sample_image("flower.jpg")[:240, 200:460],
    load_sample_image("flower.jpg")[100:133, 200:231],
]


@pytest.fixture(scope="module")
def library(package, tmp_path_factory) -> Path:
    return linked("#include <cstdlib>\n" + LIBRARY, package, tmp_path_factory.mktemp("library"))


@needs_compiler
@pytest.mark.parametrize("image", IMAGES, ids=lambda image: "x".join(map(str, image.shape[:2])))
def test_preprocessing_is_that_of_the_evaluation(library, image):
    check_preprocessing(library, image, InputSize.of(tiny_tflite.SIDE))


@needs_compiler
def test_the_library_of_a_network_that_is_not_square(tmp_path):
    folder = tmp_path / "package"
    source = Source(tiny_tflite.wide(), "tiny", LABELS, folder, crop_fraction=FRACTION)
    micro.write_micro_package(source)
    library = linked("#include <cstdlib>\n" + LIBRARY, folder, tmp_path)
    check_preprocessing(library, IMAGES[2], tiny_tflite.WIDE)


def check_preprocessing(library: Path, image: np.ndarray, size: InputSize) -> None:
    height, width, _ = image.shape
    got = np.frombuffer(output(library, width, height, given=image.tobytes()), np.int8)
    whole, by_lines = got.reshape(2, *size, 3)
    np.testing.assert_array_equal(by_lines, whole)
    box = geometry.center_box(image.shape[:2], FRACTION, size)
    expected = np.asarray(geometry.crop_and_resize(image, box, size))
    difference = np.abs(whole - (expected.astype(int) - 128))
    # The evaluation computes weights in float64; this makes sums just below a half round up.
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@needs_compiler
def test_an_input_that_is_larger_than_usual_images(tmp_path, monkeypatch):
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(int8()))
    graph = tree.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 384, 384, 3]
    builder = flatbuffers.Builder(len(int8()))
    builder.Finish(tree.Pack(builder), b"TFL3")
    monkeypatch.setattr(tflm, "arena_bytes", lambda model: 1024)
    monkeypatch.setattr(tflm, "allocation", lambda model: tflm.Allocation(1000, 24))
    folder = tmp_path / "package"
    micro.write_micro_package(Source(bytes(builder.Output()), "tiny", LABELS, folder))
    check_syntax(folder / "src/net_tiny.cpp", tmp_path)
    text = (folder / "src/net_tiny_config.h").read_text()
    assert "MAX_IMAGE_SIDE 384" in text and "kPersistentBytes = 24;" in text


@needs_compiler
def test_the_code_of_the_readme_compiles(package, tmp_path):
    blocks = re.findall(r"```cpp\n(.*?)```", (package / "README.md").read_text(), re.S)
    assert len(blocks) == 2
    source = tmp_path / "readme.cpp"
    source.write_text("".join(blocks))
    check_syntax(source, tmp_path, f"-I{package / 'src'}", "-Wno-unused-function")


@needs_compiler
@pytest.mark.parametrize(
    ("options", "message"),
    [(["-std=c++14"], "needs C"), (["-UTF_LITE_STATIC_MEMORY"], "compile with -DTF_LITE_STATIC")],
)
def test_a_wrong_compilation_stops(package, tmp_path, options, message):
    write_tflm(tmp_path)
    source = package / "src/net_tiny.cpp"
    command = [COMPILER, *STRICT, *options, f"-I{tmp_path}", "-fsyntax-only", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and message in done.stderr
    # TFLM's libraries for the Arduino IDE have other headers.
    subprocess.run([*command, "-DARDUINO=10819"], check=True)


def test_two_packages_can_be_linked():
    """The C code bears the package's name."""
    names = [set(micro.renamed_kernels(net)) for net in ("net_a", "net_b")]
    assert len(names[0]) == 6 and not names[0] & names[1]
    text = "".join(micro.renamed_kernels("net_a").values())
    assert set(re.findall(r'#include "(.*)"', text)) < names[0]
    assert not re.search(r"\b(nn|NN)_", text) and "net_a_nn_image_line" in text


# Runs the package's kernels of MEAN, MUL and LOGISTIC on the bytes of the standard input: 5 x 3
# pixels of 4 channels, and 4 gates.
KERNELS = """
#include <cstdio>
#include "net_tiny_operators.h"
#include "tensorflow/lite/micro/kernels/logistic.h"
#include "tensorflow/lite/micro/kernels/mul.h"
#include "tensorflow/lite/micro/kernels/reduce.h"
using namespace net_tiny;
int main() {
  std::int8_t map[60], gate[4], out[60];
  std::int32_t axes[2] = {2, 1};
  TfLiteIntArray map_shape = {4, {1, 5, 3, 4}}, gate_shape = {4, {1, 1, 1, 4}};
  TfLiteIntArray axes_shape = {1, {2, 0, 0, 0}};
  TfLiteEvalTensor a = {{map}, &map_shape, kTfLiteInt8}, b = {{gate}, &gate_shape, kTfLiteInt8};
  TfLiteEvalTensor c = {{out}, &map_shape, kTfLiteInt8}, d = {{}, &axes_shape, kTfLiteInt8};
  d.data.i32 = axes;
  TfLiteContext context;
  OpResolver resolver;
  if (std::fread(map, 1, 60, stdin) + std::fread(gate, 1, 4, stdin) != 64) return 1;
  if (!resolver.Register()) return 2;
  tflite::OpDataMul mul = {7, -100, -128, 120, -5, 1518500250, MUL_SHIFT};
  tflite::OpDataReduce mean = {1518500250, 1, 7, -5};
  tflite::OpDataLogistic logistic = {LOGISTIC_DATA};
  auto run = [&](tflite::BuiltinOperator op, void* data, TfLiteEvalTensor* x, TfLiteEvalTensor* y,
                 std::size_t bytes) {
    TfLiteNode node = {data, {x, y}, &c};
    if (resolver.FindOp(op)->invoke(&context, &node) != kTfLiteOk) return false;
    return std::fwrite(out, 1, bytes, stdout) == bytes;
  };
  if (!run(tflite::BuiltinOperator_MUL, &mul, &a, &b, 60)) return 3;
  mul.input1_zero_point = -100;
  mul.input2_zero_point = 7;
  if (!run(tflite::BuiltinOperator_MUL, &mul, &b, &a, 60)) return 4;
  if (run(tflite::BuiltinOperator_MUL, &mul, &a, &a, 60)) return 5;  // TFLM's own
  if (!run(tflite::BuiltinOperator_MEAN, &mean, &a, &d, 4)) return 6;
  if (!run(tflite::BuiltinOperator_LOGISTIC, &logistic, &a, nullptr, 60)) return 7;
  logistic.input_multiplier += 1;
  return run(tflite::BuiltinOperator_LOGISTIC, &logistic, &a, nullptr, 60) ? 8 : 0;
}
"""


@needs_compiler
def test_the_kernels_of_the_package_are_exact(tmp_path):
    """Against the arithmetic of TFLM's reference kernels in Python."""
    model = measure.int8_bytes(spec_by_name("elite-w3d4r2", base_resolution=32, classes=10))
    folder = tmp_path / "package"
    micro.write_micro_package(Source(model, "tiny", tiny_tflite.LABELS, folder))
    graph = graphs.read(model)
    logistic = next(operator for operator in graph.operators if operator.kind == "LOGISTIC")
    tensor, result = (graph.tensors[i] for i in (logistic.inputs[0], logistic.outputs[0]))
    multiplier, left = arithmetic.quantized_multiplier(tensor.scale * (1 << 27))
    main = KERNELS.replace("LOGISTIC_DATA", f"{tensor.zero}, 0, {multiplier}, {left}")
    main = main.replace("MUL_SHIFT", "-7")
    values = np.random.default_rng(0).integers(-128, 128, 64).astype(np.int8)
    pixels, gates = values[:60].reshape(15, 4).astype(int), values[60:].astype(int)
    factor = 1518500250

    def product(x: int, y: int) -> int:
        return arithmetic.clamped(arithmetic.scaled((x - 7) * (y + 100), factor, -7) - 5, -128, 120)

    def mean(channel: np.ndarray) -> int:
        total = int(channel.sum()) - 7 * 15
        return arithmetic.clamped(arithmetic.scaled(total, (factor << 3) // 15, 1 - 3) - 5)

    products = [product(int(x), int(y)) for row in pixels for x, y in zip(row, gates, strict=True)]
    sigmoid = simplify.sigmoid(tensor, result, logistic)
    expected = [*products, *products, *map(mean, pixels.T), *map(sigmoid, pixels.ravel().tolist())]
    program = linked(main, folder, tmp_path, files="net_tiny_[no][np]*.c*")
    got = np.frombuffer(output(program, given=values.tobytes()), np.int8)
    assert got.tolist() == expected


def test_the_resolver_registers_exactly_the_operators(package):
    text = "".join(path.read_text() for path in (package / "src").glob("net_tiny_operators.*"))
    registered = re.findall(r"resolver\.(\w+)\(\)", text)
    operators = inspect.operators(int8())
    assert registered == [METHODS[name] for name in operators]
    assert f"MicroMutableOpResolver<{len(operators)}>" in text
    assert {"AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected"} <= set(registered)


def test_the_arena_is_the_smallest_that_works(package):
    (arena,) = re.findall(r"kArenaBytes = (\d+);", (package / "src/net_tiny_config.h").read_text())
    least = tflm.arena_bytes(int8())
    assert int(arena) == least + scratch.cmsis_nn_bytes(graphs.read(int8()))
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][:2])
    tflm_runs.run(int8(), images, least)
    with pytest.raises(UserError, match="TFLM cannot load the model: Failed to"):
        tflm_runs.run(int8(), images, least - tflm.ALIGNMENT)


def test_an_arena_in_which_tflm_crashes_is_too_small():
    """Of the sizes that are tried for this network one ends the process."""
    spec = spec_by_name("mobilenetv3-small-minimalistic-w3d4r2", base_resolution=8, classes=10)
    model = measure.int8_bytes(spec)
    image = np.zeros((1, *spec.input_shape), np.float32)
    assert tflm_runs.run(model, image, tflm.arena_bytes(model)).shape == (1, 10)


def test_arduino_finds_tflm_by_the_sketchs_first_header(package):
    (sketch,) = package.rglob("*.ino")
    includes = re.findall(r"#include <(.*?)>", sketch.read_text())
    assert includes[:2] == ["Chirale_TensorFlowLite.h", "net_tiny.h"]
    assert "#include <Chirale_TensorFlowLite.h>" in (package / "README.md").read_text()
    assert "tflite::InitializeTarget();" in sketch.read_text()


def test_what_arduino_and_platformio_read(package):
    properties = dict(
        line.split("=", 1) for line in (package / "library.properties").read_text().splitlines()
    )
    assert {"name", "version", "author", "architectures", "sentence"} <= set(properties)
    assert (package / "src" / properties["includes"]).is_file()
    described = json.loads((package / "library.json").read_text())
    assert (package / "src" / described["headers"]).is_file()
    assert (package / "labels.txt").read_text().splitlines() == LABELS
    assert described["version"] == properties["version"]
    component = yaml.safe_load((package / "idf_component.yml").read_text())
    assert component["version"] == described["version"] and "idf" in component["dependencies"]
    assert yaml.safe_load((package / "zephyr/module.yml").read_text())["name"] == "net_tiny"
    assert "Apache" in (package / "LICENSE").read_text()
    assert (package / "keywords.txt").read_text().startswith("net_tiny\tKEYWORD1")
    text = "".join(p.read_text() for p in package.rglob("*") if p.suffix in (".h", ".cpp", ".md"))
    assert "$" not in text


def test_writing_again_gives_the_same_bytes(package, tmp_path):
    def contents(folder: Path) -> dict[Path, bytes]:
        return {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*.*")
            if path.is_file()
        }

    source = Source(int8(), "tiny", LABELS, tmp_path, crop_fraction=FRACTION)
    for _ in range(2):
        micro.write_micro_package(source)
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
        micro.write_micro_package(Source(tiny_tflite.pair()[which], "tiny", labels, tmp_path))
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_names_become_namespaces(name):
    net = names.identifier(name)
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
    strings = ",".join(map(names.c_string, labels))
    source = f"""
    #include <cstdio>
    #include <cstring>
    #include <initializer_list>
    int main() {{
      for (const char* label : {{{strings}}}) std::fwrite(label, 1, std::strlen(label) + 1, stdout);
    }}"""
    expected = b"".join(label.encode() + b"\0" for label in labels)
    assert output(compiled(source, folder)) == expected
