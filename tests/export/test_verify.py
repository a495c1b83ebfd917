"""The same images through every runtime: real runtimes, real processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import formats, inspect
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.packages import ethos_u, targets
from efficientnet_elite.export.runtimes import isolated, runtime, tflm, verify
from tests.support import children, tiny_tflite

TFLM = tflm.available()
INT8, FLOAT = 1, 0


@pytest.fixture(scope="module", params=[INT8, FLOAT], ids=["int8", "float"])
def rows(request) -> dict[str, verify.Row]:
    pixels, classes = tiny_tflite.digits()
    images = tiny_tflite.normalised(pixels[1400:1440])
    model = tiny_tflite.pair()[request.param]
    return {row.runtime: row for row in verify.verify(model, images, classes[1400:1440])}


def test_every_installed_runtime_runs_the_model_and_agrees(rows):
    assert list(rows) == list(verify.RUNTIMES)
    for name, row in rows.items():
        if row.skipped:
            reasons = "(.* )?not installed: |it takes (UINT8 or FLOAT32|INT8) images|npm cannot"
            assert re.match(reasons, row.skipped)
            assert name in ("TFLM", "MediaPipe Tasks", "LiteRT.js") or name.startswith("c (")
            continue
        assert row.error is None
        assert row.passed
        assert row.version
        assert (row.instructions or row.median_ms) > 0
        assert row.memory_bytes > 0
        assert (row.reference is None) == (name == verify.REFERENCE)
    assert rows["LiteRT CompiledModel"].difference == 0


def test_rows_hold_what_the_runtime_gives(rows):
    pixels, classes = tiny_tflite.digits()
    images = tiny_tflite.normalised(pixels[1400:1440])
    model = tiny_tflite.pair()[INT8 if rows[verify.XNNPACK].unit == "steps" else FLOAT]
    logits = {
        kernels: runtime.Runner(model, kernels=kernels).run(images)
        for kernels in ("XNNPACK", "reference kernels")
    }
    row = rows[verify.XNNPACK]
    assert row.accuracy == (logits["XNNPACK"].argmax(-1) == classes[1400:1440]).mean()
    difference = np.abs(logits["XNNPACK"] - logits["reference kernels"]).max()
    scale = runtime.Runner(model).output.scale or 1
    assert row.difference == pytest.approx(difference / scale, rel=1e-4)


@pytest.mark.skipif(not TFLM, reason="pip install --pre tflite-micro")
def test_tflm_has_the_arithmetic_of_the_reference_kernels(rows):
    row = rows["TFLM"]
    assert row.reference == verify.REFERENCE
    if row.unit == "steps":
        assert row.difference <= 2
        assert row.memory_bytes == tflm.arena_bytes(tiny_tflite.pair()[INT8])


def wide() -> keras.Model:
    """Untrained, with layers large enough for every format to quantize their weights."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(image)
    x = keras.layers.Conv2D(64, 3, activation="swish")(x)
    return keras.Model(image, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.slow
def test_no_format_of_the_exporter_is_condemned():
    """Compared by what their arithmetic allows, whatever type input and output have."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3))
    images = tiny_tflite.normalised(pixels)
    asked = formats.all_formats()
    files = convert.to_tflite_formats(wide(), images, asked)
    chosen = [name for name in verify.RUNTIMES if name != "LiteRT.js"]
    for form, content in zip(asked, files, strict=True):
        contents = inspect.read(content)
        assert inspect.has_hybrid_operators(contents) == (form.weights == "dynamic")
        assert bool(inspect.output_step(contents)) == form.needs_calibration
        rows = {
            row.runtime: row
            for row in verify.verify(content, images, np.zeros(20), runtimes=chosen)
        }
        assert all(row.passed for row in rows.values()), (form.name, rows)
        assert (rows["LiteRT CompiledModel"].unit == "steps") == form.needs_calibration
        free = form.weights in ("dynamic", "int16x8")
        assert rows["LiteRT CompiledModel"].agrees is (None if free else True)
        if form.weights in ("dynamic", "float16"):
            assert rows["TFLM"].skipped


def test_a_slow_runtime_is_judged_by_the_images_it_managed(monkeypatch):
    pixels, classes = tiny_tflite.digits()
    images = tiny_tflite.normalised(pixels[1400:1440])
    monkeypatch.setattr(verify, "_RUNNING_SHARE", 0.0)
    chosen = [verify.REFERENCE, verify.XNNPACK]
    model = tiny_tflite.pair()[INT8]
    rows = list(verify.verify(model, images, classes[1400:1440], runtimes=chosen))
    assert [row.images for row in rows] == [1, 1]
    assert all(row.passed and row.accuracy in (0, 1) for row in rows)


def test_the_images_are_no_memory_of_the_model():
    images = np.zeros((1500, 32, 32, 3), np.float32)
    few, many = (
        verify.RUNTIMES[verify.XNNPACK].run_images(tiny_tflite.pair()[INT8], part, 60)
        for part in (images[:2], images)
    )
    assert abs(int(many["memory"]) - int(few["memory"])) < images.nbytes / 10


def test_a_child_imports_nothing_that_lies_in_the_current_folder(tmp_path, monkeypatch):
    for name in ("resource", "numpy", "efficientnet_elite"):
        (tmp_path / f"{name}.py").write_text("open('has-run', 'w')")
    monkeypatch.chdir(tmp_path)
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][:2])
    answer = verify.RUNTIMES[verify.XNNPACK].run_images(tiny_tflite.pair()[INT8], images, 300)
    assert answer["logits"].shape == (2, 10)
    assert not (tmp_path / "has-run").exists()


def test_a_limit_that_the_system_has_set_is_kept(importable):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); "
        "from tests.support import children; "
        "from efficientnet_elite.export.runtimes import isolated; "
        "print(isolated.call(children.doubled, {'text': 'a', 'numbers': 1})['text'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "aa\n", done.stderr


@pytest.fixture
def importable(monkeypatch):
    """Lets child processes find the functions of `children`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (children.crash, {}, r"^it crashed \(SIGABRT\)"),
        (children.hang, {"timeout": 3}, "^it took longer than 3 s and was stopped$"),
        (children.greedy, {"memory": 2 << 30}, "MemoryError"),
        (children.refuse, {}, "^no such thing$"),
    ],
)
def test_what_happens_to_a_child_is_one_line(importable, function, options, message):
    with pytest.raises(UserError, match=message) as caught:
        isolated.call(function, {}, **options)
    assert "\n" not in str(caught.value)


def test_arguments_and_results_are_arrays(importable):
    answer = isolated.call(children.doubled, {"text": "ü", "numbers": np.arange(3)})
    assert str(answer["text"]) == "üü"
    assert answer["numbers"].tolist() == [0, 2, 4]


def test_a_crash_is_one_row(importable, monkeypatch):
    monkeypatch.setattr(verify, "_run_in_child", children.crash)
    chosen = [verify.REFERENCE, verify.XNNPACK]
    model = tiny_tflite.pair()[INT8]
    rows = list(verify.verify(model, np.zeros((1, 4, 4, 3)), np.zeros(1), runtimes=chosen))
    assert [row.runtime for row in rows] == chosen
    assert all("SIGABRT" in row.error and not row.passed for row in rows)


def test_what_is_not_installed_is_skipped(monkeypatch):
    absent = replace(verify.RUNTIMES["TFLM"], module="no.such.module")
    monkeypatch.setitem(verify.RUNTIMES, "TFLM", absent)
    model = tiny_tflite.pair()[INT8]
    (row,) = verify.verify(model, np.zeros((1, 4, 4, 3)), np.zeros(1), runtimes=["TFLM"])
    assert row.skipped == "not installed: pip install --pre tflite-micro"
    assert row.passed


def test_what_takes_no_int8_is_skipped(monkeypatch):
    picky = replace(verify.RUNTIMES[verify.XNNPACK], takes=("UINT8", "FLOAT32"))
    monkeypatch.setitem(verify.RUNTIMES, verify.XNNPACK, picky)
    images, model = np.zeros((1, 32, 32, 3)), tiny_tflite.pair()[INT8]
    (row,) = verify.verify(model, images, np.zeros(1), runtimes=[verify.XNNPACK])
    assert (
        row.skipped
        == "it takes UINT8 or FLOAT32 images, but this model INT8: export with --io=uint8"
    )


def test_the_reference_is_skipped_where_its_kernel_is_wrong():
    """Once LiteRT has repaired it, the last line fails, and the exception can go."""
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.ops.sum(image, axis=(1, 2)))
    pixels = np.random.default_rng(0).integers(-128, 128, (8, 8, 8, 3))
    images = (pixels / 128).astype(np.float32)
    content = convert.to_tflite(model, calibration=images)
    chosen = [verify.REFERENCE, verify.XNNPACK]
    skipped, row = verify.verify(content, images, np.zeros(8), runtimes=chosen)
    assert "issues/4079" in skipped.skipped
    assert row.error is None
    assert row.difference is None
    expected = np.asarray(model(images))
    for kernels, right in (("XNNPACK", True), ("reference kernels", False)):
        runner = runtime.Runner(content, kernels=kernels)
        assert np.allclose(runner.run(images), expected, rtol=0, atol=runner.output.scale) == right


@pytest.mark.parametrize(
    ("runtime_name", "form", "off", "agrees"),
    [
        ("TFLM", INT8, 2, True),
        ("TFLM", INT8, 3, False),
        ("LiteRT CompiledModel", INT8, 1, False),
        ("TFLM", FLOAT, 5e-4, True),
        ("TFLM", FLOAT, 5e-3, False),
        ("LiteRT CompiledModel", FLOAT, 5e-5, True),
        ("LiteRT CompiledModel", FLOAT, 5e-4, False),
    ],
)
def test_a_runtime_that_differs_does_not_pass(runtime_name, form, off, agrees):
    contents = inspect.read(tiny_tflite.pair()[form])
    logits = np.arange(11, dtype=np.float32)[None]  # a range of 10
    answer = {"logits": logits + np.float32(off * (inspect.output_step(contents) or 1))}
    chosen = verify.RUNTIMES[runtime_name]
    compared = verify._comparison(answer, chosen, {"logits": logits}, contents)
    assert compared["agrees"] is agrees
    assert verify.Row(runtime_name, **compared).passed is agrees


def test_children_import_no_tensorflow():
    code = (
        "import sys, efficientnet_elite.export.runtimes.verify; "
        "print({'tensorflow', 'keras'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"


def test_the_command_line(tmp_path, capsys, monkeypatch):
    path = tmp_path / "net.tflite"
    path.write_bytes(tiny_tflite.pair()[INT8])
    few = {name: verify.RUNTIMES[name] for name in (verify.REFERENCE, verify.XNNPACK)}
    monkeypatch.setattr(verify, "RUNTIMES", few)
    arguments = ["verify", str(path), "--dataset=digits", "--images=20"]
    assert cli.main([*arguments, "--format=json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == 20
    # The runtimes, and behind them the NPU's compiler.
    expected = [*few, f"Vela {targets.ACCELERATOR}"]
    assert [row["runtime"] for row in report["runtimes"]] == expected
    assert ethos_u.available() == (report["runtimes"][-1]["cycles"] is not None)
    assert set(report["runtimes"][0]) == set(asdict(verify.Row("")))
    assert cli.main(arguments) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["runtime", "version"]
    assert [line.split("  ")[0] for line in lines] == expected
    monkeypatch.setattr(verify, "_RUNNING_SHARE", 0.0)
    assert cli.main(arguments) == 0
    *_, xnnpack, _ = capsys.readouterr().out.splitlines()
    assert xnnpack.endswith("runs, 1 of 20 images in time")
    assert cli.main(["verify", "--dataset=digits"]) == 1
    assert "name one .tflite file" in capsys.readouterr().err


def test_the_shape_of_a_model_that_is_no_classifier():
    contents = inspect.read(tiny_tflite.pair()[INT8])
    assert inspect.image_shape(contents) == (tiny_tflite.SIDE, tiny_tflite.SIDE, 3)
    (image,) = contents.inputs
    for shape in ((2, 32, 30, 3), (1, 32, 32, 2), (32, 32, 3)):
        with pytest.raises(UserError, match="expected one image, RGB or grey"):
            inspect.image_shape(replace(contents, inputs=(replace(image, shape=shape),)))
    with pytest.raises(UserError, match=r"2 inputs \(.*image.*, .*image.*\)"):
        inspect.image_shape(replace(contents, inputs=(image, image)))
