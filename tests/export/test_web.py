"""The web package, by a fake npm without network."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.packages import npm, packages, web
from efficientnet_elite.export.runtimes import browser, verify
from tests.support import tiny_tflite
from tests.support.web_files import FRACTION, LABELS, archive, model_file


def test_the_folder_is_complete(registry, tmp_path, capsys):
    model = model_file(tmp_path / "models")
    out = tmp_path / "site"
    assert cli.main(["export", f"--model={model}", "--target=web", f"--out={out}"]) == 0
    assert str(out) in capsys.readouterr().out
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"index.html", "README.txt", "labels.txt", "model.json", "tiny.int8.tflite"} <= names
    assert (out / "tiny.int8.tflite").read_bytes() == model.read_bytes()
    described = json.loads((out / "model.json").read_text())
    assert described["labels"] == LABELS
    assert described["crop_fraction"] == FRACTION
    assert {described[name] for name in ("side", "height", "width")} == {tiny_tflite.SIDE}
    # Whatever a source names beside itself is there, and nothing is elsewhere.
    for path in (path for path in out.glob("*.*") if path.suffix in (".html", ".css", ".js")):
        text = path.read_text()
        assert not re.findall(r"https?://", text)
        for other in re.findall(r'(?:from |src=|href=|fetchFile\(|: )"([\w/.-]+\.\w+)"', text):
            assert (out / other).is_file(), f"{path.name} names {other}"
    for build in web.BUILDS:
        assert (out / f"litert/wasm/{build}.wasm").read_text() == f"wasm/{build}.wasm"


def test_npm_is_asked_for_pinned_versions_once(registry, tmp_path):
    model = model_file(tmp_path / "models")
    for number in range(2):
        packages.of_file(model, "web", out_dir=tmp_path / str(number))
    asked = (registry / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == [
        f"{package.name}@{package.version}" for package in web.PACKAGES
    ]
    assert all("--ignore-scripts" in line for line in asked)
    for package in web.PACKAGES:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package.version)


def test_another_content_is_refused(registry, tmp_path):
    model = model_file(tmp_path / "models")
    (registry / "core").write_bytes(archive(web.PACKAGES[0]) + b"\0")
    with pytest.raises(UserError, match="npm fetched another @litertjs/core") as caught:
        packages.of_file(model, "web")
    assert "\n" not in str(caught.value)
    assert not (model.parent / "web").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'npm warn old'; echo 'npm error code ECONNREFUSED' >&2;"
            "echo 'npm error syscall connect' >&2;"
            "echo 'npm error request to X failed' >&2; exit 1",
            "npm cannot fetch @litertjs/core@.*: request to X failed$",
        ),
        ("exit 1", "npm cannot fetch @litertjs/core@.*: it gives no reason$"),
        ("exit 0", "npm cannot fetch @litertjs/core@.*: it gives no reason$"),
    ],
)
def test_what_npm_says_is_one_line(registry, tmp_path, script, message):
    (registry / "npm").write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(UserError, match=message):
        packages.of_file(model_file(tmp_path / "models"), "web")


def test_npm_that_hangs_is_stopped(registry):
    (registry / "npm").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(UserError, match=r"npm took longer than 0.2 s to fetch @litertjs/core@"):
        npm.fetch_packages(web.PACKAGES, timeout=0.2)


def test_without_npm_or_browser_nothing_is_tried(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    web.runtime_files.cache_clear()
    with pytest.raises(UserError, match="not installed: npm, which comes with"):
        packages.of_file(model_file(tmp_path / "models"), "web")
    images = np.zeros((1, 32, 32, 3), np.float32)
    content = tiny_tflite.pair()[0]
    (row,) = verify.verify(content, images, np.zeros(1), runtimes=["LiteRT.js"])
    assert row.skipped == "not installed: Chromium or Chrome"
    with pytest.raises(UserError, match="no browser is installed: none of chromium, "):
        browser.ask({}, "index.html", timeout=1)


@pytest.mark.parametrize(
    ("labels", "content", "message"),
    [
        (LABELS[1:], None, "but there are 9 labels"),
        (LABELS, b"TFL3", "not a TFLite model"),
    ],
)
def test_what_is_no_classifier_is_refused(registry, tmp_path, labels, content, message):
    with pytest.raises(UserError, match=message):
        web.write_web_package(
            content or tiny_tflite.pair()[1], name="n", file="n", labels=labels, out_dir=tmp_path
        )
