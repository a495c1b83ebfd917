"""`elite benchmark --profile`, the files of single operators, and what a delegate takes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from efficientnet_elite import cli
from efficientnet_elite.benchmarks import delegates
from efficientnet_elite.benchmarks.latency import Options, measure_latencies
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import cuts, inspect, macs, rewrite
from tests.support import random_tflite, tiny_tflite
from tests.support.boards import models


def partly() -> bytes:
    """Of its operators, XNNPACK takes all but PADV2, which stands in the middle."""
    network = random_tflite.Network(np.random.default_rng(0), 32, 32)
    x = network.conv(network.image, 8, (3, 3), (1, 1), random_tflite.SAME)
    x = network.pad_channels(x, 3, 5)
    x = network.conv(x, 8, (3, 3), (2, 2), random_tflite.SAME)
    return network.model(network.head(x))


def loaded(model: bytes, resolver: OpResolverType = OpResolverType.AUTO) -> Interpreter:
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=resolver,
        experimental_preserve_all_tensors=resolver != OpResolverType.AUTO,
    )
    interpreter.allocate_tensors()
    return interpreter


def benchmark(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["benchmark", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_what_xnnpack_takes_is_known():
    interpreter = loaded(partly())
    names = [step.operator for step in inspect.read(partly()).steps]
    assert delegates.taken(interpreter) == {i for i, name in enumerate(names) if name != "PADV2"}
    assert delegates.share(interpreter) == pytest.approx(4 / 5)
    alone = loaded(partly(), OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    assert (delegates.taken(alone), delegates.share(alone)) == (set(), 0.0)
    assert delegates.taken(object()) is delegates.share(object()) is None


@pytest.mark.parametrize("seed", range(6))
def test_operators_alone_compute_what_they_do_in_the_file(seed):
    """Fed with the tensors of the whole, each gives its own bytes again."""
    model = random_tflite.random_model(seed) if seed else tiny_tflite.pair()[1]
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    whole, contents = loaded(model, kernels), inspect.read(model)
    (given,) = whole.get_input_details()
    image = np.random.default_rng(seed).integers(-128, 128, given["shape"], np.int8)
    whole.set_tensor(given["index"], image)
    whole.invoke()
    alone = list(cuts.single_operators(model))
    assert len(alone) == len(contents.steps)
    for step, content in zip(contents.steps, alone, strict=True):
        assert inspect.read(content).operators == {step.operator: 1}
        part = loaded(content, kernels)
        activations = [i for i in step.inputs if i >= 0 and not contents.tensors[i].constant]
        for detail, index in zip(part.get_input_details(), dict.fromkeys(activations), strict=True):
            part.set_tensor(detail["index"], whole.get_tensor(index))
        part.invoke()
        for detail, index in zip(part.get_output_details(), step.outputs, strict=True):
            np.testing.assert_array_equal(part.get_tensor(detail["index"]), whole.get_tensor(index))


def test_an_operator_that_keeps_values_does_not_stand_alone():
    tree = rewrite.tree_of(partly())
    tree.subgraphs[0].tensors[tree.subgraphs[0].operators[1].inputs[0]].isVariable = True
    alone = list(cuts.single_operators(rewrite.packed(tree)))
    assert [content is None for content in alone] == [False, True, False, False, False]


def test_forged_files_are_refused(monkeypatch):
    """As many operators or bytes as a file can name."""
    tree = rewrite.tree_of(partly())
    tree.subgraphs[0].operators *= 500
    with pytest.raises(UserError, match="the file has 2500 operators, and at most 2000 are"):
        list(cuts.single_operators(rewrite.packed(tree)))
    tree = rewrite.tree_of(partly())
    tree.subgraphs[0].operators[1].inputs = None
    assert list(cuts.single_operators(rewrite.packed(tree)))[1] is not None
    monkeypatch.setattr(cuts, "MOST_BYTES", 4000)
    with pytest.raises(UserError, match="take more than 4,000 bytes"):
        list(cuts.single_operators(partly()))


def test_macs_are_those_of_the_shapes():
    contents = inspect.read(partly())
    first, second = 32 * 32 * 9 * 3 * 8, 16 * 16 * 9 * 11 * 8
    assert [macs.of_step(contents, step) for step in contents.steps] == [first, 0, second, 0, 40]


def test_time_by_operator_and_how_far_it_is_from_the_whole(tmp_path, capsys):
    file, broken = tmp_path / "net.int8.tflite", tmp_path / "broken.tflite"
    file.write_bytes(partly())
    broken.write_bytes(b"nothing")
    outputs = tmp_path / "a.json", tmp_path / "a.csv"
    status, out, err = benchmark(
        capsys,
        file,
        broken,
        "--profile",
        "--runs=20",
        f"--json={outputs[0]}",
        f"--csv={outputs[1]}",
    )
    assert status == 1
    (line,) = [line for line in err.splitlines() if "broken" in line]
    assert line.startswith(f"elite benchmark: {broken}: cannot be run: ")
    title, head, *lines, last = out.splitlines()
    assert title == f"{file}: 5 operators, 80 % run by XNNPACK"
    assert head.split() == ["operator", "count", "delegated", "MACs", "ms", "share"]
    kinds = {line.split()[0]: line.split()[1:3] for line in lines}
    assert kinds == {"CONV_2D": ["2", "2"], "PADV2": ["1", "0"], "MEAN": ["1", "1"],
                     "FULLY_CONNECTED": ["1", "1"]}  # fmt: skip
    assert last.startswith("sum of 5 operators alone ") and last.endswith(" of it")

    (profile,) = json.loads(outputs[0].read_text())["profiles"]
    rows = list(csv.DictReader(outputs[1].read_text().splitlines()))
    times = [float(row["median_ms"]) for row in rows]
    assert sum(times) == pytest.approx(profile["sum_ms"])
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
    assert times[0] > times[4] > 0  # 200,000 multiply-accumulates against 40
    assert [row["delegated"] for row in rows] == ["True", "False", "True", "True", "True"]
    assert (rows[0]["output"], rows[0]["macs"]) == ("1x32x32x8", "221184")
    assert (profile["delegate"], profile["delegated"]) == ("XNNPACK", 0.8)


def test_wrong_calls_of_the_profile(tmp_path, capsys):
    assert "name .tflite files" in benchmark(capsys, "--profile")[2]
    both = benchmark(capsys, "a.tflite", "--profile", "--json=x", "--csv=x")
    assert both[2] == "elite benchmark: --json and --csv must name different files\n"
    assert "leave it or --profile out" in benchmark(capsys, "a", "--profile", "--sustained=3")[2]


def test_rows_of_the_latency_program_tell_the_delegate(tmp_path):
    light, _ = models(tmp_path)
    file = tmp_path / "partly.tflite"
    file.write_bytes(partly())
    whole, part = measure_latencies([light, Path(file)], Options(runs=1, warmup=0))
    assert (whole.delegate, whole.delegated) == ("XNNPACK", 1.0)
    assert (part.delegate, part.delegated) == ("XNNPACK", pytest.approx(0.8))
