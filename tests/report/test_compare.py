"""`elite compare`: searches and trainings side by side."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import predictions
from efficientnet_elite.report import compare
from tests.report.test_mistakes import invented, store
from tests.support.reports import HOSTILE, Page, search

LABELS = ("cat", "dog", "bird")


@pytest.fixture
def runs(tmp_path):
    """Two made-up searches of two groups; the champions of the first have predictions."""
    found = []
    for place, name in enumerate(("a", "b")):
        workdir = tmp_path / name
        champions = search(workdir, labels=LABELS, seed=place, groups=2)
        entries = [
            {"name": c, "resolution": 32, "params": 10_000, "macs": 2_000_000, "group": g}
            for g, c in enumerate(champions)
        ]
        (workdir / "champions.json").write_text(json.dumps(entries))
        for champion in champions:
            store(workdir, champion, invented(sharpness=3 + 2 * place), LABELS)
        found.append((workdir, champions))
    return found


def said(capsys, *arguments, status=0):
    capsys.readouterr()
    assert cli.main(["compare", *map(str, arguments)]) == status
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 7, 2 * (1 + 8) / 256)],
)
def test_mcnemar(only_first, only_second, p):
    """By hand: twice the tail of a fair coin."""
    assert compare.mcnemar(only_first, only_second) == pytest.approx(p)
    assert compare.mcnemar(only_second, only_first) == pytest.approx(p)


def test_runs_side_by_side(runs, tmp_path, capsys):
    (first, (name, other)), (second, _) = runs
    page = tmp_path / "compared.html"
    out = said(capsys, first, second, f"--html={page}").out
    assert f"a: {name}" in out and f"b: {name}" in out
    assert "seed" in out and "train.epochs" not in out  # only what differs
    content = json.loads(said(capsys, first, second, "--format=json").out)
    networks, pairs = content["networks"]["rows"], content["pairs"]["rows"]
    assert [(n["run"], n["name"]) for n in networks] == [
        *(("a", name), ("a", other), ("b", name), ("b", other)),
    ]
    assert all(n["int8_accuracy_low"] < 0.9 < n["int8_accuracy_high"] for n in networks)
    assert len(pairs) == 6
    right = []
    for stored in (invented(sharpness=3), invented(sharpness=5)):
        rows = stored.of_part("test")
        right.append(stored.int8[rows].argmax(1) == stored.label[rows])
    pair = next(p for p in pairs if (p["first"], p["second"]) == (f"a: {name}", f"b: {name}"))
    assert pair["images"] == 80
    assert pair["only_second"] == (right[1] & ~right[0]).sum() > pair["only_first"]
    rows = list(csv.DictReader(io.StringIO(said(capsys, first, second, "--format=csv").out)))
    assert [row["name"] for row in rows] == [name, other, name, other]
    text = Page(page).text
    assert f"a: {name} – b: {name}" in text and "Settings that differ" in text


def test_other_images_are_not_compared_image_by_image(runs):
    (first, (name, _)), (second, _) = runs
    stored = invented(names=[f"other {i}.jpg" for i in range(120)])
    store(first, name, stored, LABELS)
    found = compare.gather([first, second])
    titles = {title for pair in found.pairs for title in (pair.first, pair.second)}
    assert f"a: {name}" not in titles and f"b: {name}" in titles


def test_numbered_images_need_the_same_fingerprint(runs):
    (first, (name, other)), (second, _) = runs
    numbered = replace(invented(), name=np.array([f"test {i}" for i in range(120)]))
    for workdir, champion, images in ((first, name, "x"), (first, other, "x"), (second, name, "y")):
        path = store(workdir, champion, numbered, LABELS)
        content = json.loads(path.read_text())
        content["details"] = {"dataset": {"fingerprint": images}}
        path.write_text(json.dumps(content))
    pairs = compare.gather([first, second]).pairs
    assert [(pair.first, pair.second) for pair in pairs] == [(f"a: {name}", f"a: {other}")]


def test_a_search_and_a_training(trained, runs, tmp_path):
    """Of a training without predictions, and named by hostile text."""
    workdir = tmp_path / "x" / "a"
    ignore = shutil.ignore_patterns("checkpoints", "cache", "*.tflite", "*.keras", predictions.FILE)
    shutil.copytree(trained, workdir, ignore=ignore)
    found = compare.gather([workdir, runs[0][0]])
    assert found.runs == ("x/a", "a")
    assert found.networks[0].name == "mobilenetv1-0.25@16-seed0"
    assert found.networks[0].test_accuracy > 0.3 and found.networks[0].export
    assert {"train.epochs", "images"} <= found.settings.keys()
    assert "rule" not in found.settings  # which trainings do not have
    assert len(found.pairs) == 1  # those of the search
    from efficientnet_elite.report import compare_page

    hostile = replace(found, runs=(HOSTILE, "a"), problems=(HOSTILE,), pairs=())
    page = Page(compare_page.render(hostile))
    assert "script" not in page.tags and "No two networks" in page.text


def test_what_cannot_be_compared(runs, tmp_path, capsys):
    (first, _), _ = runs
    for arguments, message in (
        ([first], "name two or more"),
        ([first, tmp_path / "a"], "named twice"),
        ([first, tmp_path], "champions.json is missing"),
    ):
        err = said(capsys, *arguments, status=1).err
        assert err.count("\n") == 1 and message in err
    with pytest.raises(UserError):
        compare.gather([])
