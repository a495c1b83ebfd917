"""Images that belong together: near duplicates by a perceptual hash, and groups that names tell.

A *grouping* of n images is an array int64 (n,): for each image the position of the first image of
its group, which is its own where it stands alone.

The hash has 128 bits: the signs of the 63 lowest frequencies of the image against their median
(pHash), a zero, and whether brightness rises from one to the next of 8 x 9 areas (dHash). Two
images are near duplicates if the frequencies differ in at most `MOST_FREQUENCIES` bits and all bits
in at most `MOST_BITS`; docs/data.md has the measurement behind these numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError

from .decode import Pixels, image_of
from .listing import Example, first_group

HASHED_SIDE = 160
"""Images are shrunk to this shorter side, in pixels, before they are hashed. So the hash does not
depend on the size at which a search stores images, and large JPEG files are decoded quickly."""

MOST_FREQUENCIES = 8
MOST_BITS = 20

_GREY_SIDE = 32  # pixels
_LEAST_CONTRAST = 3.0  # grey levels, standard deviation; below it a hash would be that of noise
_BANDS, _BAND_BITS = MOST_FREQUENCIES + 1, 7  # hashes that differ in 8 bits agree in a band of 9

_cosines = np.cos(
    np.pi * np.arange(8)[:, np.newaxis] * (2 * np.arange(_GREY_SIDE) + 1) / (2 * _GREY_SIDE)
)


def perceptual_hash(pixels: Pixels) -> str:
    """A hash that changes little where an image is scaled, compressed or brightened.

    Args:
      pixels: uint8 (height, width, 3 or 1), as `decode` gives them for `HASHED_SIDE`.

    Returns:
      32 hexadecimal digits; empty for an image without contrast.
    """
    grey = image_of(pixels).convert("L")
    fine = np.asarray(grey.resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.BICUBIC), np.float64)
    if fine.std() < _LEAST_CONTRAST:
        return ""
    frequencies = (_cosines @ fine @ _cosines.T).ravel()[1:]
    coarse = np.asarray(grey.resize((9, 8), Image.Resampling.BICUBIC))
    low = np.append(frequencies > np.median(frequencies), False)
    rising = (coarse[:, 1:] > coarse[:, :-1]).ravel()
    return np.packbits(np.concatenate([low, rising])).tobytes().hex()


def near_duplicates(hashes: Sequence[str]) -> NDArray[np.int64]:
    """Groups images that look alike; also two that do not, if a third one is like both.

    Hashes are compared only where a band of their bits is equal, so that the time does not grow
    with the square of the number of images.

    Args:
      hashes: of `perceptual_hash`; an image with an empty one stands alone.
    """
    known = np.flatnonzero([bool(text) for text in hashes])
    if not known.size:
        return np.arange(len(hashes))
    words = np.frombuffer(bytes.fromhex("".join(hashes)), ">u8").astype(np.uint64).reshape(-1, 2)
    distinct, first, which = np.unique(words, axis=0, return_index=True, return_inverse=True)
    grouping = np.arange(len(hashes))
    grouping[known] = known[first[which.reshape(-1)]]
    edges = np.array([*_similar(distinct)], np.int64).reshape(-1, 2)
    alike = np.arange(len(hashes))
    alike[known[first]] = known[first[_connected(len(distinct), edges)]]
    return joined(grouping, alike)


def _similar(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs that connect all near duplicates among different hashes (n, 2); some come twice.

    What is connected already is not compared again: a fixed camera takes a hundred thousand images
    that are all alike.
    """
    for band in range(_BANDS):
        keys = (hashes[:, 0] >> np.uint64(1 + band * _BAND_BITS)) & np.uint64(2**_BAND_BITS - 1)
        order = np.argsort(keys, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            todo, rest, words = [bucket[0]], bucket[1:], hashes[bucket[1:]]
            while len(rest):
                this = todo.pop()
                near = np.bitwise_count(words[:, 0] ^ hashes[this, 0]) <= MOST_FREQUENCIES
                if near.any():
                    bits = np.bitwise_count(words[near] ^ hashes[this]).sum(axis=1)
                    near[near] = bits <= MOST_BITS
                    yield from ((this, other) for other in rest[near])
                    todo.extend(rest[near])
                    rest, words = rest[~near], words[~near]
                if not todo and len(rest):
                    todo, rest, words = [rest[0]], rest[1:], words[1:]


def same(keys: Iterable[Hashable]) -> NDArray[np.int64]:
    """Groups images with equal keys; one whose key is None stands alone."""
    first: dict[Hashable, int] = {}
    return np.array(
        [i if key is None else first.setdefault(key, i) for i, key in enumerate(keys)], np.int64
    )


def joined(*groupings: NDArray[np.int64]) -> NDArray[np.int64]:
    """The grouping in which images are together that are together in any of these."""
    count = len(groupings[0])
    edges = np.stack([np.tile(np.arange(count), len(groupings)), np.concatenate(groupings)], axis=1)
    return _connected(count, edges)


def _connected(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """The grouping of what edges (m, 2) connect."""
    from scipy.sparse import coo_array, csgraph

    graph = coo_array((np.ones(len(edges), bool), tuple(edges.T)), (count, count))
    numbers = csgraph.connected_components(graph, directed=False)[1]
    first, which = np.unique(numbers, return_index=True, return_inverse=True)[1:]
    return np.asarray(first[which], np.int64)


# -- what stays together when parts are split off ------------------------------------------------


def missing_parts(declared: Collection[str]) -> list[str]:
    """The parts that have to be split off the training images, in this order."""
    return [part for part in ("test", "validation") if part not in declared]


def needs_hashes(config: DataConfig, examples: Iterable[Example]) -> bool:
    """Whether near duplicates have to be found to split these images."""
    return config.group_duplicates is not False and bool(
        missing_parts({example.part for example in examples})
    )


def of_examples(
    config: DataConfig, examples: Sequence[Example], class_names: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """The grouping of a data set's images by which its parts are split off.

    Copies, which are equal to the byte and of one class, belong together; so do near duplicates and
    images whose names say so. Images outside of the training part are in a part already and stand
    alone.

    Args:
      config: the settings.
      examples: the images; those without a hash have no near duplicates.
      class_names: names of the classes, by label.

    Returns:
      The grouping, and sentences that the user should read.

    Raises:
      UserError: no name matches the regular expression that names groups.
    """
    free = [example.part == "train" for example in examples]

    def same_of_free(keys: Iterable[Hashable]) -> NDArray[np.int64]:
        return same(key if is_free else None for key, is_free in zip(keys, free, strict=True))

    groupings = [same_of_free((e.label, e.digest) if e.digest else None for e in examples)]
    remarks = []
    if config.group_by_name is not None:
        names, remark = _named(config.group_by_name, [example.name for example in examples])
        groupings.append(same_of_free(names))
        remarks.append(remark)
    if needs_hashes(config, examples):
        alike = near_duplicates([e.hash if e.part == "train" else "" for e in examples])
        least = 1 + len(missing_parts({example.part for example in examples}))
        labels = np.array([e.label if e.part == "train" else -1 for e in examples])
        uniform = [
            label for label in range(len(class_names)) if _is_uniform(alike[labels == label], least)
        ]
        if uniform:
            remarks.append(
                f"images of {', '.join(class_names[label] for label in uniform)} look so much "
                "alike that near duplicates among them cannot be kept in one part"
            )
        keys = zip(alike.tolist(), np.isin(labels, uniform), strict=True)
        groupings.append(same(None if is_uniform else group for group, is_uniform in keys))
    return joined(*groupings), [remark for remark in remarks if remark]


def _named(pattern: str, names: Sequence[str]) -> tuple[list[str | None], str]:
    """The group that each name tells, None for none; and a remark on those that tell none."""
    found = [first_group(pattern, name) or None for name in names]
    silent = [name for name, group in zip(names, found, strict=True) if group is None]
    if len(silent) == len(names):
        raise UserError(f"group_by_name={pattern} matches no image, such as {names[0]}")
    if not silent:
        return found, ""
    return found, (
        f"{len(silent)} of {len(names)} names do not match group_by_name, such as {silent[0]}: "
        "each of these images is a group of its own"
    )


def _is_uniform(grouping: NDArray[np.int64], least: int) -> bool:
    """Whether the images of a class are so alike that the grouping would leave too little to split.

    Args:
      grouping: group of each image of the class.
      least: number of groups that are needed.
    """
    counts = np.unique(grouping, return_counts=True)[1]
    return counts.max(initial=0) > 1 and bool(
        counts.size < least or counts.max() > counts.sum() / 2
    )
