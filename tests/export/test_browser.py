"""The web package in a real browser, where there is one."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.host import Host
from efficientnet_elite.data import decode, geometry
from efficientnet_elite.device import metric_table
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import formats
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.packages import packages, web
from efficientnet_elite.export.runtimes import browser, litert_js, runtime, verify
from tests.support import tiny_tflite
from tests.support.calibrated import calibrate
from tests.support.web_files import FRACTION, LABELS, model_file


@pytest.fixture(scope="module")
def chromium() -> None:
    web.runtime_files.cache_clear()
    if reason := litert_js.missing():
        pytest.skip(reason)


def pictures() -> dict[str, bytes]:
    """Encoded pictures: of the network's size, greater, turned and transparent."""
    china = Image.fromarray(load_sample_image("china.jpg"))
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    clear = flower.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(flower.size))

    def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
        content = io.BytesIO()
        image.save(content, kind, **options)
        return content.getvalue()

    return {
        "digit": encoded(Image.fromarray(tiny_tflite.digits()[0][1400]), "png"),
        "china": encoded(china, "png"),
        "narrow": encoded(flower.crop((200, 0, 260, 400)), "png"),
        "small": encoded(flower.crop((200, 100, 221, 119)), "png"),
        "turned": encoded(china, "jpeg", quality=90, exif=turned),
        "clear": encoded(clear, "png"),
    }


DRIVER = """
import {percentile} from "./int8/latency.js";
import {pixelsOf, preprocess} from "./int8/image.js";
const wait = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
};
const visit = async (folder, shown) => {
  const answer = {};
  const frame = document.createElement("iframe");
  frame.src = `${folder}/index.html`;
  document.body.append(frame);
  await new Promise((resolve) => frame.addEventListener("load", resolve));
  const page = frame.contentDocument;
  const $ = (id) => page.getElementById(id);
  await wait(() => !$("main").hidden || $("status").classList.contains("error"));
  const choose = async (content, name) => {
    const files = new frame.contentWindow.DataTransfer();
    files.items.add(new frame.contentWindow.File([content], name));
    $("file").files = files.files;
    $("file").dispatchEvent(new Event("change"));
  };
  await choose("no picture", "text.png");
  await wait(() => $("status").textContent);
  answer.refusal = $("status").textContent;
  const contexts = frame.contentWindow.CanvasRenderingContext2D.prototype;
  const read = contexts.getImageData;
  contexts.getImageData = () => { throw new Error("the canvas is too large"); };
  await choose(await (await fetch(shown)).blob(), "large.png");
  await wait(() => $("status").textContent.startsWith("large.png"));
  contexts.getImageData = read;
  await choose(await (await fetch(shown)).blob(), "picture.png");
  await wait(() => page.querySelector("#prediction .row"));
  answer.rows = [...page.querySelectorAll("#prediction .row")].map((row) => row.innerText);
  answer.status = $("status").textContent;
  answer.unknown = $("unknown").hidden ? "" : $("unknown").textContent;
  answer.title = page.title;
  $("measure").click();
  await wait(() => !$("json").hidden);
  answer.median = $("median").textContent;
  answer.file = $("json").download;
  answer.json = await (await fetch($("json").href)).text();
  frame.remove();
  return answer;
};
const answer = {pixels: {}, visits: {}};
try {
  const job = await (await fetch("job.json")).json();
  answer.percentiles = job.percentiles.map((p) => percentile(job.values, p));
  for (const name of job.pictures) {
    const blob = await (await fetch(name)).blob();
    const bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none"});
    const {width, height} = bitmap;
    const rgba = pixelsOf(bitmap, width, height);
    answer.pixels[name] = Array.from(preprocess(rgba, width, height, job.size, job.fraction));
  }
  for (const folder of job.folders) answer.visits[folder] = await visit(folder, job.shown);
} catch (error) {
  answer.error = String(error?.stack ?? error);
}
await fetch("/answer", {method: "POST", body: JSON.stringify(answer)});
"""
HTML = '<!doctype html><body><script type="module" src="driver.js"></script>'
VALUES, PERCENTILES = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0], [0, 10, 50, 90, 100]
SHOWN = "china"


FORMS = {form.name: form for form in (formats.INT8, formats.FLOAT32)}
CALIBRATED = {formats.FLOAT32: Confidence(temperature=2.0, threshold=0.999)}


@pytest.fixture(scope="module")
def driven(chromium, tmp_path_factory) -> dict:
    """What the pages of two packages do, pressed as a visitor would; and a package's modules."""
    site = {}
    for name, form in FORMS.items():
        model = model_file(tmp_path_factory.mktemp(name), form)
        if form in CALIBRATED:
            calibrate(model, CALIBRATED[form])
        made = packages.of_file(model, "web", takes="elite")
        site |= {
            f"{name}/{path.relative_to(made.folder)}": path.read_bytes()
            for path in made.folder.rglob("*")
            if path.is_file()
        }
    job = {
        "folders": list(FORMS),
        "size": {"width": tiny_tflite.SIDE, "height": tiny_tflite.SIDE},
        "fraction": FRACTION,
        "pictures": list(pictures()),
        "shown": SHOWN,
        "values": VALUES,
        "percentiles": PERCENTILES,
    }
    site |= {"driver.html": HTML.encode(), "driver.js": DRIVER.encode()}
    site |= {"job.json": json.dumps(job).encode(), **pictures()}
    answer = json.loads(browser.ask(site, "driver.html", timeout=90))
    assert "error" not in answer, answer["error"]
    return answer


@pytest.fixture(params=FORMS)
def visited(request, driven) -> tuple[formats.Format, dict]:
    return FORMS[request.param], driven["visits"][request.param]


def evaluated(encoded: bytes, fraction: float = FRACTION) -> np.ndarray:
    """The pixels that evaluation shows the network."""
    image = decode.decode(encoded)
    box = geometry.center_box(image.shape[:2], fraction)
    return np.asarray(geometry.crop_and_resize(image, box, tiny_tflite.SIDE))


@pytest.mark.parametrize("name", ["digit", "china", "narrow", "small"])
def test_the_page_sees_the_pixels_of_the_evaluation(driven, name):
    got = np.array(driven["pixels"][name]).reshape(tiny_tflite.SIDE, tiny_tflite.SIDE, 3)
    np.testing.assert_array_equal(got, evaluated(pictures()[name]))


@pytest.mark.parametrize(("name", "mean", "most"), [("turned", 0.5, 8), ("clear", 0.5, 2)])
def test_decoders_differ_by_little(driven, name, mean, most):
    got = np.array(driven["pixels"][name]).reshape(tiny_tflite.SIDE, tiny_tflite.SIDE, 3)
    difference = np.abs(got - evaluated(pictures()[name]).astype(int))
    assert difference.mean() <= mean
    assert difference.max() <= most


def test_the_page_answers_as_python_does(visited):
    form, answer = visited
    pixels = evaluated(pictures()[SHOWN])
    (logits,) = runtime.run(tiny_tflite.converted()[form], tiny_tflite.normalised(pixels)[None])
    confidence = CALIBRATED.get(form, Confidence())
    powers = np.exp((logits.astype(float) - logits.max()) / confidence.temperature)
    shares = powers / powers.sum()
    assert len(answer["rows"]) == 5
    for row, index in zip(answer["rows"], np.argsort(-shares, kind="stable"), strict=False):
        label, _, share = row.partition("\n")
        assert label == LABELS[index]
        assert float(share.removesuffix(" %")) == pytest.approx(100 * shares[index], abs=0.051)
    unknown = "Unknown: no class is as probable as 99.9 %." if form in CALIBRATED else ""
    assert answer["unknown"] == unknown
    assert answer["title"] == "tiny"
    assert answer["status"] == ""
    assert answer["refusal"].startswith("text.png is not a picture that this browser can read")


def test_percentiles_are_numpys(driven):
    assert driven["percentiles"] == pytest.approx(np.percentile(VALUES, PERCENTILES).tolist())


def test_the_measurement_is_what_elite_benchmark_writes(visited, tmp_path):
    form, answer = visited
    report = json.loads(answer["json"])
    (row,) = report["rows"]
    assert set(row) == {field.name for field in fields(latency.Row)}
    assert set(report["host"]) >= {field.name for field in fields(Host)}
    assert set(report["options"]) >= {field.name for field in fields(latency.Options)}
    assert 0 < row["min_ms"] <= row["median_ms"] <= row["p90_ms"]
    assert row["file_bytes"] == len(tiny_tflite.converted()[form])
    assert answer["median"] == f"{row['median_ms']:.2f} ms"
    assert web.RUNTIME in report["host"]["runtime"]
    table = tmp_path / answer["file"]
    table.write_text(answer["json"])
    if form == formats.INT8:
        assert metric_table.latencies(table, [tiny_tflite.SPEC]) == {"tiny": row["median_ms"]}
    else:
        with pytest.raises(UserError, match="has no int8 latency for 1 of 1"):
            metric_table.latencies(table, [tiny_tflite.SPEC])


def test_verify_runs_it_in_the_browser(chromium):
    pixels, classes = tiny_tflite.digits()
    images = tiny_tflite.normalised(pixels[1400:1420])
    content = tiny_tflite.converted()[tiny_tflite.UINT8]
    chosen = [verify.XNNPACK, "LiteRT.js"]
    xnnpack, row = verify.verify(content, images, classes[1400:1420], runtimes=chosen)
    assert row.error is None
    assert row.version == web.VERSION
    assert row.difference == 0
    assert row.agrees
    assert row.accuracy == xnnpack.accuracy
    assert row.median_ms > 0
    assert row.memory_bytes > len(content)


def test_a_file_that_does_not_load_spoils_no_other(chromium):
    content, in_int8 = tiny_tflite.pair()
    images = tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1420])
    runner = runtime.Runner(in_int8)
    pixels = runtime.quantize_images(images, runner.input)
    broken, whole, int8 = litert_js.run(
        [(content[: len(content) // 2], images), (content, images), (in_int8, pixels)]
    )
    assert isinstance(broken, UserError)
    assert re.match("LiteRT.js cannot run the model: ", str(broken))
    np.testing.assert_allclose(whole.outputs, runtime.run(content, images), atol=1e-5)
    np.testing.assert_array_equal(int8.outputs, [runner.infer(image) for image in pixels])


@pytest.mark.parametrize(
    ("script", "timeout", "message"),
    [
        ("for (;;) {}", 2, "^the browser took longer than 2 s and was stopped$"),
        ("fetch('/nothing', {method: 'POST', body: 'x'})", 2, "took longer than 2 s"),
    ],
)
def test_a_page_that_never_answers_is_stopped(chromium, monkeypatch, script, timeout, message):
    folder = Path(tempfile.mkdtemp())  # to tell our browser from others; sockets want short paths
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    start = time.monotonic()
    with pytest.raises(UserError, match=message):
        page = f"<!doctype html><script>{script}</script>".encode()
        browser.ask({"index.html": page}, "index.html", timeout=timeout)
    assert time.monotonic() - start < 60
    deadline = time.monotonic() + 20  # the system reaps orphans in its own time
    while (left := processes(f"--user-data-dir={folder}")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    folder.rmdir()  # nothing is left in it


def processes(argument: str) -> list[str]:
    """Command lines with an argument that begins like this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if argument in command:
            found.append(command)
    return found


def test_a_browser_that_ends_is_one_line(monkeypatch, tmp_path):
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    with pytest.raises(UserError, match=r"^the browser ended with status 3: no display$"):
        browser.ask({}, "index.html", timeout=30)
