"""Loads image classification data sets of TensorFlow Datasets (TFDS).

A set that fits into the cache is decoded once, like every other source. A larger set stays in its
TFRecord files and is read anew each epoch (`stream`).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from ..config import DataConfig
from ..errors import UserError
from . import sides
from .assembly import (
    NOTES,
    PARTS,
    assemble,
    check_classes,
    fingerprint,
    pipeline_for,
)
from .cache import Add, ImageCache
from .decode import Pixels, UnreadableImage, decode, opened
from .geometry import PipelineConfig
from .listing import Example, digest
from .parts import ImageData
from .picture import Picture
from .store import ImageStore, decode_all
from .stream import Shard, StreamedPart

_MAX_DOWNLOAD = 10**9  # bytes; a larger download is not started unless the user asks for it
_IMAGES_TO_ESTIMATE = 200  # how much room the whole set takes
_IMAGENET = "imagenet2012"


def side(config: DataConfig, name: str) -> int | None:
    """The median of the shorter sides of the first images; see `choices.Source.side`."""
    builder = _prepared_builder(name, config.data_dir)
    features = _features(builder, name)
    split = _splits(builder, features, name)["train"]
    records = islice(_read(builder, features, split), sides.MOST_IMAGES)
    return sides.of_files(BytesIO(record[features.image]) for record in records)


class _Features(NamedTuple):
    """The features of a TFDS set that are used.

    Attributes:
      image: name of the feature with the image.
      label: name of the feature with the class.
      class_names: name of each class, by label.
    """

    image: str
    label: str
    class_names: tuple[str, ...]


def load_tfds(
    config: DataConfig,
    name: str,
    max_side: int | None,
    open_cache: Callable[[object], ImageCache],
) -> ImageData:
    """Loads the data set ``tfds:name``.

    Args:
      config: the user's settings.
      name: name of the set; a configuration and a version may follow: ``NAME/CONFIG:VERSION``.
      max_side: images whose shorter side is longer than this many pixels are shrunk to it; None:
        never.
      open_cache: takes what the decoded images depend on to the cache for them.

    Raises:
      UserError: the set is unknown, is not prepared and must not be downloaded without being asked
        for, is no image classification set, or cannot be split.
    """
    builder = _prepared_builder(name, config.data_dir)
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        raise UserError(
            f"tfds:{name} is stored as {builder.info.file_format.value}, which cannot be read in "
            f"order: delete {builder.data_dir}, then {_build_command(builder, name)}"
        )
    features = _features(builder, name)
    check_classes(config.dataset, features.class_names)
    splits = _splits(builder, features, name)
    pipeline = pipeline_for(config, PipelineConfig())

    cache = open_cache(["tfds", max_side, features, splits, _identity(builder, splits)])

    def read(record: dict[str, Any]) -> Pixels:
        if record[features.label] < 0:  # in TFDS this means that the label is not published
            raise UnreadableImage("has no label")
        return decode(record[features.image], max_side, config.input_channels)

    def decode_records(add: Add) -> dict[str, Any]:
        examples = []

        def records() -> Iterator[dict[str, Any]]:
            for part, split in splits.items():
                for record in _read(builder, features, split):
                    # TFDS's id names the file and the position in it.
                    name, label = record["tfds_id"].decode(), int(record[features.label])
                    examples.append((name, label, part, digest(record[features.image])))
                    yield record

        unreadable = decode_all(
            records(),
            read,
            add,
            total=sum(builder.info.splits[split].num_examples for split in splits.values()),
            progress=cache.progress,
            stop_when_full=True,
        )
        return {"examples": examples, "unreadable": unreadable}

    # Filling the cache in vain would take as long as an epoch. A set that was cached nevertheless,
    # because it turned out smaller than it seems, is streamed from now on.
    pixels = _estimated_pixels(builder, features, splits, max_side)
    if not cache.has_room(config.input_channels * pixels):
        return _streamed(config, builder, features, splits, pipeline, cache)
    cached = cache.keep("decoded", decode_records, key=NOTES)
    if not cached.complete:
        return _streamed(config, builder, features, splits, pipeline, cache)
    return assemble(
        config,
        features.class_names,
        [
            Example(name, label, part, digest=image_digest)
            for name, label, part, image_digest in cached.notes["examples"]
        ],
        dict(cached.notes["unreadable"]),
        # Records have no random access: all crops are those of the cached copies.
        ImageStore(cached, _not_cached, max_side=None),
        pipeline,
        cache,
    )


def _not_cached(index: int, quick: bool) -> Picture:
    raise IndexError(f"image {index} is not in the cache")


def _estimated_pixels(
    builder: tfds.core.DatasetBuilder,
    features: _Features,
    splits: dict[str, str],
    max_side: int | None,
) -> int:
    """Returns about how many pixels all images have, judged by some of the first ones."""
    sizes = []
    for record in itertools.islice(_read(builder, features, splits["train"]), _IMAGES_TO_ESTIMATE):
        try:
            with opened(record[features.image]) as image:
                shorter, longer = sorted(image.size)
        except UnreadableImage:
            continue
        shrink = 1 if max_side is None else min(1, max_side / shorter)
        sizes.append(shorter * longer * shrink**2)
    count = sum(builder.info.splits[split].num_examples for split in splits.values())
    return round(count * sum(sizes) / max(1, len(sizes)))


def _identity(
    builder: tfds.core.DatasetBuilder, splits: dict[str, str]
) -> list[tuple[str, int, int]]:
    """Returns name, size and date of each file, by which the cache notices that a set changed."""
    paths = [path for split in splits.values() for path in builder.info.splits[split].filepaths]
    # These paths are TFDS's own, so `stat` works in cloud storage as well.
    statuses = [(path.name, path.stat()) for path in paths]
    return [(name, status.length, status.mtime) for name, status in statuses]


def _prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Returns the builder of a set that is ready to be read; a small set is downloaded first."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UserError(
            f"TFDS knows no data set '{name}': see https://www.tensorflow.org/datasets/catalog"
        ) from error
    # TFDS raises these for an unknown configuration or version.
    except (ValueError, AssertionError) as error:
        raise UserError(f"tfds:{name}: {_one_line(error)}") from error
    if builder.is_prepared():
        return builder

    _refuse_large_or_manual_download(builder, name)
    root = builder.data_dir_root
    size = sum(info.size for info in builder.url_infos.values())
    tqdm.write(f"downloading tfds:{name} ({size / 1e6:.3g} MB) to {root}", file=sys.stderr)
    try:
        builder.download_and_prepare()
    # The network, the disk, or a package that this set alone needs: nothing that code can handle.
    except Exception as error:
        raise UserError(
            f"tfds:{name} could not be downloaded and prepared in {root}: {_one_line(error)}"
        ) from error
    return builder


def _refuse_large_or_manual_download(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Says how to get a set that is not downloaded without being asked for.

    Raises:
      UserError: the set must be downloaded by hand, or is larger than `_MAX_DOWNLOAD`, or its size
        is unknown.
    """
    root = builder.data_dir_root
    command = _build_command(builder, name)
    manual = root / "downloads" / "manual"
    if builder.name == _IMAGENET:
        raise UserError(
            f"tfds:{name} is not prepared in {root}: get the two archives from "
            f"https://image-net.org, put them at {manual}/ILSVRC2012_img_train.tar and "
            f"{manual}/ILSVRC2012_img_val.tar, then {command}"
        )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise UserError(
            f"tfds:{name} is not prepared in {root} and must be downloaded by hand into {manual} "
            f"({_one_line(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)}); then {command}"
        )
    sizes = [info.size for info in (builder.url_infos or {}).values()]
    if not sizes or any(size is None for size in sizes) or sum(sizes) > _MAX_DOWNLOAD:
        size = f"up to {sum(sizes) / 1e9:.1f} GB" if sizes and all(sizes) else "of unknown size"
        raise UserError(
            f"tfds:{name} is not prepared in {root} and its download is {size}: "
            f"to download and prepare it, {command}"
        )


def _features(builder: tfds.core.DatasetBuilder, name: str) -> _Features:
    """Finds the image and the label.

    Raises:
      UserError: the set does not have exactly one of each.
    """
    info = builder.info
    images = [k for k, v in info.features.items() if isinstance(v, tfds.features.Image)]
    labels = [k for k, v in info.features.items() if isinstance(v, tfds.features.ClassLabel)]
    if info.supervised_keys and len(info.supervised_keys) == 2:
        image, label = info.supervised_keys
        images, labels = [k for k in images if k == image], [k for k in labels if k == label]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"tfds:{name} is no image classification data set: use one whose examples have one "
            "image and one class label"
        )
    return _Features(images[0], labels[0], tuple(info.features[labels[0]].names))


def _splits(builder: tfds.core.DatasetBuilder, features: _Features, name: str) -> dict[str, str]:
    """Returns the TFDS split for each part that the set provides.

    The only split of a set is its training part, whatever its name. A test split without labels is
    not used; then the validation split serves as the test part.

    Raises:
      UserError: there are several splits, and none is named train.
    """
    names = [split for split, info in builder.info.splits.items() if info.num_examples]
    if "train" not in names and len(names) != 1:
        raise UserError(
            f"tfds:{name} has no split named train, only {', '.join(names)}: use another data set"
        )
    parts = {"train": "train" if "train" in names else names[0]}
    # The test splits of ImageNet and of most challenges have no published labels.
    if "train" in names and "test" in names:
        first = next(_read(builder, features, "test[:1]"))
        if first[features.label] >= 0:
            parts["test"] = "test"
    if "train" in names and "validation" in names:
        parts["validation" if "test" in parts else "test"] = "validation"
    return parts


def _read(
    builder: tfds.core.DatasetBuilder, features: _Features, split: str
) -> Iterator[dict[str, Any]]:
    """Reads the records of a split in the order of its files, without decoding the images."""
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(
            {features.image: True, features.label: True},
            decoders={features.image: tfds.decode.SkipDecoding()},
        ),
        read_config=tfds.ReadConfig(add_tfds_id=True, try_autocache=False),
    )
    return iter(tfds.as_numpy(dataset))


def _streamed(
    config: DataConfig,
    builder: tfds.core.DatasetBuilder,
    features: _Features,
    splits: dict[str, str],
    pipeline: PipelineConfig,
    cache: ImageCache,
) -> ImageData:
    """Builds the data set of images that stay in their files.

    The labels are not known without reading all files, so a missing part cannot be stratified: it
    is the end of the training split, which is a fair choice because TFDS shuffles the examples that
    it stores.

    Raises:
      UserError: a part is missing, and this set's examples were not shuffled; or the settings ask
        for folds.
    """
    if len(splits) < len(PARTS) and builder.info.disable_shuffling:
        raise UserError(
            f"{config.dataset} is stored in an order of its own, so that the end of its training "
            "images cannot serve as another part: raise --cache_gb until the whole set fits"
        )
    if config.folds > 1:
        raise UserError(
            f"validation={config.validation} needs all images of {config.dataset} in the cache: "
            "raise --cache_gb until the whole set fits, or leave the setting out"
        )
    instructions = dict(splits)
    end = builder.info.splits[splits["train"]].num_examples
    for part, fraction in (
        ("test", config.test_fraction),
        ("validation", config.validation_fraction),
    ):
        if part not in splits:
            begin = end - max(1, round(end * fraction))
            instructions[part] = f"{splits['train']}[{begin}:{end}]"
            end = begin
    instructions["train"] = f"{splits['train']}[:{end}]"

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = builder.info.features.deserialize_example(
            record, decoders={features.image: tfds.decode.SkipDecoding()}
        )
        return example[features.image], tf.cast(example[features.label], tf.int32)

    shards = {part: _shards(builder, split) for part, split in instructions.items()}
    return ImageData(
        name=config.dataset,
        labels=features.class_names,
        parts={
            part: StreamedPart(runs, parse, config.input_channels) for part, runs in shards.items()
        },
        skipped=(),
        fingerprint=fingerprint(
            features.class_names,
            [
                (builder.info.full_name, part, Path(run.path).name, run.skip, run.take)
                for part, runs in shards.items()
                for run in runs
            ],
        ),
        pipeline=pipeline,
        cache=cache,
        channels=config.input_channels,
    )


def _shards(builder: tfds.core.DatasetBuilder, split: str) -> Sequence[Shard]:
    """Returns the ranges of records that make up a split, for example ``train[100:200]``."""
    return [
        Shard(str(run.filename), run.skip, run.take)
        for run in builder.info.splits[split].file_instructions
    ]


def _build_command(builder: tfds.core.DatasetBuilder, name: str) -> str:
    """Returns the end of a message: the command that downloads and prepares a set."""
    # Not `tfds build`, which needs Apache Beam for every data set.
    arguments = f"'{name}', data_dir='{builder.data_dir_root}', file_format='tfrecord'"
    code = f"import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"
    return f'run: python -c "{code}"'


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
