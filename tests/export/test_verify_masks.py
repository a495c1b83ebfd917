"""Segmentation networks through the runtimes: real scenes, real runtimes, real processes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.data import IGNORED
from efficientnet_elite.export import formats, inspect
from efficientnet_elite.export.packages import web
from efficientnet_elite.export.runtimes import litert_js, runtime, tflm, verify
from efficientnet_elite.training.scores import score_predictions
from tests.support import tiny_masks, tiny_tflite

INT8, FLOAT = formats.INT8, formats.FLOAT32


@pytest.fixture(scope="module", params=[INT8, FLOAT], ids=lambda form: form.name)
def rows(request) -> tuple[bytes, dict[str, verify.Row]]:
    content = tiny_masks.converted()[request.param]
    chosen = [name for name in verify.RUNTIMES if name != "LiteRT.js"]  # see below
    found = verify.verify(content, *tiny_masks.scenes(), runtimes=chosen)
    return content, {row.runtime: row for row in found}


def test_every_installed_runtime_agrees_on_masks(rows):
    for name, row in rows[1].items():
        if row.skipped:
            assert re.match("not installed: |it takes UINT8 or FLOAT32|it takes INT8", row.skipped)
            assert name in ("TFLM", "MediaPipe Tasks") or name.startswith("c (")
            continue
        assert row.error is None
        assert row.passed
        assert (row.median_ms or row.instructions or 0) > 0
        assert row.memory_bytes > 0
    assert rows[1]["LiteRT CompiledModel"].difference == 0


def test_a_row_has_the_miou_of_all_pixels(rows):
    content, found = rows
    images, masks = tiny_masks.scenes()
    assert {0, 1, 2, IGNORED} == set(np.unique(masks))
    for name, kernels in ((verify.XNNPACK, "XNNPACK"), (verify.REFERENCE, "reference kernels")):
        choices = runtime.Runner(content, kernels=kernels).run(images).argmax(-1)
        assert choices.shape == masks.shape
        assert found[name].accuracy == score_predictions(choices, masks, len(tiny_masks.LABELS))


@pytest.mark.skipif(not tflm.available(), reason="pip install --pre tflite-micro")
def test_tflm_has_the_arithmetic_of_the_reference_kernels(rows):
    row = rows[1]["TFLM"]
    assert row.reference == verify.REFERENCE
    if row.unit == "steps":
        assert row.difference <= 2
        assert row.memory_bytes == tflm.arena_bytes(tiny_masks.converted()[INT8])


def test_mediapipe_segments_as_xnnpack_does():
    pytest.importorskip("mediapipe")
    content = tiny_masks.converted()[tiny_masks.UINT8]
    chosen = [verify.XNNPACK, "MediaPipe Tasks"]
    xnnpack, row = verify.verify(content, *tiny_masks.scenes(), runtimes=chosen)
    assert row.error is None
    assert row.agrees
    assert row.accuracy == xnnpack.accuracy


@pytest.mark.parametrize("form", [INT8, FLOAT], ids=lambda form: form.name)
def test_the_browser_segments_as_xnnpack_does(form):
    web.runtime_files.cache_clear()
    if reason := litert_js.missing():
        pytest.skip(reason)
    content = tiny_masks.converted()[form]
    chosen = [verify.XNNPACK, "LiteRT.js"]
    xnnpack, row = verify.verify(content, *tiny_masks.scenes(), runtimes=chosen)
    assert row.error is None
    assert row.difference <= (1e-5 if form == FLOAT else 0)
    assert row.accuracy == xnnpack.accuracy


def test_images_and_outputs_leave_room_for_others():
    contents = inspect.read(tiny_masks.converted()[INT8])
    (image,), (logits,) = contents.inputs, contents.outputs
    small = verify.most_images(contents)
    assert small > 1000
    large = {"shape": (1, 10 * tiny_masks.SIDE, 10 * tiny_masks.SIDE, 3)}
    scaled = replace(
        contents, inputs=(replace(image, **large),), outputs=(replace(logits, **large),)
    )
    assert verify.most_images(scaled) == small // 100
    huge = {"shape": (1, 4096, 4096, 21)}
    assert verify.most_images(replace(contents, outputs=(replace(logits, **huge),))) == 1
    assert verify.most_images(replace(contents, inputs=(replace(image, **huge),))) == 1


def test_the_command_line(tmp_path, capsys, monkeypatch):
    path = tmp_path / "net.tflite"
    path.write_bytes(tiny_masks.converted()[INT8])
    few = {name: verify.RUNTIMES[name] for name in (verify.REFERENCE, verify.XNNPACK)}
    monkeypatch.setattr(verify, "RUNTIMES", few)
    arguments = ["verify", str(path), f"--dataset={tiny_masks.DATASET}"]
    assert cli.main([*arguments, "--format=json", "--images=12"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["score"], report["images"]) == ("mIoU", 12)
    content, (images, masks) = path.read_bytes(), tiny_masks.scenes()
    choices = runtime.Runner(content).run(images).argmax(-1)
    assert report["runtimes"][1]["accuracy"] == score_predictions(choices, masks, 3)

    monkeypatch.setattr(verify, "_ARRAY_BYTES", 3 * 4 * math.prod(choices.shape[1:]) * (3 + 3))
    assert cli.main(arguments) == 0
    table, said = capsys.readouterr()
    assert "mIoU" in table.splitlines()[0].split()
    assert "only 3 of 200 images: more of this size would take too much memory" in said


def test_networks_and_data_of_different_tasks(tmp_path, capsys):
    path = tmp_path / "net.tflite"
    for content, dataset, shape in (
        (tiny_masks.converted()[INT8], "digits", "(1, 32, 32, 3), but there are 10 labels for the"),
        (tiny_tflite.pair()[1], tiny_masks.DATASET, "(1, 10), but there are 3 labels for each"),
    ):
        path.write_bytes(content)
        assert cli.main(["verify", str(path), f"--dataset={dataset}"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"the model is not for {dataset.partition(':')[0]}" in said
        assert shape in said
