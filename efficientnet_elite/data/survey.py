"""A look at the images of a data set before anything is trained: what they are, and what is wrong.

Every image is decoded once, at a small size; nothing here needs TensorFlow. Thresholds that say
what is suspicious stand in one place below, and docs/data.md says what they find.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from . import groups
from .decode import UnreadableImage, decode, holds_twelve_bits, opened
from .listing import Example, Listing, digest

_BLURRED = 0.25  # of the data set's median detail
_DARK = 50  # of 255: nearly all pixels are below
_UNIFORM = 6.0  # grey levels, standard deviation
_GREY = 3.0  # mean difference between an image's colour channels

T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What one image is.

    Attributes:
      width, height: in pixels, as stored.
      digest: see `listing.digest`.
      hash: see `groups.perceptual_hash`.
      brightness: that 95 % of the pixels do not exceed, 0..255.
      contrast: standard deviation of the brightness.
      detail: what 99 % of the Laplacian's absolute values do not exceed; low where nothing is
        sharp.
      colour: mean difference of the largest and the smallest of a pixel's three channels.
      twelve_bits: whether it stores 16 bits and holds 12.
    """

    width: int
    height: int
    digest: str
    hash: str
    brightness: float
    contrast: float
    detail: float
    colour: float
    twelve_bits: bool


class Finding(NamedTuple):
    """Something about one image that the user should look at.

    Attributes:
      kind: key of `KINDS`.
      image: its number in the listing.
      detail: more about it; may be empty.
    """

    kind: str
    image: int
    detail: str = ""


KINDS = {
    "unreadable": "cannot be read; left out",
    "blurred": "hardly any detail, compared with the other images",
    "dark": "almost black",
    "uniform": "almost no contrast",
    "greyscale": "no colours, unlike most others",
    "12 bits": "12 bits stored as 16; the largest value, 4095, becomes white",
}
"""Kinds of findings and what they mean, in the order in which they are shown."""


@dataclass(frozen=True)
class Group:
    """Images that are the same, or look alike.

    Attributes:
      images: their numbers in the listing, two or more.
      copies: whether their files are equal; otherwise they are near duplicates.
      parts: parts that they are in, in the data set's own division.
      classes: labels of their classes; with more than one, at least one of them is wrong.
    """

    images: tuple[int, ...]
    copies: bool
    parts: tuple[str, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Survey:
    """What is known about a data set.

    Attributes:
      name: of the data set.
      listing: its images.
      facts: of each image; None for those that cannot be read.
      findings: by kind, then by image.
      groups: copies and near duplicates; those of several classes or parts first.
    """

    name: str
    listing: Listing
    facts: Sequence[Facts | None]
    findings: Sequence[Finding]
    groups: Sequence[Group]

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """Part to the number of readable images of each class, for the parts that there are."""
        classes = len(self.listing.class_names)
        counts = {}
        for part in ("train", "validation", "test"):
            labels = [e.label for e, f in self._readable() if e.part == part]
            if labels or part == "train":
                counts[part] = np.bincount(np.array(labels, np.int64), minlength=classes)
        return counts

    def totals(self) -> NDArray[np.int64]:
        """The number of readable images of each class in all parts."""
        return np.sum([*self.counts().values()], axis=0)

    def shorter_sides(self) -> list[int]:
        """The shorter side of each readable image, in pixels."""
        return [min(facts.width, facts.height) for _, facts in self._readable()]

    def _readable(self) -> Iterator[tuple[Example, Facts]]:
        for example, facts in zip(self.listing.examples, self.facts, strict=True):
            if facts is not None:
                yield example, facts


def survey(name: str, listing: Listing, *, progress: bool = True) -> Survey:
    """Looks at all images of a data set.

    Args:
      name: of the data set.
      listing: its images.
      progress: whether to show a progress bar on stderr.
    """
    reasons: dict[int, str] = {}

    def look(number: int) -> Facts | None:
        try:
            return facts_of(listing.encoded(number))
        except UnreadableImage as error:
            reasons[number] = str(error)
            return None

    count = len(listing.examples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = tqdm(
            pool.map(look, range(count)),
            "looking at images",
            count,
            disable=not progress,
            unit="image",
        )
        facts = [*looks]
    findings = [Finding("unreadable", i, reason) for i, reason in sorted(reasons.items())]
    return Survey(name, listing, facts, findings + suspicious(facts), alike(listing, facts))


def facts_of(encoded: bytes) -> Facts:
    """What an image is; UnreadableImage if it cannot be decoded."""
    with opened(encoded) as image:
        width, height = image.size
        twelve_bits = holds_twelve_bits(image)
    pixels = decode(encoded, groups.HASHED_SIDE)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    # Edges are repeated, so that an image of one pixel has a Laplacian, too.
    around = np.pad(grey, 1, mode="edge")
    laplacian = (
        around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * grey
    )
    return Facts(
        width=width,
        height=height,
        digest=digest(encoded),
        hash=groups.perceptual_hash(pixels),
        brightness=float(np.percentile(grey, 95)),
        contrast=float(grey.std()),
        detail=float(np.percentile(np.abs(laplacian), 99)),
        colour=float(np.mean(pixels.max(axis=2) - pixels.min(axis=2))),
        twelve_bits=twelve_bits,
    )


def suspicious(facts: Sequence[Facts | None]) -> list[Finding]:
    """The findings on images that can be read."""
    known = [(number, each) for number, each in enumerate(facts) if each is not None]
    if not known:
        return []
    typical = median(each.detail for _, each in known)
    grey = sum(each.colour < _GREY for _, each in known)

    def is_dark(each: Facts) -> bool:
        return each.brightness < _DARK

    def is_uniform(each: Facts) -> bool:
        return each.contrast < _UNIFORM and not is_dark(each)

    def shows_something(each: Facts) -> bool:
        return not is_dark(each) and not is_uniform(each)

    tests: dict[str, Callable[[Facts], bool]] = {
        "blurred": lambda each: each.detail < _BLURRED * typical and shows_something(each),
        "dark": is_dark,
        "uniform": is_uniform,
        # Where most are grey, that is what the data set is like.
        "greyscale": lambda each: (
            each.colour < _GREY and 2 * grey < len(known) and shows_something(each)
        ),
        "12 bits": lambda each: each.twelve_bits,
    }
    return [Finding(kind, i) for kind, test in tests.items() for i, each in known if test(each)]


def alike(listing: Listing, facts: Sequence[Facts | None]) -> list[Group]:
    """Copies and near duplicates among the images that can be read."""
    digests = [None if each is None else each.digest for each in facts]
    grouping = groups.joined(
        groups.same(digests),
        groups.near_duplicates(["" if each is None else each.hash for each in facts]),
    )
    order = np.argsort(grouping, kind="stable")
    found = []
    for members in np.split(order, np.flatnonzero(np.diff(grouping[order])) + 1):
        if len(members) > 1:
            images = tuple(members.tolist())
            examples = [listing.examples[i] for i in images]
            found.append(
                Group(
                    images,
                    copies=len({digests[i] for i in images}) == 1,
                    parts=tuple(dict.fromkeys(example.part for example in examples)),
                    classes=tuple(sorted({example.label for example in examples})),
                )
            )
    return sorted(found, key=lambda g: (-len(g.classes), -len(g.parts), not g.copies, g.images))
