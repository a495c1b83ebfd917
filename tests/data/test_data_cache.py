"""The cache of decoded images: each image is decoded once for all processes and later runs."""

import multiprocessing
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import sources
from efficientnet_elite.data.cache import (
    DamagedFile,
    cache_in_memory,
    open_image_file,
    write_image_file,
)
from efficientnet_elite.data.decode import decode


@pytest.fixture
def folder(tmp_path):
    """Two classes of images of several sizes, one file of them unreadable."""
    root = tmp_path / "images"
    for c, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(10):
            noise = np.random.default_rng([c, i]).integers(0, 256, (30 + i, 40, 3), np.uint8)
            Image.fromarray(noise).save(root / name / f"{i}.png")
    (root / "cat" / "cut.png").write_bytes(b"no image")
    return root


@pytest.fixture
def decoded(monkeypatch):
    """Counts what is decoded in this process."""
    count = Counter()

    def counting(*arguments):
        count["images"] += 1
        return decode(*arguments)

    monkeypatch.setattr(sources, "decode", counting)
    return count


def load(root, cache_dir, max_side=24, **settings):
    config = DataConfig(dataset=f"folder:{root}", **settings)
    return data_lib.load(config, max_side=max_side, cache_dir=cache_dir, progress=False)


def batches(data):
    """Some training batches and both evaluation parts, as bytes."""
    train, _ = data_lib.train_batches(data, resolution=16, batch_size=4, seed=1)
    return _bytes(train.take(5)) + evaluation(data)


def evaluation(data):
    """Both evaluation parts, as bytes."""
    parts = [
        data_lib.eval_batches(data, part, resolution=16, batch_size=3, base_resolution=16)
        for part in ("validation", "test")
    ]
    return _bytes(*parts)


def _bytes(*streams):
    return [
        array.tobytes()
        for stream in streams
        for batch in stream.as_numpy_iterator()
        for array in batch
    ]


def files(cache_dir):
    return sorted(path for path in cache_dir.iterdir() if path.name != "lock")


# --- the same pixels


def test_batches_are_the_same_with_files_with_memory_and_without_cache(folder, tmp_path):
    cache_dir = tmp_path / "cache"
    whole = {"max_side": None}  # shrunk copies are cached otherwise, see the next test
    from_new_files = batches(load(folder, cache_dir, **whole))
    assert len(files(cache_dir)) == 3  # decoded, validation, test
    before = {path: path.stat().st_mtime_ns for path in files(cache_dir)}
    from_old_files = batches(load(folder, cache_dir, **whole))
    assert {path: path.stat().st_mtime_ns for path in files(cache_dir)} == before
    from_memory = batches(load(folder, None, **whole))
    decoded_each_time = batches(load(folder, None, cache_gb=0, **whole))
    some_cached = batches(load(folder, tmp_path / "other", cache_gb=2e-5, **whole))
    assert 10_000 < files(tmp_path / "other")[0].stat().st_size < 22_000
    assert from_new_files == from_old_files == from_memory == decoded_each_time == some_cached


def test_evaluation_is_that_of_the_original_images_whatever_is_cached(folder, tmp_path):
    shrunk = evaluation(load(folder, tmp_path / "cache"))
    assert shrunk == evaluation(load(folder, None, max_side=None))
    assert shrunk == evaluation(load(folder, None, cache_gb=0))


def test_evaluation_parts_are_cached_for_each_size_and_crop(folder, tmp_path):
    data = load(folder, tmp_path / "cache")
    uncropped = replace(data, pipeline=replace(data.pipeline, center_crop=False))
    fresh = load(folder, None, cache_gb=0)
    for cached, uncached in (
        (data, fresh),
        (uncropped, replace(fresh, pipeline=uncropped.pipeline)),
    ):
        for resolution in (16, 12):
            arguments = {"resolution": resolution, "batch_size": 4, "base_resolution": 16}
            for _ in range(2):
                a, b = (
                    [x.tobytes() for batch in stream.as_numpy_iterator() for x in batch]
                    for stream in (
                        data_lib.eval_batches(cached, "validation", **arguments),
                        data_lib.eval_batches(uncached, "validation", **arguments),
                    )
                )
                assert a == b
    assert len(files(tmp_path / "cache")) == 5


# --- nothing twice


def test_nothing_is_decoded_twice(folder, tmp_path, decoded):
    first = load(folder, tmp_path / "cache")
    again = load(folder, tmp_path / "cache")
    batches(again)
    assert decoded["images"] == 21
    assert again.skipped == first.skipped and len(first.skipped) == 1
    assert again.fingerprint == first.fingerprint


def test_unreadable_images_of_a_set_beyond_the_budget_are_found_once(folder, tmp_path, decoded):
    first = load(folder, tmp_path / "cache", cache_gb=1e-5)
    assert decoded["images"] == 21
    again = load(folder, tmp_path / "cache", cache_gb=1e-5)
    assert decoded["images"] == 21
    assert first.skipped == again.skipped and len(first.skipped) == 1
    assert files(tmp_path / "cache")[0].stat().st_size < 1e4 + 1000
    # A larger budget is tried again; a smaller one takes what fits of the file of the larger one.
    load(folder, tmp_path / "cache")
    assert decoded["images"] == 42
    assert batches(load(folder, tmp_path / "cache", cache_gb=1e-5)) == batches(first)
    assert decoded["images"] == 42


def test_evaluation_parts_have_room_before_training_images(folder, tmp_path):
    tight = load(folder, tmp_path / "cache", cache_gb=2e-5)
    evaluation(tight)
    decoded_images, *parts = sorted(
        files(tmp_path / "cache"), key=lambda path: -path.stat().st_size
    )
    assert len(parts) == 2 and sum(path.stat().st_size for path in (decoded_images, *parts)) < 22e3


def test_evaluation_parts_that_do_not_fit_are_resized_each_time(folder, tmp_path):
    data = load(folder, tmp_path / "cache", cache_gb=2e-6)
    assert evaluation(data) == evaluation(load(folder, None))
    assert len(files(tmp_path / "cache")) == 1


@pytest.mark.parametrize("change", ["pixels", "date", "max_side"])
def test_a_change_of_files_or_settings_is_noticed(folder, tmp_path, decoded, change):
    before = batches(load(folder, tmp_path / "cache"))
    path, max_side = folder / "cat" / "0.png", 24
    if change == "pixels":
        Image.new("RGB", (40, 30), "red").save(path)
    elif change == "date":
        os.utime(path, ns=(0, 0))
    else:
        max_side = 20
    after = batches(load(folder, tmp_path / "cache", max_side))
    assert decoded["images"] == 42
    assert (before == after) == (change == "date")
    assert len(files(tmp_path / "cache")) == 3  # the old ones are gone


# --- several processes


def _map(root, cache_dir, barrier, answers):
    from efficientnet_elite.data import sources

    count = Counter()

    def counting(*arguments):
        count["images"] += 1
        return decode(*arguments)

    sources.decode = counting
    barrier.wait()
    data = load(root, Path(cache_dir))
    digest = batches(data)
    maps = Path("/proc/self/smaps").read_text()
    [(anonymous,)] = {
        (int(re.search(r"Anonymous: +(\d+) kB", entry)[1]),)
        for entry in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", maps)
        if "-decoded-" in entry.splitlines()[0]
    }
    answers.put((count["images"], digest, anonymous))


@pytest.mark.slow
def test_processes_that_start_together_decode_once_and_share_the_pages(folder, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_map, args=(folder, tmp_path / "cache", barrier, answers))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    results = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(count for count, _, _ in results) == [0, 21]
    assert results[0][1] == results[1][1]
    assert [anonymous for _, _, anonymous in results] == [0, 0]  # kB copied from the file


def test_unfinished_files_of_killed_processes_are_removed(folder, tmp_path):
    cache_dir = tmp_path / "cache"
    cache_dir.mkdir()
    (cache_dir / "0123-decoded-4567.pixels.part").write_bytes(b"half")
    load(folder, cache_dir)
    assert [path.suffix for path in files(cache_dir)] == [".pixels"]


# --- damage and full disks

INVERTED = bytes(reversed(range(256)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content + b"x",
        lambda content: content[:-60] + bytes(20) + content[-40:],
        lambda content: bytes(len(content)),
        lambda content: content[:5000].translate(INVERTED) + content[5000:],
    ],
    ids=["cut", "halved", "empty", "longer", "overwritten head", "zeros", "inverted pixels"],
)
def test_a_damaged_file_is_written_again_with_one_line_on_stderr(
    folder, tmp_path, decoded, damage, capsys
):
    cache_dir = tmp_path / "cache"
    load(folder, cache_dir)
    (path,) = files(cache_dir)
    content = path.read_bytes()
    path.unlink()  # the old file is still mapped by this process: damage a new one
    path.write_bytes(damage(content))
    capsys.readouterr()
    assert batches(load(folder, cache_dir)) == batches(load(folder, None))
    assert capsys.readouterr().err == (
        f"cache file {path} is damaged and is written again; nothing is lost\n"
    )
    assert path.read_bytes() == content and decoded["images"] == 63


def test_images_stay_in_memory_if_files_cannot_be_written(folder, tmp_path, capsys):
    (tmp_path / "cache").write_text("not a folder")
    data = load(folder, tmp_path / "cache")
    assert batches(data) == batches(load(folder, None))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"decoded images cannot be cached in {tmp_path / 'cache'} (")
    assert "each process holds them in its own memory instead" in lines[0]
    assert lines[0].endswith("make room there or make the folder writeable")


def test_images_stay_in_memory_if_the_disk_is_full(folder, tmp_path, capsys, monkeypatch):
    full = tmp_path / "cache"
    full.mkdir()
    real_open = Path.open

    def open_on_full_disk(path, mode="r", *rest, **options):
        # Writing to /dev/full fails as writing to a full disk does.
        target = Path("/dev/full") if path.suffix == ".part" else path
        return real_open(target, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    data = load(folder, full)
    monkeypatch.undo()
    assert "(No space left on device)" in capsys.readouterr().err
    assert files(full) == []
    assert batches(data) == batches(load(folder, None))


def test_a_file_with_another_key_is_refused(tmp_path):
    path = tmp_path / "x.pixels"
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write_image_file(path, "one", lambda add: add(image), budget_bytes=48)
    assert np.array_equal(open_image_file(path, "one", 48).flat, image.reshape(-1))
    with pytest.raises(DamagedFile):
        open_image_file(path, "two", 48)
    assert open_image_file(tmp_path / "y.pixels", "one", 48) is None
    assert not open_image_file(path, "one", 47).complete


def test_a_gap_is_never_filled_by_a_smaller_image():
    """Once an image does not fit, no image behind it is stored: the first ones are cached."""
    large, small = np.ones((2, 2, 3), np.uint8), np.ones((1, 1, 3), np.uint8)
    cached = cache_in_memory(lambda add: [add(image) for image in (small, large, small)], 6)
    assert cached.flat.tolist() == [1, 1, 1] and not cached.complete
    assert cached.notes == [True, False, False]
