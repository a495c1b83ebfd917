"""Weights for every network of a pool: made once, in a folder, and what starts from them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained import weights
from efficientnet_elite.networks.pretrained.folders import Origin, WeightsFolder
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.networks.pretrained.sources import load_source
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.starts import start_of_search
from efficientnet_elite.search.workdir import checkpoint_path
from efficientnet_elite.training.checkpoint import Checkpoint
from tests.support.command import SEARCH_FLAGS
from tests.support.pretrained import random_weights

# Two networks of the pool that a search with SEARCH_FLAGS has, and a third that it has not.
FLAGS = ("--pool=mobilenetv1", "--base_resolution=8", "--max_candidates=2", "--groups=1",
         "--seed=357", "--epochs=2", "--batch_size=128", "--max_macs_m=0.5")  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "wide.npz"
    weights.save(random_weights("wide", "mobilenetv1"), path)
    return path


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory) -> Path:
    """Made by a command that was killed twice: within a training, and between two networks."""
    workdir = tmp_path_factory.mktemp("folder")
    command = [sys.executable, "-m", "efficientnet_elite", "pretrain", *FLAGS,
               f"--pretrained={source}", f"--workdir={workdir}"]  # fmt: skip
    for there in (lambda: [*workdir.glob("checkpoints/*.npz")], lambda: [*workdir.glob("*.npz")]):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not there():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len([*workdir.glob("*.npz")]) == 1
    assert cli.main(command[3:]) == 0
    return workdir


@pytest.mark.slow
def test_interruptions_change_nothing(folder, source, tmp_path, capsys):
    command = ["pretrain", *FLAGS, f"--pretrained={source}", f"--workdir={tmp_path}"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    files = sorted(tmp_path.glob("*.npz"))
    assert [file.name for file in files] == [file.name for file in sorted(folder.glob("*.npz"))]
    assert len(files) == 2 and all(file.name in out for file in files)
    for file in files:
        one, other = weights.load(file), weights.load(folder / file.name)
        assert one.sha256 == other.sha256 == weights.sha256_of_arrays(one.arrays)
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[name])
        assert (one.name, one.licence) == (file.stem, "Apache-2.0")
        assert one.origin == f"distilled from {source} on digits"
    record = json.loads((tmp_path / "pretrained.json").read_text())
    assert record == {
        "source": str(source),
        "sha256": load_source(str(source)).sha256,
        "licence": "Apache-2.0",
        "dataset": "digits",
    }
    times = [file.stat().st_mtime_ns for file in [*files, *tmp_path.glob("checkpoints/*.npz")]]
    assert cli.main(command) == 0  # nothing is left to do
    assert times == [
        file.stat().st_mtime_ns for file in [*files, *tmp_path.glob("checkpoints/*.npz")]
    ]


@pytest.mark.slow
def test_a_search_starts_each_candidate_from_its_own_file(folder, source, tmp_path, capsys):
    flags = ("--max_candidates=2", "--groups=1", "--epochs=1", "--noexport", "--max_macs_m=0.5")
    command = ["search", *SEARCH_FLAGS, *flags, f"--pretrained={folder}", f"--workdir={tmp_path}"]
    code = cli.main(command)
    err = capsys.readouterr().err
    assert code == 0, err
    said = f"starts from {folder} (2 networks, distilled from {source} on digits; Apache-2.0)"
    assert said in err
    with Ledger(tmp_path) as ledger:
        start, names = start_of_search(ledger.meta()), [c.name for c in ledger.candidates()]
    assert start.sha256 == load_source(str(folder)).sha256 and start.from_scratch == ()
    assert sorted(f"{name}.npz" for name in names) == sorted(f.name for f in folder.glob("*.npz"))
    for name in names:
        saved = Checkpoint.load(checkpoint_path(tmp_path, name))
        assert saved.start == {
            "name": name,
            "sha256": weights.load_about(folder / f"{name}.npz").sha256,
        }
    assert cli.main(command) == 0


# -- what a network gets from a folder -----------------------------------------------------------


@pytest.fixture
def small(tmp_path, source) -> Path:
    """One network at two input sizes; a third that has channels of the source's is missing."""
    for number, side in enumerate((16, 24)):
        made = random_weights("x", "mobilenetv1-0.5", side=side)
        path = tmp_path / f"mobilenetv1-0.5-{number}.npz"
        weights.save(replace(made, name=path.stem, sha256=f"{side:064}"), path)
    origin = Origin(str(source), load_source(str(source)).sha256, "MIT", "digits")
    (tmp_path / "pretrained.json").write_text(json.dumps(origin.record()))
    return tmp_path


def test_the_same_network_at_the_nearest_size(small):
    folder = load_source(str(small))
    assert isinstance(folder, WeightsFolder)
    for side, nearest in ((8, 16), (21, 24), (96, 24)):
        spec = spec_by_name("mobilenetv1-0.5", classes=3).resized((side, side, 3))
        found = folder.for_network(spec)
        assert int(found.sha256) == nearest
        selection = select(found, spec)
        for path, array in selection.arrays.items():
            np.testing.assert_array_equal(array, found.arrays[path])


def test_networks_without_a_file_start_from_the_source(small, source):
    spec = spec_by_name("mobilenetv1-0.25", classes=3).resized((32, 32, 3))
    assert load_source(str(small)).for_network(spec).sha256 == load_source(str(source)).sha256
    record = json.loads((small / "pretrained.json").read_text())
    (small / "pretrained.json").write_text(json.dumps({**record, "sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"has no weights of mobilenetv1-0.25, and .* has changed"):
        load_source(str(small)).for_network(spec)
    (small / "pretrained.json").write_text(json.dumps({**record, "source": "/none/x.npz"}))
    with pytest.raises(UserError, match=r"has no weights of mobilenetv1-0.25, .* no file /none/x"):
        load_source(str(small)).for_network(spec)


def test_the_digest_is_that_of_the_content(small):
    before = load_source(str(small)).sha256
    assert load_source(str(small)).sha256 == before
    (small / "mobilenetv1-0.5-1.npz").unlink()
    assert load_source(str(small)).sha256 != before


def test_folders_that_hold_something_else(small, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(
        UserError, match=r"is no folder of pretrained weights: it has no pretrained"
    ):
        load_source(str(empty))
    (empty / "pretrained.json").write_text((small / "pretrained.json").read_text())
    with pytest.raises(UserError, match="has no weights yet: continue `elite pretrain`"):
        load_source(str(empty))
    for text in ("{", "[]", '{"source": 3}', '{"source": 1, "sha256": 2, "licence": 3}'):
        (empty / "pretrained.json").write_text(text)
        with pytest.raises(UserError, match=r"pretrained.json is damaged"):
            load_source(str(empty))
    (small / "other.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"other.npz"):
        load_source(str(small))


def test_nothing_to_learn_from(tmp_path, source, capsys):
    for flags, message in (
        (["--pool=mobilenetv1", "--pretrained=none"], "there is nothing to learn from: name"),
        (["--pool=shufflenet-g1", f"--pretrained={source}"], "no network of pool shufflenet-g1"),
    ):
        assert cli.main(["pretrain", *flags, f"--workdir={tmp_path / 'run'}"]) == 1
        assert message in capsys.readouterr().err
