"""Images in, batches out: sources, splits, the store of decoded images, the tf.data pipeline.

Importing this package imports nothing else; each name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .geometry import PipelineConfig
    from .parts import ImageData, SkippedImage
    from .pipeline import (
        calibration_images,
        eval_batches,
        normalise,
        steps_per_epoch,
        train_batches,
    )
    from .sources import load

_HOME = {
    "ImageData": "parts",
    "PipelineConfig": "geometry",
    "SkippedImage": "parts",
    "calibration_images": "pipeline",
    "eval_batches": "pipeline",
    "load": "sources",
    "normalise": "pipeline",
    "steps_per_epoch": "pipeline",
    "train_batches": "pipeline",
}

# The label of pixels that neither train nor count, in masks of segmentation.
IGNORED = 255

__all__ = [
    "IGNORED",
    "ImageData",
    "PipelineConfig",
    "SkippedImage",
    "calibration_images",
    "eval_batches",
    "load",
    "normalise",
    "steps_per_epoch",
    "train_batches",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
