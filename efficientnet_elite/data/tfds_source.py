"""Data sets of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from ..config import DataConfig
from ..errors import UserError
from .assembly import (
    NOTES,
    PARTS,
    Example,
    assemble,
    check_classes,
    digest,
    fingerprint,
    pipeline_for,
)
from .cache import Add, ImageCache
from .decode import Pixels, UnreadableImage, decode
from .geometry import PipelineConfig
from .parts import ImageData
from .store import DecodedStore, decode_all
from .stream import Shard, StreamedPart

# Beyond this many bytes a download is the user's decision.
_MAX_DOWNLOAD = 10**9
_IMAGENET = "imagenet2012"


class _Features(NamedTuple):
    """Where a TFDS set keeps what we need."""

    image: str
    label: str
    class_names: tuple[str, ...]


def load_tfds(
    config: DataConfig,
    name: str,
    max_side: int | None,
    open_cache: Callable[[object], ImageCache],
) -> ImageData:
    """Loads ``tfds:name``.

    Args:
      config: as of ``load``.
      name: of the set, with its configuration and version where wanted: ``NAME/CONFIG:VERSION``.
      max_side: as of ``load``.
      open_cache: what the decoded images depend on to the cache that keeps them.

    Raises:
      UserError: unknown, not prepared, no image classification set, or no training images.
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
        if record[features.label] < 0:  # TFDS's sign for "not published"
            raise UnreadableImage("has no label")
        return decode(record[features.image], max_side)

    def keep(add: Add) -> dict[str, Any]:
        examples = []

        def records() -> Iterator[dict[str, Any]]:
            for part, split in splits.items():
                for record in _read(builder, features, split):
                    # TFDS's id: the file and the position in it.
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

    kept = cache.keep("decoded", keep, key=NOTES)
    if kept.flat is None:
        return _streamed(config, builder, features, splits, max_side, pipeline, cache)
    return assemble(
        config,
        features.class_names,
        [
            Example(name, label, part, digest=found)
            for name, label, part, found in kept.notes["examples"]
        ],
        dict(kept.notes["unreadable"]),
        DecodedStore(kept.flat, kept.shapes),
        pipeline,
        cache,
    )


def _identity(
    builder: tfds.core.DatasetBuilder, splits: dict[str, str]
) -> list[tuple[str, int, int]]:
    """Name, size and date of each file."""
    paths = [path for split in splits.values() for path in builder.info.splits[split].filepaths]
    found = [(path.name, path.stat()) for path in paths]  # TFDS's paths: buckets have them too
    return [(name, status.length, status.mtime) for name, status in found]


def _prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UserError(
            f"TFDS knows no data set '{name}': see https://www.tensorflow.org/datasets/catalog"
        ) from error
    # What TFDS raises for an unknown configuration or version.
    except (ValueError, AssertionError) as error:
        raise UserError(f"tfds:{name}: {_one_line(error)}") from error
    if builder.is_prepared():
        return builder

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
    message = f"downloading tfds:{name} ({sum(sizes) / 1e6:.3g} MB) to {root}"
    tqdm.write(message, file=sys.stderr)
    try:
        builder.download_and_prepare()
    except Exception as error:  # network, disk, a dependency of this one set: all the user's
        raise UserError(
            f"tfds:{name} could not be downloaded and prepared in {root}: {_one_line(error)}"
        ) from error
    return builder


def _features(builder: tfds.core.DatasetBuilder, name: str) -> _Features:
    info = builder.info
    images = [k for k, v in info.features.items() if isinstance(v, tfds.features.Image)]
    labels = [k for k, v in info.features.items() if isinstance(v, tfds.features.ClassLabel)]
    if info.supervised_keys and len(info.supervised_keys) == 2:
        image, label = info.supervised_keys
        images, labels = [k for k in images if k == image], [k for k in labels if k == label]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"tfds:{name} is no image classification data set (one image, one class label)"
        )
    return _Features(images[0], labels[0], tuple(info.features[labels[0]].names))


def _splits(builder: tfds.core.DatasetBuilder, features: _Features, name: str) -> dict[str, str]:
    """The split for each part that the set brings; see ``splits`` for the rule."""
    names = [split for split, info in builder.info.splits.items() if info.num_examples]
    if "train" not in names and len(names) != 1:
        raise UserError(f"tfds:{name} has no split named train, only {', '.join(names)}")
    parts = {"train": "train" if "train" in names else names[0]}
    # A test split without labels (ImageNet's, most challenges') measures nothing.
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
    """A split's records in the order of its files, the images as encoded."""
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
    max_side: int | None,
    pipeline: PipelineConfig,
    cache: ImageCache,
) -> ImageData:
    """A set that stays on disk.

    Its labels are not known without reading all of it, so a part that it lacks is not stratified
    but the end of the training split; TFDS stores examples in a shuffled order.

    Raises:
      UserError: a part is lacking and this set is stored in another order.
    """
    if len(splits) < len(PARTS) and builder.info.disable_shuffling:
        raise UserError(
            f"{config.dataset} is stored in an order of its own, so the end of its training images "
            "is no fair part: have all of it in memory (--cache_gb)"
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
        parts={part: StreamedPart(runs, parse, max_side) for part, runs in shards.items()},
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
    )


def _shards(builder: tfds.core.DatasetBuilder, split: str) -> Sequence[Shard]:
    return [
        Shard(str(run.filename), run.skip, run.take)
        for run in builder.info.splits[split].file_instructions
    ]


def _build_command(builder: tfds.core.DatasetBuilder, name: str) -> str:
    # Not `tfds build`: that needs Apache Beam installed, whatever the data set.
    arguments = f"'{name}', data_dir='{builder.data_dir_root}', file_format='tfrecord'"
    code = f"import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"
    return f'run: python -c "{code}"'


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
