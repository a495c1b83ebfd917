"""Networks whose first layers run patch by patch: the same numbers, in less memory."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite import cli
from efficientnet_elite.device import memory, patch_choice, patches
from efficientnet_elite.device.lowering import lower
from efficientnet_elite.device.patches import Patched
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, measure
from efficientnet_elite.export.packages.c import graph as graphs
from efficientnet_elite.export.patches import patching
from efficientnet_elite.export.patches.program import of_graph
from efficientnet_elite.export.patches.request import TFLM, C, request
from efficientnet_elite.export.patches.rewriting import rewritten
from efficientnet_elite.export.runtimes import runtime, tflm
from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.report import card
from tests.support import c_programs, exporting, random_tflite

needs_tflm = pytest.mark.skipif(not tflm.available(), reason="pip install --pre tflite-micro")


def outputs(runner: runtime.Runner | tflm.Runner, count: int = 2) -> np.ndarray:
    images = np.random.default_rng(5).integers(-128, 128, (count, *runner.input.shape[1:]), np.int8)
    return np.stack([runner.infer(image).copy() for image in images])


def some_plan(model: bytes, chosen: int, grid: tuple[int, int]) -> tuple[Patched | None, bytes]:
    program, tensors = of_graph(graphs.read(model))
    cuts = patches.cuts(program)
    plan = patches.patched(program, cuts[chosen % len(cuts)], grid) if cuts else None
    return plan, b"" if plan is None else rewritten(model, plan, tensors)


NETWORKS = st.builds(random_tflite.random_model, st.integers(0, 10**6))
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda grid: grid != (1, 1))


@settings(max_examples=20, deadline=None)
@given(NETWORKS, st.integers(0, 20), GRIDS)
def test_patches_compute_the_same_numbers(model, chosen, grid):
    plan, content = some_plan(model, chosen, grid)
    if plan is None:
        return
    for kernels in (runtime.REFERENCE_KERNELS, "XNNPACK"):
        whole = outputs(runtime.Runner(model, kernels=kernels))
        np.testing.assert_array_equal(outputs(runtime.Runner(content, kernels=kernels)), whole)
    assert plan.overhead == pytest.approx(patches.overhead(plan.original, plan.cut, grid))
    used = {tensor for step in inspect.read(content).steps for tensor in step.inputs + step.outputs}
    assert used - {-1} == set(range(len(inspect.tensors(content))))


@needs_tflm
@pytest.mark.parametrize("seed", range(11))
def test_tflm_computes_the_same_in_the_planned_memory(seed):
    model = random_tflite.random_model(seed)
    plan, content = some_plan(model, seed, (1 + seed % 3, 2 + seed % 2))
    assert plan is not None
    runner = tflm.Runner(content)
    np.testing.assert_array_equal(outputs(runner), outputs(tflm.Runner(model)))
    assert runner.allocated()["head"] == memory.head_bytes(plan.program)


@c_programs.needs_compiler
@needs_tflm
def test_generated_code_computes_the_same(tmp_path):
    model = random_tflite.random_model(3)
    plan, content = some_plan(model, 4, (2, 3))
    assert plan is not None and {"SLICE", "CONCATENATION"} <= plan.program.operator_counts().keys()
    library, runner = c_programs.Library(content, tmp_path), tflm.Runner(model)
    images = np.random.default_rng(5).integers(-128, 128, (2, *runner.input.shape[1:]), np.int8)
    for image in images:
        np.testing.assert_array_equal(library.run(image), runner.infer(image).reshape(-1))


@settings(max_examples=6, deadline=None)
@given(NETWORKS, st.floats(0.5, 1))
def test_the_choice_is_the_best_of_all(model, share):
    program, _ = of_graph(graphs.read(model))
    grids = [(rows, columns) for rows in (1, 2, 3) for columns in (1, 2, 4) if rows + columns > 2]
    every = [patches.patched(program, c, grid) for c in patches.cuts(program) for grid in grids]
    arenas = {(p.cut, p.grid): memory.arena_bytes(p.program) for p in every if p}
    overheads = {(p.cut, p.grid): p.overhead for p in every if p}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patch_choice, "GRIDS", tuple(grids))
        best = patch_choice.smallest(program, grids)
        assert (best and memory.arena_bytes(best.program)) == min(arenas.values(), default=None)
        limit = share * memory.arena_bytes(program)
        fitting = {key: value for key, value in overheads.items() if arenas[key] <= limit}
        found = [plan.overhead for plan in patch_choice.fitting(program, limit)]
    assert found == pytest.approx(sorted(fitting.values()))


def striding() -> bytes:
    """A network of which the first maps are far larger than all others."""
    network = random_tflite.Network(np.random.default_rng(1), 64, 64)
    x = network.conv(network.image, 12, (3, 3), (1, 1), random_tflite.SAME)
    x = network.swish(network.depthwise(x, (3, 3), (2, 2), random_tflite.SAME, act=3))
    x = network.conv(x, 8, (3, 3), (2, 2), random_tflite.SAME)
    return network.model(network.head(x))


@pytest.mark.parametrize(
    ("arena", "limits"),
    [(C, (45, 34)), pytest.param(TFLM, (60, 45), marks=[pytest.mark.slow, needs_tflm])],
)
def test_a_limit_is_met_with_little_work(arena, limits):
    model = striding()
    loose, tight = (patching.patched(model, request("auto", kb, arena)) for kb in limits)
    for result, most in zip((loose, tight), limits, strict=True):
        record = result.record
        assert record["arena_bytes"]["patched"] <= 1000 * most < record["arena_bytes"]["whole"]
        assert record["file_bytes"] == {"whole": len(model), "patched": len(result.content)}
    assert 0 <= loose.record["overhead"] < tight.record["overhead"] < 0.5
    assert patching.patched(model, request("auto", 200, arena)).content == model
    with pytest.raises(UserError, match="no patches bring the arena from"):
        patching.patched(model, request("auto", 13, arena))  # the image alone takes 12


def test_networks_that_cannot_be_patched_say_why():
    network = random_tflite.Network(np.random.default_rng(0), 9, 9)
    with pytest.raises(UserError, match="its MEAN needs whole maps"):
        patching.patched(network.model(network.head(network.image)), request("2x2"))
    network = random_tflite.Network(np.random.default_rng(0), 9, 9)
    x = network.conv(network.image, 4, (3, 3), (1, 1), random_tflite.SAME)
    with pytest.raises(UserError, match="in patches: no single map leads"):
        patching.patched(network.model(x), request("2x2"))
    with pytest.raises(UserError, match="5x5 patches do not make the arena of"):
        patching.patched(random_tflite.random_model(3), request("5x5"))


def test_squeeze_and_excite_ends_what_is_patched():
    network = random_tflite.Network(np.random.default_rng(0), 20, 20)
    x = network.conv(network.image, 4, (3, 3), (1, 1), random_tflite.SAME)
    gated = network.conv(network.gated(x), 4, (1, 1), (1, 1), random_tflite.SAME)
    program, _ = of_graph(graphs.read(network.model(network.head(gated))))
    assert patches.cuts(program) == [1]  # behind the convolution, before the mean


@pytest.mark.slow
def test_what_can_be_patched_is_known_before_conversion():
    spec = spec_by_name("squeezenet-1.1", classes=10, base_resolution=64)
    before, (after, _) = lower(spec.graph), of_graph(graphs.read(measure.int8_bytes(spec)))
    assert patches.cuts(before) == patches.cuts(after)
    for mine, its in zip(before.operators, after.operators[: patches.patchable(after)]):  # noqa: B905
        same = ("kind", "inputs", "output", "window", "macs", "channels", "scratch")
        assert [getattr(mine, n) for n in same] == [getattr(its, n) for n in same]


@pytest.mark.slow
def test_an_export_says_how_it_was_patched(tmp_path):
    stem, second = (ConvBlock(name, 16, kernel=3, stride=2) for name in ("stem", "second"))
    model = build(ArchSpec("net", (64, 64, 3), (stem, second, Classifier("top", 10, 0.0))))
    plain = exporting.export(model, tmp_path / "plain")
    patched = exporting.export(model, tmp_path / "patched", patches=request("2x2"), details={})
    sidecar = json.loads(patched.sidecar_path.read_text())
    record = sidecar["patches"]
    assert record["grid"] == [2, 2] and record["arena"] == TFLM
    assert "SLICE" in inspect.operators(patched.int8_path.read_bytes())
    assert (patched.int8_accuracy, patched.agreement) == (plain.int8_accuracy, plain.agreement)
    assert json.loads(plain.sidecar_path.read_text())["patches"] is None
    text = card.text(patched.sidecar_path.parent, sidecar)
    assert "| arena of the int8 file, in 2x2 patches |" in text


@needs_tflm
def test_a_package_of_a_foreign_file(tmp_path, capsys):
    path = tmp_path / "net.int8.tflite"
    path.write_bytes(striding())
    (tmp_path / "labels.txt").write_text("".join(f"{n}\n" for n in "abcde"))
    flags = ["--patches=2x2", "--input=-1..1", f"--model={path}"]
    assert cli.main(["export", "--target=micro", *flags]) == 0
    assert re.search(r"net: 2x2 patches up to operator \d+, arena of TFLM", capsys.readouterr().out)
    assert "AddSlice" in (tmp_path / "micro/net_net/src/net_net_operators.cpp").read_text()
