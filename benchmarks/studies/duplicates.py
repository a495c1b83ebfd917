"""Counts near duplicates among photographs at several thresholds, and blurred images.

Pairs of two classes cannot show the same scene, and are therefore false. The class of an image is
its folder's name; in the folder of --distinct each image has a class of its own. Those images are
also blurred, to count how many of them `elite data` then calls so.

  python -m benchmarks.studies.duplicates FLOWERS --distinct=IMAGENET
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageFilter

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.data import groups
from efficientnet_elite.data.decode import decode
from efficientnet_elite.data.survey import Facts, facts_of, suspicious

FLAGS = flags.FlagValues()
flags.DEFINE_string("distinct", None, "Folder of images that all show something else.",
                    required=True, flag_values=FLAGS)  # fmt: skip
flags.DEFINE_float("blur", 2.0, "Radius of the Gaussian blur in pixels.", flag_values=FLAGS)

# Bits of the frequencies, and of all, that may differ; the last of a row is no limit.
_THRESHOLDS = ((8, 20), (8, 128), (10, 20), (10, 24), (10, 128), (12, 24), (12, 128))


def pairs(hashes: list[str], classes: list[str]) -> list[tuple[int, int, int, int]]:
    """For each threshold its two numbers, the pairs within it, and those of two classes."""
    words = np.array([[int(text[:16], 16), int(text[16:], 16)] for text in hashes], np.uint64)
    labels = np.unique(classes, return_inverse=True)[1]
    counts = np.zeros((len(_THRESHOLDS), 2), int)
    for i in range(1, len(words)):
        bits = np.bitwise_count(words[:i] ^ words[i]).astype(int)
        for row, (low, every) in enumerate(_THRESHOLDS):
            found = (bits[:, 0] <= low) & (bits.sum(axis=1) <= every)
            counts[row] += found.sum(), (found & (labels[:i] != labels[i])).sum()
    return [
        (*limits, int(found), int(false))
        for limits, (found, false) in zip(_THRESHOLDS, counts, strict=True)
    ]


def blurred(files: list[Path], radius: float) -> tuple[int, int]:
    """How many of these images are called blurred, and how many where each of them is blurred."""
    sharp = [facts_of(file.read_bytes()) for file in files]
    count = 0
    for i, file in enumerate(files):
        content = io.BytesIO()
        soft = Image.fromarray(decode(file.read_bytes()))
        soft.filter(ImageFilter.GaussianBlur(radius)).save(content, "PNG")
        among: list[Facts | None] = [*sharp[:i], facts_of(content.getvalue()), *sharp[i + 1 :]]
        count += any(f.kind == "blurred" and f.image == i for f in suspicious(among))
    return sum(finding.kind == "blurred" for finding in suspicious(sharp)), count


def main(arguments: list[str]) -> None:
    """Prints both counts to stdout."""
    distinct = sorted(Path(FLAGS.distinct).expanduser().rglob("*.jpg"))
    others = sorted(file for name in arguments for file in Path(name).expanduser().rglob("*.jpg"))
    files = [*others, *distinct]
    hashes = [
        groups.perceptual_hash(decode(file.read_bytes(), groups.HASHED_SIDE)) for file in files
    ]
    classes = [file.parent.name for file in others] + [str(file) for file in distinct]
    kept = [i for i, text in enumerate(hashes) if text]
    rows = pairs([hashes[i] for i in kept], [classes[i] for i in kept])
    heads = ["pHash bits", "all bits", "pairs", "of two classes"]
    print(f"{len(kept):,} images with contrast, of {len(files):,}")
    print(tables.aligned(heads, [[str(cell) for cell in row] for row in rows]))
    before, after = blurred(distinct, FLAGS.blur)
    print(
        f"called blurred: {before} of {len(distinct)}, and {after} when each is blurred by "
        f"{FLAGS.blur:g} pixels"
    )


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
