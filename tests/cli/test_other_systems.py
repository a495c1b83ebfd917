"""Windows and macOS, as far as Linux can tell: types, encodings, and runs without POSIX."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support import tiny_tflite
from tests.support.command import SEARCH_FLAGS, TRAIN_FLAGS

ROOT = Path(__file__).parent.parent.parent
# The studies behind the documents' figures are no part of the wheel, and need not run elsewhere.
SOURCES = [
    path
    for folder in ("efficientnet_elite", "export", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "studies" not in path.parts
]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_nothing_is_used_that_the_system_has_not(system, tmp_path):
    """The types of the standard library know what each system has: `os.fork`, `fcntl.flock`."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", f"--platform={system}", f"--cache-dir={tmp_path}"),
            *(
                "efficientnet_elite",
                "export",
                *(str(path) for path in ROOT.glob("benchmarks/*.py")),
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="these names are taken away from POSIX")
def test_no_module_of_posix_alone_is_imported_with_ours():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] + [getattr(node, "module", "")])
        if name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty")
    ]
    assert found == []


def test_texts_are_read_and_written_in_one_encoding():
    """Without one named, Windows takes that of its language."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if getattr(node.func.value, "id", None) == "tarfile":
                    continue
                mode = node.args[0] if node.args else ast.Constant("r")
                opens = (
                    node.func.attr == "open"
                    and isinstance(mode, ast.Constant)
                    and set(str(mode.value)) <= set("rwax+t")
                )
                if (opens or node.func.attr in ("read_text", "write_text")) and not any(
                    keyword.arg == "encoding" for keyword in node.keywords
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


@pytest.fixture
def elsewhere(tmp_path):
    """Runs the command without POSIX, with Windows' encodings, and where it writes."""
    if not Path("/proc/self/maps").is_file():
        pytest.skip("what a process has open is read from /proc, which only Linux has")
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    shutil.copy(ROOT / "tests/support/without_posix.py", hiding / "sitecustomize.py")
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(hiding), str(ROOT)]),
        "PYTHONIOENCODING": "cp1252",
        # Files that name no encoding have ASCII's.
        **{"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    }

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "efficientnet_elite", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            encoding="cp1252",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_help_and_networks_without_posix(elsewhere):
    assert elsewhere("--help").startswith("usage: elite COMMAND")
    for command in ("search", "predict"):
        assert elsewhere(command, "--help").startswith(f"elite {command}: ")
    pool = json.loads(elsewhere("models", "--pool=mobilenetv1", "--format=json"))
    assert pool and all(network["name"].startswith("mobilenetv1") for network in pool)
    assert "\n" in elsewhere("devices")


def test_predictions_without_posix(elsewhere, tmp_path):
    """A class whose name Windows' encodings cannot write does not end the command."""
    (tmp_path / "net.tflite").write_bytes(tiny_tflite.pair()[0])
    names = ["Brücke → Ω", *tiny_tflite.LABELS[1:]]
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    pixels, classes = tiny_tflite.digits()
    Image.fromarray(pixels[list(classes).index(0)]).save(tmp_path / "Ω.png")
    arguments = ("predict", tmp_path / "net.tflite", "--labels=labels.txt", "--input=-1..1")
    (row,) = json.loads(elsewhere(*arguments, "--format=json", tmp_path / "Ω.png"))
    assert row["class"] in names
    assert "%" in elsewhere(*arguments, tmp_path / "Ω.png")


@pytest.mark.slow
def test_a_search_without_posix(elsewhere, tmp_path):
    """Workers, locks, the ledger and checkpoints; and again, where all is finished."""
    flags = (*SEARCH_FLAGS, "--workers=2", "--noexport", "--workdir=run")
    elsewhere("search", *flags)
    assert len(json.loads((tmp_path / "run/champions.json").read_text())) == 2
    elsewhere("search", *flags)
    assert not list((tmp_path / "run/workers").glob("*.lock"))  # of workers that have ended


@pytest.mark.slow
def test_a_training_without_posix(elsewhere, tmp_path):
    flags = [flag for flag in TRAIN_FLAGS if flag != "--noexport"]
    elsewhere("train", *flags, "--workdir=run")
    (network,) = (tmp_path / "run/export").iterdir()
    assert "<html" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    pixels, _ = tiny_tflite.digits()
    Image.fromarray(pixels[0]).save(tmp_path / "zero.png")
    (row,) = json.loads(elsewhere("predict", network, "--format=json", tmp_path / "zero.png"))
    assert 0 <= row["probability"] <= 1
