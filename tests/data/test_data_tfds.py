"""Small TFDS data sets that TFDS prepares on disk, read both cached and streamed."""

import io
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data.geometry import PipelineConfig
from efficientnet_elite.errors import UserError

SIDE = 12
CLASSES = ("circle", "square", "star")


def tile(split, index):
    """An image of one colour, which encodes split and index; its label is index % 3."""
    return np.full((SIDE, SIDE, 3), (index, 60 * len(split) % 256, 80 * (index % 3)), np.uint8)


class TinyTiles(tfds.core.GeneratorBasedBuilder):
    """Tiles with the splits that a subclass names."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS: ClassVar = {"train": 60, "test": 21}
    UNLABELLED = ()

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    "source": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, n) for split, n in self.SPLITS.items()}

    def _generate_examples(self, split, count):
        for i in range(count):
            label = -1 if split in self.UNLABELLED else i % 3
            yield i, {"image": self._image(split, i), "label": label, "source": f"{split} {i}"}

    def _image(self, split, index):
        return tile(split, index)


class TilesWithValidation(TinyTiles):
    """Like ImageNet: labels in train and validation only."""

    SPLITS: ClassVar = {"train": 60, "validation": 21, "test": 9}
    UNLABELLED = ("test",)


class TilesWithAllParts(TinyTiles):
    """All three splits."""

    SPLITS: ClassVar = {"train": 60, "validation": 12, "test": 21}


class TilesInOrder(TinyTiles):
    """Stored class by class."""

    def _info(self):
        info = super()._info()
        return tfds.core.DatasetInfo(
            builder=self,
            features=info.features,
            supervised_keys=info.supervised_keys,
            disable_shuffling=True,
        )

    def _generate_examples(self, split, count):
        examples = list(super()._generate_examples(split, count))
        yield from sorted(examples, key=lambda item: item[1]["label"])


class TilesInOneSplit(TinyTiles):
    """A single split, whatever its name."""

    SPLITS: ClassVar = {"everything": 60}


class TilesWithoutTrain(TinyTiles):
    """Two splits, none for training."""

    SPLITS: ClassVar = {"left": 30, "right": 30}


class TilesDamaged(TinyTiles):
    """Every twentieth training image is cut off."""

    def _image(self, split, index):
        if split == "test" or index % 20:
            return tile(split, index)
        buffer = io.BytesIO()
        Image.fromarray(tile(split, index)).save(buffer, "PNG")
        return io.BytesIO(buffer.getvalue()[:50])


class TilesByHand(TinyTiles):
    """Must be downloaded by hand."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Sign the form,
    then fetch tiles.zip."""


class TilesFromTheNet(TinyTiles):
    """TFDS knows its download to be small."""

    url_infos: ClassVar = {
        "https://example.org/tiles.zip": tfds.download.checksums.UrlInfo(2_000_000, "", "")
    }


class TilesOffline(TilesFromTheNet):
    """Its server does not answer."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("no route\nto host")


class NoImages(TinyTiles):
    """Numbers with labels."""

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"x": np.int32, "label": tfds.features.ClassLabel(names=CLASSES)}
            ),
        )

    def _generate_examples(self, split, count):
        for i in range(count):
            yield i, {"x": i, "label": i % 3}


PREPARED = (
    TinyTiles,
    TilesWithValidation,
    TilesWithAllParts,
    TilesInOrder,
    TilesInOneSplit,
    TilesWithoutTrain,
    TilesDamaged,
    NoImages,
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    for builder in PREPARED:
        builder(data_dir=root).download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=3)
        )
    return str(root)


@pytest.fixture(params=[2.0, 0.0], ids=["in memory", "streamed"])
def cache_gb(request):
    return request.param


def load(name, data_dir, **settings):
    config = DataConfig(dataset=f"tfds:{name}", data_dir=data_dir, **settings)
    data = data_lib.load(config, progress=False)
    # Whole images, so that a batch shows which ones they are.
    return replace(data, pipeline=PipelineConfig(False, False, min_area=1.0, max_aspect=1.0))


def identities(batches):
    """Colour and label of each image of some batches."""
    colours_and_labels = []
    for images, labels in batches.as_numpy_iterator():
        pixels = np.round((images[:, 0, 0] + 1) * 128).astype(int)
        colours_and_labels += [
            (*p, int(label)) for p, label in zip(pixels.tolist(), labels, strict=True)
        ]
    return colours_and_labels


def part(data, name):
    return identities(
        data_lib.eval_batches(data, name, resolution=SIDE, batch_size=8, base_resolution=SIDE)
    )


def expected(split, count):
    return {(*map(int, tile(split, i)[0, 0]), i % 3) for i in range(count)}


def test_train_and_test(data_dir, cache_gb):
    data = load("tiny_tiles", data_dir, cache_gb=cache_gb)
    assert data.labels == CLASSES
    assert data.sizes == {"train": 48, "validation": 12, "test": 21}
    assert set(part(data, "test")) == expected("test", 21)
    train, validation = part(data, "train"), part(data, "validation")
    assert len(train) == 48 and len(validation) == 12
    assert set(train) | set(validation) == expected("train", 60)


def test_validation_is_the_test_part_where_test_has_no_labels(data_dir, cache_gb):
    data = load("tiles_with_validation", data_dir, cache_gb=cache_gb)
    assert set(part(data, "test")) == expected("validation", 21)
    assert set(part(data, "train")) | set(part(data, "validation")) == expected("train", 60)


def test_all_three_splits_stay_as_they_are(data_dir, cache_gb):
    data = load("tiles_with_all_parts", data_dir, cache_gb=cache_gb)
    assert set(part(data, "train")) == expected("train", 60)
    assert set(part(data, "validation")) == expected("validation", 12)
    assert set(part(data, "test")) == expected("test", 21)


def test_a_single_split_is_divided_in_three(data_dir, cache_gb):
    data = load("tiles_in_one_split", data_dir, cache_gb=cache_gb)
    parts = [part(data, name) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 60 and all(parts)
    assert set().union(*parts) == expected("everything", 60)


def test_a_streamed_set_stored_by_class_is_not_split(data_dir):
    with pytest.raises(UserError, match="stored in an order of its own"):
        load("tiles_in_order", data_dir, cache_gb=0.0)
    data = load("tiles_in_order", data_dir)  # stratified
    for name in ("train", "validation"):
        assert {label for *_, label in part(data, name)} == {0, 1, 2}


def test_the_stream_is_repeatable_and_can_begin_anywhere(data_dir, cache_gb):
    data = load("tiny_tiles", data_dir, cache_gb=cache_gb)
    settings = {"resolution": SIDE, "batch_size": 9, "seed": 4}
    whole, steps = data_lib.train_batches(data, **settings)
    assert steps == 5
    epochs = [identities(whole.skip(e * steps).take(steps)) for e in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 45  # no image twice
    assert epochs[0] != epochs[1] != epochs[2]
    rest, _ = data_lib.train_batches(data, first_epoch=1, **settings)
    assert identities(rest.take(2 * steps)) == epochs[1] + epochs[2]
    later, _ = data_lib.train_batches(data, first_epoch=1, first_step=3, **settings)
    assert identities(later.take(2 * steps - 3)) == (epochs[1] + epochs[2])[3 * 9 :]
    other, _ = data_lib.train_batches(data, **{**settings, "seed": 5})
    assert identities(other.take(steps)) != epochs[0]


def test_calibration_images_cover_the_classes(data_dir, cache_gb):
    data = load("tiny_tiles", data_dir, cache_gb=cache_gb)
    images, indices = data_lib.calibration_images(
        data, resolution=SIDE, base_resolution=SIDE, count=12, seed=0
    )
    assert images.shape == (12, SIDE, SIDE, 3) and len(set(indices)) == 12
    colours = {tuple(p) for p in np.round((images[:, 0, 0] + 1) * 128).astype(int).tolist()}
    train = {colour: label for *rgb, label in part(data, "train") for colour in [tuple(rgb)]}
    assert sorted(Counter(train[colour] for colour in colours).values()) == [4, 4, 4]


def test_damaged_images_are_left_out(data_dir, cache_gb, capfd):
    data = load("tiles_damaged", data_dir, cache_gb=cache_gb)
    images = set(part(data, "train")) | set(part(data, "validation"))
    undamaged = {(*map(int, tile("train", i)[0, 0]), i % 3) for i in range(60) if i % 20}
    assert images == undamaged
    reported = dict(re.findall("^skipped (.*): (.*)$", capfd.readouterr().err, re.MULTILINE))
    cached = load("tiles_damaged", data_dir)
    # With the cache they are known after loading; a stream reports each when it is reached.
    assert reported == ({} if cache_gb else {image.path: image.reason for image in cached.skipped})
    assert len(cached.skipped) == 3 and data.skipped == (cached.skipped if cache_gb else ())
    batches, steps = data_lib.train_batches(data, resolution=SIDE, batch_size=5, seed=0)
    assert set(identities(batches.take(2 * steps))) <= undamaged


def test_prepared_files_suffice_without_the_code_that_made_them(data_dir, tmp_path):
    (tmp_path / "foreign").mkdir()
    shutil.copytree(Path(data_dir) / "tiny_tiles", tmp_path / "foreign" / "tiny_tiles")
    for file in (tmp_path / "foreign").rglob("*"):
        if file.suffix == ".json":
            file.write_text(file.read_text().replace("tiny_tiles", "foreign_tiles"))
        elif file.is_file() and file.name.startswith("tiny_tiles"):
            file.rename(file.with_name(file.name.replace("tiny_tiles", "foreign_tiles")))
    (tmp_path / "foreign" / "tiny_tiles").rename(tmp_path / "foreign" / "foreign_tiles")
    data = load("foreign_tiles", str(tmp_path / "foreign"))
    assert set(part(data, "test")) == expected("test", 21)


def test_fingerprint_tells_data_sets_and_splits_apart(data_dir, cache_gb):
    fingerprints = {
        load(name, data_dir, cache_gb=cache_gb, test_fraction=fraction).fingerprint
        for name, fraction in [
            ("tiles_in_one_split", 0.2),
            ("tiles_in_one_split", 0.3),
            ("tiny_tiles", 0.2),
        ]
    }
    assert len(fingerprints) == 3


# --- what stops a run before training


def message(name, data_dir):
    with pytest.raises(UserError) as caught:
        load(name, data_dir)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_imagenet_says_where_its_archives_belong(tmp_path):
    text = message("imagenet2012", str(tmp_path))
    manual = tmp_path / "downloads" / "manual"
    assert f"{manual}/ILSVRC2012_img_train.tar" in text
    assert f"{manual}/ILSVRC2012_img_val.tar" in text
    assert f"tfds.builder('imagenet2012', data_dir='{tmp_path}'" in text


def test_sets_to_be_fetched_by_hand_quote_their_instructions(tmp_path):
    text = message("tiles_by_hand", str(tmp_path))
    assert f"{tmp_path}/downloads/manual (Sign the form, then fetch tiles.zip.)" in text


def test_no_large_download_without_being_asked(tmp_path):
    text = message("food101", str(tmp_path))
    assert "its download is up to 5.0 GB" in text
    assert f"tfds.builder('food101', data_dir='{tmp_path}'" in text
    assert not list(tmp_path.iterdir())


def test_a_small_set_is_downloaded_with_a_message(tmp_path, capfd):
    data = load("tiles_from_the_net", str(tmp_path))
    assert data.sizes["test"] == 21
    out, err = capfd.readouterr()
    assert f"downloading tfds:tiles_from_the_net (2 MB) to {tmp_path}" in err
    assert "downloading" not in out


def test_a_failed_download_is_explained(tmp_path):
    text = message("tiles_offline", str(tmp_path))
    assert text.startswith("tfds:tiles_offline could not be downloaded and prepared in")
    assert "no route to host" in text


def test_a_set_without_known_size_is_prepared_by_the_command_of_the_message(tmp_path):
    text = message("tiles_unprepared", str(tmp_path))
    assert "its download is of unknown size" in text
    exec(re.search('python -c "(.*)"$', text)[1], {})
    assert load("tiles_unprepared", str(tmp_path)).sizes["test"] == 21


class TilesUnprepared(TinyTiles):
    """Not prepared yet."""


@pytest.mark.parametrize(
    ("name", "expected_text"),
    [
        ("no_such_tiles", "TFDS knows no data set 'no_such_tiles'"),
        ("mnist/bold", "tfds:mnist/bold: "),
        ("mnist:99.0.0", "only: 3.0.1"),
        ("no_images", "tfds:no_images is no image classification data set"),
        ("tiles_without_train", "has no split named train, only left, right"),
    ],
)
def test_names_that_cannot_be_used(data_dir, name, expected_text):
    assert expected_text in message(name, data_dir)


def test_a_file_format_that_cannot_be_read_in_order(tmp_path):
    try:
        TinyTiles(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    except ImportError:
        pytest.skip("array_record is not installed")
    assert "stored as array_record" in message("tiny_tiles", str(tmp_path))
