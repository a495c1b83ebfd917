"""Files run no code that the user has not named, and the current folder is not searched for any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.families import user
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.checkpoint import Checkpoint

RUNS = "from pathlib import Path\nPath(__file__).with_name('has-run').touch()\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with a module of somebody."""
    (tmp_path / "somebodys.py").write_text(RUNS + "def nets(side, classes):\n    return {}\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("somebodys", None)


def checkpoint(folder: Path) -> Path:
    """A checkpoint whose network is built by that module."""
    block = UserModel("net", "somebodys:nets", 16, 10, 1, 1)
    spec = ArchSpec("net", (16, 16, 3), (block,))
    path = folder / "net.npz"
    parts = {part: [np.ones(3, np.float32)] for part in ("weights", "average", "optimizer")}
    Checkpoint(spec.to_json(), [], parts).save(path)
    return path


def test_a_checkpoint_runs_nothing_that_is_not_trusted(folder, capsys):
    path = checkpoint(folder)
    assert cli.main(["evaluate", str(path), "--dataset=digits"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(
        f"elite evaluate: {path} names the Python module 'somebodys', whose code would run"
    )
    assert not (folder / "has-run").exists()
    assert cli.main(["evaluate", str(path), "--dataset=digits", "--trust=somebodys"]) == 1
    assert (folder / "has-run").exists()  # its function gives no models
    assert "must return a dict from names" in capsys.readouterr().err


def test_a_pool_is_trusted_part_by_part():
    sources = user.sources_of_pool("elite, mine:nets,theirs.deep:nets")
    assert user.modules_of(sources) == {"mine", "theirs.deep"}
    user.check_trusted(sources, {"mine", "theirs.deep"}, "run")
    with pytest.raises(UserError, match=r"run names the Python module 'theirs\.deep'.*--trust"):
        user.check_trusted(sources, {"mine", "theirs"}, "run")


def test_only_the_pools_own_module_is_found_in_the_current_folder(folder):
    (folder / "google").mkdir()
    (folder / "google/__init__.py").write_text(RUNS.replace("has-run", "google-has-run"))
    (folder / "pool_of_mine.py").write_text("import somebodys\n")
    with pytest.raises(UserError, match="cannot be loaded: No module named 'somebodys'"):
        user.load_builders("pool_of_mine:nets", 16, 10)
    with pytest.raises(UserError, match="must return a dict"):
        user.load_builders("somebodys:nets", 16, 10)
    assert (folder / "has-run").exists()
    assert not (folder / "google/google-has-run").exists()


def test_what_lies_in_the_current_folder_is_not_imported(folder):
    for name in ("numpy", "absl", "google", "keras", "tensorflow"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(RUNS)
    command = [sys.executable, "-m", "efficientnet_elite", "models", "--pool=mobilenetv1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [*folder.glob("*/has-run")]
