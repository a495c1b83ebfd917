"""The report of networks that `elite train` has trained, and the model cards of exports."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from efficientnet_elite import report
from efficientnet_elite.device import costs
from efficientnet_elite.export import predictions
from efficientnet_elite.job.finishing import finish
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.report import artefacts, card, mistakes, training, training_page
from efficientnet_elite.report.training_page import TrainingFigures
from tests.report.test_mistakes import invented
from tests.support.reports import HOSTILE, Page, sidecar

NAME = "mobilenetv1-0.25@16-seed0"
NO_FIGURES = TrainingFigures({})


LARGE = ("checkpoints", "cache", "*.tflite", "*.keras", "report")


def copied(trained, tmp_path, *without):
    """The work directory without some files; by default without what is large."""
    ignore = shutil.ignore_patterns(*(without or LARGE))
    return shutil.copytree(trained, tmp_path / "run", ignore=ignore)


def test_a_training_ends_with_a_report_latencies_and_a_card(trained, tmp_path):
    assert "Nothing has been exported yet" in Page(trained / "report.html").text  # with --noexport
    workdir, tables = copied(trained, tmp_path, "checkpoints", "cache", "report"), []
    (workdir / "export" / NAME / card.FILE).unlink()
    options = {"on_message": pytest.fail, "on_latencies": tables.append}
    page = Page(finish(workdir, changed=True, **options))
    assert f"{NAME} gets" in page.text and "Learning curves" in page.text
    assert "Latency is that of" in page.text and f"{NAME}.int8.tflite" in tables[0]
    assert f"{NAME}: " in page.text and "test images wrong" in page.text
    assert (workdir / "report" / "curves-mobilenetv1-0.25@16.png").is_file()
    assert "| latency, int8 |" in (workdir / "export" / NAME / card.FILE).read_text()
    finish(workdir, changed=False, **options)
    assert len(tables) == 1


def test_the_same_as_data(trained, tmp_path):
    workdir = copied(trained, tmp_path)
    content = json.loads(report.write_data(workdir).read_text())
    tables = content["tables"]
    (row,) = tables["trainings"]["rows"]
    (result,) = json.loads((workdir / "train.json").read_text())
    assert row["test_accuracy"] == result["test_accuracies"][0]
    verified = json.loads((workdir / "export" / NAME / f"{NAME}.json").read_text())["verification"]
    assert row["int8_accuracy"] == verified["int8_accuracy"]
    assert row["int8_accuracy_low"] < row["int8_accuracy"] < row["int8_accuracy_high"]
    assert len(tables["curves"]["rows"]) == row["epochs"] == 6
    curve = tables["coverage"]["rows"]
    assert curve[-1]["coverage"] == 1
    assert curve[-1]["wrong"] == pytest.approx(1 - verified["int8_accuracy"])
    names = {path.name for path in report.write_tables(workdir)}
    assert {"trainings.csv", "curves.csv", "coverage.csv", "quality_by_class.csv"} <= names


def test_an_unfinished_training_and_one_without_export(trained, tmp_path):
    workdir = copied(trained, tmp_path)
    shutil.rmtree(workdir / "export")
    page = Page(training_page.render(training.gather(workdir), NO_FIGURES))
    assert f"elite export --workdir={workdir}" in page.text and NAME in page.text
    (workdir / "train.json").unlink()
    contents = training.gather(workdir)
    assert [(t.name, len(t.epochs), t.result) for t in contents.trainings] == [(NAME, 6, None)]
    page = Page(training_page.render(contents, NO_FIGURES))
    assert "0 of 1 finished" in page.text and "elite export" not in page.text


def test_several_seeds_have_a_mean(trained, tmp_path):
    workdir = copied(trained, tmp_path)
    path = workdir / "train.json"
    (result,) = json.loads(path.read_text())
    result |= {"seeds": [0, 1], "test_accuracies": [0.5, 0.7]}
    path.write_text(json.dumps([result]))
    with (workdir / "results.csv").open("a") as file:
        csv.writer(file).writerow(["mobilenetv1-0.25@16", 1, 1, 2.0, 0.25, 0.1])
    contents = training.gather(workdir)
    text = Page(training_page.render(contents, NO_FIGURES)).text
    assert "over 2 seeds: mean 60.0 %, standard deviation 14.14 points" in text.replace(
        "\u00a0", " "
    )
    figures = training_page.draw(replace(contents, artefacts=artefacts.read(workdir, ())))
    assert [*figures.curves] == ["mobilenetv1-0.25@16"]  # one figure for both seeds
    assert "seed 1" in figures.curves["mobilenetv1-0.25@16"][0].svg


# -- risk and coverage ----------------------------------------------------------------------------


def test_risk_and_coverage():
    right = np.array([True, False, True, True])
    curve = list(mistakes.coverages(right, np.array([0.9, 0.6, 0.6, 0.5])))
    assert [(c.threshold, c.coverage, c.wrong) for c in curve] == [
        *((0.9, 0.25, 0.0), (0.6, 0.75, pytest.approx(1 / 3)), (0.5, 1.0, 0.25)),
    ]


@pytest.mark.parametrize(("threshold", "coverage"), [(0.0, None), (0.7, 0.25), (0.95, 0.0)])
def test_where_the_threshold_lies_on_the_curve(threshold, coverage):
    right = np.array([True, False, True, True])
    found = mistakes.analyse("net", ["a", "b", "c"], invented())
    found = replace(
        found,
        confidence=replace(found.confidence, threshold=threshold),
        coverages=tuple(mistakes.coverages(right, np.array([0.9, 0.6, 0.6, 0.5]))),
    )
    assert (found.given and found.given.coverage) == coverage


# -- model cards ----------------------------------------------------------------------------------


def metadata(text: str) -> dict:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_a_card_says_what_the_files_are(trained):
    folder = trained / "export" / NAME
    text = (folder / card.FILE).read_text()
    content = json.loads((folder / f"{NAME}.json").read_text())
    about = metadata(text)
    assert about["library_name"] == "tflite" and about["datasets"] == ["digits"]
    assert about["pipeline_tag"] == "image-classification"
    (result,) = about["model-index"][0]["results"]
    accuracy = content["verification"]["int8_accuracy"]
    assert result["metrics"][0]["value"] == pytest.approx(accuracy, abs=1e-6)
    files = {path.name for path in folder.iterdir()} - {card.FILE, "micro", "c"}
    assert files >= {"labels.txt", predictions.FILE, f"{NAME}.int8.uint8.tflite"}
    for name in files:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert f"| `{digest}` |" in text, name
    counts = content["details"]["dataset"]["class_counts"]
    assert f"| 7 | {counts['train'][7]} | {counts['validation'][7]} | {counts['test'][7]} |" in text
    assert "It began from random weights." in text
    assert "| epochs trained | 6 |" in text and "| arena |" in text
    spec = ArchSpec.from_json(json.dumps(content["details"]["spec"]))
    milliseconds = costs.of(spec, "cortex_m4_instructions") * 1.4 / 100e3
    assert milliseconds > 1
    assert f"| about {milliseconds:,.0f} ms at 100 MHz (an estimate: 1.4 cycles " in text
    assert "Every image gets one of the 10 classes" in text
    assert f"Divide the logits by {content['confidence']['temperature']:.3f}" in text


def test_a_card_of_little_and_of_hostile_names(tmp_path):
    """As the float files of a Keras model have it, made without images."""
    content = {
        "name": "net",
        "labels": ["a|b", HOSTILE, "c\nd"],
        "input": {"shape": [1, 8, 8, 3], "layout": "NHWC, RGB", "float32": "pixel / 128 - 1"},
        "output": {"shape": [1, 3], "meaning": "logits"},
        "verification": {"noise_images": 9, "max_difference": 0.0},
        "files": {"float32": {"file": "net.float32.tflite", "bytes": 5000}},
        "versions": {},
        "details": {},
    }
    text = card.text(tmp_path, content)
    assert metadata(text)["license"] == "unknown" and "model-index" not in metadata(text)
    assert "| a\\|b |" in text and "| c d |" in text and "<script>" not in text.replace("\\<", "")
    assert "Accuracy" not in text and "Confidence" not in text


def test_a_card_names_uneven_and_rare_classes(trained):
    content = json.loads((trained / "export" / NAME / f"{NAME}.json").read_text())
    content["details"]["dataset"]["class_counts"]["train"][3] = 5
    content["details"]["dataset"]["name"] = "folder:/home/someone/photos"
    content["details"]["start"] = {
        **{"name": "lite0", "sha256": "ab" * 32, "licence": "Apache-2.0", "origin": "PyPI"},
    }
    found = artefacts.read(trained, [NAME])
    text = card.text(trained, content, found)
    assert "5 training images of 3" in text
    assert "Fewer than 50 test images" in text  # of 359 images of ten classes
    assert metadata(text)["license"] == "apache-2.0" and metadata(text)["datasets"] == ["photos"]
    assert "someone" not in text and "ab" * 32 in text


def test_sidecars_that_say_too_little_get_no_card(tmp_path):
    """As those of older versions, or damaged ones: the report names the latter."""
    path = sidecar(tmp_path, "old", 0.9, 1000)
    damaged = sidecar(tmp_path, "damaged", 0.9, 1000)
    damaged.write_text(json.dumps(json.loads(path.read_text()) | {"details": 7}))
    assert card.write_all(tmp_path) == []
    found = artefacts.read(tmp_path, ["old", "damaged"])
    assert [*found.sidecars] == ["old"] and found.dataset == {}
    assert len(found.problems) == 1 and "damaged.json" in found.problems[0]
