"""Images without labels: loading, caching, and their place in training batches."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError


def fill(folder, count, level=200):
    for number in range(count):
        path = folder / f"sub{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), level + number, np.uint8)).save(path)
    return folder


def load(folder, cache_dir=None, **settings):
    config = DataConfig(unlabelled=str(folder), **settings)
    return data_lib.load(config, max_side=16, cache_dir=cache_dir, progress=False)


def levels(batch):
    """The grey levels of images of a single colour."""
    return [round((float(image.mean()) + 1) * 128) for image in batch.numpy()]


def stream(data, batches, first_epoch=0, unlabelled=4, batch_size=200):
    made, steps = data_lib.train_batches(
        data,
        resolution=8,
        batch_size=batch_size,
        seed=1,
        first_epoch=first_epoch,
        unlabelled=unlabelled,
    )
    return list(made.take(batches)), steps


def test_they_are_loaded_and_change_nothing_else(tmp_path):
    plain = data_lib.load(DataConfig(), progress=False)
    data = load(fill(tmp_path, 5))
    assert plain.unlabelled is None
    assert data.unlabelled.size == 5
    assert data.sizes == plain.sizes
    assert data.fingerprint != plain.fingerprint
    assert load(tmp_path).fingerprint == data.fingerprint
    fill(tmp_path, 6)
    assert load(tmp_path).fingerprint != data.fingerprint


def test_they_follow_the_labelled_images_of_a_batch(tmp_path):
    data = load(fill(tmp_path, 5))
    batches, _ = stream(data, 3)
    plain, _ = stream(data, 3, unlabelled=0)
    for (images, labels), (expected, expected_labels) in zip(batches, plain, strict=True):
        assert images.shape == (204, 8, 8, 3)
        assert labels.shape == (200,)
        np.testing.assert_array_equal(images[:200], expected)
        np.testing.assert_array_equal(labels, expected_labels)
        assert set(levels(images[200:])) <= {200, 201, 202, 203, 204}


def test_a_stream_can_begin_at_any_epoch(tmp_path):
    """There are fewer images than an epoch needs: each comes about equally often."""
    data = load(fill(tmp_path, 5))
    batches, steps = stream(data, 12)
    assert steps > 1
    later, _ = stream(data, 12 - steps, first_epoch=1)
    for (images, _), (expected, _) in zip(later, batches[steps:], strict=True):
        np.testing.assert_array_equal(images, expected)
    counts = np.bincount([level for x, _ in batches for level in levels(x[200:])])[200:]
    assert len(counts) == 5 and counts.min() > 0


def test_more_images_than_an_epoch_needs(tmp_path):
    data = load(fill(tmp_path, 50))
    batches, steps = stream(data, 10)
    first = [level for x, _ in batches[:steps] for level in levels(x[200:])]
    assert len(set(first)) == len(first) == 4 * steps  # none twice in an epoch
    everything = {level for x, _ in batches for level in levels(x[200:])}
    assert len(everything) > len(first)


def test_the_cache_holds_them_beside_the_data_set(tmp_path):
    folder, cache = fill(tmp_path / "images", 3), tmp_path / "cache"
    load(folder, cache)
    names = sorted(path.name.split("-")[1] for path in cache.glob("*.pixels"))
    assert names == ["decoded", "unlabelled"]
    written = {path: path.stat().st_mtime_ns for path in cache.glob("*.pixels")}
    again = load(folder, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.pixels")} == written
    assert again.unlabelled.size == 3


def test_without_room_in_the_cache_they_are_read_again(tmp_path):
    folder = fill(tmp_path, 3)
    batches, _ = stream(load(folder, cache_gb=0.0), 1)
    expected, _ = stream(load(folder), 1)
    np.testing.assert_array_equal(batches[0][0], expected[0][0])


def test_unreadable_and_missing_images(tmp_path):
    folder = fill(tmp_path / "images", 3)
    (folder / "broken.jpg").write_bytes(b"no image")
    data = load(folder)
    assert data.unlabelled.size == 3
    assert [(x.path, x.reason) for x in data.skipped] == [
        ("unlabelled: broken.jpg", "not an image")
    ]
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="no readable image"):
        load(tmp_path / "empty")
