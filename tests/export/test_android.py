"""The Android package: its metadata, read by others where they are installed."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import formats, rewrite
from efficientnet_elite.export.packages import android, android_metadata, packages
from efficientnet_elite.export.runtimes import runtime, verify
from tests.support import tiny_tflite

LABELS = tiny_tflite.LABELS
TAKEN = pytest.mark.parametrize("form", [formats.FLOAT32, tiny_tflite.UINT8], ids=lambda f: f.name)


def with_metadata(form: formats.Format) -> bytes:
    return android_metadata.with_metadata(tiny_tflite.converted()[form], name="tiny", labels=LABELS)


def images() -> np.ndarray:
    return tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1420])


@TAKEN
def test_the_network_is_the_same(form):
    before, after = tiny_tflite.converted()[form], with_metadata(form)
    np.testing.assert_array_equal(runtime.run(before, images()), runtime.run(after, images()))
    assert 0 < len(after) - len(before) < 2000


@TAKEN
def test_the_labels_are_a_zip_archive_at_the_end(form):
    with zipfile.ZipFile(io.BytesIO(with_metadata(form))) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == LABELS


@TAKEN
def test_all_buffers_are_aligned(form):
    content = with_metadata(form)
    start = np.frombuffer(content, np.uint8).ctypes.data
    root = schema.Model.GetRootAs(content)
    buffers = [root.Buffers(i) for i in range(root.BuffersLength())]
    places = [b.DataAsNumpy().ctypes.data - start for b in buffers if b.DataLength()]
    assert len(places) > 10
    assert all(place % 16 == 0 for place in places)


def metadata(content: bytes) -> bytes:
    root = schema.Model.GetRootAs(content)
    (entry,) = (
        root.Metadata(i)
        for i in range(root.MetadataLength())
        if root.Metadata(i).Name() == b"TFLITE_METADATA"
    )
    held = root.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert held[4:8] == b"M001"
    return held


@TAKEN
def test_the_metadata_names_what_goes_in_and_out(form):
    held = metadata(with_metadata(form))
    for text in (b"tiny", b"image", b"logits", b"labels.txt"):
        assert text in held
    assert np.float32([128]).tobytes() in held


def test_adding_twice_is_adding_once():
    once = with_metadata(tiny_tflite.UINT8)
    assert android_metadata.with_metadata(once, name="tiny", labels=LABELS) == once


def test_other_labels_replace_the_earlier_ones():
    labels = [f"Zahl {index}" for index in range(10)]
    again = android_metadata.with_metadata(
        with_metadata(formats.FLOAT32), name="tiny", labels=labels
    )
    with zipfile.ZipFile(io.BytesIO(again)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == labels


@pytest.mark.parametrize(
    ("form", "labels", "message"),
    [
        (formats.INT8, LABELS, "takes INT8 and gives INT8: .* --io=uint8"),
        (formats.FLOAT32, LABELS[1:], "but there are 9 labels"),
    ],
)
def test_what_mediapipe_could_not_use_is_refused(form, labels, message):
    with pytest.raises(UserError, match=message):
        android_metadata.with_metadata(tiny_tflite.converted()[form], name="tiny", labels=labels)


def test_the_package_of_a_file(tmp_path):
    model = tmp_path / "tiny.int8.uint8.tflite"
    model.write_bytes(tiny_tflite.converted()[tiny_tflite.UINT8])
    with pytest.raises(UserError, match=r"labels\.txt is missing: give the path"):
        packages.of_file(model, "android")
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (tmp_path / "tiny.json").write_text('{"details": {"crop_fraction": 0.875}}')
    made = packages.of_file(model, "android")
    assert "are 87.5% of those of the largest one" in (made.folder / "README.md").read_text()
    assert made.name == "tiny"
    assert made.folder == tmp_path / "android"
    paths = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*.*")}
    sources = "network/src/main"
    assert paths == {
        *("README.md", "settings.gradle.kts", "build.gradle.kts", "gradle.properties"),
        *("app/build.gradle.kts", "app/src/main/AndroidManifest.xml"),
        *("app/src/main/kotlin/MainActivity.kt", "network/build.gradle.kts"),
        *(f"{sources}/assets/net_tiny/{name}" for name in ("tiny.tflite", "labels.txt")),
        *(
            f"{sources}/kotlin/{name}.kt"
            for name in ("LiteRtClassifier", "Network", "Preprocessing", "Crops", "Tensors")
        ),
        *(f"network/src/{runtime}/kotlin/Runner.kt" for runtime in ("litert1", "litert2")),
        "network/src/test/kotlin/PreprocessingTest.kt",
        *("mediapipe/MediaPipeClassifier.kt", "mediapipe/Bitmaps.kt"),
        "network/src/test/resources/preprocessing.bin",
        *(
            "network/src/androidTest/kotlin/GoldenTest.kt",
            "network/src/androidTest/assets/golden.bin",
        ),
    }
    content = (made.folder / sources / "assets/net_tiny/tiny.tflite").read_bytes()
    network = rewrite.with_probabilities(tiny_tflite.converted()[tiny_tflite.UINT8], 1.0)
    assert content == android_metadata.with_metadata(network, name="tiny", labels=LABELS)
    assert made.model_bytes == len(content)


def package(tmp_path, form: formats.Format, **given) -> Path:
    folder = tmp_path / "package"
    network = {"name": "Tiny-1", "labels": LABELS, "out_dir": folder, **given}
    android.write_android_package(tiny_tflite.converted()[form], **network)
    return folder


@TAKEN
def test_no_placeholder_is_left_and_all_versions_are_pinned(tmp_path, form):
    folder = package(tmp_path, form)
    texts = {
        path: path.read_text()
        for path in folder.rglob("*.*")
        if path.suffix in (".kt", ".kts", ".md", ".xml", ".properties")
    }
    assert len(texts) == 19
    for path, text in texts.items():
        assert "net_name" not in text, path
        assert path.suffix == ".kt" or "$" not in text, path
        assert "latest" not in text and '+")' not in text, path
    used = set(re.findall(r'mplementation"?\("([\w.:-]+)"\)', "".join(texts.values())))
    assert len(used) == 11 and all(re.search(r":\d+\.\d+(\.\d+)?$", each) for each in used)
    manifest = ElementTree.fromstring(texts[folder / "app/src/main/AndroidManifest.xml"])
    (permission,) = (each.attrib.values() for each in manifest.iter("uses-permission"))
    assert list(permission) == ["android.permission.CAMERA"]
    build = texts[folder / "network/build.gradle.kts"]
    assert 'namespace = "elite.net_tiny_1"' in build
    readme = texts[folder / "README.md"]
    named = re.findall(r"`(com[\w.]+:[\w-]+:[\w.]+)`", readme)
    assert len(named) == 2 and all(f'("{each}")' in build for each in named)
    assert "minSdk = 24" in build and "minSdk 24, compileSdk 37" in readme
    (plugin,) = set(re.findall(r'version "(.*)"', texts[folder / "build.gradle.kts"]))
    assert f"Android Gradle plugin {plugin}." in readme


@TAKEN
def test_golden_outputs_are_those_of_the_file(tmp_path, form):
    folder = package(tmp_path, form)
    content = (folder / "network/src/main/assets/net_tiny_1/Tiny-1.tflite").read_bytes()
    data = (folder / "network/src/androidTest/assets/golden.bin").read_bytes()
    count, tolerance = struct.unpack_from(">if", data)
    side = tiny_tflite.SIDE
    row = np.dtype([("pixels", np.uint8, (side, side, 3)), ("outputs", ">f4", 10)])
    rows = np.frombuffer(data, row, offset=8)
    assert count == len(rows) == 3
    expected = runtime.run(content, tiny_tflite.normalised(rows["pixels"]))
    np.testing.assert_array_equal(rows["outputs"], expected)
    np.testing.assert_allclose(expected.sum(-1), 1, rtol=1e-5)
    assert len({tuple(each) for each in expected.tolist()}) == 3
    assert tolerance == pytest.approx(0.05 if form == tiny_tflite.UINT8 else 0.001)


def test_a_package_names_the_pretrained_weights(tmp_path):
    model = tmp_path / "tiny.int8.uint8.tflite"
    model.write_bytes(tiny_tflite.converted()[tiny_tflite.UINT8])
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    start = {"name": "lite0", "sha256": "ab" * 32, "licence": "Apache-2.0", "origin": "a wheel"}
    (tmp_path / "tiny.json").write_text(json.dumps({"details": {"start": start}}))
    made = packages.of_file(model, "android")
    text = (made.folder / "ORIGIN.txt").read_text()
    assert text.startswith("The network tiny was trained further from pretrained weights")
    assert all(value in text for value in start.values())


def test_what_would_spoil_a_package_is_refused(tmp_path):
    model = tmp_path / "tiny.int8.uint8.tflite"
    model.write_bytes(tiny_tflite.converted()[tiny_tflite.UINT8])
    labels = tmp_path / "labels.txt"
    labels.write_bytes("".join(f"{label}\n" for label in [*LABELS[:9], "Äpfel"]).encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        packages.of_file(model, "android")
    labels.write_text("".join(f"{label}\n" for label in LABELS))
    with pytest.raises(UserError, match="is the folder of the model"):
        packages.of_file(model, "android", out_dir=tmp_path)


@TAKEN
def test_mediapipe_reads_it_and_agrees_with_xnnpack(form):
    pytest.importorskip("mediapipe")
    classes = tiny_tflite.digits()[1][1400:1420]
    content = tiny_tflite.converted()[form]
    chosen = (verify.REFERENCE, verify.XNNPACK, "MediaPipe Tasks")
    *_, row = verify.verify(content, images(), classes, runtimes=chosen)
    assert row.error is None
    assert row.difference == pytest.approx(0, abs=1e-5)
    labels = subprocess.run(
        [sys.executable, "-c", CLASSIFY],
        input=with_metadata(form),
        capture_output=True,
        check=True,
    )
    assert labels.stdout.decode().split("\n")[0] in LABELS


# In a process of its own: MediaPipe and TensorFlow bring their own copies of the same libraries.
CLASSIFY = """
import sys
import numpy as np
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageClassifierOptions(
    base_options=BaseOptions(model_asset_buffer=sys.stdin.buffer.read()), max_results=1
)
picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.zeros((32, 32, 3), np.uint8))
with vision.ImageClassifier.create_from_options(options) as classifier:
    print(classifier.classify(picture).classifications[0].categories[0].category_name)
"""
