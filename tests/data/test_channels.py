"""Grey images: found by themselves, stored in one channel, changed as colours are."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, SearchConfig
from efficientnet_elite.data import decode, folder, geometry
from efficientnet_elite.data.encoded import EncodedPicture
from efficientnet_elite.errors import UserError
from tests.support.photos import encoded, load, photo


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Class folders of grey images, half of them stored as colours."""
    root = tmp_path_factory.mktemp("grey")
    for c, name in enumerate(("cat", "dog")):
        (root / name).mkdir()
        for i in range(10):
            image = photo(30 + i, 40, seed=100 * c + i).convert("L")
            image.convert("RGB" if i % 2 else "L").save(root / name / f"{i}.jpg", quality=95)
    return root


def test_the_images_are_listed_once(grey, monkeypatch):
    calls, scan = [], folder.scan
    monkeypatch.setattr(folder, "scan", lambda *given: calls.append(given) or scan(*given))
    images = load(grey)
    assert data_lib.decided(DataConfig(f"folder:{grey}"), images).channels == "1"
    assert len(calls) == 1


def test_channels_follow_from_the_images(grey, tmp_path):
    assert load(grey).channels == 1
    assert load(grey, channels="3").channels == 3
    assert data_lib.load(DataConfig(), progress=False).channels == 3  # as it always was
    assert data_lib.load(DataConfig(channels=1), progress=False).channels == 1
    root = shutil.copytree(grey, tmp_path / "mixed")
    spot = Image.open(root / "dog" / "9.jpg").convert("RGB")
    spot.paste((255, 60, 60), (20, 10, 23, 13))  # of hardly any pixels, but it may be what counts
    spot.save(root / "dog" / "9.jpg", quality=95)
    (root / "cat" / "0.jpg").write_bytes(b"no image")
    assert load(root).channels == 3
    with pytest.raises(UserError, match="channels='2': use 1 or 3 or auto"):
        DataConfig(channels="2")


def test_a_search_that_was_begun_before_takes_colours():
    recorded = {"group_by": ["params"], "data": {"dataset": "folder:/x"}}
    assert SearchConfig.from_dict(recorded).data.channels == "3"


@pytest.mark.parametrize("kept", [2.0, 0.0])
def test_networks_see_the_brightness_of_pillow(grey, kept):
    data = load(grey, cache_gb=kept)
    part = data.parts["test"]
    images, _ = next(iter(data_lib.eval_batches(
        data, "test", resolution=16, batch_size=9, base_resolution=16
    )))  # fmt: skip
    assert images.shape == (part.size, 16, 16, 1)
    for image, name in zip(images, data.names["test"], strict=True):
        whole = Image.open(grey / name).convert("L")
        box = geometry.center_box((whole.height, whole.width), 0.875)
        square = geometry.crop_and_resize(decode.pixels_of(whole), box, 16)
        assert np.array_equal((image.numpy()[..., 0] + 1) * 128, np.asarray(square))


def test_the_cache_holds_one_channel(grey, tmp_path):
    sizes = {}
    for channels in ("1", "3"):
        config = DataConfig(f"folder:{grey}", channels=channels)
        cache = tmp_path / channels
        for _ in range(2):  # from the file, the second time
            data = data_lib.load(config, cache_dir=cache, progress=False)
            picture = data.parts["train"].picture(0, False)
        assert picture.pixels.shape[2] == int(channels)
        sizes[channels] = picture.pixels.size
    assert sizes["3"] == 3 * sizes["1"]


@pytest.mark.parametrize("augment", ["jitter+lighting", "rand+erase", "trivial"])
def test_augmentations_of_grey_images(grey, augment):
    """Each is what its change of three equal channels becomes in grey."""
    batches = []
    for channels in ("1", "3"):
        data = load(grey, augment=augment, channels=channels)
        stream, _ = data_lib.train_batches(data, resolution=16, batch_size=8, seed=3)
        images, _ = next(iter(stream))
        batches.append(np.rint((images.numpy() + 1) * 128).astype(np.uint8))
    one, three = batches
    assert one.shape == (8, 16, 16, 1) and one.std() > 5
    for image, colours in zip(one, three, strict=True):
        # JPEG tints what it stores as colours by a level or two.
        assert np.abs(decode.in_channels(colours, 1).astype(int) - image).max() <= 8


@pytest.mark.parametrize("quick", [False, True])
def test_a_picture_that_is_decoded_at_each_look(quick):
    content = encoded(photo(64, 48), quality=95)
    box = geometry.center_box((64, 48), 0.8)
    crop = EncodedPicture(content, quick, channels=1).crop(box, 24)
    expected = EncodedPicture(content, quick).crop(box, 24).convert("L")
    assert crop.mode == "L"
    assert np.abs(np.asarray(crop, int) - np.asarray(expected)).max() <= 2


def test_in_channels_there_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    colours = decode.in_channels(levels, 3)
    assert colours.shape == (16, 16, 3)
    assert np.array_equal(decode.in_channels(colours, 1), levels)
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    weighted = (noise @ np.array([19595, 38470, 7471], np.int64) + 32768) >> 16
    assert np.array_equal(decode.in_channels(noise, 1)[..., 0], weighted)
