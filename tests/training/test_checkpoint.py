"""Checkpoint files: valid, damaged, foreign, of another format version."""

from __future__ import annotations

import json
from dataclasses import replace
from errno import ENOSPC

import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.training.checkpoint import (
    PARTS,
    Checkpoint,
    DamagedCheckpoint,
    check_arrays,
)
from tests.support.tiny_training import SPEC

CHECKPOINT = Checkpoint(
    spec=SPEC.to_json(),
    history=[{"epoch": 1, "validation_accuracy": 0.5}],
    parts={
        "weights": [np.arange(n, dtype=np.float32) for n in range(1, 13)],
        "average": [np.array([[0.1, 0.2]], np.float32)],
        "optimizer": [np.array(7, np.uint32)],
    },
)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "a.npz"
    CHECKPOINT.save(path)
    CHECKPOINT.save(path)
    again = Checkpoint.load(path)
    assert (again.spec, again.history) == (CHECKPOINT.spec, CHECKPOINT.history)
    for part in PARTS:
        for got, want in zip(again.parts[part], CHECKPOINT.parts[part], strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]


def test_an_unfinished_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    CHECKPOINT.save(path)
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"a\.npz cannot be written \(No space left on device\)"):
        replace(CHECKPOINT, history=[]).save(path)
    assert path.read_bytes() == before


def damaged(data: bytes):
    yield "empty", b""
    yield "text", b"hello\n" * 1000
    yield "zip magic only", data[:4] + b"\0" * 1000
    for share in (0.01, 0.3, 0.7, 0.999):
        yield f"first {share:.1%}", data[: int(len(data) * share)]
    middle = data.index(np.arange(12, dtype=np.float32).tobytes())
    yield "flipped bit", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def foreign(folder):
    np.savez(folder / "other.npz", weights=np.ones(3))
    yield "foreign npz", (folder / "other.npz").read_bytes()
    np.savez(folder / "header.npz", header=np.array('{"epoch": 3}'))
    yield "foreign header", (folder / "header.npz").read_bytes()
    np.savez(folder / "list.npz", header=np.array("[1]"))
    yield "header is a list", (folder / "list.npz").read_bytes()
    np.savez(folder / "objects.npz", header=np.array({"a": 1}, dtype=object))
    yield "pickled", (folder / "objects.npz").read_bytes()
    np.save(folder / "array.npy", np.ones(3))
    yield "npy", (folder / "array.npy").read_bytes()


def test_damaged_and_foreign_checkpoints(tmp_path):
    path = tmp_path / "a.npz"
    CHECKPOINT.save(path)
    data = path.read_bytes()
    for label, content in [*damaged(data), *foreign(tmp_path)]:
        path.write_bytes(content)
        try:
            Checkpoint.load(path)
        except UserError as error:
            message = str(error)
            assert str(path) in message, label
            assert "delete it" in message, label
            assert "\n" not in message, label
        else:
            pytest.fail(f"{label}: was loaded")


def test_checkpoints_of_another_version(tmp_path):
    path = tmp_path / "a.npz"
    CHECKPOINT.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    np.savez(path, header=np.array(json.dumps({**header, "version": 2})), **arrays)
    with pytest.raises(UserError, match=r"has format 2, but this version .* reads format 1"):
        Checkpoint.load(path)


def test_no_change_of_the_content_goes_unnoticed(tmp_path):
    """Also one that leaves a sound archive: other numbers or settings, a part missing."""
    path = tmp_path / "a.npz"
    CHECKPOINT.save(path)
    with np.load(path) as file:
        whole = dict(file)
    header = json.loads(str(whole["header"]))
    changes = [
        {"average/0000": whole["average/0000"] + 1},
        {"average/0000": whole["average/0000"].T},
        {"optimizer/0000": None},
        {"weights/0099": np.ones(2, np.float32)},
        {"header": np.array(json.dumps({**header, "history": []}))},
        {"header": np.array(json.dumps({**header, "sha256": "0" * 64}))},
    ]
    for change in changes:
        arrays = {name: array for name, array in {**whole, **change}.items() if array is not None}
        np.savez(path, **arrays)
        with pytest.raises(DamagedCheckpoint, match="not that which was written"):
            Checkpoint.load(path)
    # As an earlier version wrote it.
    del header["sha256"]
    np.savez(path, **{**whole, "header": np.array(json.dumps(header))})
    assert Checkpoint.load(path).history == CHECKPOINT.history
    np.savez(path, **{**whole, "header": np.array(json.dumps({**header, "spec": "{}"}))})
    with pytest.raises(DamagedCheckpoint, match="its network is no network"):
        Checkpoint.load(path)


def test_arrays_of_other_shapes_are_damage(tmp_path):
    check_arrays(tmp_path, [np.ones((2, 3)), np.ones(4, bool)], [(2, 3), (4,)])
    for shapes in ([(2, 3)], [(3, 2), (4,)], [(4,), (2, 3)]):
        with pytest.raises(DamagedCheckpoint, match="other arrays than its network has"):
            check_arrays(tmp_path, [np.ones((2, 3)), np.ones(4, bool)], shapes)
