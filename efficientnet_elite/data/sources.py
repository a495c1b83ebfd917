"""Loads the data set that ``--dataset`` names."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..config import DataConfig
from ..errors import UserError
from . import choices, groups, listing
from .assembly import (
    assemble,
    check_classes,
    check_config,
    evaluation_bytes,
    pipeline_for,
)
from .cache import Add, ImageCache
from .channels import looked_up
from .decode import Pixels, decode, in_channels
from .encoded import EncodedPicture
from .geometry import PipelineConfig
from .listing import Example, Listing, digest
from .parts import ImageData
from .picture import DecodedPicture, Picture
from .store import ImageStore, decode_all
from .unlabelled import with_unlabelled


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The handwritten digits: uint8 images (1797, 8, 8) with 17 grey levels, and classes 0 to 9."""
    table = _digits_file()
    if table is None:
        from sklearn import datasets

        table = np.column_stack(datasets.load_digits(return_X_y=True))
    grey = np.round(table[:, :64] * (255 / 16)).astype(np.uint8)
    return grey.reshape(-1, 8, 8), table[:, 64].astype(np.int64)


def _digits_file() -> NDArray[np.float64] | None:
    """scikit-learn's file: a row for each image, with the class last; None if it is not found.

    It is read without importing scikit-learn, which takes a second in each worker of a search.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",")


# Opens the cache of decoded images; the argument is everything that the images depend on.
OpenCache: TypeAlias = Callable[[object], ImageCache]

# Digits fill all of their 8 x 8 pixels, and a mirrored digit is not a digit.
_DIGITS_PIPELINE = PipelineConfig(flip=False, center_crop=False, min_area=0.5)


class Marks(NamedTuple):
    """By what images are recognised: see `listing.Example`, which has fields of these names."""

    digest: str = ""
    hash: str = ""


def load(
    config: DataConfig,
    *,
    max_side: int | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> ImageData:
    """Loads a data set: finds, decodes and splits its images.

    Args:
      config: the data set, and how to split it.
      max_side: an image whose shorter side exceeds this many pixels is shrunk so that the side has
        this length, which saves memory and time; None for no shrinking.
      cache_dir: folder that keeps decoded images for other processes and later runs; None keeps
        them in this process only.
      progress: whether to show a progress bar.

    Returns:
      The data set. Images that cannot be read are left out and listed in ``skipped``.

    Raises:
      UserError: the data set is unknown or missing, or has fewer than two classes, an empty class,
        or a class with too few images to be split; the folder of unlabelled images cannot be used;
        or the augmentation is unknown or does not suit the data set.
    """
    check_config(config)
    augmentation = choices.Augmentations.of(config.augment)
    augmentation.changes()  # a mistake is found before the images are read
    source, argument = choices.source(config.dataset)
    if source.listing is None:
        for name in ("label_regex", "labels", "group_by_name"):
            if getattr(config, name) is not None:
                raise UserError(f"{name} is for images in files, not for {source.name}")
    images = None if source.listing is None else listing.of_data_set(config)
    config = looked_up(config, images)

    def open_cache(source: object) -> ImageCache:
        source = source if config.input_channels == 3 else [source, config.input_channels]
        return ImageCache(cache_dir, int(config.cache_gb * 1e9), progress, source)

    data = registry.resolve(source.load)(config, images or argument, max_side, open_cache)
    if data.masks and augmentation.moving:
        raise UserError(
            f"augmentation {augmentation.moving} moves pixels, and the masks of {data.name} would "
            "no longer fit: choose one that changes colours only, such as jitter"
        )
    if config.unlabelled is None:
        return data
    return with_unlabelled(data, config.unlabelled, max_side)


def load_digits(
    config: DataConfig, argument: str, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    """Loads the handwritten digits of scikit-learn; see `choices.Source.load`."""
    del argument, max_side  # images of 8 pixels need no shrinking
    grey, labels = read_digits()
    return load_indexed(
        config,
        [str(digit) for digit in range(10)],
        [Example(f"digit {i}", int(label)) for i, label in enumerate(labels)],
        lambda i: grey[i, ..., np.newaxis],
        _DIGITS_PIPELINE,
        open_cache(["digits", version("scikit-learn")]),
    )


def load_listed(
    config: DataConfig, images: Listing, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    """Loads a source that lists its images; see `choices.Source.load`."""
    examples = images.examples
    with_hashes = groups.needs_hashes(config, examples)

    def read(i: int) -> tuple[Pixels, Marks]:
        encoded = images.encoded(i)
        pixels = decode(encoded, max_side, config.input_channels)
        return pixels, Marks(digest(encoded), _hash(encoded, pixels) if with_hashes else "")

    return load_indexed(
        config,
        images.class_names,
        examples,
        lambda i: decode(images.encoded(i), max_side, config.input_channels),
        PipelineConfig(),
        open_cache(["files", max_side, images.class_names, [astuple(e) for e in examples]]),
        read,
        lambda i, quick: EncodedPicture(images.encoded(i), quick, config.input_channels),
        max_side,
    )


def _hash(encoded: bytes, pixels: Pixels) -> str:
    """The perceptual hash of an image, of which the pixels are decoded, possibly shrunk."""
    if min(pixels.shape[:2]) >= groups.HASHED_SIDE:
        pixels = decode(encoded, groups.HASHED_SIDE)
    return groups.perceptual_hash(pixels)


def load_rendered(
    config: DataConfig, argument: str, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    """Loads drawn objects; see `choices.Source.load`."""
    from .rendered.scene import RenderedConfig, label_names, render

    scene = RenderedConfig.parse(argument)
    origin = f"rendered with size={scene.size},seed={scene.seed}"
    return load_indexed(
        config,
        label_names(scene),
        # Labels repeat 0, 1, ..., and are therefore known without rendering an image.
        [Example(f"{origin}: {i}", i % scene.classes) for i in range(scene.images)],
        lambda i: decode(render(scene, i)[0], max_side, config.input_channels),
        PipelineConfig(min_area=0.5),  # smaller crops would cut off what distinguishes the classes
        open_cache(["rendered", max_side, astuple(scene)]),
        open_picture=lambda i, quick: EncodedPicture(
            render(scene, i)[0], quick, config.input_channels
        ),
        max_side=max_side,
    )


def load_rendered_masks(
    config: DataConfig, argument: str, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    """Loads drawn objects for segmentation; see `choices.Source.load`."""
    from .rendered import masks

    del max_side  # masks are not shrunk
    return masks.load_rendered_masks(config, argument, open_cache)


def load_indexed(
    config: DataConfig,
    class_names: Sequence[str],
    examples: Sequence[Example],
    read: Callable[[int], Pixels],
    pipeline: PipelineConfig,
    cache: ImageCache,
    read_with_marks: Callable[[int], tuple[Pixels, Marks]] | None = None,
    open_picture: Callable[[int, bool], Picture] | None = None,
    max_side: int | None = None,
) -> ImageData:
    """Loads a source whose images can be read by index and whose labels are known in advance.

    Args:
      config: how to split the data set, and the number of channels.
      class_names: names of the classes, by label.
      examples: what is known of each image before it is read.
      read: function from the index of an image to its pixels, uint8 (height, width, 3 or 1); raises
        `UnreadableImage`. It is called from several threads.
      pipeline: the source's default settings of crop and flip, which the config may override.
      cache: the cache of decoded images, as `OpenCache` opened it.
      read_with_marks: like `read`, but also returns by what copies and near duplicates are found.
        It is called once for each image; `read` is then called only for images that do not fit into
        the cache.
      open_picture: takes the index of an image, and whether its crops may be rough for the sake of
        speed, to the image itself, before any shrinking, with the config's number of channels;
        None where `read` does not shrink. It is called for images that do not fit into the cache,
        and for the crops of evaluation.
      max_side: an image whose shorter side has so many pixels after `read` may be shrunk; None:
        none is.

    Raises:
      UserError: see `load`.
    """
    check_classes(config.dataset, class_names)
    pipeline = pipeline_for(config, pipeline)

    def read_pixels(i: int) -> Pixels:
        return in_channels(read(i), config.input_channels)

    def fill_cache(add: Add) -> dict[str, Any]:
        marks = [Marks()] * len(examples)

        def read_once(i: int) -> Pixels:
            if read_with_marks is None:
                return read_pixels(i)
            pixels, marks[i] = read_with_marks(i)
            return in_channels(pixels, config.input_channels)

        indices = range(len(examples))
        unreadable = decode_all(
            indices, read_once, add, total=len(examples), progress=cache.progress
        )
        return {"unreadable": unreadable, "marks": marks}

    reserve = evaluation_bytes(config, [example.part for example in examples], max_side)
    key = ["unreadable, marks", groups.needs_hashes(config, examples)]
    decoded = cache.keep("decoded", fill_cache, key=key, reserve_bytes=reserve)
    unreadable = dict(decoded.notes["unreadable"])
    examples = [
        replace(example, **Marks(*marks)._asdict())
        for example, marks in zip(examples, decoded.notes["marks"], strict=True)
    ]
    readable = [i for i in range(len(examples)) if i not in unreadable]

    def picture(k: int, quick: bool) -> Picture:
        if open_picture is None:
            return DecodedPicture(read_pixels(readable[k]))
        return open_picture(readable[k], quick)

    store = ImageStore(decoded, picture, max_side)
    return assemble(config, class_names, examples, unreadable, store, pipeline, cache)
