"""Networks compiled to C: compared with TensorFlow Lite Micro byte for byte, here and emulated."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.config import InputSize
from efficientnet_elite.data import decode, geometry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, measure
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.packages.c import arithmetic, graph, memory, package
from efficientnet_elite.export.packages.c.more_steps import MAKERS
from efficientnet_elite.export.packages.c.program import compiled
from efficientnet_elite.export.runtimes import compiled_c, runtime, tflm, verify
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.names import spec_by_name
from tests.support import c_programs, tflm_runs, tiny_masks, tiny_tflite
from tests.support.c_programs import needs_compiler
from tests.support.networks import KINDS_OF_FAMILIES

NETWORKS = (
    "elite9",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("elite9-hard_swish-nose", "elite9-relu6", "elite9-mcu-stem4")
    ),
    "elite9-relu6-nose-24x40",
)
PROCESSORS: tuple[tuple[str, ...], ...] = (
    *(("-mcpu=cortex-" + core,) for core in ("m0plus", "m4", "m7", "m33", "m55")),
    *(("-mcpu=cortex-m55", f"-mfloat-abi={abi}") for abi in ("softfp", "hard")),  # with vectors
)
INT8 = 1


def check_equal(model: bytes, images: np.ndarray, folder: Path) -> None:
    """Compares the C code with TFLM, byte for byte.

    TensorFlow Lite's own reference kernels are no substitute: they round sigmoids otherwise.
    """
    if not tflm.available():
        pytest.skip("pip install --pre tflite-micro")
    library = c_programs.Library(model, folder)
    (image,), (output,) = runtime.interfaces(inspect.read(model))
    expected = tflm_runs.run(model, images, tflm.MAX_ARENA_BYTES)
    assert np.ptp(expected) > 0
    for pixels, logits in zip(runtime.quantize_images(images, image), expected, strict=True):
        for inside in (False, True):
            mine = library.run(pixels, inside=inside).reshape(output.shape[1:])
            np.testing.assert_array_equal(runtime.dequantize_outputs(mine, output), logits)


@needs_compiler
def test_a_trained_network_on_real_images(tmp_path):
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1430])
    check_equal(tiny_tflite.pair()[INT8], images, tmp_path)


@needs_compiler
def test_masks(tmp_path):
    check_equal(tiny_masks.model_file(tmp_path).read_bytes(), tiny_masks.scenes()[0][:3], tmp_path)


@needs_compiler
@pytest.mark.parametrize("name", NETWORKS)
def test_variants(name, tmp_path):
    spec = spec_by_name(name, classes=10, base_resolution=32)
    check_equal(measure.int8_bytes(spec), c_programs.noise(spec.resolution), tmp_path)


@needs_compiler
def test_a_classifier_that_reads_all_stages(tmp_path):
    spec = spec_by_name("elite9-relu6-nose", classes=10, base_resolution=32).reading_stages()
    check_equal(measure.int8_bytes(spec), c_programs.noise(spec.resolution), tmp_path)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in KINDS_OF_FAMILIES if name != "elite"])
def test_every_family(family, tmp_path):
    base = 64 if family.startswith(("condense", "pelee", "squeeze")) else 32
    names = list(FAMILIES[family].settings(base))
    # The logits of PeleeNet's smallest, with random weights, are all zero. B7 takes minutes.
    name = names[0] if family in ("efficientnet", "peleenet") else names[-1]
    spec = spec_by_name(name, classes=10, base_resolution=base)
    check_equal(measure.int8_bytes(spec), c_programs.noise(spec.resolution), tmp_path)


@needs_compiler
@pytest.mark.slow
def test_the_code_is_clean_c_and_cpp(tmp_path):
    model = tiny_tflite.pair()[INT8]
    sources = c_programs.write(tmp_path, compiled(model), model)
    commands = [["gcc", "-std=c99", "-O2"], ["g++", "-x", "c++", "-std=c++17", "-O2"]]
    if compiled_c.CORTEX_M4.missing() is None:
        arm = ["arm-none-eabi-gcc", "-std=c99", "-O2", "-mthumb"]
        commands += [[*arm, *options] for options in PROCESSORS]
        commands += [[*commands[-1], optimization] for optimization in ("-O0", "-Os")]
    for command in commands:
        for source in sources:
            done = [*command, *c_programs.STRICT, "-c", source, "-o", tmp_path / "object.o"]
            subprocess.run(done, check=True)


@needs_compiler
def test_depthwise_weights_of_minus_128_are_computed_with_groups(tmp_path):
    model = tiny_tflite.pair()[INT8]
    network = graph.read(model)
    (position,) = [o.inputs[1] for o in network.operators if o.kind == "DEPTHWISE_CONV_2D"]
    weights = network.tensors[position].content
    changed = weights.copy()
    changed[changed == changed.min()] = -128
    assert model.count(weights.tobytes()) == 1
    other = model.replace(weights.tobytes(), changed.tobytes())
    for content, kernels in ((model, {"nn_conv", "nn_depthwise"}), (other, {"nn_conv"})):
        used = {step.kernel for step in compiled(content).steps}
        assert used & {"nn_conv", "nn_depthwise"} == kernels
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1410])
    check_equal(other, images, tmp_path)


@needs_compiler
def test_verify_has_the_runtime(tmp_path):
    pixels, classes = tiny_tflite.digits()
    images = tiny_tflite.normalised(pixels[1400:1410])
    names = [verify.REFERENCE, compiled_c.HOST.name]
    rows = list(verify.verify(tiny_tflite.pair()[INT8], images, classes[1400:1410], runtimes=names))
    assert rows[1].passed and rows[1].difference <= 2 and rows[1].accuracy == rows[0].accuracy
    assert rows[1].memory_bytes == compiled(tiny_tflite.pair()[INT8]).arena_bytes


CLASSIFY = """
#include <stdio.h>
#include "net_a_1_x.h"
static double arena[NET_A_1_X_ARENA_BYTES / 8 + 1];
static uint8_t pixels[200 * 200 * 3];
int main(void) {
  float probabilities[NET_A_1_X_CLASSES];
  int32_t format, i;
  fread(pixels, 1, sizeof pixels, stdin);
  for (format = NN_GREY; format <= NN_RGB565; ++format) {
    int32_t best = net_a_1_x_classify(pixels, 40, 30, (nn_format)format, probabilities, arena);
    printf("%s", net_a_1_x_labels[best]);
    for (i = 0; i < NET_A_1_X_CLASSES; ++i) printf(" %.9g", probabilities[i]);
    printf("\\n");
  }
  {
    nn_image image;
    int32_t y;
    i = net_a_1_x_classify(pixels, 1 << 16, 1 << 16, NN_GREY, probabilities, arena);
    printf("%d\\n", (int)i);
    if (!net_a_1_x_begin_image(&image, 40, 30, NN_RGB888, arena)) return 1;
    for (y = 0; y < 30; ++y) nn_image_line(&image, pixels + 3 * 40 * y);
    printf("%s", net_a_1_x_labels[net_a_1_x_classify_input(probabilities, arena)]);
    for (i = 0; i < NET_A_1_X_CLASSES; ++i) printf(" %.9g", probabilities[i]);
    printf("\\n");
  }
  return 0;
}
"""


@needs_compiler
def test_the_package_classifies_pixels(tmp_path):
    model = tmp_path / "a 1*&x.int8.tflite"
    model.write_bytes(tiny_tflite.pair()[INT8])
    (tmp_path / "labels.txt").write_text("".join(f"label{i}\n" for i in range(10)))
    written = packages.of_file(model, "c")
    assert written.folder == tmp_path / "c"
    assert written.arena_bytes == compiled(model.read_bytes()).arena_bytes
    (written.folder / "main.c").write_text(CLASSIFY)
    program = tmp_path / "program"
    sources = sorted(written.folder.glob("*.c"))
    subprocess.run(
        ["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", *sources, "-o", program, "-lm"],
        check=True,
        capture_output=True,
    )
    values = np.random.default_rng(0).integers(0, 256, 200 * 200 * 3, dtype=np.uint8)
    lines = subprocess.run([program], input=values.tobytes(), capture_output=True, check=True)
    *rows, refused, by_line = lines.stdout.decode().splitlines()
    assert refused == "-1"
    assert by_line == rows[1]
    area = 40 * 30
    wide = values[: 2 * area].astype(np.uint32).reshape(-1, 2) @ [1, 256]
    red, green, blue = wide >> 11, wide >> 5 & 63, wide & 31
    colours = [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2]
    images = [
        values[:area, None].repeat(3, 1),
        values[: 3 * area].reshape(area, 3),
        np.stack(colours, 1).astype(np.uint8),
    ]
    runner = runtime.Runner(model.read_bytes(), kernels=runtime.REFERENCE_KERNELS)
    for row, pixels in zip(rows, images, strict=True):
        picture = pixels.reshape(30, 40, 3)
        box = geometry.center_box(picture.shape[:2], 1.0)
        resized = np.asarray(geometry.crop_and_resize(picture, box, tiny_tflite.SIDE))
        logits = runner.run(tiny_tflite.normalised(resized)[None])
        expected = np.exp(logits[0] - logits[0].max())
        label, *probabilities = row.split()
        # Some pixels differ by one, see the test of images; on noise that changes what is seen.
        got = np.array([float(p) for p in probabilities])
        assert label == f"label{got.argmax()}"
        np.testing.assert_allclose(got, expected / expected.sum(), atol=0.05)


WIDE = """
#include <stdio.h>
#include "net_wide.h"
static double arena[NET_WIDE_ARENA_BYTES / 8 + 1];
static uint8_t pixels[NET_WIDE_INPUT_BYTES];
int main(void) {
  float probabilities[NET_WIDE_CLASSES];
  int32_t i;
  if (fread(pixels, 1, sizeof pixels, stdin) != sizeof pixels) return 1;
  if (net_wide_classify(pixels, 40, 24, NN_RGB888, probabilities, arena) < 0) return 2;
  for (i = 0; i < NET_WIDE_CLASSES; ++i) printf("%.9g\\n", probabilities[i]);
  return 0;
}
"""


@pytest.mark.slow
@needs_compiler
def test_the_package_of_a_network_that_is_not_square(tmp_path):
    pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")
    model = tmp_path / "wide.int8.tflite"
    model.write_bytes(tiny_tflite.wide())
    (tmp_path / "labels.txt").write_text("".join(f"label{i}\n" for i in range(10)))
    folder, program = packages.of_file(model, "c").folder, tmp_path / "program"
    (folder / "main.c").write_text(WIDE)
    command = ["gcc", "-std=c99", *c_programs.STRICT, "-O1", *sorted(folder.glob("*.c"))]
    subprocess.run([*command, "-o", program, "-lm"], check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*tiny_tflite.WIDE, 3), np.uint8)
    done = subprocess.run([program], input=pixels.tobytes(), capture_output=True, check=True)
    images = tiny_tflite.normalised(pixels)[None]  # of the input's size, which is only copied
    (logits,) = tflm_runs.run(tiny_tflite.wide(), images, tflm.MAX_ARENA_BYTES)
    assert np.ptp(logits) > 0
    expected = np.exp(logits - logits.max())
    got = np.array(done.stdout.split(), float)
    np.testing.assert_allclose(got, expected / expected.sum(), rtol=1e-5)


IMAGE = """
#include <stdio.h>
#include "nn_kernels.h"
enum { SHORTER = WIDTH < HEIGHT ? WIDTH : HEIGHT };
enum { ACROSS = NN_IMAGE_ACROSS(SHORTER, OUT_WIDTH, OUT_HEIGHT) };
enum { DOWN = NN_IMAGE_DOWN(SHORTER, OUT_WIDTH, OUT_HEIGHT) * 7 / 8 };
enum { ROWS = BY_LINES ? NN_IMAGE_ROWS(DOWN, OUT_HEIGHT) : 1 };
static nn_image image;
static int32_t begin(int32_t width, int32_t height, void *memory, size_t bytes, int8_t *out) {
  return nn_image_begin(&image, width, height, FORMAT, CROP, OUT_WIDTH, OUT_HEIGHT, CHANNELS,
                        BY_LINES, memory, bytes, out);
}
int main(void) {
  static uint8_t pixels[BYTES * WIDTH * HEIGHT];
  static int32_t memory[NN_IMAGE_BYTES(ACROSS, OUT_WIDTH, CHANNELS, ROWS) / 4];
  static int8_t out[CHANNELS * OUT_HEIGHT * OUT_WIDTH];
  int32_t y;
  if (fread(pixels, 1, sizeof pixels, stdin) != sizeof pixels) return 1;
  if (begin(0, 9, memory, sizeof memory, out)) return 2;
  if (begin(WIDTH, HEIGHT, memory, OUT_WIDTH, out) != image.copied) return 3;
  if (!begin(WIDTH, HEIGHT, memory, sizeof memory, out)) return 4;
  if (BY_LINES) {
    for (y = 0; y < HEIGHT; ++y) nn_image_line(&image, pixels + BYTES * WIDTH * y);
  } else {
    nn_image_whole(&image, pixels);
  }
  return fwrite(out, 1, sizeof out, stdout) != sizeof out;
}
"""


@needs_compiler
@pytest.mark.parametrize(
    ("width", "height", "size", "crop", "bytes_of_pixel", "channels"),
    [
        (40, 30, 12, 0.875, 3, 3),
        (33, 61, 48, 0.875, 3, 3),
        (128, 128, 96, 0.875, 3, 3),
        (160, 96, 96, 1.0, 3, 3),
        (97, 96, 96, 1.0, 3, 3),
        (40, 30, 12, 0.875, 3, 1),  # a grey network sees the brightness of colours
        (97, 96, 96, 1.0, 3, 1),
        (33, 61, 48, 0.875, 1, 1),
        (160, 96, 96, 1.0, 1, 1),
        (40, 30, 12, 0.875, 1, 3),
        (160, 120, "24x40", 0.875, 3, 3),
        (120, 160, "24x40", 0.875, 3, 1),
        (61, 33, "48x20", 1.0, 3, 3),
        (33, 20, "96x128", 0.875, 1, 1),
        (128, 96, "96x128", 1.0, 3, 3),  # copied
        (131, 96, "96x128", 1.0, 3, 3),
    ],
)
def test_images_are_scaled_as_in_the_evaluation(
    tmp_path, width, height, size, crop, bytes_of_pixel, channels
):
    size = InputSize.of(size)
    shape = height, width, bytes_of_pixel
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "main.c").write_text(IMAGE)
    kernels = Path(package.__file__).parent / "kernels"
    results = []
    for by_lines in (0, 1):
        program = tmp_path / f"program{by_lines}"
        macros = {
            **{"WIDTH": width, "HEIGHT": height, "CROP": f"{crop}f"},
            **{"OUT_WIDTH": size.width, "OUT_HEIGHT": size.height},
            **{"BYTES": bytes_of_pixel, "CHANNELS": channels, "BY_LINES": by_lines},
            "FORMAT": {1: "NN_GREY", 3: "NN_RGB888"}[bytes_of_pixel],
        }
        defined = [f"-D{name}={value}" for name, value in macros.items()]
        command = ["gcc", "-std=c99", "-fsanitize=address,undefined", *defined, f"-I{kernels}"]
        sources = [tmp_path / "main.c", kernels / "nn_image.c"]
        subprocess.run([*command, *sources, "-o", program, "-lm"], check=True)
        done = subprocess.run([program], input=pixels.tobytes(), capture_output=True, check=True)
        result = np.frombuffer(done.stdout, np.int8).astype(int) + 128
        results.append(result.reshape(*size, channels))
    whole, by_line = results
    np.testing.assert_array_equal(by_line, whole)
    box = geometry.center_box((height, width), crop, size)
    expected = geometry.crop_and_resize(decode.in_channels(pixels, channels), box, size)
    difference = np.abs(whole - decode.pixels_of(expected).astype(int))
    # The evaluation computes weights in float64; sums just below a half round up here.
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_unknown_operators_are_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delitem(MAKERS, "MEAN")
    model = tmp_path / "net.tflite"
    model.write_bytes(tiny_tflite.pair()[INT8])
    (tmp_path / "labels.txt").write_text("".join(f"{i}\n" for i in range(10)))
    with pytest.raises(UserError, match="there is no C kernel for MEAN"):
        packages.of_file(model, "c")
    model.write_bytes(tiny_tflite.pair()[0])
    with pytest.raises(UserError, match="not int8 throughout"):
        packages.of_file(model, "c", takes="elite")
    assert not (tmp_path / "c").exists()


def test_fields_are_in_the_order_of_the_structures():
    """C++17 has no designated initializers, so that the order is all there is."""
    header = (package.KERNELS / "nn_kernels.h").read_text()
    found = re.findall(r"typedef struct \{(.*?)\} (nn_\w+);", header, re.S)
    members = {name: re.findall(r"(\w+)(?:\[\d\])?[,;]", body) for body, name in found}
    models = [tiny_tflite.pair()[INT8], tiny_masks.converted()[tiny_masks.formats.INT8]]
    layers = {step.layer: list(step.fields) for m in models for step in compiled(m).steps}
    assert len(layers) > 3
    for layer, fields in layers.items():
        assert fields == members[layer]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_buffers_that_meet_lie_apart(seed):
    rng = np.random.default_rng(seed)
    buffers = []
    for _ in range(rng.integers(1, 12)):
        first = int(rng.integers(10))
        buffers.append(memory.Buffer(int(rng.integers(1, 99)), first, first + int(rng.integers(4))))
    overlaps = {
        (i, j): int(rng.integers(-40, 40))
        for i, a in enumerate(buffers)
        for j, b in enumerate(buffers)
        if i != j and a.last == b.first and a.first < b.first and rng.random() < 0.5
    }
    plan = memory.plan(buffers, overlaps)
    assert plan == memory.plan(buffers, overlaps)
    for i, a in enumerate(buffers):
        assert 0 <= plan.offsets[i] <= plan.size - a.size
        for j, b in enumerate(buffers):
            if i == j or a.first > b.last or b.first > a.last:
                continue
            x, y = plan.offsets[i], plan.offsets[j]
            allowed = x + a.size <= y or y + b.size <= x
            if (i, j) in overlaps:
                allowed = allowed or y + overlaps[i, j] <= x
            if (j, i) in overlaps:
                allowed = allowed or x + overlaps[j, i] <= y
            assert allowed


@pytest.mark.slow
def test_the_arena_is_smaller_than_an_interpreter_needs():
    pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")
    for name, share in (("elite9", 0.65), ("elite9-relu6-nose", 0.75)):
        content = measure.int8_bytes(spec_by_name(name, classes=10, base_resolution=96))
        program = compiled(content)
        assert program.arena_bytes <= share * tflm.arena_bytes(content)
        assert program.arena_bytes <= 1.05 * program.bound_bytes


def test_fixed_point_functions_are_close_to_the_real_ones():
    for x in range(-(1 << 30), 1 << 30, 12345677):
        real = x / (1 << 27)
        assert arithmetic.logistic(x, 4) / 2**31 == pytest.approx(1 / (1 + np.exp(-real)), abs=1e-6)
        assert arithmetic.tanh(x, 4) / 2**31 == pytest.approx(np.tanh(real), abs=1e-6)
