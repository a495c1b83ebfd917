"""Calibrated probabilities, and the threshold below which an answer is unknown."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite import cli
from efficientnet_elite.export import confidence, predictions
from efficientnet_elite.export.confidence import calibrated, choose_threshold, fit_temperature

NAME = "mobilenetv1-0.25@16-seed0"


def answers(images: int, temperature: float, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a network that is too sure by a temperature, and true classes."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=2, size=(images, classes))
    labels = np.array([random.choice(classes, p=p) for p in confidence.softmax(logits)])
    return confidence.softmax(logits * temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_is_found(temperature):
    chances, labels = answers(4000, temperature)
    assert fit_temperature(chances, labels) == pytest.approx(temperature, rel=0.08)


def test_probabilities_equal_those_of_logits():
    logits = np.random.default_rng(0).normal(scale=9, size=(50, 4))
    expected = confidence.softmax(logits / 3)
    found = calibrated(confidence.softmax(logits).astype(np.float32), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert np.isfinite(calibrated(np.array([1.0, 0.0], np.float32), 0.5)).all()


def test_few_images_without_a_mistake_do_not_make_a_network_infinitely_sure():
    chances = np.full((10, 2), (0.8, 0.2), np.float32)
    sure = calibrated(chances, fit_temperature(chances, np.zeros(10, int))).max()
    assert 0.9 < sure < 0.99


@pytest.mark.parametrize("others", [0, 60])
def test_the_threshold_leaves_most_answers(others):
    """Compared with every threshold that makes a difference."""
    chances, labels = answers(300, 1.0)
    chances = chances.round(2)  # many are equal
    right, sure = chances.argmax(1) == labels, chances.max(1)
    unknown = sure[:others] ** 2
    found = choose_threshold(right, sure, unknown, 0.8)
    allowed = {}
    for threshold in np.unique(np.concatenate([sure, unknown])):
        given, strangers = sure >= threshold, (unknown >= threshold).sum()
        precision = (right & given).sum() / (given.sum() + strangers)
        if precision >= 0.8:
            allowed[given.sum() + strangers] = (precision, given.mean())
    precision, coverage = allowed[max(allowed)]
    assert found.precision == pytest.approx(precision) and found.coverage == coverage
    assert 0.1 < coverage < 1
    assert (found.unknown_rejected is None) == (others == 0)


def test_no_threshold_where_the_surest_answer_is_wrong():
    right, sure = np.array([False, True, True]), np.array([0.9, 0.8, 0.7])
    assert choose_threshold(right, sure, np.empty(0), 0.95) is None
    assert choose_threshold(~right, sure, np.empty(0), 0.95).coverage == pytest.approx(1 / 3)


def test_an_export_chooses_by_the_validation_part_and_images_of_other_things(
    trained, tmp_path, capsys
):
    workdir, others = tmp_path / "run", tmp_path / "others"
    shutil.copytree(trained, workdir)
    others.mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(
            others / f"{number}.png"
        )
    (others / "broken.png").write_bytes(b"no image")
    flags = [f"--unknown={others}", "--unknown_precision=0.9"]
    assert cli.main(["export", f"--workdir={workdir}", *flags]) == 0
    folder = workdir / "export" / NAME
    sidecar = json.loads((folder / f"{NAME}.json").read_text())
    stored = predictions.read(folder)
    assert stored.unknown.shape == (5, 10)
    rows = stored.of_part("validation")
    chances = calibrated(stored.int8[rows], sidecar["confidence"]["temperature"])
    found = sidecar["confidence"]["unknown"]
    given = chances.max(1) >= found["threshold"]
    assert given.mean() == found["coverage"]
    strangers = calibrated(stored.unknown, sidecar["confidence"]["temperature"]).max(1)
    wrong = (strangers >= found["threshold"]).sum()
    right = (chances.argmax(1) == stored.label[rows])[given].sum()
    assert right / (given.sum() + wrong) == pytest.approx(found["precision"])
    assert found["precision"] >= 0.9 and found["unknown_images"] == 5
    assert f"{found['coverage']:.1%}" in capsys.readouterr().out
    counts = sidecar["details"]["dataset"]["class_counts"]
    assert [sum(counts[part]) for part in counts] == [
        *sidecar["details"]["dataset"]["parts"].values()
    ]
