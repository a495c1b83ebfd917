"""File formats: types of weights, activations, input and output of a .tflite file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientnet_elite.errors import UserError

WEIGHTS = ("float32", "float16", "dynamic", "int8", "int16x8")
INTERFACES = ("int8", "uint8", "float32")


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
      weights: ``float32``; ``float16`` (weights stored in 16 bit, computed in float32);
        ``dynamic`` (int8 weights; activations are float, and are quantized while the network runs);
        ``int8`` throughout; ``int16x8`` (int16 activations, int8 weights: nearly the accuracy of
        float32, but slow).
      interface: type of input and output: float32, or with int8 weights also ``int8`` (the input is
        pixel - 128) and ``uint8`` (the input is the pixel, which costs a pass over the image).
    """

    weights: str
    interface: str = "float32"

    @property
    def name(self) -> str:
        """Part of a file's name: the weights, and the interface where it is not the usual one."""
        usual = "int8" if self.weights == "int8" else "float32"
        return self.weights if self.interface == usual else f"{self.weights}.{self.interface}"

    @property
    def needs_calibration(self) -> bool:
        """Whether it has ranges of activations, which a representative data set must show."""
        return self.weights in ("int8", "int16x8")


FLOAT32 = Format("float32")
INT8 = Format("int8", "int8")


def parse(weights: Sequence[str], interfaces: Sequence[str]) -> tuple[Format, ...]:
    """Formats that two lists ask for, beside float32 and int8, which every export has.

    Args:
      weights: some of `WEIGHTS`.
      interfaces: some of `INTERFACES`, for the int8 files.

    Raises:
      UserError: one of them is unknown.
    """
    for given, known in ((weights, WEIGHTS), (interfaces, INTERFACES)):
        if unknown := sorted(set(given) - set(known)):
            raise UserError(f"there is no format {unknown[0]!r}: choose from {', '.join(known)}")
    asked = {Format(kind) for kind in weights if kind != "int8"}
    return others(asked | {Format("int8", interface) for interface in interfaces})


def others(forms: Iterable[Format]) -> tuple[Format, ...]:
    """The formats among these that are not plain float32 or int8, sorted by name."""
    return tuple(sorted(set(forms) - {FLOAT32, INT8}, key=lambda form: form.name))


def all_formats() -> tuple[Format, ...]:
    """All formats."""
    return FLOAT32, INT8, *parse(WEIGHTS, INTERFACES)


def from_name(name: str) -> Format:
    """The format of a `Format.name`."""
    weights, _, interface = name.partition(".")
    return Format(weights, interface or ("int8" if weights == "int8" else "float32"))
