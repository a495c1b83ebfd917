"""From ``--dataset`` to a loaded data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..errors import UserError
from . import folder
from .assembly import Example, assemble, check_classes, check_config, pipeline_for
from .decode import Pixels, decode
from .geometry import PipelineConfig
from .parts import ImageData
from .store import ImageStore, ReadingStore, decode_all

# Digits fill their 8x8 frame, and a mirrored digit is none.
_DIGITS_PIPELINE = PipelineConfig(flip=False, center_crop=False, min_area=0.5)


def load(config: DataConfig, *, max_side: int | None = None, progress: bool = True) -> ImageData:
    """Loads a data set: finds, decodes and splits its images.

    Args:
      config: which data set, and how to split it.
      max_side: images whose shorter side is longer than this many pixels are shrunk to it, to save
        memory and time; None keeps them.
      progress: show a progress bar.

    Returns:
      The data set. Images that cannot be read are left out and listed in ``skipped``.

    Raises:
      UserError: an unknown or missing data set, fewer than two classes, an empty class, or one too
        small to be split.
    """
    check_config(config)
    kind, _, argument = config.dataset.partition(":")
    if config.dataset == "digits":
        return _load_digits(config, progress)
    if kind == "folder" and argument:
        return _load_folder(config, Path(argument).expanduser(), max_side, progress)
    if kind == "rendered":
        return _load_rendered(config, argument, max_side, progress)
    if kind == "tfds" and argument:
        from .tfds_source import load_tfds  # its import takes seconds

        return load_tfds(config, argument, max_side, progress)
    raise UserError(
        f"unknown data set '{config.dataset}': use digits, folder:PATH, tfds:NAME or "
        "rendered[:key=value,...]"
    )


def _load_digits(config: DataConfig, progress: bool) -> ImageData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels, 0 to 16
    images = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    examples = [Example(f"digit {i}", int(label)) for i, label in enumerate(bunch.target)]
    return _load_indexed(
        config,
        [str(name) for name in bunch.target_names],
        examples,
        lambda i: images[i],
        _DIGITS_PIPELINE,
        progress,
    )


def _load_folder(config: DataConfig, root: Path, max_side: int | None, progress: bool) -> ImageData:
    examples, class_names = folder.scan(root)
    return _load_indexed(
        config,
        class_names,
        examples,
        lambda i: decode(root / examples[i].name, max_side),
        PipelineConfig(),
        progress,
    )


def _load_rendered(
    config: DataConfig, settings: str, max_side: int | None, progress: bool
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
        progress,
    )


def _load_indexed(
    config: DataConfig,
    class_names: Sequence[str],
    examples: Sequence[Example],
    read: Callable[[int], Pixels],
    pipeline: PipelineConfig,
    progress: bool,
) -> ImageData:
    """A source whose images can be read by number."""
    check_classes(config.dataset, class_names)
    pipeline = pipeline_for(config, pipeline)
    decoded, unreadable = decode_all(
        range(len(examples)),
        read,
        budget_bytes=int(config.cache_gb * 1e9),
        total=len(examples),
        progress=progress,
    )
    readable = [i for i in range(len(examples)) if i not in unreadable]
    store: ImageStore = decoded or ReadingStore(lambda k: read(readable[k]))
    return assemble(config, class_names, examples, unreadable, store, pipeline)
