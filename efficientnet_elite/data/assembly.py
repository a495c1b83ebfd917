"""The last step of loading, common to all sources: split the images and build the data set.

A source lists its images as `Example`s and decodes them. `assemble` then leaves out the unreadable
images, splits the others into the parts train, validation and test (`split_into_parts`), and
computes the fingerprint by which a search recognises its data set. The checks of the user's
settings that hold for every source are here too.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError

from .cache import ImageCache
from .geometry import PipelineConfig
from .parts import ImageData, IndexedPart, SkippedImage
from .store import ImageStore

PARTS = ("train", "validation", "test")

# Names the notes that are cached together with the decoded images. It is part of the cache key, so
# that a cache file with other notes is not used: change it whenever the notes change.
NOTES = "unreadable, digests"


@dataclass(frozen=True)
class Example:
    """What is known about an image besides its pixels.

    Attributes:
      name: what the user calls the image, for example its path.
      label: number of its class.
      part: the part that the source assigns the image to: ``train`` (also where the source does
        not say), ``validation`` or ``test``.
      num_bytes: size of its file, by which an exchanged file is noticed; 0 where there is no file.
      modified_ns: time of the file's last change in nanoseconds; 0 where there is no file.
      digest: digest of its encoded bytes; empty where there are none or they are not read yet.
    """

    name: str
    label: int
    part: str = "train"
    num_bytes: int = 0
    modified_ns: int = 0
    digest: str = ""


def digest(encoded: bytes) -> str:
    """Hashes an encoded image to 32 hex digits; two images have equal digests if they are equal."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def check_config(config: DataConfig) -> None:
    """Checks the numbers in the user's settings before anything is read.

    Raises:
      UserError: a number is out of its range.
    """
    for name in ("validation_fraction", "test_fraction"):
        if not 0 < getattr(config, name) < 1:
            raise UserError(f"{name} must lie between 0 and 1, got {getattr(config, name):g}")
    if config.min_area is not None and not 0 < config.min_area <= 1:
        raise UserError(f"min_area must be above 0 and at most 1, got {config.min_area:g}")
    if config.cache_gb < 0:
        raise UserError(f"cache_gb must be 0 (keep nothing) or more, got {config.cache_gb:g}")


def check_classes(name: str, class_names: Sequence[str]) -> None:
    """Checks that a data set has at least two classes.

    Raises:
      UserError: there are fewer.
    """
    if len(class_names) < 2:
        raise UserError(
            f"{name} has a single class ({', '.join(class_names)}): a classifier needs at least two"
        )


def pipeline_for(config: DataConfig, source_default: PipelineConfig) -> PipelineConfig:
    """Returns the source's default pipeline with the user's own settings in place of its values."""
    names = ("flip", "center_crop", "min_area", "augment")
    settings = {name: getattr(config, name) for name in names}
    return replace(source_default, **{k: v for k, v in settings.items() if v is not None})


def assemble(
    config: DataConfig,
    class_names: Sequence[str],
    examples: Sequence[Example],
    unreadable: Mapping[int, str],
    store: ImageStore,
    pipeline: PipelineConfig,
    cache: ImageCache,
    part_type: type[IndexedPart] = IndexedPart,
) -> ImageData:
    """Splits the readable images and builds the data set.

    Args:
      config: the data set's name, the fractions of the parts and the seed of the split.
      class_names: name of each class, by label.
      examples: all images, readable or not.
      unreadable: for each unreadable image its position in ``examples`` and the reason.
      store: the pixels of the readable images, in the order of ``examples``.
      pipeline: how the images become network inputs.
      cache: where pixels of this data set are cached.
      part_type: class of the data set's parts.

    Raises:
      UserError: no image of a class or of a part is readable, or a class is too small to be split.
    """
    readable = [example for i, example in enumerate(examples) if i not in unreadable]
    declared = [example.part for example in readable]
    if lost_parts := {example.part for example in examples} - {"train", *declared}:
        raise UserError(
            f"{config.dataset}: no image of its {min(lost_parts)} part is readable: "
            "repair or remove it"
        )
    labels = np.array([example.label for example in readable], np.int32)
    digests = [example.digest for example in readable]
    parts = split_into_parts(labels, declared, class_names, config, digests)
    part_of = {int(i): name for name, indices in parts.items() for i in indices}
    if cache.progress:
        _report_copies(config.dataset, parts, digests)
    return ImageData(
        name=config.dataset,
        labels=tuple(class_names),
        parts={name: part_type(store, labels, indices) for name, indices in parts.items()},
        skipped=tuple(
            SkippedImage(printable(examples[i].name), reason)
            for i, reason in sorted(unreadable.items())
        ),
        fingerprint=fingerprint(
            class_names,
            # Where there is no digest the row holds 0 (not ""), as it did before digests existed:
            # work directories made then can still be continued.
            [(e.name, e.digest or 0, e.label, part_of[i]) for i, e in enumerate(readable)],
        ),
        pipeline=pipeline,
        cache=cache,
    )


def split_into_parts(
    labels: NDArray[np.int32],
    declared: Sequence[str],
    class_names: Sequence[str],
    config: DataConfig,
    digests: Sequence[str] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Assigns every image to one of the parts train, validation and test.

    A part that the source provides stays as it is. A missing part is held out of the training
    images, stratified: first the test part, then the validation part.

    Args:
      labels: label of each image, shape (n,).
      declared: the part that the source assigns each image to; ``train`` where it does not say.
      class_names: name of each class, by label.
      config: fractions of the parts and seed of the split.
      digests: digest of each image. Images of one class with equal digests are copies: they count
        as one image and stay in one part. Images with an empty digest have no copies. None: no
        image has copies.

    Returns:
      For each part the sorted positions of its images. The parts are disjoint, together they are
      0..n-1, and a part that is made here has images of every class.

    Raises:
      UserError: a class has no training image, or too few of them to be split.
    """
    declared_parts = np.array(declared)
    parts = {part: np.flatnonzero(declared_parts == part) for part in PARTS}
    missing = [part for part in ("test", "validation") if not parts[part].size]
    original = _first_copies(labels, declared, digests)
    # Without copies; the copies of an image follow it into its part.
    distinct = parts["train"][original[parts["train"]] == parts["train"]]
    counts = np.bincount(labels[distinct], minlength=len(class_names))
    _check_class_sizes(counts, class_names, missing)
    for part in missing:
        fraction = config.test_fraction if part == "test" else config.validation_fraction
        # Leave at least one image of each class for training, and one more for the validation part
        # if that is still to be held out.
        num_reserved = 2 if part == "test" and "validation" in missing else 1
        rng = np.random.default_rng([config.seed, PARTS.index(part)])
        held_out = []
        for label in range(len(class_names)):
            members = rng.permutation(distinct[labels[distinct] == label])
            count = min(max(1, round(fraction * len(members))), len(members) - num_reserved)
            held_out.append(members[:count])
        is_held_out = np.isin(original[parts["train"]], np.concatenate(held_out))
        parts[part], parts["train"] = parts["train"][is_held_out], parts["train"][~is_held_out]
        distinct = np.setdiff1d(distinct, parts[part])
    return parts


def _check_class_sizes(
    counts: NDArray[np.int64], class_names: Sequence[str], missing: Sequence[str]
) -> None:
    """Checks that each class has an image for training and one for each part to be held out.

    Args:
      counts: number of different training images of each class, shape (classes,).
      class_names: name of each class, by label.
      missing: the parts that are to be held out.

    Raises:
      UserError: a class has fewer images.
    """
    needed = 1 + len(missing)
    for name, count in zip(class_names, counts, strict=True):
        if not count:
            raise UserError(
                f"class '{name}' has no readable training image: add images or remove the class"
            )
        if count < needed:
            raise UserError(
                f"class '{name}' has too few different training images ({count}) to hold out a "
                f"{' and a '.join(missing)} part (at least {needed} are needed): "
                "add images or remove the class"
            )


def _first_copies(
    labels: NDArray[np.int32], declared: Sequence[str], digests: Sequence[str] | None
) -> NDArray[np.int64]:
    """Finds the first image with the same part, class and digest as each image.

    Returns:
      Positions, int64 (n,); an image's own position where it is the first or has no digest.
    """
    positions = np.arange(len(labels))
    if digests is None:
        return positions
    first_position: dict[tuple[str, int, str], int] = {}
    keys = zip(declared, labels.tolist(), digests, strict=True)
    for position, key in enumerate(keys):
        if key[-1]:
            positions[position] = first_position.setdefault(key, position)
    return positions


def _report_copies(
    dataset: str, parts: Mapping[str, NDArray[np.int64]], digests: Sequence[str]
) -> None:
    """Writes one line to stderr if evaluation images are copies of images in earlier parts."""
    earlier_digests: set[str] = set()
    copies_by_part = []
    for part in PARTS:
        part_digests = [digests[i] for i in parts[part]]
        if num_copies := sum(digest in earlier_digests for digest in part_digests):
            copies_by_part.append(f"{num_copies} of {len(part_digests)} {part} images")
        earlier_digests |= set(part_digests) - {""}
    if copies_by_part:
        tqdm.write(
            f"{dataset}: {' and '.join(copies_by_part)} are exact copies of images in other parts, "
            "so accuracies on them come out too high: remove the copies from one of the parts",
            file=sys.stderr,
        )


def printable(name: str) -> str:
    """Escapes what cannot be written on one line of UTF-8; not every file name can."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def fingerprint(class_names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> str:
    """Returns the SHA-256 of a data set as 64 hex digits.

    Args:
      class_names: name of each class, by label.
      rows: what identifies the images and their parts, as values that JSON can hold.
    """
    sha = hashlib.sha256(json.dumps(list(class_names)).encode())
    for row in rows:
        sha.update(json.dumps(row).encode())
    return sha.hexdigest()
