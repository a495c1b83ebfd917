"""Instructions on a Cortex-M4 and M55: the estimate, and what an emulator counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.config import Limits
from efficientnet_elite.device import costs, instructions
from efficientnet_elite.device.lowering import POINT, Constant, Program, Window, lower
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import measure
from efficientnet_elite.export.runtimes import c_steps, compiled_c
from efficientnet_elite.networks.families import FAMILIES, segmentation
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.search.candidates import pool_members, select
from tests.support.c_programs import needs_emulator
from tests.support.command import elite

M4, M55 = (instructions.CORES[name] for name in ("m4", "m55"))
METRIC = M4.metric
FITTED = {
    core.name: json.loads(Path(instructions.__file__).with_name(core.fitted).read_text())
    for core in (M4, M55)
}


def counted(
    name: str, pixels: int, core: instructions.Core = M4
) -> tuple[float, list[tuple[str, int]], bytes]:
    """The estimate of a network, the counts of its layers, and its file."""
    spec = spec_by_name(name, classes=10, base_resolution=pixels)
    model = measure.int8_bytes(spec)
    steps = c_steps.step_instructions(model, compiled_c.EMULATED[core.name])
    return costs.of(spec, core.metric), steps, model


@needs_emulator
@pytest.mark.parametrize(("core", "error"), [(M4, 0.01), (M55, 0.03)], ids=["m4", "m55"])
def test_a_network_that_was_not_fitted_to(core, error):
    estimate, steps, _ = counted("mobilenetv3-small-w3d4r4", 32, core)
    assert estimate == pytest.approx(sum(count for _, count in steps), rel=error)
    spec = spec_by_name("mobilenetv3-small-w3d4r4", classes=10, base_resolution=32)
    calls = instructions.calls(lower(spec.graph), core)
    assert [call.kernel for call in calls] == [kernel for kernel, _ in steps]


@needs_emulator
@pytest.mark.slow
def test_layers_make_the_network_and_images_hardly_matter():
    estimate, steps, model = counted("elite-w4d4r3", 48)
    count = sum(count for _, count in steps)
    assert estimate == pytest.approx(count, rel=0.01)
    other = sum(count for _, count in c_steps.step_instructions(model, seed=1))
    assert other == pytest.approx(count, rel=0.002)
    side = spec_by_name("elite-w4d4r3", base_resolution=48).resolution
    noise = np.random.default_rng(0).uniform(-1, 0.99, (1, side, side, 3)).astype(np.float32)
    answer = compiled_c.CORTEX_M4.run_images(model, noise, 120)
    assert answer["instructions"][0] == pytest.approx(count, rel=0.002)


@needs_emulator
@pytest.mark.slow
def test_a_network_for_masks():
    estimate, steps, _ = counted("espnetv2-seg-w3d4r4", 48)  # PReLU, groups of one channel
    assert estimate == pytest.approx(sum(count for _, count in steps), rel=0.03)


@pytest.mark.parametrize("pool", [*FAMILIES, *segmentation.FAMILIES])
def test_every_family_has_an_estimate(pool):
    spec = pool_members(pool, base_resolution=96, classes=10)[-1].spec
    # No network was ever measured below 1.7 instructions a multiplication: two for each SMLAD.
    assert costs.of(spec, METRIC) > 1.5 * spec.macs
    # A vector has 16 of them, and needs ten instructions for four vectors.
    assert 10 / 64 * spec.macs < costs.of(spec, M55.metric) < 0.8 * costs.of(spec, METRIC)
    # SDOT of the A76 multiplies sixteen times, SMLAL of the A53 eight times.
    a53, a76 = (costs.of(spec, instructions.CORES[name].metric) for name in ("a53", "a76"))
    assert a53 > spec.macs / 8 and a76 > spec.macs / 16
    assert a76 < a53


def test_what_makes_a_network_dear_for_litert():
    """What docs/boards.md counted on an emulated A76 for four networks."""

    def estimate(name):
        spec = spec_by_name(name, base_resolution=96, classes=10)
        return costs.of(spec, instructions.CORES["a76"].metric) / 1e6

    assert estimate("elite9") == pytest.approx(4.08, rel=0.05)
    assert estimate("elite9-relu6") == pytest.approx(3.84, rel=0.12)
    assert estimate("elite9-relu6-nose") == pytest.approx(3.35, rel=0.05)
    assert estimate("mobilenetv3-small-minimalistic") == pytest.approx(2.02, rel=0.05)


def test_blocks_of_a_product():
    spec = spec_by_name("elite9-relu6-nose", base_resolution=64, classes=10)
    calls = instructions.calls(lower(spec.graph), instructions.CORES["a76"])
    stem = calls[0]  # 32x32 pixels of 16 filters with 3x3x3 weights
    blocks = stem.counts["blocks"]
    assert stem.kernel == "CONV_2D" and blocks == 32 * 32 // 4
    assert stem.counts["rests of blocks"] == 9 * blocks and not stem.counts["eights of blocks"]
    classifier = calls[-1]  # one pixel of 656 values, ten classes
    assert classifier.counts["single rows"] == 1
    assert classifier.counts["eights of single rows"] == 656 / 8


@pytest.mark.parametrize("core", ["m4", "m55"])
def test_kernels_are_those_of_the_package(core):
    kernels = FITTED[core]["kernels"]
    assert kernels.keys() <= {*c_steps.kernels()}
    for loops in kernels.values():
        assert "call" in loops and all(value >= 0 for value in loops.values())
        assert any(value > 0 for value in loops.values())


def test_what_becomes_a_table_is_no_layer_of_its_own():
    def kernels(name):
        spec = spec_by_name(name, classes=10, base_resolution=32)
        return [call.kernel for call in instructions.calls(lower(spec.graph), M4)]

    swish, rectified = kernels("elite9-nose"), kernels("elite9-relu6-nose")
    assert swish == rectified  # swish costs no kernel in C, where TFLM has LOGISTIC and MUL
    assert costs.of(spec_by_name("elite9-nose"), METRIC) > costs.of(
        spec_by_name("elite9-relu6-nose"), METRIC
    )
    assert "nn_mul" in kernels("elite9")  # the gates of squeeze-excite


def test_loops_of_a_convolution_with_padding():
    program = Program()
    image = program.add_tensor((4, 4, 3))
    window = Window.same((4, 4, 3), (2, 2, 5), (3, 3), (2, 2), (1, 1))
    constants = Constant(3 * 3 * 3 * 5, 1, 5), Constant(5, 4, 5)
    program.emit("CONV_2D", (image,), (2, 2, 5), *constants, window=window, fused="relu6")
    (call,) = instructions.calls(program, M4)
    counts = call.counts
    assert call.kernel == "nn_conv" and counts["values clamped"] == 20
    assert counts["gathered pixels"] == 4 and counts["gathered positions"] == 36
    # One row and one column of padding: 6 of the 36 positions in each, 1 in both.
    assert counts["gathered padding"] == 11 * 3
    # Words begin at the multiples of four, but three values are no word.
    assert counts["gathered words"] == 0 and counts["gathered values"] == 25 * 3
    assert counts["blocks of 2x2"] == 2 * 3  # two pairs of pixels, five filters in three pairs
    assert counts["products of 2x2x4"] == 6 * 7  # 27 values are seven fours


def test_loops_of_vectors():
    program = Program()
    image = program.add_tensor((5, 5, 24))
    window = Window.same((5, 5, 24), (5, 5, 24), (3, 3), (1, 1), (1, 1))
    constants = Constant(9 * 24, 1, 24), Constant(24, 4, 24)
    between = program.emit("DEPTHWISE_CONV_2D", (image,), (5, 5, 24), *constants, window=window)
    constants = Constant(24 * 10, 1, 10), Constant(10, 4, 10)
    program.emit("CONV_2D", (between,), (5, 5, 10), *constants, window=POINT)
    depthwise, pointwise = (call.counts for call in instructions.calls(program, M55))
    # 24 channels are 16 and 8; nine taps are four pairs and one.
    assert depthwise["sixteen channels"] == depthwise["fewer channels"] == 25
    assert depthwise["pairs of taps"] == 100 and depthwise["last taps of fewer"] == 25
    # Of the five pixels of a row two have the window inside as the one before has.
    assert depthwise["aimed pixels"] == 5 * 3 and depthwise["moved vectors"] == 5 * 2 * 3
    # 25 pixels are six fours and one, which takes four channels at a time and two alone.
    assert pointwise["channels of fours"] == 60 and pointwise["single pixels"] == 1
    assert pointwise["fours of channels"] == 2 and pointwise["single channels"] == 2
    assert pointwise["products of 4x16"] == (60 + 4) * 2
    assert pointwise["copied vectors"] == 6 * 6 + 2


def test_loops_of_pools_and_copies():
    program = Program()
    image = program.add_tensor((4, 4, 22))
    window = Window.same((4, 4, 22), (2, 2, 22), (3, 3), (2, 2), (1, 1))
    program.emit("MAX_POOL_2D", (image,), (2, 2, 22), window=window)
    wide = program.add_tensor((20, 20, 22))
    window = Window(kernel=(20, 20))
    program.emit("AVERAGE_POOL_2D", (wide,), (1, 1, 22), window=window)
    program.emit("MAX_POOL_2D", (wide,), (1, 1, 22), window=window)
    program.emit("CONCATENATION", (image, image), (4, 4, 44))

    def loops(core):
        found = [call.counts for call in instructions.calls(program, core)]
        return [{loop: n for loop, n in counts.items() if n} for counts in found]

    words, average, greatest, *copies = loops(M4)
    # 22 channels are five fours and two. One row and one column of the 3x3 windows are padding.
    assert words["fours"] == 4 * 5 and words["values"] == 4 * 2
    assert words["rows of fours"] == 2 * 5 * 5 and words["rows"] == 2 * 5 * 2
    assert words["terms of fours"] == 25 * 5 and words["terms"] == 25 * 2
    assert average["terms"] == 400 * 22 and "fours" not in average  # sums have 16 bits
    assert greatest["terms of fours"] == 400 * 5
    assert [copy["bytes beside words"] for copy in copies] == [16 * 22] * 2
    vectors, average, greatest, *copies = loops(M55)
    assert vectors["vectors"] == 4 * 2 and vectors["terms of vectors"] == 25 * 2
    assert average["terms"] == 400 * 22 and greatest["terms of vectors"] == 400 * 2
    assert [(copy["blocks"], copy["vectors"]) for copy in copies] == [(16, 32)] * 2


def test_no_number_without_a_measurement(monkeypatch):
    program = Program()
    program.emit("CUMSUM", (program.add_tensor((4,)),), (4,), window=POINT)
    with pytest.raises(ValueError, match="no instructions are known for CUMSUM"):
        instructions.estimate(program, M4)
    spec = spec_by_name("shufflenet-g3-w4d4r3", base_resolution=64)
    kernels = {name: loops for name, loops in FITTED["m4"]["kernels"].items() if name != "nn_copy"}
    monkeypatch.setattr(instructions, "_fitted", lambda file: kernels)
    message = f"the instructions of {spec.name} cannot be estimated: .*nn_copy were not measured"
    with pytest.raises(UserError, match=message):
        costs.of(spec, METRIC)
    assert METRIC not in costs.computed(spec) and "arena_bytes" in costs.computed(spec)
    kernels["nn_copy"] = {"call": 3.0, "rows": 1.0}
    with pytest.raises(UserError, match="'single bytes' in nn_copy were not measured"):
        costs.of(spec, METRIC)


def test_limits_and_groups():
    pools = "elite,mobilenetv3-small-minimalistic"
    size = {"base_resolution": 64, "classes": 10}
    everything = [member.spec for member in pool_members(pools, **size)]
    bound = sorted(costs.of(spec, METRIC) for spec in everything)[60]
    metrics = (METRIC,)
    chosen = select(
        pools, **size, metrics=metrics, groups=4,
        limits=Limits(cortex_m4_instructions_m=bound / 1e6),
    )  # fmt: skip
    assert len(chosen.candidates) == 61 and len(chosen.excluded) == len(everything) - 61
    assert all(reason.startswith("Cortex-M4 instructions ") for reason in chosen.excluded.values())
    heaviest_first = sorted(chosen.candidates, key=lambda c: -costs.of(c.spec, METRIC))
    assert [c.group for c in heaviest_first] == sorted(c.group for c in chosen.candidates)
    # MACs would put the networks into another order: gates and tables are no MACs.
    by_macs = sorted(chosen.candidates, key=lambda c: -c.spec.macs)
    assert [c.group for c in by_macs] != [c.group for c in heaviest_first]


def test_the_command_lists_them():
    done = elite(
        "models", "--pool=hf", "--base_resolution=64", "--classes=10", "--format=json",
        f"--metrics={METRIC}", f"--group_by=params,{METRIC}", "--max_cortex_m4_instructions_m=30",
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert rows and all((row[METRIC] > 30e6) == bool(row["excluded"]) for row in rows)
