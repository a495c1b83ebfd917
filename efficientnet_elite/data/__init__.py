"""Data sets: finding, decoding, splitting and caching images, and making batches of them.

`load` returns an `ImageData`; `train_batches`, `eval_batches` and `calibration_images` make batches
of it. Importing this package is cheap: the modules below it are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channels import decided
    from .geometry import PipelineConfig
    from .parts import ImageData, SkippedImage
    from .pipeline import (
        calibration_images,
        eval_batches,
        normalise,
        sample_batches,
        steps_per_epoch,
        train_batches,
    )
    from .sources import load

_MODULE_OF = {
    "ImageData": "parts",
    "PipelineConfig": "geometry",
    "SkippedImage": "parts",
    "calibration_images": "pipeline",
    "decided": "channels",
    "eval_batches": "pipeline",
    "load": "sources",
    "normalise": "pipeline",
    "sample_batches": "pipeline",
    "steps_per_epoch": "pipeline",
    "train_batches": "pipeline",
}

# In segmentation masks: the label of pixels that count neither in the loss nor in the score.
IGNORED = 255

__all__ = [
    "IGNORED",
    "ImageData",
    "PipelineConfig",
    "SkippedImage",
    "calibration_images",
    "decided",
    "eval_batches",
    "load",
    "normalise",
    "sample_batches",
    "steps_per_epoch",
    "train_batches",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
