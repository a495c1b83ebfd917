"""The one rule for which image serves which purpose.

- ``train``: what the networks learn from, and where calibration images come from.
- ``validation``: what eliminations are decided on.
- ``test``: what the reported accuracy is measured on; no decision ever looks at it.

A part the source brings is used as it is. A test part it lacks is held out of its training images
first (``test_fraction`` of them), then a validation part it lacks is held out of what remains
(``validation_fraction``). Both are stratified by class and a pure function of the seed; copies of
an image go where it goes, for a part of its own tells nothing of images already seen. What a
source calls its parts is the source's business, with one exception that TFDS makes by custom: a
set published as train + validation reports on validation, so there it is the test part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig
from ..errors import UserError

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
