"""Learning curves for TensorBoard, read by TensorFlow (which checks every checksum)."""

from __future__ import annotations

import random

import pytest

from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.tensorboard import FILE_NAME, FOLDER, Summaries

STARTED = "2025-01-02T03:04:05+00:00"
START = 1735787045.0


def epochs(name, count):
    return [Epoch(name, e, 1 - 0.5 / e, 3.0 / e, 2.0) for e in range(1, count + 1)]


def events(path):
    """Everything that TensorFlow reads from a file."""
    from tensorflow.compat.v1 import Event
    from tensorflow.data import TFRecordDataset

    return [Event.FromString(record.numpy()) for record in TFRecordDataset(str(path))]


def curves(path):
    """Step to its values, the first record (the format's version) aside."""
    version, *records = events(path)
    assert version.file_version == "brain.Event:2"
    found = {e.step: {v.tag: v.simple_value for v in e.summary.value} for e in records}
    assert list(found) == sorted(found)
    assert len(found) == len(records)  # nothing twice
    return found


def test_what_tensorflow_reads(tmp_path):
    board = Summaries(tmp_path, STARTED, {})
    for epoch in epochs("elite9", 300):
        board.record(epoch)
    found = curves(board.path("elite9"))
    assert list(found) == list(range(1, 301))
    assert found[4] == pytest.approx(
        {"validation_accuracy": 0.875, "train_loss": 0.75, "seconds": 2.0}
    )
    times = [event.wall_time for event in events(board.path("elite9"))]
    assert times[:3] == [START, START + 2, START + 4]


def test_what_tensorboard_shows(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = Summaries(tmp_path, STARTED, {"elite9": epochs("elite9", 5)})
    shown = reader.EventAccumulator(str(board.path("elite9").parent)).Reload()
    scalars = shown.Scalars("validation_accuracy")
    assert [scalar.step for scalar in scalars] == [1, 2, 3, 4, 5]
    assert scalars[-1].value == pytest.approx(0.9)


def test_a_file_cut_anywhere_is_completed(tmp_path):
    done = epochs("a", 4)
    path = Summaries(tmp_path, STARTED, {"a": done}).path("a")
    whole = path.read_bytes()
    for length in (0, 1, 15, *random.Random(0).sample(range(len(whole)), 40), len(whole)):
        path.write_bytes(whole[:length])
        Summaries(tmp_path, STARTED, {"a": done})
        assert path.read_bytes() == whole, length


def test_a_search_goes_on(tmp_path):
    done = {"a": epochs("a", 3), "b": epochs("b", 2)}
    Summaries(tmp_path, STARTED, {"a": done["a"][:1]})
    board = Summaries(tmp_path, STARTED, done)  # two epochs were recorded before a kill
    board.record(epochs("a", 4)[-1])
    board.record(epochs("c", 1)[-1])
    assert [len(curves(board.path(name))) for name in "abc"] == [4, 2, 1]
    path = board.path("a")
    resumed = path.read_bytes()
    path.unlink()
    Summaries(tmp_path, STARTED, {"a": epochs("a", 4)})
    assert path.read_bytes() == resumed


def test_another_search_in_the_same_place(tmp_path):
    Summaries(tmp_path, STARTED, {"a": epochs("a", 3), "b": epochs("b", 3)})
    board = Summaries(tmp_path, STARTED, {"a": epochs("a", 1)})
    assert list(curves(board.path("a"))) == [1]
    assert sorted(p.parent.name for p in (tmp_path / FOLDER).glob("*/*")) == ["a"]
    board.record(epochs("b", 1)[0])
    assert list(curves(board.path("b"))) == [1]


def test_a_search_writes_them(searched):
    with Ledger(searched) as ledger:
        recorded = ledger.epochs()
    assert {path.name for path in (searched / FOLDER).iterdir()} == set(recorded)
    for name, done in recorded.items():
        found = curves(searched / FOLDER / name / FILE_NAME)
        assert {step: pytest.approx(v["train_loss"]) for step, v in found.items()} == {
            epoch.epoch: epoch.train_loss for epoch in done
        }
