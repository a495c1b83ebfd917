"""From ``--dataset`` to a loaded data set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..config import DataConfig
from ..errors import UserError
from . import digits, folder
from .assembly import (
    NOTES,
    Example,
    assemble,
    check_classes,
    check_config,
    digest,
    pipeline_for,
)
from .cache import ImageCache
from .decode import Pixels, decode
from .geometry import PipelineConfig
from .parts import ImageData
from .pixels import Add
from .store import DecodedStore, ImageStore, ReadingStore, decode_all

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
        from .masks import load_rendered_masks

        return load_rendered_masks(config, argument, open_cache)
    if kind == "tfds" and argument:
        from .tfds_source import load_tfds  # its import takes seconds

        return load_tfds(config, argument, max_side, open_cache)
    raise UserError(
        f"unknown data set '{config.dataset}': use digits, folder:PATH, tfds:NAME, "
        "rendered[:key=value,...] or rendered_masks[:key=value,...]"
    )


def _load_digits(config: DataConfig, open_cache: OpenCache) -> ImageData:
    grey, labels = digits.read()
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
    from ..rendered import RenderedConfig, label_names, render

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
