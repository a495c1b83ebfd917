"""The microcontroller package of a segmentation network: compiled, and compared with Python."""

from __future__ import annotations

import re

import numpy as np
import pytest

from efficientnet_elite.export import formats
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.runtimes import runtime
from tests.support import tflm_runs, tiny_masks
from tests.support.micro import check_syntax, compiled, needs_compiler, output
from tests.support.tiny_masks import model_file

pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")
SIDE, LABELS = tiny_masks.SIDE, tiny_masks.LABELS

PROGRAM = """
#include <cstdio>
#include <vector>
#include "net_tiny_image.h"
#include "net_tiny_model.h"
using namespace net_tiny;
int main() {
  std::vector<unsigned char> bytes;
  for (int byte; (byte = std::getchar()) != EOF;) bytes.push_back(static_cast<unsigned char>(byte));
  std::vector<std::uint8_t> mask(kSide * kSide);
  const std::int8_t* end = reinterpret_cast<const std::int8_t*>(bytes.data()) + bytes.size();
  for (const std::int8_t* image = end - bytes.size(); image < end;
       image += kClasses * kSide * kSide) {
    Mask(image, mask.data());
    std::fwrite(mask.data(), 1, mask.size(), stdout);
  }
}
"""


@pytest.fixture(scope="module")
def micro(tmp_path_factory) -> packages.Package:
    return packages.of_file(model_file(tmp_path_factory.mktemp("models")), "micro")


@needs_compiler
def test_the_mask_is_that_of_python(micro, tmp_path):
    source = micro.folder / "src"
    program = compiled(PROGRAM, source, source / "net_tiny_model.cpp")
    images, _ = tiny_masks.scenes()
    runner = runtime.Runner(tiny_masks.converted()[formats.INT8])
    elements = np.stack([runner.infer(i) for i in runtime.quantize_images(images, runner.input)])
    mask = np.frombuffer(output(program, given=elements.tobytes()), np.uint8)
    expected = runner.run(images).argmax(-1)
    np.testing.assert_array_equal(mask.reshape(expected.shape), expected)
    assert len(np.unique(mask)) > 1  # the network tells pixels apart


@needs_compiler
def test_the_library_compiles_against_tflms_interface(micro, tmp_path):
    check_syntax(micro.folder / "src/net_tiny.cpp", tmp_path)


def test_the_package_speaks_of_masks_throughout(micro):
    folder = micro.folder
    assert (folder / "examples/segment/segment.ino").is_file()
    paths = [path for path in folder.rglob("*") if path.suffix in (".h", ".cpp", ".md", ".ino")]
    text = "".join(path.read_text() for path in paths if "_nn_" not in path.name)
    assert "$" not in text
    assert not re.search("classif", text, re.IGNORECASE)
    assert "Segment(pixels, width, height, mask)" in (folder / "README.md").read_text()
    images, _ = tiny_masks.scenes()
    model = tiny_masks.converted()[formats.INT8]
    assert tflm_runs.run(model, images[:1], micro.arena_bytes).shape == (1, SIDE, SIDE, len(LABELS))
