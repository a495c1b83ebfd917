"""The pixel rule of a network: which numbers it takes for the pixels of an image.

It is never assumed. The user says it; or the sidecar of an export here does; or the quantization of
an integer input, or of the integers that a float input is turned into first, whose range is that of
a usual rule; or the file's metadata. Where none does, the user is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from efficientnet_elite.errors import UserError

from . import inspect, metadata
from .int8.choices import INPUTS

CHANNELS = 3
_PIXELS = np.arange(256)[:, None]
# An integer input must tell at least so many of the 256 pixel values apart, and clip at most this
# share of them; otherwise the rule is not that of the file.
_LEAST_LEVELS = 32
_MOST_CLIPPED = 0.5


@dataclass(frozen=True)
class PixelRule:
    """The network takes scale * q + offset, where q = pixel / 128 - 1.

    Attributes:
      scale, offset: one number for each of the channels red, green, blue.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    @classmethod
    def of(cls, scale: ArrayLike, offset: ArrayLike) -> PixelRule:
        """A rule of numbers for all channels or for each."""
        scales, offsets = (
            tuple(np.broadcast_to(np.asarray(values, np.float64), CHANNELS).tolist())
            for values in (scale, offset)
        )
        return cls(scales, offsets)

    @classmethod
    def named(cls, name: str) -> PixelRule:
        """The rule with a name of `choices.INPUTS`."""
        return cls.of(*INPUTS[name])

    @classmethod
    def normalising(cls, mean: Sequence[float], deviation: Sequence[float]) -> PixelRule:
        """The rule of a network that takes (pixel - mean) / deviation."""
        means, deviations = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
        return cls.of(128 / deviations, (128 - means) / deviations)

    @property
    def mean(self) -> tuple[float, ...]:
        """The pixel that becomes 0, for each channel."""
        return tuple(128 - b * 128 / a for a, b in zip(self.scale, self.offset, strict=True))

    @property
    def deviation(self) -> tuple[float, ...]:
        """The difference of pixels that becomes a difference of 1, for each channel."""
        return tuple(128 / a for a in self.scale)

    @property
    def uniform(self) -> bool:
        """Whether it is the same for all channels."""
        return len(set(self.scale)) == 1 and len(set(self.offset)) == 1

    def values(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network takes, float32, of images (..., channels), float32, pixel / 128 - 1.

        Grey images have one channel, and a uniform rule.
        """
        channels = images.shape[-1]
        scale, offset = (
            np.asarray(numbers[:channels], np.float32) for numbers in (self.scale, self.offset)
        )
        return np.asarray(images * scale + offset)


ELITE = PixelRule.named("elite")


def of_file(
    content: bytes, contents: inspect.Contents, *, takes: str | None, exported: bool
) -> PixelRule:
    """The rule of a `.tflite` file.

    Args:
      content: of the file.
      contents: the same, parsed; its input is an image.
      takes: the rule that the user named, of `choices.INPUTS`.
      exported: whether its sidecar says that it was exported here.

    Raises:
      UserError: it has to be said, or the quantization of the input contradicts it, or it differs
        between channels and the network takes one.
    """
    rule = _of_file(content, contents, takes=takes, exported=exported)
    if contents.inputs[0].shape[-1] == 1 and not rule.uniform:
        raise UserError(
            "it takes grey images, and the pixel values that are said differ between red, green "
            "and blue: say others with --input"
        )
    return rule


def _of_file(
    content: bytes, contents: inspect.Contents, *, takes: str | None, exported: bool
) -> PixelRule:
    image = _quantized(contents)
    known = _of_integers(image)
    if takes is not None:
        return _fitted(PixelRule.named(takes), image, f"--input={takes}")
    if exported:
        return ELITE if known is None else known
    if known is not None:
        return known
    if (normalisation := metadata.normalisation(content)) is not None:
        return _fitted(PixelRule.normalising(*normalisation), image, "its metadata")
    raise UserError(
        "neither a sidecar nor metadata say which pixel values it takes: say it with "
        f"--input={'|'.join(INPUTS)}"
    )


def _quantized(contents: inspect.Contents) -> inspect.Tensor:
    """The input; of a float input that is quantized before all else, the integers it becomes."""
    (image,) = contents.inputs
    number = next(i for i, tensor in enumerate(contents.tensors) if tensor is image)
    readers = [step for step in contents.steps if number in step.inputs]
    if len(readers) == 1 and readers[0].operator == "QUANTIZE":
        return contents.tensors[readers[0].outputs[0]]
    return image


def takes_pixels(image: inspect.Tensor, rule: PixelRule) -> bool:
    """Whether an integer input is the pixel (uint8) or pixel - 128 (int8) to within one step."""
    bounds = _bounds(image)
    if bounds is None:
        return False
    return bool(np.abs(np.clip(_levels(image, rule), *bounds) - bounds[0] - _PIXELS).max() <= 1.001)


def check_takes_pixels(image: inspect.Tensor, rule: PixelRule) -> None:
    """Raises UserError, with scale and zero point, unless `takes_pixels`."""
    if not takes_pixels(image, rule):
        scale, zero = (
            values[0] if values else None for values in (image.scales, image.zero_points)
        )
        raise UserError(
            f"its {image.type} input has the scale {scale} and the zero point {zero}, so that it "
            "is not the pixel itself: quantize the network again with images of all brightnesses "
            "from 0 to 255, or export its Keras model here"
        )


def _bounds(image: inspect.Tensor) -> tuple[int, int] | None:
    """The least and the greatest integer of an 8-bit tensor; None for other types."""
    return {"INT8": (-128, 127), "UINT8": (0, 255)}.get(image.type)


def _step(image: inspect.Tensor) -> tuple[float, int]:
    """Scale and zero point of an integer tensor; integers that are not quantized count for one."""
    return (image.scales[0], image.zero_points[0]) if image.scales else (1.0, 0)


def _levels(image: inspect.Tensor, rule: PixelRule) -> NDArray[np.float64]:
    """The integers, before they are clipped, of all pixel values (256, channels)."""
    scale, zero = _step(image)
    values = (_PIXELS / 128 - 1) * np.array(rule.scale) + np.array(rule.offset)
    return np.rint(values / scale) + zero


def _of_integers(image: inspect.Tensor) -> PixelRule | None:
    """The rule by which an 8-bit input is the pixel itself, if its range is that of a usual rule.

    Ranges may differ by the one step that rounding the zero point, or a representative data set
    without pure white, makes.
    """
    bounds = _bounds(image)
    if bounds is None or len(image.scales) > 1 or not (image.scales or image.type == "UINT8"):
        return None
    scale, zero = _step(image)
    if scale <= 0:
        return None
    rule = PixelRule.of(128 * scale, (bounds[0] + 128 - zero) * scale)
    usual = (PixelRule.named(name) for name in INPUTS)
    return rule if any(takes_pixels(image, other) for other in usual) else None


def _fitted(rule: PixelRule, image: inspect.Tensor, origin: str) -> PixelRule:
    """A rule, made exact where an integer input is the pixel itself.

    Raises:
      UserError: the integers of the input cannot hold what the rule gives.
    """
    bounds = _bounds(image)
    if bounds is None:
        return rule
    if takes_pixels(image, rule):
        scale, zero = _step(image)
        return PixelRule.of(128 * scale, (bounds[0] + 128 - zero) * scale)
    levels = _levels(image, rule)
    clipped = np.mean((levels < bounds[0]) | (levels > bounds[1]))
    told_apart = min(len(np.unique(np.clip(channel, *bounds))) for channel in levels.T)
    if clipped > _MOST_CLIPPED or told_apart < _LEAST_LEVELS:
        scale, zero = _step(image)
        low, high = ((bound - zero) * scale for bound in bounds)
        raise UserError(
            f"its {image.type} input holds values from {low:.3g} to {high:.3g}, which does not fit "
            f"{origin}: say which pixel values it takes with --input={'|'.join(INPUTS)}"
        )
    return rule
