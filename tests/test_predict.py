"""`elite predict`: the evaluation's preprocessing, with and without what lies beside a file."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import efficientnet_elite as ee
from efficientnet_elite import cli
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.export import classifier as classifiers
from efficientnet_elite.export.confidence import calibrated
from efficientnet_elite.export.packages import android_metadata
from efficientnet_elite.export.pixel_rule import PixelRule
from efficientnet_elite.export.runtimes import runtime
from efficientnet_elite.job import latencies
from tests.support.exporting import digits

NAME = "mobilenetv1-0.25@16-seed0"


@pytest.fixture(scope="module")
def exported(trained) -> Path:
    return trained / "export" / NAME


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Twelve digits as PNG files, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.rint((digits(8)[0][:12] + 1) * 128).astype(np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    (folder / "sub").mkdir()
    shutil.move(folder / "11.png", folder / "sub/11.png")
    (folder / "broken.jpg").write_bytes(b"not an image")
    (folder / "notes.txt").touch()
    return folder


def said(capsys, *arguments, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert cli.main(["predict", *map(str, arguments)]) == status
    return tuple(capsys.readouterr())


def refused(capsys, *arguments) -> str:
    _, err = said(capsys, *arguments, status=1)
    assert err.count("\n") == 1 and err.startswith("elite predict: ")
    return err


def test_squares_are_those_of_the_evaluation(exported, tmp_path):
    """Of files that are stored shrunk, that are cropped and enlarged: byte for byte."""
    random = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for kind in ("a", "b"):
            folder = tmp_path / "set" / part / kind
            folder.mkdir(parents=True)
            for number, size in enumerate([(31, 90), (64, 40), (12, 15), (300, 240)]):
                pixels = random.integers(0, 256, (*size, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.{('png', 'jpg')[number % 2]}")
    config = DataConfig(dataset=f"folder:{tmp_path / 'set'}")
    data = data_lib.load(config, max_side=24, progress=False)
    batches = data_lib.eval_batches(data, "test", resolution=16, batch_size=64, base_resolution=16)
    expected = np.concatenate([x.numpy() for x, _ in batches])
    model = classifiers.load(exported / f"{NAME}.int8.tflite")
    assert model.crop_fraction == 1.0  # of the digits, which have no margin
    model = replace(model, crop_fraction=data.pipeline.crop_fraction(16, 16))
    assert model.crop_fraction == 0.875
    files = sorted((tmp_path / "set/test").glob("*/*"))
    squares = np.stack([model.seen(file.read_bytes()) for file in files])
    assert np.array_equal(squares / np.float32(128) - 1, expected)


def test_the_accuracy_is_that_of_the_sidecar(exported):
    """Over the whole test part: the same logits, so the same accuracy, in every format."""
    data = data_lib.load(DataConfig(), progress=False)
    batches = list(
        data_lib.eval_batches(data, "test", resolution=16, batch_size=512, base_resolution=16)
    )
    pixels = np.concatenate([np.rint((x.numpy() + 1) * 128).astype(np.uint8) for x, _ in batches])
    classes = np.concatenate([y.numpy() for _, y in batches])
    verified = json.loads((exported / f"{NAME}.json").read_text())["verification"]
    for file, accuracy in (
        (f"{NAME}.int8.tflite", "int8_accuracy"),
        (f"{NAME}.float32.tflite", "float_accuracy"),
        (f"{NAME}.keras", "keras_accuracy"),
    ):
        probabilities = classifiers.load(exported / file).probabilities(pixels)
        assert np.allclose(probabilities.sum(-1), 1, atol=1e-5)
        assert (probabilities.argmax(-1) == classes).mean() == verified[accuracy], file


def temperature(exported: Path) -> float:
    return json.loads((exported / f"{NAME}.json").read_text())["confidence"]["temperature"]


def test_probabilities_are_softmax_of_the_dequantized_logits(exported, images):
    """Of the logits divided by the temperature that the sidecar gives."""
    path = exported / f"{NAME}.int8.tflite"
    model = classifiers.load(path)
    square = model.seen((images / "03.png").read_bytes())[None]
    logits = runtime.run(path.read_bytes(), square.astype(np.float32) / 128 - 1)
    powers = np.exp(logits[0].astype(np.float64) / temperature(exported))
    prediction = ee.predict(path, images / "03.png", top=10)[0]
    for score in prediction.classes:
        assert score.probability == pytest.approx(powers[score.index] / powers.sum(), rel=1e-5)
    ranked = [score.probability for score in prediction.classes]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) == 10
    assert prediction.label == prediction.classes[0].label


def test_formats_skipped_images_and_a_work_directory(trained, exported, images, capsys):
    out, err = said(capsys, trained, images, "--format=json", "--top=2", status=1)
    assert err.splitlines() == [
        f"uses {exported / NAME}.int8.tflite",
        f"skipped {images / 'broken.jpg'}: not an image",
    ]
    rows = json.loads(out)
    names = [f"{number:02}.png" for number in range(11)] + ["sub/11.png"]
    assert [row["image"] for row in rows] == [str(images / name) for name in names]
    model = exported / f"{NAME}.int8.tflite"
    paths = [images / name for name in names]
    table = said(capsys, model, *paths, "--top=2")[0].splitlines()
    assert table[0].split() == ["image", "class", "probability", "class", "probability"]
    lines = list(csv.DictReader(io.StringIO(said(capsys, model, *paths, "--format=csv")[0])))
    for row, line, cells in zip(rows, lines, table[1:], strict=True):
        assert line["class"] == row["class"] == row["classes"][0]["class"]
        assert float(line["probability"]) == row["probability"]
        assert f"{row['probability']:.1%}" in cells and cells.startswith(row["image"])
    assert len({row["class"] for row in rows}) > 1


def test_answers_that_are_not_sure_enough_are_unknown(exported, images, tmp_path, capsys):
    folder = tmp_path / NAME
    shutil.copytree(exported, folder)
    sure = sorted(p.probability for p in ee.predict(folder, images / "sub", images / "03.png"))
    path = folder / f"{NAME}.json"
    sidecar = json.loads(path.read_text())
    assert sidecar["confidence"]["unknown"] is None  # nobody has asked for a threshold
    sidecar["confidence"]["unknown"] = {"threshold": sum(sure) / 2}
    path.write_text(json.dumps(sidecar))
    found = sorted(
        ee.predict(folder, images / "sub", images / "03.png"), key=lambda p: p.probability
    )
    assert [p.probability for p in found] == sure and sure[0] < sure[1]
    assert [p.known for p in found] == [False, True]
    assert [p.answer for p in found] == ["unknown", found[1].label]
    out, _ = said(capsys, folder, found[0].image)
    assert out.splitlines()[1].split()[-2:] == ["unknown", f"{sure[0]:.1%}"]
    (row,) = json.loads(said(capsys, folder, found[0].image, "--format=json")[0])
    assert (row["known"], row["class"]) == (False, found[0].label)
    sidecar["confidence"]["temperature"] = -1
    path.write_text(json.dumps(sidecar))
    assert "sidecar" in refused(capsys, folder, found[0].image)


def test_pictures_are_saved(exported, images, tmp_path, capsys):
    same = tmp_path / "more/00.png"
    same.parent.mkdir()
    shutil.copy(images / "00.png", same)
    model = exported / f"{NAME}.int8.tflite"
    said(capsys, model, images / "00.png", same, images / "01.png", f"--save={tmp_path / 'out'}")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("00-2.png", "00.png", "01.png"),
    ]
    with Image.open(images / "00.png") as before, Image.open(tmp_path / "out/00.png") as after:
        assert after.height > before.height  # the line with the answer
        assert np.array_equal(np.asarray(after)[: before.height], np.asarray(before))


def test_a_file_alone_must_say_what_it_takes(exported, images, tmp_path, capsys):
    """Without sidecar: integers or metadata say it, or the user; it is never assumed."""
    image = images / "05.png"
    expected = {
        kind: ee.predict(exported / f"{NAME}.{kind}.tflite", image, top=10)[0].classes
        for kind in ("int8", "int8.uint8", "float32")
    }
    for kind in expected:
        alone = tmp_path / f"{kind}.tflite"
        shutil.copy(exported / f"{NAME}.{kind}.tflite", alone)
        if kind == "float32":
            asked = "say it with --input=0..255|0..1|-1..1|imagenet|elite"
            assert asked in refused(capsys, alone, image)
        else:
            assert ee.predict(alone, image)[0].classes[0].index == expected[kind][0].index
        told = json.loads(said(capsys, alone, image, "--input=elite", "--format=json")[0])
        assert told[0]["classes"][0]["index"] == told[0]["index"]
        # The crop is the sidecar's matter, too: alone, the whole square is taken.
        model = classifiers.load(alone, takes="elite")
        assert model.crop_fraction == 1.0
    names = [f"digit {number}" for number in range(10)]
    content = (exported / f"{NAME}.int8.uint8.tflite").read_bytes()
    alone = tmp_path / "described.tflite"
    alone.write_bytes(android_metadata.with_metadata(content, name="net", labels=names))
    model = classifiers.load(alone)
    assert model.labels == tuple(names)
    square = classifiers.load(exported / f"{NAME}.int8.uint8.tflite").seen(image.read_bytes())
    best = calibrated(model.probabilities(square[None])[0], temperature(exported))
    for score in expected["int8.uint8"]:
        assert best[score.index] == pytest.approx(score.probability, rel=1e-5)


@pytest.mark.parametrize(
    ("takes", "values"),
    [("0..1", (0, 1)), ("-1..1", (-1, 1)), ("0..255", (0, 255)), ("elite", (-1, 255 / 128 - 1))],
)
def test_inputs_have_their_ranges(takes, values):
    pixels = np.array([0, 255], np.uint8)
    for channels in (3, 1):  # colours and grey
        images = np.repeat((pixels / np.float32(128) - 1)[:, None], channels, axis=1)
        assert PixelRule.named(takes).values(images) == pytest.approx(
            np.array(values)[:, None] * np.ones(channels), abs=1e-6
        )


def test_a_sidecar_of_another_file_is_refused(exported, images, tmp_path, capsys):
    folder = Path(shutil.copytree(exported, tmp_path / "net"))
    model = folder / f"{NAME}.int8.tflite"
    assert said(capsys, folder, images / "00.png")[1] == f"uses {model}\n"
    sidecar = json.loads((folder / f"{NAME}.json").read_text())
    for wrong in ({"crop_fraction": 2}, {"crop_fraction": "x"}, []):
        damaged = {**sidecar, "details": wrong}
        (folder / f"{NAME}.json").write_text(json.dumps(damaged))
        assert "is damaged: export" in refused(capsys, model, images / "00.png")
    model.write_bytes((folder / f"{NAME}.float32.tflite").read_bytes())
    assert "is not the file that" in refused(capsys, model, images / "00.png")
    (folder / f"{NAME}.json").write_text("{")
    assert "is damaged: export the model again" in refused(capsys, model, images / "00.png")


def test_wrong_arguments_cost_one_line(exported, images, tmp_path, capsys):
    model, image = exported / f"{NAME}.int8.tflite", images / "00.png"
    (tmp_path / "labels.txt").write_text("a\nb\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.tflite").write_bytes(model.read_bytes()[:3000])
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        (tmp_path / "two" / f"{name}.tflite").touch()
    for arguments, message in (
        ([], "name a .tflite or .keras file or a work directory"),
        ([model], "name images"),
        ([model, tmp_path / "empty"], "holds no images"),
        ([model, image, "camera:0"], "name it alone"),
        ([model, "camera:front"], "write the camera's number"),
        ([model, image, f"--labels={tmp_path / 'labels.txt'}"], "has 10 classes, but"),
        ([tmp_path / "torn.tflite", image, "--input=0..1"], "torn.tflite"),
        ([tmp_path / "none.tflite", image], "is missing"),
        ([image, image], "neither a .tflite nor a .keras or .h5 file"),
        ([tmp_path, image], "is missing: let `elite search"),
        ([tmp_path / "two", image], "holds 2 .tflite files (a.tflite, b.tflite): name one"),
    ):
        assert message in refused(capsys, *arguments)


def test_masks_are_shares_and_coloured(images, tmp_path, capsys):
    path = tmp_path / "masks.tflite"
    path.write_bytes(mask_network())
    command = [path, images / "00.png", "--input=0..1", "--format=json", "--top=2"]
    (row,) = json.loads(said(capsys, *command, f"--save={tmp_path / 'out'}")[0])
    assert sum(entry["share"] for entry in row["classes"]) == pytest.approx(1)
    with Image.open(tmp_path / "out/00.png") as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 2


def mask_network() -> bytes:
    """Bright pixels are of class 1, dark ones of class 0."""
    import keras

    from efficientnet_elite.export.formats import FLOAT32
    from efficientnet_elite.export.int8 import convert

    image = keras.Input((16, 16, 3))
    layer = keras.layers.Conv2D(2, 1)
    model = keras.Model(image, layer(image))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[..., 1] = 1
    layer.set_weights([kernel, np.array([0.5, 0], np.float32)])
    return convert.to_tflite_formats(model, None, (FLOAT32,))[0]


HIDE = """
import sys
ABSENT = {"tensorflow", "keras", "sklearn", "scipy", "matplotlib", "yaml", "h5py", "keras_cv",
          "tensorflow_datasets", "threadpoolctl", "importlib_resources"}
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def test_xnnpack_is_loaded_without_a_word(capfd):
    """It says so once a process, and would in the middle of what a command prints."""
    code = "from efficientnet_elite.export.runtimes.runtime import Runner; Runner({!r})"
    path = Path(__file__).parent / "support/foreign/uint8_11.tflite"
    done = subprocess.run([sys.executable, "-c", code.format(str(path))], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    capfd.readouterr()
    measured = latencies.measure_files([str(path)], ["--runs=1", "--warmup=0"])
    assert measured.status == 0 and path.name in measured.text
    assert capfd.readouterr().err == ""


def test_a_board_needs_litert_numpy_and_pillow_alone(exported, images, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDE)  # of the child processes, too
    done = subprocess.run(
        [sys.executable, "-m", "efficientnet_elite", "predict", exported / f"{NAME}.int8.tflite",
         images / "00.png", "--format=json", f"--save={tmp_path / 'out'}"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (expected,) = ee.predict(exported / f"{NAME}.int8.tflite", images / "00.png")
    (row,) = json.loads(done.stdout)
    assert (row["class"], row["probability"]) == (expected.label, expected.probability)
    hidden = [sys.executable, "-c", "import tensorflow"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert subprocess.run(hidden, capture_output=True, env=environment).returncode == 1


def test_a_camera_answers_frame_by_frame(exported, images, monkeypatch, capsys):
    model = exported / f"{NAME}.int8.tflite"
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "a camera needs OpenCV" in refused(capsys, model, "camera:0")
    with Image.open(images / "03.png") as image:
        frames = [np.asarray(image)[..., ::-1]] * 2  # OpenCV has blue first

    def capture(number):
        left = iter(frames)

        def read():
            frame = next(left, None)
            return frame is not None, frame

        return SimpleNamespace(isOpened=lambda: number == 0, read=read, release=lambda: None)

    module = ModuleType("cv2")
    module.VideoCapture = capture
    monkeypatch.setitem(sys.modules, "cv2", module)
    (expected,) = ee.predict(model, images / "03.png")
    lines = said(capsys, model, "camera:0")[0].splitlines()
    shown = f"{expected.label}  {expected.probability:.1%}"
    assert lines == [f"camera:0#0  {shown}", f"camera:0#1  {shown}"]
    assert "camera:7 cannot be opened" in refused(capsys, model, "camera:7")


def test_skipped_images_reach_the_caller(exported, images, tmp_path):
    skipped = []
    os.mkfifo(tmp_path / "pipe.png")
    found = ee.predict(
        exported / f"{NAME}.int8.tflite",
        images / "broken.jpg",
        tmp_path,
        images / "none.png",
        images / "00.png",
        on_skipped=lambda image, reason: skipped.append((image, reason)),
    )
    assert skipped == [
        (str(images / "broken.jpg"), "not an image"),
        (str(tmp_path / "pipe.png"), "not a file"),
        (str(images / "none.png"), "is missing"),
    ]
    assert [prediction.image for prediction in found] == [str(images / "00.png")]
    with pytest.raises(ee.UserError, match="input='7': use"):
        ee.predict(exported / f"{NAME}.int8.tflite", images / "00.png", input="7")
