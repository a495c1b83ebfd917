"""Loads the data set that ``--dataset`` names."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..config import DataConfig
from . import choices, folder
from .assembly import (
    NOTES,
    Example,
    assemble,
    check_classes,
    check_config,
    digest,
    pipeline_for,
)
from .cache import Add, ImageCache
from .choices import augmentation
from .decode import Pixels, decode, read_file
from .geometry import PipelineConfig
from .parts import ImageData
from .store import DecodedStore, ImageStore, ReadingStore, decode_all
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
        or a class with too few images to be split; or the folder of unlabelled images cannot be
        used.
    """
    check_config(config)
    if config.augment is not None:
        augmentation(config.augment)
    source, argument = choices.source(config.dataset)
    open_cache = functools.partial(ImageCache, cache_dir, int(config.cache_gb * 1e9), progress)
    data = registry.resolve(source.load)(config, argument, max_side, open_cache)
    if config.unlabelled is None:
        return data
    return with_unlabelled(data, config.unlabelled, max_side)


def load_digits(
    config: DataConfig, argument: str, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    """Loads the handwritten digits of scikit-learn; see `choices.Source.load`."""
    del argument, max_side  # images of 8 pixels need no shrinking
    grey, labels = read_digits()
    images = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return load_indexed(
        config,
        [str(digit) for digit in range(10)],
        [Example(f"digit {i}", int(label)) for i, label in enumerate(labels)],
        lambda i: images[i],
        _DIGITS_PIPELINE,
        open_cache(["digits", version("scikit-learn")]),
    )


def load_folder(
    config: DataConfig, argument: str, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    """Loads class folders of images; see `choices.Source.load`."""
    root = Path(argument).expanduser()
    examples, class_names = folder.scan(root)

    def read(i: int) -> tuple[Pixels, str]:
        encoded = read_file(root / examples[i].name)
        return decode(encoded, max_side), digest(encoded)

    return load_indexed(
        config,
        class_names,
        examples,
        lambda i: decode(read_file(root / examples[i].name), max_side),
        PipelineConfig(),
        open_cache(["folder", max_side, class_names, [astuple(example) for example in examples]]),
        read,
    )


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
        lambda i: decode(render(scene, i)[0], max_side),
        PipelineConfig(min_area=0.5),  # smaller crops would cut off what distinguishes the classes
        open_cache(["rendered", max_side, astuple(scene)]),
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
    read_with_digest: Callable[[int], tuple[Pixels, str]] | None = None,
) -> ImageData:
    """Loads a source whose images can be read by index and whose labels are known in advance.

    Args:
      config: how to split the data set.
      class_names: names of the classes, by label.
      examples: what is known of each image before it is read.
      read: function from the index of an image to its pixels, uint8 (height, width, 3); raises
        `UnreadableImage`. It is called from several threads.
      pipeline: the source's default settings of crop and flip, which the config may override.
      cache: the cache of decoded images, as `OpenCache` opened it.
      read_with_digest: like `read`, but also returns the `digest` of the encoded image, by which
        copies are found. It is called once for each image; `read` is then called only for images
        that do not fit into the cache.

    Raises:
      UserError: see `load`.
    """
    check_classes(config.dataset, class_names)
    pipeline = pipeline_for(config, pipeline)

    def fill_cache(add: Add) -> dict[str, Any]:
        digests = [""] * len(examples)

        def read_once(i: int) -> Pixels:
            if read_with_digest is None:
                return read(i)
            pixels, digests[i] = read_with_digest(i)
            return pixels

        indices = range(len(examples))
        unreadable = decode_all(
            indices, read_once, add, total=len(examples), progress=cache.progress
        )
        return {"unreadable": unreadable, "digests": digests}

    decoded = cache.keep("decoded", fill_cache, key=NOTES)
    unreadable = dict(decoded.notes["unreadable"])
    examples = [
        replace(example, digest=image_digest)
        for example, image_digest in zip(examples, decoded.notes["digests"], strict=True)
    ]
    readable = [i for i in range(len(examples)) if i not in unreadable]
    store: ImageStore = (
        ReadingStore(lambda k: read(readable[k]))
        if decoded.flat is None
        else DecodedStore(decoded.flat, decoded.shapes)
    )
    return assemble(config, class_names, examples, unreadable, store, pipeline, cache)
