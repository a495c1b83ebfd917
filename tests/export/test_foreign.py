"""`.tflite` files from elsewhere: what they take is read or asked, and never assumed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import efficientnet_elite as ee
from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, metadata, pixel_rule, rewrite
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.runtimes import runtime, verify

FILES = Path(__file__).parents[1] / "support/foreign"
# Files that say what they take, and the --input of those that do not.
KNOWN = ("float_01_described", "int8_01", "int8_11_softmax", "int8_0255", "uint8_01_softmax",
         "uint8_11", "int8_01_sigmoid", "int8_floats_01")  # fmt: skip
ASKED = {
    "float_01": "0..1",
    "float_01_softmax": "0..1",
    "float_11": "-1..1",
    "float_0255": "0..255",
    "float_imagenet": "imagenet",
    "float16_01": "0..1",
    "dynamic_11": "-1..1",
    "int8_imagenet": "imagenet",
    "int8_dim": "0..1",
    "float_01_sigmoid": "0..1",
    "grey": "0..1",
}
REFUSED = {
    "two_outputs": r"2 outputs \(.*StatefulPartitionedCall.*\)",
    "flex": "FlexErf, an operator of TensorFlow that is not built into TFLite",
    "any_side": r"\(-1, -1, -1, 3\), with sides that are not fixed",
}


def path(name: str) -> Path:
    return FILES / f"{name}.tflite"


def contents(name: str) -> inspect.Contents:
    return inspect.read(path(name).read_bytes())


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Dark and bright images, of levels that a wrong rule would turn into one another."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        # Alphabetical order would be that of the folders; the files' labels are dark, bright.
        for number, (kind, level) in enumerate([("a_dark", 70), ("b_bright", 185)] * 4):
            folder = root / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(level - 20, level + 20, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_every_file_is_judged(photos):
    assert {file.stem for file in FILES.glob("*.tflite")} == {*KNOWN, *ASKED, *REFUSED}


def evaluated(photos: Path, names) -> dict[str, float]:
    """Accuracies of files, each with the --input that it needs."""
    data = {"dataset": f"folder:{photos}", "progress": False}
    found = []
    for takes in sorted({ASKED.get(name, "") for name in names}):
        same = [name for name in names if ASKED.get(name, "") == takes]
        found += ee.evaluate(*map(path, same), input=takes or None, **data)
    return {result.path.stem: result.accuracy for result in found}


def test_evaluate_feeds_files_as_they_want(photos):
    names = ("float_01_described", "uint8_11", "int8_imagenet", "float_01_sigmoid")
    assert evaluated(photos, names) == dict.fromkeys(names, 1.0)


def test_evaluate_matches_classes_by_name(photos, tmp_path):
    for number, name in enumerate(("bright", "dark")):  # the other order than the file's
        source = photos / "test" / ("b_bright", "a_dark")[number]
        for part in ("train", "val", "test"):
            shutil.copytree(source, tmp_path / "named" / part / name)
    data = {"dataset": f"folder:{tmp_path / 'named'}", "progress": False}
    assert ee.evaluate(path("uint8_11"), **data)[0].accuracy == 1
    (tmp_path / "order.txt").write_text("bright\ndark\n")  # what the user says counts
    labels = str(tmp_path / "order.txt")
    assert ee.evaluate(path("uint8_11"), **data, labels=labels)[0].accuracy == 0


@pytest.mark.slow  # a process a file
def test_evaluate_feeds_every_file_as_it_wants(photos):
    names = (*KNOWN, *ASKED)
    assert evaluated(photos, names) == dict.fromkeys(names, 1.0)


def test_predict_knows_dark_from_bright_with_the_files_labels(photos):
    pictures = [photos / "test/a_dark/0.png", photos / "test/b_bright/1.png"]
    for name, takes in (("uint8_11", None), ("float_01_sigmoid", "0..1"), ("float_11", "-1..1")):
        answers = ee.predict(path(name), *pictures, input=takes)
        assert [answer.label for answer in answers] == ["dark", "bright"]
        assert all(answer.probability > 0.9 for answer in answers)


@pytest.mark.parametrize("name", ASKED)
def test_what_no_file_says_is_asked(name):
    content = path(name).read_bytes()
    with pytest.raises(
        UserError, match=r"say it with --input=0..255\|0..1\|-1..1\|imagenet\|elite"
    ):
        pixel_rule.of_file(content, contents(name), takes=None, exported=False)


@pytest.mark.parametrize("name", KNOWN)
def test_integers_that_are_pixels_are_exactly_those(name):
    (image,) = contents(name).inputs
    rule = pixel_rule.of_file(path(name).read_bytes(), contents(name), takes=None, exported=False)
    if image.type == "FLOAT32":
        assert (rule.mean, rule.deviation) == (pytest.approx((0,) * 3), pytest.approx((255,) * 3))
        return
    pixels = (np.arange(256, dtype=np.float32) / 128 - 1)[:, None]
    integers = np.rint(rule.values(pixels) / np.float32(image.scales[0])) + image.zero_points[0]
    assert (integers == np.arange(256)[:, None] - (128 if image.type == "INT8" else 0)).all()


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("int8_01", "0..255"),
        ("int8_0255", "0..1"),
        ("uint8_01_softmax", "imagenet"),
        ("int8_floats_01", "0..255"),
    ],
)
def test_an_input_that_the_integers_contradict_is_refused(name, takes):
    content = path(name).read_bytes()
    with pytest.raises(UserError, match=f"does not fit --input={takes}"):
        pixel_rule.of_file(content, contents(name), takes=takes, exported=False)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", ["evaluate", "verify", "predict"])
def test_what_no_command_can_use_costs_one_line(photos, capsys, name, command):
    arguments = [str(path(name)), "--input=0..1"]
    arguments += [str(photos)] if command == "predict" else [f"--dataset=folder:{photos}"]
    assert cli.main([command, *arguments]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("elite")]
    assert len(errors) == 1
    assert re.search(REFUSED[name], errors[0]), errors


@pytest.mark.slow  # every runtime in a process of its own
@pytest.mark.parametrize("name", ["float_imagenet", "uint8_01_softmax", "int8_11_softmax"])
def test_runtimes_agree_on_what_is_right(photos, capsys, name):
    options = [f"--input={ASKED[name]}"] if name in ASKED else []
    arguments = [str(path(name)), f"--dataset=folder:{photos}", "--format=json", *options]
    assert cli.main(["verify", *arguments]) == 0, capsys.readouterr().out
    rows = json.loads(capsys.readouterr().out)["runtimes"]
    ran = {row["runtime"]: row["accuracy"] for row in rows if row["accuracy"] is not None}
    assert set(ran.values()) == {1.0}
    assert {verify.REFERENCE, verify.XNNPACK} <= set(ran)


@pytest.mark.parametrize("name", ["float_11", "float_01_sigmoid"])
def test_a_runtime_that_reads_metadata_gets_the_rule(name):
    """MediaPipe normalises by the metadata; LiteRT gets what this project computes."""
    levels = np.array([40, 100, 150, 220])[:, None, None, None]
    images = np.broadcast_to(levels / 128 - 1, (4, 32, 32, 3)).astype(np.float32)
    chosen = [verify.REFERENCE, verify.XNNPACK, "MediaPipe Tasks"]
    rows = list(
        verify.verify(
            path(name).read_bytes(),
            images,
            np.array([0, 0, 1, 1]),
            rule=pixel_rule.PixelRule.named(ASKED[name]),
            runtimes=chosen,
        )
    )
    ran = [row for row in rows if not row.skipped]
    assert len(ran) >= 2
    assert all(row.passed and row.accuracy == 1 for row in ran), rows


@pytest.mark.parametrize("target", ["android", "web", "c", "ethos-u", "micro"])
@pytest.mark.parametrize("name", ["flex", "any_side", "two_outputs"])
def test_no_target_packs_what_it_could_not_run(tmp_path, target, name):
    with pytest.raises(UserError, match=f"no {target} package of .*: ") as caught:
        packages.of_file(path(name), target, takes="0..1", out_dir=tmp_path / "package")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize(
    ("name", "takes", "mean", "deviation"),
    [
        ("float_01_described", None, [0], [255]),
        ("float_imagenet", "imagenet", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ("float_11", "-1..1", [127.5], [127.5]),
    ],
)
def test_metadata_say_what_the_file_takes(tmp_path, name, takes, mean, deviation):
    packages.of_file(path(name), "android", takes=takes, out_dir=tmp_path)
    (packaged,) = tmp_path.rglob(f"{name}.tflite")
    content = packaged.read_bytes()
    for found, expected in zip(metadata.normalisation(content), (mean, deviation), strict=True):
        assert found == pytest.approx(expected)
    (constants,) = tmp_path.rglob("Network.kt")
    for constant, wanted in (
        ("SCALE", 128 / np.array(deviation)),
        ("OFFSET", (128 - np.array(mean)) / np.array(deviation)),
    ):
        (line,) = re.findall(rf"{constant} = floatArrayOf\((.*)\)", constants.read_text())
        values = [float(value.rstrip("f")) for value in line.split(",")]
        np.testing.assert_allclose(values, np.broadcast_to(wanted, 3), rtol=1e-6, atol=1e-7)
    # One ended in a softmax already.
    assert inspect.last_operator(inspect.read(content)) == "SOFTMAX"
    assert inspect.operators(content)["SOFTMAX"] == 1


@pytest.mark.parametrize("name", ["int8_01", "int8_11_softmax", "int8_01_sigmoid"])
def test_int8_files_whose_pixels_are_bytes_become_c(tmp_path, name):
    if name == "int8_01_sigmoid":
        with pytest.raises(UserError, match="one value for two labels"):
            packages.of_file(path(name), "c", out_dir=tmp_path)
        return
    packages.of_file(path(name), "c", out_dir=tmp_path)
    assert (tmp_path / f"net_{name}.c").is_file()


@pytest.mark.parametrize("target", ["c", "ethos-u", "micro"])
def test_int8_files_whose_pixels_are_not_bytes_are_refused(tmp_path, target):
    with pytest.raises(UserError, match=r"has the scale 0\.0027\d* and the zero point -128"):
        packages.of_file(path("int8_dim"), target, takes="0..1", out_dir=tmp_path)


@pytest.mark.usefixtures("registry")
def test_a_page_gets_the_rule_and_a_batch_of_one(tmp_path):
    packages.of_file(path("float_imagenet"), "web", takes="imagenet", out_dir=tmp_path)
    said = json.loads((tmp_path / "model.json").read_text())["input"]
    assert said["scale"] == pytest.approx([128 / 255 / 0.229, 128 / 255 / 0.224, 128 / 255 / 0.225])
    before, after = (
        contents("float_imagenet"),
        inspect.read((tmp_path / "float_imagenet.tflite").read_bytes()),
    )
    assert before.inputs[0].signature == (-1, 32, 32, 3) and not after.inputs[0].signature
    assert not any(tensor.signature for tensor in after.tensors)


def test_a_batch_of_one_changes_no_answer():
    images = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)
    content = path("dynamic_11").read_bytes()
    fixed = rewrite.with_batch_of_one(content)
    assert fixed != content
    np.testing.assert_array_equal(runtime.run(fixed, images), runtime.run(content, images))
    assert rewrite.with_batch_of_one(fixed) == fixed
