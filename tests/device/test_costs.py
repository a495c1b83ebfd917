"""Costs of networks: predictions compared with brute force, converted files and TFLM itself."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.device import costs, memory
from efficientnet_elite.device.lowering import Program, lower
from efficientnet_elite.device.memory import Buffer
from efficientnet_elite.device.ordering import converter_order
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, measure
from efficientnet_elite.export.packages import ethos_u
from efficientnet_elite.export.runtimes import runtime, tflm
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.graph import Graph
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.search.candidates import pool_members

SMALL = spec_by_name("elite9", classes=10, base_resolution=32)


@st.composite
def programs(draw) -> Program:
    """Programs of a few operators, which each read some of the tensors before them."""
    program = Program()
    size = st.integers(1, 9)
    program.add_tensor((draw(size),))
    for tensors in range(1, draw(st.integers(1, 6)) + 1):
        inputs = draw(st.lists(st.integers(0, tensors - 1), min_size=1, max_size=3, unique=True))
        program.emit("ADD", tuple(inputs), (draw(size),))
    return program


def live_bytes(program: Program, step: int) -> int:
    """Sum over the tensors that exist before or at a step and are read at it or later."""
    readers = [operator.inputs for operator in program.operators]
    total = 0
    for tensor, size in enumerate(program.sizes):
        written = tensor  # tensor i is written by operator i - 1, at step i; the image at step 0
        reads = [number for number, inputs in enumerate(readers, start=1) if tensor in inputs]
        if written <= step <= max([written, *reads]):
            total += size
    return total


@given(programs())
def test_peak_is_the_most_that_is_live_at_a_step(program):
    steps = range(len(program.operators) + 1)
    expected = max(live_bytes(program, step) for step in steps)
    assert memory.peak_bytes(memory.activation_buffers(program)) == expected


buffers = st.lists(
    st.builds(
        lambda size, first, more: Buffer(16 * size, first, first + more),
        st.integers(1, 6),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


def lowest(order) -> int:
    """Bytes that buffers take if they are placed in a given order, each as low as possible."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in order:
        ends = [0, *(offset + other.size for offset, other in placed)]
        offset = min(
            start
            for start in ends
            if all(
                start + buffer.size <= other_offset or other_offset + other.size <= start
                for other_offset, other in placed
                if other.overlaps(buffer)
            )
        )
        placed.append((offset, buffer))
    return max(offset + buffer.size for offset, buffer in placed)


@settings(max_examples=40, deadline=None)
@given(buffers)
def test_no_plan_is_below_the_peak_and_the_greedy_plan_is_valid(to_place):
    # The best plan is the result of placing its buffers in the order of their offsets, each as low
    # as possible.
    best = min(lowest(order) for order in permutations(to_place))
    offsets = memory.greedy_offsets(to_place)
    assert memory.peak_bytes(to_place) <= best <= memory.plan_bytes(to_place, offsets)
    for i, (a, a_offset) in enumerate(zip(to_place, offsets, strict=True)):
        for b, b_offset in zip(to_place[:i], offsets[:i], strict=True):
            apart = a_offset + a.size <= b_offset or b_offset + b.size <= a_offset
            assert not a.overlaps(b) or apart


def test_sizes_are_rounded_up_in_a_plan():
    pair = [Buffer(17, 0, 1), Buffer(1, 1, 1)]
    assert memory.greedy_offsets(pair) == [0, 32]
    assert memory.plan_bytes(pair, [0, 32]) == 48
    assert memory.peak_bytes(pair) == 18
    assert memory.peak_bytes([]) == memory.plan_bytes([], []) == 0


def test_what_the_converter_folds_and_fuses():
    graph = Graph((8, 8, 3))
    x = graph.conv_bn("a", graph.image, 4, activation="relu6")
    y = graph.conv_bn("b", x, 4, activation="swish")
    y = graph.apply("drop", ops.DropPath(0.5), y)
    graph.apply("relu", ops.Activation("relu"), graph.apply("add", ops.Add(), x, y))
    program = lower(graph)
    assert [operator.kind for operator in program.operators] == [
        "CONV_2D", "CONV_2D", "LOGISTIC", "MUL", "ADD"
    ]  # fmt: skip
    assert [operator.fused for operator in program.operators] == ["relu6", None, None, None, "relu"]
    # At MUL: its two inputs, its output, and the input of the residual connection.
    assert memory.peak_bytes(memory.activation_buffers(program)) == 4 * (8 * 8 * 4)


def test_a_shared_activation_is_computed_once():
    graph = Graph((4, 4, 2))
    x = graph.apply("pool", ops.MaxPool(3, 1), graph.image)
    first = graph.apply("one", ops.Activation("sigmoid"), x)
    second = graph.apply("two", ops.Activation("sigmoid"), x)
    graph.apply("add", ops.Add(), first, second)
    assert lower(graph).operator_counts() == {"ADD": 1, "LOGISTIC": 1, "MAX_POOL_2D": 1}


def test_an_unknown_operation():
    graph = Graph((4, 4, 2))
    graph.apply("odd", ops.Activation("mish"), graph.image)
    with pytest.raises(ValueError, match="mish"):
        lower(graph)


def test_metrics_of_the_smallest_member():
    spec = spec_by_name("elite9")
    assert costs.of(spec, "params") == spec.params
    assert costs.of(spec, "macs") == spec.macs
    # The peak is at the swish of the first expansion: the map, its sigmoid and their product.
    assert costs.of(spec, "peak_bytes") == 3 * 112 * 112 * 48
    assert 1.1 * spec.params < costs.of(spec, "size_bytes") < 1.5 * spec.params
    assert costs.of(spec, "arena_bytes") > costs.of(spec, "peak_bytes")


def test_measured_metrics_are_looked_up():
    assert costs.to_measure(["macs", "latency_ms", "latency_ms"]) == ["latency_ms"]
    assert costs.of(SMALL, "latency_ms", {"latency_ms": {"elite9": 2.5}}) == 2.5
    with pytest.raises(UserError, match="latency_ms of elite9 has not been measured"):
        costs.of(SMALL, "latency_ms")
    with pytest.raises(UserError, match=r"unknown metric 'flops': choose among params, macs, .*"):
        costs.check(["flops"])


@pytest.mark.parametrize("pool", FAMILIES)
def test_every_family_has_its_costs(pool):
    spec = pool_members(pool, base_resolution=96, classes=10)[-1].spec
    peak = costs.of(spec, "peak_bytes")
    assert peak <= memory.head_bytes(lower(spec.graph)) < costs.of(spec, "arena_bytes")
    assert costs.of(spec, "size_bytes") > spec.params


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return measure.int8_file(SMALL, tmp_path_factory.mktemp("untrained"))


def test_an_untrained_file_is_written_once(file):
    before = file.stat().st_mtime_ns
    assert measure.int8_file(SMALL, file.parent) == file
    assert file.stat().st_mtime_ns == before
    other = measure.int8_path(spec_by_name("elite9", classes=11, base_resolution=32), file.parent)
    assert other != file


def test_estimates_of_a_converted_network(file):
    content = file.read_bytes()
    inspect.check_full_int8(inspect.read(content))
    assert lower(SMALL.graph).operator_counts() == inspect.operators(content)
    assert costs.of(SMALL, "size_bytes") == pytest.approx(len(content), rel=0.01)


def test_the_arena_against_tflm(file):
    pytest.importorskip("tflite_micro")
    arena = tflm.allocation(file.read_bytes())
    assert memory.head_bytes(lower(SMALL.graph)) == arena.head
    assert costs.of(SMALL, "arena_bytes") == pytest.approx(arena.head + arena.tail, rel=0.02)


def test_tflm_on_what_it_cannot_run():
    pytest.importorskip("tflite_micro")
    with pytest.raises(UserError, match="TFLM cannot load the model"):
        tflm.allocation(b"no model")


def test_cycles_by_vela(file, tmp_path):
    pytest.importorskip("ethosu")
    # At best 128 multiply-accumulates a cycle.
    assert ethos_u.estimate_cycles(file.read_bytes()) > SMALL.macs / 128
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"no model")
    with pytest.raises(UserError, match="Vela cannot compile the model"):
        ethos_u.estimate_cycles(bad.read_bytes())


@pytest.mark.parametrize("name", ["ghostnet-0.5", "amoebanet-a", "espnetv2", "condensenet-cifar"])
def test_nothing_is_read_before_it_is_written(name):
    nodes = spec_by_name(name, classes=10, base_resolution=64).graph.nodes
    order = converter_order(nodes)
    place = {index: position for position, index in enumerate([-1, *order])}
    assert sorted(order) == list(range(len(nodes)))
    assert all(place[source] < place[i] for i in order for source in nodes[i].inputs)
    assert order[-1] == len(nodes) - 1


def test_the_branch_with_the_first_name_runs_first():
    graph = Graph((8, 8, 4))
    right = graph.apply("right", ops.MaxPool(3, 1), graph.image)
    left = graph.apply("left", ops.AveragePool(3, 1), graph.image)
    graph.apply("join", ops.Add(), right, left)
    assert converter_order(graph.nodes) == [1, 0, 2]


@pytest.mark.slow
def test_activations_do_not_grow_in_an_untrained_network():
    """In GhostNet they did, by its additions: XNNPACK refuses scales that are too far apart."""
    spec = spec_by_name("ghostnet-0.5", classes=10, base_resolution=64)
    content = measure.int8_bytes(spec)
    assert measure.int8_bytes(spec) == content
    images = np.zeros((1, *spec.input_shape), np.float32)
    assert np.isfinite(runtime.run(content, images)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["elite-w3d2r2", "hf5", "mobilenetv2-0.35", "mobilenetv3-small", "mnasnet-small",
     "mobilenetv1-0.25", "shufflenet-g2", "espnetv2", "darts-v2", "espnetv2-seg",
     "lraspp-mobilenetv3-small"],
)  # fmt: skip
def test_estimates_of_more_networks(name, tmp_path):
    pytest.importorskip("tflite_micro")
    spec = spec_by_name(name, classes=10, base_resolution=64)
    path = measure.int8_file(spec, tmp_path)
    content = path.read_bytes()
    arena = tflm.allocation(content)
    assert lower(spec.graph).operator_counts() == inspect.operators(content)
    assert memory.head_bytes(lower(spec.graph)) == arena.head
    # PReLU slopes, which are all equal before training, are one constant in the file.
    tolerance = 0.15 if name.startswith("espnet") else 0.02
    assert costs.of(spec, "size_bytes") == pytest.approx(len(content), rel=tolerance)
    assert costs.of(spec, "arena_bytes") == pytest.approx(arena.head + arena.tail, rel=0.02)
