"""Networks compiled to C on emulated processors: what is computed, and what is counted."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, measure
from efficientnet_elite.export.packages.c.program import compiled
from efficientnet_elite.export.runtimes import compiled_c, runtime
from efficientnet_elite.networks.names import spec_by_name
from tests.support import c_programs, tiny_tflite
from tests.support.c_programs import needs_compiler, needs_emulator

INT8 = 1


@needs_compiler
@needs_emulator
@pytest.mark.parametrize(
    "board", [compiled_c.CORTEX_M4, compiled_c.CORTEX_M55], ids=lambda board: board.name
)
def test_an_emulated_processor_computes_the_same(board, tmp_path):
    model = tiny_tflite.pair()[INT8]
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1405])
    answer = board.run_images(model, images, 120)
    (image,), (output,) = runtime.interfaces(inspect.read(model))
    library = c_programs.Library(model, tmp_path)
    here = np.stack([library.run(pixels) for pixels in runtime.quantize_images(images, image)])
    expected = runtime.dequantize_outputs(here, output).reshape(answer["logits"].shape)
    np.testing.assert_array_equal(answer["logits"], expected)
    # It counts instructions, which depend on the images only where values are clamped.
    assert np.ptp(answer["instructions"]) < 0.02 * answer["instructions"].mean()
    again = board.run_images(model, images, 120)
    assert (again["instructions"] == answer["instructions"]).all()
    assert answer["constants"] >= compiled(model).constant_bytes
    assert 1000 < answer["code"] < 20_000
    assert 100 < answer["stack"] < 2000
    assert answer["arena_peak"] == answer["memory"]


@needs_emulator
def test_more_instructions_than_the_boards_counter_holds():
    board = compiled_c.CORTEX_M4
    short = replace(board, compiler=(*board.compiler, "-DNET_RELOAD=0xFF"))
    images = c_programs.noise(tiny_tflite.SIDE, 1)
    expected, counted = (
        each.run_images(tiny_tflite.pair()[INT8], images, 120)["instructions"]
        for each in (board, short)
    )
    assert counted > 5 * 256 * board.instructions_per_tick
    assert counted == pytest.approx(expected, rel=0.01)


# Channels that fill no vector, groups, shuffled channels, dilation, large kernels, pools.
@pytest.mark.slow
@needs_emulator
@pytest.mark.parametrize(
    "name",
    [
        *("elite9", "elite9-relu6-nose", "mobilenetv3-small-w4d4r4", "shufflenet-g3-w4d4r4"),
        *("ghostnet-w4d4r4", "espnetv2-seg-w4d4r4", "squeezenet-1.1-w2d2r2", "nasnet-a-w4d4r4"),
    ],
)
def test_vectors_of_a_cortex_m55_change_nothing_but_the_instructions(name):
    spec = spec_by_name(name, classes=10, base_resolution=64 if "squeeze" in name else 32)
    model, images = measure.int8_bytes(spec), c_programs.noise(spec.resolution)
    m4, m55 = (
        board.run_images(model, images, 120)
        for board in (compiled_c.CORTEX_M4, compiled_c.CORTEX_M55)
    )
    assert np.ptp(m4["logits"]) > 0
    np.testing.assert_array_equal(m55["logits"], m4["logits"])
    assert (m55["instructions"] < 0.8 * m4["instructions"]).all()


@needs_emulator
def test_a_board_with_too_little_memory_is_named():
    libraries = [
        re.sub(r"constant_bytes=\d+", "constant_bytes=2048", argument)
        for argument in compiled_c.CORTEX_M55.libraries
    ]
    board = replace(compiled_c.CORTEX_M55, libraries=tuple(libraries))
    with pytest.raises(UserError, match="does not fit into the memory of the emulated board"):
        board.run_images(tiny_tflite.pair()[INT8], c_programs.noise(32, 1), 120)
