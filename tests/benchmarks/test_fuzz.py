"""The fuzz program: mutated files are read or refused, and what is neither is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.benchmarks.studies import fuzz
from efficientnet_elite.training.checkpoint import Checkpoint
from tests.support.tiny_training import SPEC

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    checkpoint = tmp_path_factory.mktemp("fuzz") / "net.npz"
    arrays = [np.arange(n, dtype=np.float32) for n in range(1, 9)]
    Checkpoint(
        SPEC.to_json(), [], {"weights": arrays, "average": arrays, "optimizer": arrays}
    ).save(checkpoint)
    named = ("foreign/float_01_described.tflite", "keras2/functional.keras")
    return [checkpoint, *(SUPPORT / name for name in named)]


def test_mutated_files_are_read_or_refused(files):
    for path in files:
        ends = fuzz.fuzz(path, 60, seed=0)
        assert ends.keys() <= {"read", "refused"}, (path, ends)
        assert ends["refused"] > 10


def test_other_errors_are_failures(files, monkeypatch, capsys):
    def careless(path: Path) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(fuzz.READERS, ".npz", careless)
    assert fuzz.fuzz(files[0], 3, seed=7) == {"ZeroDivisionError": 3}
    assert "net.npz: seed 7: ZeroDivisionError: oh" in capsys.readouterr().out
