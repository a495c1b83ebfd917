"""From a folder of grey photographs to files and packages for one channel."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import efficientnet_elite as ee
from efficientnet_elite import cli
from efficientnet_elite.config import InputSize
from efficientnet_elite.data import decode, geometry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.packages import packages, web
from efficientnet_elite.export.runtimes import runtime, verify
from tests.support import c_programs
from tests.support.c_programs import needs_compiler
from tests.support.shared_data import folder as shared_folder

SIDE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Real photographs of two kinds of flowers, in grey."""
    source, root = shared_folder("flowers5x100"), tmp_path_factory.mktemp("photos")
    for part, count in (("train", 24), ("val", 8), ("test", 8)):
        for kind in ("daisy", "tulip"):
            (root / part / kind).mkdir(parents=True)
            for path in sorted((source / part / kind).iterdir())[:count]:
                Image.open(path).convert("L").save(root / part / kind / path.name, quality=92)
    return root


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A network for grey images, trained and exported."""
    workdir = tmp_path_factory.mktemp("work") / "run"
    ee.train(
        f"mobilenetv1-0.25@{SIDE}",
        dataset=f"folder:{photos}",
        pretrained="none",
        epochs=2,
        batch_size=16,
        workdir=workdir,
        progress=False,
        on_message=lambda text: None,
    )
    (folder,) = (workdir / "export").iterdir()
    return workdir, folder


@pytest.mark.slow
def test_all_files_take_one_channel(trained, photos, monkeypatch):
    workdir, folder = trained
    sidecar = json.loads((folder / f"{folder.name}.json").read_text())
    assert sidecar["input"]["shape"] == [1, SIDE, SIDE, 1]
    assert sidecar["input"]["layout"] == "NHWC, grey"
    assert sidecar["keras"]["input"] == "pixel, 0 to 255, grey"
    int8, keras = folder / f"{folder.name}.int8.tflite", folder / f"{folder.name}.keras"
    results = ee.evaluate(int8, keras, dataset=f"folder:{photos}", progress=False)
    accuracies = [result.accuracy for result in results]
    found = sidecar["verification"]
    assert accuracies == [found["int8_accuracy"], found["keras_accuracy"]]
    # Colours are seen as their brightness.
    image = next((photos / "test" / "daisy").iterdir())
    colours = photos.parent / "colours.png"
    Image.open(image).convert("RGB").save(colours)
    first, second = ee.predict(workdir, image, colours)
    assert first.probability == second.probability
    names = (verify.REFERENCE, verify.XNNPACK)
    monkeypatch.setattr(verify, "RUNTIMES", {name: verify.RUNTIMES[name] for name in names})
    assert cli.main(["verify", str(int8), f"--dataset=folder:{photos}", "--images=8"]) == 0
    with pytest.raises(UserError, match="channels=3 contradicts the network"):
        ee.evaluate(int8, dataset=f"folder:{photos}", channels=3, progress=False)


@pytest.mark.slow
def test_the_training_goes_on_with_what_it_began(trained, photos):
    workdir, _ = trained
    options = {"dataset": f"folder:{photos}", "pretrained": "none", "epochs": 2, "batch_size": 16}
    again = {"workdir": workdir, "progress": False, "on_message": lambda text: None}
    ee.train(f"mobilenetv1-0.25@{SIDE}", **options, **again)
    with pytest.raises(UserError, match="other images or settings"):
        ee.train(f"mobilenetv1-0.25@{SIDE}", **options, **again, channels=3)


MAIN = """
#include <stdio.h>
#include "NET.h"
static union { double alignment; uint8_t bytes[NET_ARENA_BYTES]; } arena;
int main(void) {
  static uint8_t pixels[BYTES * 50 * 40];
  float probabilities[NET_CLASSES];
  int i;
  if (fread(pixels, 1, sizeof pixels, stdin) != sizeof pixels) return 1;
  if (NETc_classify(pixels, 50, 40, FORMAT, probabilities, &arena) < 0) return 2;
  fwrite((int8_t *)arena.bytes, 1, sizeof arena.bytes, stdout);
  for (i = 0; i < NET_CLASSES; ++i) fprintf(stderr, "%.9g ", probabilities[i]);
  return 0;
}
"""


@pytest.mark.slow
@needs_compiler
def test_the_c_package_computes_what_litert_does(trained, tmp_path):
    _, folder = trained
    model = (folder / f"{folder.name}.int8.tflite").read_bytes()
    assert inspect.image_shape(inspect.read(model)) == (SIDE, SIDE, 1)
    random = np.random.default_rng(0)
    library = c_programs.Library(model, tmp_path)
    runner = runtime.Runner(model, kernels=runtime.REFERENCE_KERNELS)
    for image in random.integers(-128, 128, (5, SIDE, SIDE, 1)).astype(np.int8):
        difference = library.run(image).astype(int) - runner.infer(image).reshape(-1)
        assert np.abs(difference).max() <= 1

    packages.of_file(folder / f"{folder.name}.int8.tflite", "c", out_dir=tmp_path / "c")
    selftest = tmp_path / "selftest"
    sources = [*(tmp_path / "c").glob("*.c")]
    command = ["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror"]
    golden = tmp_path / "c" / "golden" / "selftest.c"
    subprocess.run([*command, golden, *sources, "-o", selftest, "-lm"], check=True)
    assert subprocess.run([selftest], capture_output=True, text=True).stdout.startswith("PASS")

    temperature = Confidence.recorded(
        json.loads((folder / f"{folder.name}.json").read_text())
    ).temperature
    (header,) = (path for path in (tmp_path / "c").glob("net_*.h") if "weights" not in path.name)
    net = header.stem
    text = MAIN.replace("NETc", net).replace("NET.h", header.name).replace("NET", net.upper())
    (tmp_path / "main.c").write_text(text)
    photo = random.integers(0, 256, (40, 50, 3), np.uint8)
    for form, pixels in (("NN_RGB888", photo), ("NN_GREY", decode.in_channels(photo, 1))):
        program = tmp_path / form
        macros = [f"-DFORMAT={form}", f"-DBYTES={pixels.shape[2]}", f"-I{tmp_path / 'c'}"]
        subprocess.run(
            [*command, *macros, tmp_path / "main.c", *sources, "-o", program, "-lm"], check=True
        )
        done = subprocess.run([program], input=pixels.tobytes(), capture_output=True, check=True)
        box = geometry.center_box((40, 50), 0.875)
        seen = geometry.crop_and_resize(decode.in_channels(photo, 1), box, SIDE)
        logits = runner.run(decode.pixels_of(seen)[None].astype(np.float32) / 128 - 1)[0]
        expected = np.exp((logits - logits.max()) / temperature)
        got = np.array(done.stderr.split(), float)
        np.testing.assert_allclose(got, expected / expected.sum(), atol=0.02)


@pytest.mark.slow
def test_the_android_package_takes_one_channel(trained, tmp_path):
    _, folder = trained
    model = folder / f"{folder.name}.float32.tflite"
    android = tmp_path / "android"
    packages.of_file(model, "android", out_dir=android)
    assert not (android / "mediapipe").exists()
    assert "MediaPipe" not in (android / "README.md").read_text()
    network = (android / "network/src/main/kotlin/Network.kt").read_text()
    assert "const val CHANNELS = 1\n" in network


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
@pytest.mark.parametrize("size", [InputSize(SIDE, SIDE), InputSize(24, 40), InputSize(41, 12)])
def test_the_page_computes_the_brightness_of_pillow(tmp_path, size):
    photo = np.random.default_rng(1).integers(0, 256, (40, 50, 4), np.uint8)
    program = (
        "import {preprocess} from './image.js'; import fs from 'node:fs';"
        "const rgba = new Uint8ClampedArray(fs.readFileSync(0));"
        f"process.stdout.write(preprocess(rgba, 50, 40, {json.dumps(size._asdict())}, 0.875, 1));"
    )
    (tmp_path / "image.js").write_bytes(web.page_files(["image.js"])["image.js"])
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "try.js").write_text(program)
    done = subprocess.run(
        ["node", "try.js"], cwd=tmp_path, input=photo.tobytes(), capture_output=True
    )
    box = geometry.center_box((40, 50), 0.875, size)
    seen = geometry.crop_and_resize(decode.in_channels(photo[..., :3], 1), box, size)
    assert np.array_equal(np.frombuffer(done.stdout, np.uint8), np.asarray(seen).reshape(-1))
