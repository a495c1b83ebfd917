"""From ``--dataset`` to a loaded data set."""

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

from ..config import DataConfig
from ..errors import UserError
from . import folder
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
from .decode import Pixels, decode
from .geometry import PipelineConfig
from .parts import ImageData
from .store import DecodedStore, ImageStore, ReadingStore, decode_all


def read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (1797, 8, 8), of 17 levels from 0 to 255, and their classes, 0 to 9."""
    table = _from_file()
    if table is None:
        from sklearn.datasets import load_digits

        table = np.column_stack(load_digits(return_X_y=True))
    grey = np.round(table[:, :64] * (255 / 16)).astype(np.uint8)
    return grey.reshape(-1, 8, 8), table[:, 64].astype(np.int64)


def _from_file() -> NDArray[np.float64] | None:
    """A line an image, its class last; None where scikit-learn keeps its file elsewhere.

    Importing scikit-learn takes a second, in each worker of a search.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",")


# What the decoded images depend on to the cache that keeps them.
OpenCache: TypeAlias = Callable[[object], ImageCache]

# Digits fill their 8x8 frame, and a mirrored digit is none.
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
      config: which data set, and how to split it.
      max_side: images whose shorter side is longer than this many pixels are shrunk to it, to save
        memory and time; None keeps them.
      cache_dir: where decoded images are kept for other processes and later runs; None keeps them
        in this process.
      progress: show a progress bar.

    Returns:
      The data set. Images that cannot be read are left out and listed in ``skipped``.

    Raises:
      UserError: an unknown or missing data set, fewer than two classes, an empty class, or one too
        small to be split.
    """
    check_config(config)
    open_cache = functools.partial(ImageCache, cache_dir, int(config.cache_gb * 1e9), progress)
    kind, _, argument = config.dataset.partition(":")
    if config.dataset == "digits":
        return _load_digits(config, open_cache)
    if kind == "folder" and argument:
        return _load_folder(config, Path(argument).expanduser(), max_side, open_cache)
    if kind == "rendered":
        return _load_rendered(config, argument, max_side, open_cache)
    if kind == "rendered_masks":
        from .rendered.masks import load_rendered_masks

        return load_rendered_masks(config, argument, open_cache)
    if kind == "tfds" and argument:
        from .tfds_source import load_tfds  # its import takes seconds

        return load_tfds(config, argument, max_side, open_cache)
    raise UserError(
        f"unknown data set '{config.dataset}': use digits, folder:PATH, tfds:NAME, "
        "rendered[:key=value,...] or rendered_masks[:key=value,...]"
    )


def _load_digits(config: DataConfig, open_cache: OpenCache) -> ImageData:
    grey, labels = read()
    images = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return _load_indexed(
        config,
        [str(digit) for digit in range(10)],
        [Example(f"digit {i}", int(label)) for i, label in enumerate(labels)],
        lambda i: images[i],
        _DIGITS_PIPELINE,
        open_cache(["digits", version("scikit-learn")]),
    )


def _load_folder(
    config: DataConfig, root: Path, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    examples, class_names = folder.scan(root)
    return _load_indexed(
        config,
        class_names,
        examples,
        lambda i: decode(root / examples[i].name, max_side),
        PipelineConfig(),
        open_cache(["folder", max_side, class_names, [astuple(example) for example in examples]]),
        lambda i: digest((root / examples[i].name).read_bytes()),
    )


def _load_rendered(
    config: DataConfig, settings: str, max_side: int | None, open_cache: OpenCache
) -> ImageData:
    from .rendered.scene import RenderedConfig, label_names, render

    scene = RenderedConfig.parse(settings)
    origin = f"rendered with size={scene.size},seed={scene.seed}"
    return _load_indexed(
        config,
        label_names(scene),
        # Labels repeat 0, 1, ..., so that none needs to be rendered to be known.
        [Example(f"{origin}: {i}", i % scene.classes) for i in range(scene.images)],
        lambda i: decode(render(scene, i)[0], max_side),
        PipelineConfig(min_area=0.5),  # smaller crops would cut off what tells classes apart
        open_cache(["rendered", max_side, astuple(scene)]),
    )


def _load_indexed(
    config: DataConfig,
    class_names: Sequence[str],
    examples: Sequence[Example],
    read: Callable[[int], Pixels],
    pipeline: PipelineConfig,
    cache: ImageCache,
    identify: Callable[[int], str] = lambda i: "",
) -> ImageData:
    """A source whose images can be read by number, and whose labels are known without.

    ``identify`` gives the digest of an image that can be read; it too is called once for each.
    """
    check_classes(config.dataset, class_names)
    pipeline = pipeline_for(config, pipeline)

    def keep(add: Add) -> dict[str, Any]:
        digests = [""] * len(examples)

        def read_and_identify(i: int) -> Pixels:
            pixels = read(i)
            digests[i] = identify(i)  # the system still has the file's bytes at hand
            return pixels

        numbers = range(len(examples))
        unreadable = decode_all(
            numbers, read_and_identify, add, total=len(examples), progress=cache.progress
        )
        return {"unreadable": unreadable, "digests": digests}

    kept = cache.keep("decoded", keep, key=NOTES)
    unreadable = dict(kept.notes["unreadable"])
    examples = [
        replace(example, digest=found)
        for example, found in zip(examples, kept.notes["digests"], strict=True)
    ]
    readable = [i for i in range(len(examples)) if i not in unreadable]
    store: ImageStore = (
        ReadingStore(lambda k: read(readable[k]))
        if kept.flat is None
        else DecodedStore(kept.flat, kept.shapes)
    )
    return assemble(config, class_names, examples, unreadable, store, pipeline, cache)
