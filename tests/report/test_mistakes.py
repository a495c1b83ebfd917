"""What networks get wrong: stored predictions, their metrics, and the section of the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from efficientnet_elite import report
from efficientnet_elite.data.sources import read_digits
from efficientnet_elite.export import predictions
from efficientnet_elite.export.predictions import Predictions
from efficientnet_elite.report import mistakes, mistakes_page
from tests.support.reports import HOSTILE, Page, search, sidecar

DIGEST = "d" * 64


def invented(classes=3, images=120, side=40, sharpness=3.0, names=None):
    """Predictions of a network that knows something, of images of noise."""
    random = np.random.default_rng(0)
    label = random.integers(0, classes, images).astype(np.int32)
    logits = random.normal(size=(images, classes)) + sharpness * np.eye(classes)[label] * 0.6
    noise = random.normal(scale=0.3, size=logits.shape)
    float32, int8 = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, logits + noise))
    part = np.repeat(["validation", "test"], [images // 3, images - images // 3])
    shown = predictions.shown_rows(part, label, float32, int8)
    copies = random.integers(0, 256, (len(shown), side, side, 3)).astype(np.uint8)
    names = np.array(names or [f"photo {i}.jpg" for i in range(images)])
    return Predictions(part, names, label, float32, int8, shown, copies, DIGEST)


def store(workdir, name, stored, labels):
    """Writes predictions beside a made-up export."""
    path = sidecar(workdir, name, 0.9, 1_000_000)
    content = json.loads(path.read_text()) | {"labels": list(labels)}
    content["files"]["int8"]["sha256"] = DIGEST
    path.write_text(json.dumps(content))
    np.savez_compressed(path.with_name(predictions.FILE), **vars(stored))
    return path


def test_an_export_stores_what_its_files_predict(trained):
    """For the images by name; the accuracies are those that the export has verified."""
    (folder,) = (trained / "export").iterdir()
    content = json.loads((folder / f"{folder.name}.json").read_text())
    stored = predictions.read(folder)
    assert stored.int8_sha256 == content["files"]["int8"]["sha256"]
    _, classes = read_digits()
    assert stored.label.tolist() == [classes[int(name.split()[1])] for name in stored.name]
    found = mistakes.analyse(folder.name, content["labels"], stored)
    verified = content["verification"]
    for form, name in (("float32", "float_accuracy"), ("int8", "int8_accuracy")):
        np.testing.assert_allclose(getattr(stored, form).sum(1), 1, rtol=1e-5)
        quality = found.qualities["test", form]
        assert quality.images == verified["test_images"]
        assert quality.accuracy == pytest.approx(verified[name])
        assert quality.top5 > quality.accuracy
    agreement = (stored.float32.argmax(1) == stored.int8.argmax(1))[stored.of_part("test")].mean()
    assert agreement == pytest.approx(verified["agreement"])
    assert len(stored.copies) == len(stored.shown) > 0


def test_metrics_are_those_of_scikit_learn():
    stored = invented(classes=12)
    found = mistakes.analyse("net", [f"c{i}" for i in range(12)], stored)
    for (part, form), quality in found.qualities.items():
        rows = stored.of_part(part)
        truth, chances = stored.label[rows], getattr(stored, form)[rows]
        chosen = chances.argmax(1)
        assert quality.images == len(rows) == quality.matrix.sum() > 0
        assert quality.accuracy == pytest.approx(metrics.accuracy_score(truth, chosen))
        expected = metrics.balanced_accuracy_score(truth, chosen)
        assert quality.balanced_accuracy == pytest.approx(expected)
        assert quality.top5 == pytest.approx(
            np.mean([t in np.argsort(c)[-5:] for t, c in zip(truth, chances, strict=True)])
        )
        assert sum(c.support for c in quality.classes) == len(rows)
        assert sum(b.images for b in quality.bins) == len(rows)


def test_the_calibration_error_of_answers_that_are_too_sure():
    """Two of four images at 0.9 are right, and one of one at 0.6."""
    chances = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    truth = np.array([0, 0, 1, 1, 0])
    quality = mistakes.quality("net", "test", "int8", ("a", "b"), truth, chances)
    assert quality.calibration_error == pytest.approx(0.8 * 0.4 + 0.2 * 0.4)
    assert quality.top5 is None
    used = [(b.low, b.high, b.images) for b in quality.bins if b.images]
    assert used == [(0.5, 0.6, 1), (0.8, 0.9, 4)]


def test_which_images_are_worth_a_look():
    float32 = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
    int8 = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.55, 0.45], [0.05, 0.95]])
    part = np.array(["validation", "test", "test", "test", "test"])
    label = np.array([1, 0, 1, 0, 0])
    shown = predictions.worth_a_look(part, label, float32, int8)
    assert shown.confident.tolist() == [4, 1, 2]  # of the test part alone
    assert shown.uncertain.tolist() == [3]
    assert shown.changed.tolist() == [2]
    (first, second) = shown.pairs
    assert (*first[:3], first[3].tolist()) == (0, 1, 2, [4, 1])
    assert (*second[:3], second[3].tolist()) == (1, 0, 1, [2])


def test_the_page_shows_mistakes(tmp_path):
    labels = ("cat", HOSTILE, "bird")
    first, second = search(tmp_path, labels=labels)
    stored = invented(names=[f"{HOSTILE}/{i}.jpg" for i in range(120)])
    store(tmp_path, first, stored, labels)
    sidecar(tmp_path, second, 0.8, 500_000)  # of an older version
    page = Page(report.write_page(tmp_path))
    wrong = int((stored.int8.argmax(1) != stored.label)[40:].sum())
    assert f"{first}: {wrong} of 80 test images wrong" in page.text
    assert f"{second}:" not in page.text
    assert f"cat taken for {HOSTILE}" in page.text
    assert "script" not in page.tags
    sources = [value for key, value in page.attributes if key == "src"]
    assert len(sources) > 20
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    for kind in ("confusion", "reliability"):
        assert (tmp_path / "report" / f"{kind}-{first}.png").is_file()
    names = {path.stem for path in report.write_tables(tmp_path)}
    new = {"quality", "quality_by_class", "confusions", "reliability", "wrong_images"}
    assert new < names
    tables = json.loads(report.write_data(tmp_path).read_text())["tables"]
    rows = [r for r in tables["wrong_images"]["rows"] if r["part"] == "test"]
    assert sum(r["int8_class"] != r["true_class"] for r in rows) == wrong
    assert sum(r["images"] for r in tables["confusions"]["rows"]) == 2 * 120


def test_many_classes_and_a_page_that_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(mistakes_page, "MOST_BYTES", 30_000)
    labels = [f"a class with a long name {i}" for i in range(60)]
    name = search(tmp_path, groups=1, labels=labels)[0]
    store(tmp_path, name, invented(classes=60, images=600), labels)
    page = Page(report.write_page(tmp_path))
    assert "Of 60 classes the 25 that are confused most." in page.text
    assert "left out to keep the page small" in page.text
    assert sum(len(value) for key, value in page.attributes if key == "src") <= 30_000


@pytest.mark.parametrize("kind", ["stale", "damaged"])
def test_predictions_that_cannot_be_used(tmp_path, kind):
    labels = ("cat", "dog", "bird")
    name = search(tmp_path, groups=1, labels=labels)[0]
    path = store(tmp_path, name, invented(), labels)
    if kind == "stale":  # the network has been exported again since
        path.write_text(path.read_text().replace(DIGEST, "e" * 64))
    else:
        path.with_name(predictions.FILE).write_bytes(b"PK\x03\x04 broken")
    contents = report.gather(tmp_path)
    assert contents.mistakes == []
    assert [c.export.name for c in contents.champions] == [name]
    problems = [p for p in contents.artefacts.problems if p.startswith(predictions.FILE)]
    assert len(problems) == (kind == "damaged")
