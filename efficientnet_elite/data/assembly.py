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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError

from . import groups as grouping_lib
from .cache import ImageCache
from .choices import Augmentations
from .geometry import PipelineConfig
from .listing import Example, check_regex, single_class
from .parts import ImageData, IndexedPart, SkippedImage
from .store import ImageStore

PARTS = ("train", "validation", "test")

# Names the notes that are cached together with the decoded images. It is part of the cache key, so
# that a cache file with other notes is not used: change it whenever the notes change.
NOTES = "unreadable, digests"


def check_config(config: DataConfig) -> None:
    """Checks the numbers in the user's settings before anything is read.

    Raises:
      UserError: a number is out of its range.
    """
    for name, share in (
        ("validation", config.validation_fraction),
        ("test_fraction", config.test_fraction),
    ):
        if not 0 < share < 1:
            raise UserError(f"{name} must lie between 0 and 1, got {share:g}")
    if config.min_area is not None and not 0 < config.min_area <= 1:
        raise UserError(f"min_area must be above 0 and at most 1, got {config.min_area:g}")
    if config.cache_gb < 0:
        raise UserError(f"cache_gb must be 0 (keep nothing) or more, got {config.cache_gb:g}")
    for name in ("label_regex", "group_by_name"):
        if (pattern := getattr(config, name)) is not None:
            check_regex(name, pattern)


def check_classes(name: str, class_names: Sequence[str]) -> None:
    """Checks that a data set has at least two classes.

    Raises:
      UserError: there are fewer.
    """
    if len(class_names) < 2:
        raise UserError(f"{name}: {single_class(class_names)}")


def pipeline_for(config: DataConfig, source_default: PipelineConfig) -> PipelineConfig:
    """Returns the source's default pipeline with the user's own settings in place of its values."""
    names = ("flip", "center_crop", "min_area", "augment")
    settings = {name: getattr(config, name) for name in names}
    settings["policy_sha256"] = Augmentations.of(config.augment).policy_sha256
    return replace(source_default, **{k: v for k, v in settings.items() if v is not None})


def evaluation_bytes(config: DataConfig, declared: Sequence[str], max_side: int | None) -> int:
    """Returns the bytes of the evaluation parts at the size of a network's input.

    They come first where the cache has not enough room for all images: an epoch looks at each of
    them as at each training image, and at the size of the input they take less than half the room.

    Args:
      config: fractions of the parts, and number of channels.
      declared: the part that the source assigns each image to.
      max_side: greatest length of a cached image's shorter side, which is 1.5 times that of the
        largest input; None: inputs are not known, and nothing is reserved.
    """
    if max_side is None:
        return 0
    counts = Counter(declared)
    held_out = counts["validation"] + counts["test"]
    for part, fraction in (
        ("test", config.test_fraction),
        ("validation", config.validation_fraction),
    ):
        if not counts[part]:
            held_out += round(counts["train"] * fraction)
    return held_out * config.input_channels * (max_side * 2 // 3) ** 2


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
    grouping, remarks = grouping_lib.of_examples(config, readable, class_names)
    if cache.progress:
        for remark in remarks:
            tqdm.write(f"{config.dataset}: {remark}", file=sys.stderr)
    parts = split_into_parts(labels, declared, class_names, config, grouping)
    part_of = {int(i): name for name, indices in parts.items() for i in indices}
    if cache.progress:
        _report_copies(config.dataset, parts, digests)
    folds = further_folds(labels, declared, class_names, config, grouping, parts)
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
        names={
            name: tuple(printable(readable[i].name) for i in indices)
            for name, indices in parts.items()
        },
        channels=config.input_channels,
        folds=tuple(
            {name: part_type(store, labels, indices) for name, indices in fold.items()}
            for fold in folds
        ),
    )


def split_into_parts(
    labels: NDArray[np.int32],
    declared: Sequence[str],
    class_names: Sequence[str],
    config: DataConfig,
    grouping: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Assigns every image to one of the parts train, validation and test.

    A part that the source provides stays as it is. A missing part is held out of the training
    images, stratified: first the test part, then the validation part.

    Args:
      labels: label of each image, shape (n,).
      declared: the part that the source assigns each image to; ``train`` where it does not say.
      class_names: name of each class, by label.
      config: fractions of the parts and seed of the split.
      grouping: which images belong together, see `groups`; those of a group have the same declared
        part. A group counts as one image and stays in one part. It may have images of several
        classes, and then counts in each of them. None: every image stands alone.

    Returns:
      For each part the sorted positions of its images. The parts are disjoint, together they are
      0..n-1, and a part that is made here has images of every class.

    Raises:
      UserError: a class has no training image, or too few of them to be split.
    """
    declared_parts = np.array(declared)
    parts = {part: np.flatnonzero(declared_parts == part) for part in PARTS}
    missing = grouping_lib.missing_parts(declared)
    grouping = np.arange(len(labels)) if grouping is None else grouping
    groups_of = [
        np.unique(grouping[parts["train"]][labels[parts["train"]] == label])
        for label in range(len(class_names))
    ]
    _check_class_sizes([len(groups) for groups in groups_of], class_names, missing)
    for part in missing:
        fraction = config.test_fraction if part == "test" else config.validation_fraction
        # Leave at least one group of each class for training, and one more for the validation part
        # if that is still to be held out.
        num_reserved = 2 if part == "test" and "validation" in missing else 1
        rng = np.random.default_rng([config.seed, PARTS.index(part)])
        taken = _held_out(groups_of, fraction, num_reserved, class_names, rng)
        is_held_out = np.isin(grouping[parts["train"]], taken)
        parts[part], parts["train"] = parts["train"][is_held_out], parts["train"][~is_held_out]
        groups_of = [np.setdiff1d(groups, taken) for groups in groups_of]
    return parts


def further_folds(
    labels: NDArray[np.int32],
    declared: Sequence[str],
    class_names: Sequence[str],
    config: DataConfig,
    grouping: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.int64]],
) -> list[dict[str, NDArray[np.int64]]]:
    """Divides the training part into the folds that there are besides the validation part.

    The folds are made as the parts are: stratified, with groups as a whole.

    Args:
      labels, declared, class_names, config, grouping: see `split_into_parts`.
      parts: its result.

    Returns:
      For each fold the sorted positions of the parts train and validation; none without folds.

    Raises:
      UserError: the source provides the validation part, or a class has too few images.
    """
    if config.folds == 1:
        return []
    if "validation" in declared:
        raise UserError(
            f"validation={config.validation}: {config.dataset} has a validation part of its own, "
            "which stays as it is: leave the setting out"
        )
    train, count = parts["train"], config.folds - 1
    groups_of = [
        np.unique(grouping[train][labels[train] == label]) for label in range(len(class_names))
    ]
    for name, groups in zip(class_names, groups_of, strict=True):
        if len(groups) < count:
            raise UserError(
                f"validation={config.validation}: class '{name}' has {len(groups)} different "
                f"training images, fewer than the {count} that so many folds need: add images, or "
                "leave the setting out"
            )
    rng = np.random.default_rng([config.seed, len(PARTS)])
    both = np.union1d(train, parts["validation"])
    folds = []
    for left in range(count, 0, -1):
        taken = _held_out(groups_of, 1 / left, left - 1, class_names, rng)
        validation = train[np.isin(grouping[train], taken)]
        folds.append({"train": np.setdiff1d(both, validation), "validation": validation})
        groups_of = [np.setdiff1d(groups, taken) for groups in groups_of]
    return folds


def _held_out(
    groups_of: Sequence[NDArray[np.int64]],
    fraction: float,
    num_reserved: int,
    class_names: Sequence[str],
    rng: np.random.Generator,
) -> list[int]:
    """Draws groups for one part.

    Args:
      groups_of: the groups of each class that are left.
      fraction: share of them to draw from each class.
      num_reserved: so many groups of each class stay.
      class_names: name of each class.
      rng: gives the order of the groups.

    Raises:
      UserError: the groups that would have to stay for one class are all those of another.
    """
    classes_of: dict[int, list[int]] = {}
    for label, groups in enumerate(groups_of):
        for group in groups.tolist():
            classes_of.setdefault(group, []).append(label)
    most = [len(groups) - num_reserved for groups in groups_of]
    counts = [0] * len(groups_of)
    taken: list[int] = []
    for label, groups in enumerate(groups_of):
        wanted = min(max(1, round(fraction * len(groups))), most[label])
        for group in rng.permutation(groups).tolist():
            if counts[label] >= wanted:
                break
            classes = classes_of[group]
            if classes and all(counts[each] < most[each] for each in classes):
                taken.append(group)
                classes_of[group] = []  # a later class must not draw it again
                for each in classes:
                    counts[each] += 1
    for name, count in zip(class_names, counts, strict=True):
        if not count:
            raise UserError(
                f"no group of class '{name}' can be held out without taking all groups of another "
                "class: add images, or provide the parts yourself"
            )
    return taken


def _check_class_sizes(
    counts: Sequence[int], class_names: Sequence[str], missing: Sequence[str]
) -> None:
    """Checks that each class has an image for training and one for each part to be held out.

    Args:
      counts: number of different training images, or of groups of them, of each class.
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
