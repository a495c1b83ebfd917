"""Formats of .tflite files: the types of weights, activations, input and output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_elite.errors import UserError

WEIGHTS = ("float32", "float16", "dynamic", "int8", "int16x8")
INTERFACES = ("int8", "uint8", "float32")


@dataclass(frozen=True)
class Format:
    """The format of a .tflite file.

    Attributes:
      weights: ``float32``; ``float16`` (weights are stored in 16 bits, computation is in float32);
        ``dynamic`` (int8 weights; activations are float and are quantized during inference);
        ``int8`` (weights and activations); ``int16x8`` (int16 activations and int8 weights: nearly
        the accuracy of float32, but slow).
      interface: type of input and output: ``float32``, or, with int8 weights, also ``int8`` (the
        input is pixel - 128) and ``uint8`` (the input is the pixel; converting it takes an extra
        pass over the image).
    """

    weights: str
    interface: str = "float32"

    @property
    def name(self) -> str:
        """Part of the file's name: the weights, and the interface unless it is the default one."""
        default = "int8" if self.weights == "int8" else "float32"
        return self.weights if self.interface == default else f"{self.weights}.{self.interface}"

    @property
    def needs_calibration(self) -> bool:
        """Whether its activations are quantized, which requires a representative data set."""
        return self.weights in ("int8", "int16x8")


FLOAT32 = Format("float32")
INT8 = Format("int8", "int8")


def parse(weights: Sequence[str], interfaces: Sequence[str]) -> tuple[Format, ...]:
    """Formats besides float32 and int8 (which every export contains) from two lists of names.

    Args:
      weights: elements of `WEIGHTS`.
      interfaces: elements of `INTERFACES`, for int8 files.

    Raises:
      UserError: a name is unknown.
    """
    for given, known in ((weights, WEIGHTS), (interfaces, INTERFACES)):
        if unknown := sorted(set(given) - set(known)):
            raise UserError(f"there is no format {unknown[0]!r}: choose from {', '.join(known)}")
    formats = {Format(kind) for kind in weights if kind != "int8"}
    return others(formats | {Format("int8", interface) for interface in interfaces})


def others(forms: Iterable[Format]) -> tuple[Format, ...]:
    """The given formats without `FLOAT32` and `INT8`, sorted by name."""
    return tuple(sorted(set(forms) - {FLOAT32, INT8}, key=lambda form: form.name))


def all_formats() -> tuple[Format, ...]:
    """All formats, `FLOAT32` and `INT8` first."""
    return FLOAT32, INT8, *parse(WEIGHTS, INTERFACES)


def from_name(name: str) -> Format:
    """The format that has this `Format.name`."""
    weights, _, interface = name.partition(".")
    return Format(weights, interface or ("int8" if weights == "int8" else "float32"))


def file_name(name: str, form: Format) -> str:
    """Name of a network's file in a format."""
    return f"{name}.{form.name}.tflite"
