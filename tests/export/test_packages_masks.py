"""Packages of segmentation networks: read by MediaPipe, driven in a browser, compiled."""

from __future__ import annotations

import colorsys
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite.export import formats
from efficientnet_elite.export.packages import android, ethos_u, packages, web
from efficientnet_elite.export.runtimes import browser, litert_js, runtime
from tests.support import tiny_masks
from tests.support.tiny_masks import model_file

SIDE, LABELS = tiny_masks.SIDE, tiny_masks.LABELS


@pytest.mark.skipif(not ethos_u.available(), reason=ethos_u.INSTALL)
def test_vela_compiles_it(tmp_path):
    made = packages.of_file(model_file(tmp_path / "models"), "ethos-u")
    assert made.cycles > 0
    assert (made.folder / "labels.txt").read_text().splitlines() == LABELS


DRIVER = """
const wait = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
};
const answer = {};
try {
  const frame = document.createElement("iframe");
  frame.src = "index.html";
  document.body.append(frame);
  await new Promise((resolve) => frame.addEventListener("load", resolve));
  const page = frame.contentDocument;
  const $ = (id) => page.getElementById(id);
  await wait(() => !$("main").hidden || $("status").classList.contains("error"));
  const files = new frame.contentWindow.DataTransfer();
  const picture = await (await fetch("picture.png")).blob();
  files.items.add(new frame.contentWindow.File([picture], "picture.png"));
  $("file").files = files.files;
  $("file").dispatchEvent(new Event("change"));
  await wait(() => page.querySelector("#prediction .row") || $("status").textContent);
  answer.rows = [...page.querySelectorAll("#prediction .row")].map((row) => row.innerText);
  const bars = [...page.querySelectorAll("#prediction .bar div")];
  answer.bars = bars.map((bar) => bar.style.background);
  const {width, height} = $("input-view");
  answer.seen = Array.from($("input-view").getContext("2d").getImageData(0, 0, width, height).data);
} catch (error) {
  answer.error = String(error?.stack ?? error);
}
await fetch("/answer", {method: "POST", body: JSON.stringify(answer)});
"""
HTML = '<!doctype html><body><script type="module" src="driver.js"></script>'


def color(index: int) -> list[int]:
    """What the page gives a class, from the hue alone."""
    return [round(255 * value) for value in colorsys.hls_to_rgb(index * 137.508 / 360 % 1, 0.5, 1)]


@pytest.mark.parametrize("form", [formats.INT8, formats.FLOAT32], ids=lambda form: form.name)
def test_the_page_draws_the_mask_of_python(tmp_path, form):
    web.runtime_files.cache_clear()
    if reason := litert_js.missing():
        pytest.skip(reason)
    model = model_file(tmp_path / "models", form)
    folder = packages.of_file(model, "web", takes="elite").folder
    site = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert b"the class of each pixel of" in site["README.txt"]
    image = tiny_masks.scenes()[0][0]
    pixels = np.rint((image + 1) * 128).astype(np.uint8)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "png")
    site |= {"driver.html": HTML.encode(), "driver.js": DRIVER.encode()}
    site["picture.png"] = picture.getvalue()
    answer = json.loads(browser.ask(site, "driver.html", timeout=90))
    assert "error" not in answer, answer["error"]

    (mask,) = runtime.run(tiny_masks.converted()[form], image[None]).argmax(-1)
    counts = np.bincount(mask.ravel(), minlength=len(LABELS))
    order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
    assert len(order) > 1
    for row, index in zip(answer["rows"], order, strict=True):
        label, _, share = row.partition("\n")
        assert label == LABELS[index]
        assert float(share.removesuffix(" %")) == pytest.approx(
            100 * counts[index] / mask.size, abs=0.051
        )
    seen = np.array(answer["seen"]).reshape(SIDE, SIDE, 4)
    assert (seen[..., 3] == 255).all()
    for index, bar in zip(order, answer["bars"], strict=True):
        inside = mask == index
        if LABELS[index] == "background":
            expected = pixels[inside]
            assert bar == ""
        else:
            expected = 0.45 * pixels[inside] + 0.55 * np.array(color(index))
            assert bar == "rgb({}, {}, {})".format(*color(index))
        assert np.abs(seen[inside][:, :3] - expected).max() <= 1


@pytest.mark.parametrize("form", [tiny_masks.UINT8, formats.FLOAT32], ids=lambda form: form.name)
def test_the_android_package_is_a_segmenters(tmp_path, form):
    model = model_file(tmp_path / "models", form)
    folder = tmp_path / "package"
    android.write_android_package(model.read_bytes(), name="tiny", labels=LABELS, out_dir=folder)
    kotlin = {path.name: path.read_text() for path in folder.rglob("*.kt")}
    assert {"LiteRtSegmenter.kt", "MediaPipeSegmenter.kt", "Network.kt"} <= kotlin.keys()
    text = "".join([*kotlin.values(), (folder / "README.md").read_text()])
    assert not re.search("classif", text, re.IGNORECASE)
    assert "const val OUTPUT_ELEMENTS = HEIGHT * WIDTH * CLASSES\n" in text
    images = tiny_masks.scenes()[0]
    content = (folder / "network/src/main/assets/net_tiny/tiny.tflite").read_bytes()
    np.testing.assert_array_equal(
        runtime.run(content, images), runtime.run(model.read_bytes(), images)
    )


def test_mediapipe_gives_the_mask_of_python(tmp_path):
    pytest.importorskip("mediapipe")
    model = model_file(tmp_path / "models", tiny_masks.UINT8)
    folder = packages.of_file(model, "android").folder
    image = tiny_masks.scenes()[0][0]
    np.save(tmp_path / "pixels.npy", np.rint((image + 1) * 128).astype(np.uint8))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SEGMENT,
            folder / "network/src/main/assets/net_tiny/tiny.tflite",
            tmp_path / "pixels.npy",
        ],
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    (mask,) = runtime.run(model.read_bytes(), image[None]).argmax(-1)
    assert found["labels"] == LABELS
    np.testing.assert_array_equal(np.array(found["mask"]).reshape(mask.shape), mask)


# In a process of its own: MediaPipe and TensorFlow bring their own copies of the same libraries.
SEGMENT = """
import json, sys
import numpy as np
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
model, pixels = sys.argv[1:]
options = vision.ImageSegmenterOptions(
    base_options=BaseOptions(model_asset_path=model),
    output_category_mask=True,
    output_confidence_masks=False,
)
with vision.ImageSegmenter.create_from_options(options) as segmenter:
    picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.load(pixels))
    mask = segmenter.segment(picture).category_mask.numpy_view()
    print(json.dumps({"labels": list(segmenter.labels), "mask": mask.ravel().tolist()}))
"""
