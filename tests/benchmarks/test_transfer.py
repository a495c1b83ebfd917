"""The study of pretrained starts: its rows, and how it continues."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite.benchmarks.studies import transfer
from efficientnet_elite.errors import UserError
from efficientnet_elite.training.trainer import Trainer
from tests.support.pretrained import random_weights, register


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two classes that differ in brightness: 10 training, 4 validation and 6 test images each."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 4), ("test", 6)):
        for label, low in (("dark", 0), ("light", 128)):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(low, low + 128, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def flags(photographs: Path, file: Path, *others: str):
    values = transfer.FLAGS
    values.unparse_flags()
    values(["transfer", f"--images={photographs}", f"--json={file}", "--batch_size=8",
            "--networks=mobilenetv1-0.25", "--resolution=8", "--seeds=3", *others])  # fmt: skip
    return values


@pytest.mark.slow
def test_rows_of_trainings(photographs, tmp_path, monkeypatch, capsys):
    weights = random_weights("tiny", "mobilenetv1-0.25")
    register(monkeypatch, weights)
    file = tmp_path / "rows.json"
    given = ("--starts=none,tiny,tiny+features", "--steps=3")
    flags(photographs, file, *given, f"--further={photographs}")
    transfer.main()
    rows = json.loads(file.read_text())
    assert [(row["network"], row["start"], row["seed"]) for row in rows] == [
        ("mobilenetv1-0.25", start, 3) for start in ("none", "tiny", "tiny+features")
    ]
    for row in rows:
        assert (row["steps"], row["epochs"]) == (4, 2)  # 20 images: two steps in an epoch
        assert 0 <= row["test_top1"] <= 1 and 0 <= row["val_top1"] <= 1
        assert len(row["curve"]) == 2 and row["curve"][-1] == row["val_top1"]
        right = 40 * row["further_top1"]  # all parts together are the further images here
        assert right == pytest.approx(round(right)) and right >= 12 * row["test_top1"]
        assert row["cpu_seconds"] > 0 and 0 <= row["start_seconds"] < row["seconds"]
        assert 0 <= row["test_top1_int8"] <= 1
        assert row["source_sha256"] == (None if row["start"] == "none" else weights.sha256)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["network", "start"] and len(table) == 4

    with monkeypatch.context() as patch:  # what has a row is not trained again
        patch.setattr(Trainer, "__init__", None)
        flags(photographs, file, *given, "--format=markdown")
        transfer.main()
    assert json.loads(file.read_text()) == rows
    flags(photographs, file, "--starts=none", "--steps=3", "--settings=train.ema=0.5")
    with pytest.raises(UserError, match="with other images, steps or settings: name another"):
        transfer.main()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--starts=none+features"], "start 'none\\+features': use none, SOURCE, or SOURCE"),
        (["--starts=lite+all"], "start 'lite\\+all': use none"),
        (["--starts=nowhere.npz"], "nowhere.npz"),
        (["--networks=elite99"], "unknown model 'elite99"),
        (["--seeds=x"], "seed 'x': must be a whole number"),
        (["--settings=ema=1"], "--settings=ema=1: write train.NAME=VALUE"),
        (["--settings=train.ema=x"], "train.ema='x': must be a number"),
    ],
)
def test_wrong_flags(given, message, photographs, tmp_path):
    with pytest.raises(UserError, match=message):
        transfer.Study(flags(photographs, tmp_path / "rows.json", *given)).runs()


def test_folders_and_files_that_do_not_fit(photographs, tmp_path):
    for name in ("dark", "other"):
        shutil.copytree(photographs / "train" / "dark", tmp_path / "further" / name)
    further = f"--further={tmp_path / 'further'}"
    with pytest.raises(UserError, match="its classes are not those of --images"):
        _ = transfer.Study(flags(photographs, tmp_path / "rows.json", further)).further
    with pytest.raises(UserError, match="has no folder train: it needs train, val and test"):
        transfer.Study(flags(tmp_path, tmp_path / "rows.json")).runs()
    file = tmp_path / "other.json"
    file.write_text('{"rows": 3}')
    with pytest.raises(UserError, match="is no result of this study"):
        transfer.Study(flags(photographs, file))
