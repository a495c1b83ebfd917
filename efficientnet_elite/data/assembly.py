"""The last step of loading: decoded images, labels and parts become one data set."""

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


def split(
    labels: NDArray[np.int32],
    declared: Sequence[str],
    class_names: Sequence[str],
    config: DataConfig,
    digests: Sequence[str] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Assigns every image to one part.

    Args:
      labels: class of each image, shape (n,).
      declared: the part the source puts each image in, ``train`` where it does not say.
      class_names: by label.
      config: fractions and seed.
      digests: equal for equal images, which count as one where they have a class in common; an
        empty one is like no other. None: all differ.

    Returns:
      Sorted positions by part: disjoint, together 0..n-1, each class in each part made here.

    Raises:
      UserError: a class without training images, or with too few to be split.
    """
    part_of = np.array(declared)
    parts = {part: np.flatnonzero(part_of == part) for part in PARTS}
    missing = [part for part in ("test", "validation") if not parts[part].size]
    original = _originals(labels, declared, digests)
    distinct = parts["train"][original[parts["train"]] == parts["train"]]
    counts = np.bincount(labels[distinct], minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if not count:
            raise UserError(
                f"class '{name}' has no readable training image: add images or remove the class"
            )
        if count < 1 + len(missing):
            raise UserError(
                f"class '{name}' has too few different training images ({count}) to hold out a "
                f"{' and a '.join(missing)} part (at least {1 + len(missing)} are needed): "
                "add images or remove the class"
            )
    for part in missing:
        fraction = config.test_fraction if part == "test" else config.validation_fraction
        # Leave each class an image for training and for the part that may still be held out.
        spared = 2 if part == "test" and "validation" in missing else 1
        rng = np.random.default_rng([config.seed, PARTS.index(part)])
        held_out = []
        for label in range(len(class_names)):
            members = rng.permutation(distinct[labels[distinct] == label])
            count = min(max(1, round(fraction * len(members))), len(members) - spared)
            held_out.append(members[:count])
        chosen = np.isin(original[parts["train"]], np.concatenate(held_out))
        parts[part], parts["train"] = parts["train"][chosen], parts["train"][~chosen]
        distinct = np.setdiff1d(distinct, parts[part])
    return parts


def _originals(
    labels: NDArray[np.int32], declared: Sequence[str], digests: Sequence[str] | None
) -> NDArray[np.int64]:
    """The first image of the same part and class that each is a copy of; its own number if none."""
    numbers = np.arange(len(labels))
    if digests is None:
        return numbers
    first: dict[tuple[str, int, str], int] = {}
    keys = zip(declared, labels.tolist(), digests, strict=True)
    for number, key in enumerate(keys):
        if key[-1]:
            numbers[number] = first.setdefault(key, number)
    return numbers


# What is noted beside decoded images. Part of their file's name: others have other notes.
NOTES = "unreadable, digests"


@dataclass(frozen=True)
class Example:
    """What is known of an image beside its pixels.

    Attributes:
      name: as the user knows it.
      label: its class.
      part: where the source puts it: ``train`` (also where the source does not say),
        ``validation`` or ``test``.
      num_bytes: size of its file, so that an exchanged one is noticed; 0 where it has none.
      modified_ns: when its file was last changed; 0 where it has none.
      digest: of its encoded bytes; empty where there are none, or they have not been read yet.
    """

    name: str
    label: int
    part: str = "train"
    num_bytes: int = 0
    modified_ns: int = 0
    digest: str = ""


def digest(encoded: bytes) -> str:
    """Of an encoded image, as 32 hex digits: equal for equal images alone."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def check_config(config: DataConfig) -> None:
    """Checks the numbers, before anything is read.

    Raises:
      UserError: one of them is out of its range.
    """
    for name in ("validation_fraction", "test_fraction"):
        if not 0 < getattr(config, name) < 1:
            raise UserError(f"{name} must lie between 0 and 1, got {getattr(config, name):g}")
    if config.min_area is not None and not 0 < config.min_area <= 1:
        raise UserError(f"min_area must be above 0 and at most 1, got {config.min_area:g}")
    if config.cache_gb < 0:
        raise UserError(f"cache_gb must be 0 (keep nothing) or more, got {config.cache_gb:g}")


def check_classes(name: str, class_names: Sequence[str]) -> None:
    """Checks that there is something to tell apart.

    Raises:
      UserError: fewer than two classes.
    """
    if len(class_names) < 2:
        raise UserError(
            f"{name} has a single class ({', '.join(class_names)}): a classifier needs at least two"
        )


def pipeline_for(config: DataConfig, source_default: PipelineConfig) -> PipelineConfig:
    """The pipeline of a source with the user's own settings put in."""
    wanted = {
        name: getattr(config, name) for name in ("flip", "center_crop", "min_area", "augment")
    }
    return replace(source_default, **{k: v for k, v in wanted.items() if v is not None})


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
    """Splits the readable images and puts everything together.

    Args:
      config: how to split.
      class_names: by label.
      examples: all images, readable or not.
      unreadable: reason by position in ``examples``.
      store: the readable images in order.
      pipeline: of this data set.
      cache: of this data set.
      part_type: what its parts are.

    Raises:
      UserError: a class or a part without readable images, or a class too small to be split.
    """
    readable = [example for i, example in enumerate(examples) if i not in unreadable]
    declared = [example.part for example in readable]
    if lost := {example.part for example in examples} - {"train", *declared}:
        raise UserError(
            f"{config.dataset}: no image of its {min(lost)} part is readable: repair or remove it"
        )
    labels = np.array([example.label for example in readable], np.int32)
    digests = [example.digest for example in readable]
    parts = split(labels, declared, class_names, config, digests)
    part_of = {int(i): name for name, indices in parts.items() for i in indices}
    if cache.progress:
        _name_copies(config.dataset, parts, digests)
    return ImageData(
        name=config.dataset,
        labels=tuple(class_names),
        parts={name: part_type(store, labels, indices) for name, indices in parts.items()},
        skipped=tuple(
            SkippedImage(_printable(examples[i].name), reason)
            for i, reason in sorted(unreadable.items())
        ),
        fingerprint=fingerprint(
            class_names,
            # 0 rather than "": work directories of the digits go on.
            [(e.name, e.digest or 0, e.label, part_of[i]) for i, e in enumerate(readable)],
        ),
        pipeline=pipeline,
        cache=cache,
    )


def _name_copies(
    dataset: str, parts: Mapping[str, NDArray[np.int64]], digests: Sequence[str]
) -> None:
    """One line on stderr where images that are to judge have been seen before."""
    seen: set[str] = set()
    found = []
    for part in PARTS:
        own = [digests[i] for i in parts[part]]
        if copies := sum(digest in seen for digest in own):
            found.append(f"{copies} of {len(own)} {part} images")
        seen |= set(own) - {""}
    if found:
        tqdm.write(
            f"{dataset}: {' and '.join(found)} are copies of images in other parts, to the byte: "
            "accuracies on them flatter",
            file=sys.stderr,
        )


def _printable(name: str) -> str:
    """A file's name as one line that can be written as UTF-8, which not all names are."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def fingerprint(class_names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> str:
    """SHA-256 of the class names and of what identifies the images, as 64 hex digits."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
