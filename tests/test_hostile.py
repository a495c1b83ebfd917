"""Files that are damaged, forged or something else: one clear line, and the process lives on."""

from __future__ import annotations

import functools
import json
import os
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite import cli
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect
from efficientnet_elite.export.runtimes import runtime, verify
from tests.support import tiny_tflite


@functools.cache
def model() -> bytes:
    return tiny_tflite.pair()[1]


def forged(change) -> bytes:
    """The model after `change`, a function of its object tree."""
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model()))
    change(tree)
    builder = flatbuffers.Builder(len(model()))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def custom(tree: schema.ModelT) -> None:
    """Every operator becomes one that only a plug-in would know."""
    for code in tree.operatorCodes:
        code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"PlugIn"


def huge(tree: schema.ModelT) -> None:
    """The image has 10 ** 12 pixels."""
    graph = tree.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 10**6, 10**6, 3]


def astray(tree: schema.ModelT) -> None:
    """The first operator reads a tensor that does not exist."""
    tree.subgraphs[0].operators[0].inputs = [10**6, 1, 2]


FORGERIES = (custom, huge, astray)


def shared(tensors: int, scales: int) -> bytes:
    """A small file whose tensors all have the same long vector of scales."""
    builder = flatbuffers.Builder(1 << 20)
    vector = builder.CreateNumpyVector(np.ones(scales, np.float32))
    schema.QuantizationParametersStart(builder)
    schema.QuantizationParametersAddScale(builder, vector)
    quantization = schema.QuantizationParametersEnd(builder)
    schema.TensorStart(builder)
    schema.TensorAddQuantization(builder, quantization)
    tensor = schema.TensorEnd(builder)

    def of(start, count: int, offset: int) -> int:
        start(builder, count)
        for _ in range(count):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    all_tensors = of(schema.SubGraphStartTensorsVector, tensors, tensor)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, all_tensors)
    graphs = of(schema.ModelStartSubgraphsVector, 1, schema.SubGraphEnd(builder))
    schema.BufferStart(builder)
    buffers = of(schema.ModelStartBuffersVector, 1, schema.BufferEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def one_line(error: UserError) -> bool:
    return "\n" not in str(error) and len(str(error)) < 400


@pytest.mark.parametrize("size", [0, 3, 8, 100, 2000, -4000, -100, -1])
def test_a_truncated_file_is_refused(size):
    message = "^the file is (not a TFLite model|a damaged TFLite model: copy)"
    with pytest.raises(UserError, match=message) as caught:
        inspect.read(model()[:size])
    assert one_line(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_no_model(content, disguised):
    if disguised:
        content = content[:4] + b"TFL3" + content[8:]
    with pytest.raises(UserError) as caught:
        inspect.check_full_int8(inspect.read(content))
        inspect.image_shape(inspect.read(content))
    assert one_line(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_damaged_file_is_read_or_refused(changes):
    content = bytearray(model())
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    start = time.monotonic()
    try:
        assert inspect.read(bytes(content)).operators
    except UserError as error:
        assert one_line(error)
    assert time.monotonic() - start < 20  # bounded, however long the machine takes


def test_the_work_is_bounded(monkeypatch):
    contents = inspect.read(model())
    parts = len(contents.tensors) + len(contents.steps)
    monkeypatch.setattr(inspect, "MAX_PARTS", parts)
    assert inspect.read(model()) == contents
    monkeypatch.setattr(inspect, "MAX_PARTS", parts - 1)
    with pytest.raises(UserError, match=rf"the file has {parts} tensors, operators or subgraphs"):
        inspect.read(model())


def test_what_is_shared_counts_as_often_as_it_is_read(monkeypatch):
    content = shared(tensors=50, scales=1000)
    assert len(content) < 10_000
    monkeypatch.setattr(inspect, "MAX_DETAILS", 50_000)
    assert len(inspect.tensors(content)) == 50
    monkeypatch.setattr(inspect, "MAX_DETAILS", 49_999)
    with pytest.raises(UserError, match="more than 49999 letters and numbers in names"):
        inspect.read(content)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_a_scale_that_is_none_is_damage(scale):
    def change(tree: schema.ModelT) -> None:
        graph = tree.subgraphs[0]
        graph.tensors[graph.outputs[0]].quantization.scale = [scale]

    with pytest.raises(UserError, match="damaged TFLite model"):
        inspect.read(forged(change))


def test_an_operator_astray_is_damage():
    with pytest.raises(UserError, match="damaged TFLite model"):
        inspect.read(forged(astray))


@pytest.mark.parametrize("command", ["verify", "export", "benchmark"])
@pytest.mark.parametrize("kind", ["pipe", "huge", "none"])
def test_what_is_no_file_to_read_is_not_read(tmp_path, capfd, command, kind):
    path = tmp_path / "net.int8.tflite"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        path.touch()
        os.truncate(path, files.MAX_BYTES + 1)  # without taking room on the disk
    arguments = {
        "verify": [str(path), "--dataset=digits"],
        "export": [f"--model={path}", "--target=micro"],
        "benchmark": [str(path)],
    }
    (tmp_path / "labels.txt").touch()
    assert cli.main([command, *arguments[command]]) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    said = {
        "pipe": "is not a regular file",
        "huge": "is larger than 1024 MiB",
        "none": "is missing",
    }
    assert said[kind] in error


def test_a_custom_operator_is_named():
    assert set(inspect.operators(forged(custom))) == {"PlugIn"}


@pytest.mark.slow
@pytest.mark.parametrize("change", [custom, huge], ids=lambda change: change.__name__)
def test_no_runtime_takes_a_forgery_and_none_takes_the_process_along(change):
    side = tiny_tflite.SIDE
    images = np.zeros((1, side, side, 3), np.float32)
    content = forged(change)
    rows = list(verify.verify(content, images, np.zeros(1, int), timeout=60))
    assert [row.runtime for row in rows] == list(verify.RUNTIMES)
    for row in rows:
        # What is not installed, or takes no int8, is not tried.
        assert row.skipped or row.error, row
        assert "\n" not in (row.error or "")


@pytest.mark.parametrize("command", ["verify", "export", "evaluate", "benchmark"])
def test_the_command_line_says_one_line(tmp_path, capfd, command):
    path = tmp_path / "net.int8.tflite"
    path.write_bytes(model()[:3000])
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in tiny_tflite.LABELS))
    arguments = {
        "verify": [str(path), "--dataset=digits"],
        "export": [f"--model={path}", "--target=micro"],
        "evaluate": [str(path), "--dataset=digits"],
        "benchmark": [str(path)],
    }
    capfd.readouterr()  # what TensorFlow said while it made the model
    assert cli.main([command, *arguments[command]]) == 1
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.startswith(f"elite {command}: ")
    assert errors.count("\n") == 1
    assert "damaged TFLite model" in errors


@pytest.mark.parametrize("command", ["evaluate", "benchmark", "benchmark --profile"])
@pytest.mark.parametrize("change", FORGERIES, ids=lambda change: change.__name__)
def test_a_forgery_costs_a_line_and_not_the_process(tmp_path, capfd, change, command):
    path = tmp_path / "net.tflite"
    path.write_bytes(forged(change))
    command, *more = command.split()
    options = ["--dataset=digits"] if command == "evaluate" else ["--runs=1", *more]
    capfd.readouterr()  # what TensorFlow said while it made the model
    assert cli.main([command, str(path), *options]) == 1
    output, errors = capfd.readouterr()
    assert output == ""
    *others, last = errors.splitlines()
    assert last.startswith(f"elite {command}: ")
    # Others are progress, or TensorFlow's.
    assert not any(line.startswith(("elite", "Traceback")) for line in others)


def test_a_forgery_does_not_take_the_others_figures(tmp_path, capfd):
    for name, content in (("good", model()), ("bad", forged(astray))):
        (tmp_path / f"{name}.tflite").write_bytes(content)
    paths = [str(tmp_path / f"{name}.tflite") for name in ("bad", "good")]
    assert cli.main(["benchmark", "--runs=2", f"--json={tmp_path / 'rows.json'}", *paths]) == 1
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["model"] == paths[1]
    assert row["median_ms"] > 0
    output, errors = capfd.readouterr()
    assert paths[1] in output
    assert paths[0] in errors


def test_evaluate_counts_as_the_interpreter_in_this_process_does(tmp_path, capsys):
    path = tmp_path / "net.tflite"
    path.write_bytes(model())
    assert cli.main(["evaluate", str(path), "--dataset=digits"]) == 0
    shown = capsys.readouterr().out.splitlines()[1].split()
    data = data_lib.load(DataConfig())
    sizes = {"resolution": tiny_tflite.SIDE, "base_resolution": tiny_tflite.SIDE}
    (batch,) = data_lib.eval_batches(data, "test", batch_size=1000, **sizes)
    right = runtime.run(model(), batch[0].numpy()).argmax(-1) == batch[1].numpy()
    assert shown[1:] == [str(tiny_tflite.SIDE), str(len(right)), f"{right.mean():.2%}"]
