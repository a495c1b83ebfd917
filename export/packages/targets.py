"""Export targets: the kinds of devices and apps that packages are made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.patches.request import TFLM, C
from efficientnet_elite.export.pixel_rule import PixelRule

ACCELERATOR = "ethos-u55-128"  # the default of --accelerator


@dataclass(frozen=True)
class Package:
    """A written package.

    Attributes:
      name: name of the network.
      folder: folder of the package.
      model_bytes: bytes of flash memory or disk that the network takes.
      arena_bytes: for microcontrollers, bytes of the arena that TFLM or the C code needs; for an
        Ethos-U, bytes of SRAM; otherwise None.
      cycles: for an Ethos-U, Vela's estimate of the cycles of one inference; otherwise None.
      patches: what the sidecar says of a network that runs patch by patch; None for others.
    """

    name: str
    folder: Path
    model_bytes: int
    arena_bytes: int | None = None
    cycles: float | None = None
    patches: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Source:
    """The input for writing a package.

    Attributes:
      content: content of the .tflite file.
      name: name of the network.
      labels: names of the classes, in the order of the outputs.
      folder: the folder to which the package is written. Existing files of the same names are
        replaced.
      file: name of the .tflite file.
      export: folder of the .tflite file, with what was exported beside it.
      accuracy: what is known of the accuracy with the arithmetic of devices, a sentence; or empty.
      crop_fraction: sides of the central crop that the network classifies, as a share of the
        largest with the input's aspect ratio.
      rule: returns which numbers the network takes for pixels, or raises UserError if it has to be
        said; None if its input is no RGB image.
      float_layers: names of the layers that stayed in float in an int8 file.
      accelerator: for ``ethos-u`` and ``micro``, one of `ethos_u.ACCELERATORS`, or None.
      confidence: how a classifier's probabilities are made, and when an answer is unknown.
    """

    content: bytes
    name: str
    labels: list[str]
    folder: Path
    file: str = ""
    export: Path = Path()
    accuracy: str = ""
    crop_fraction: float = 1.0
    rule: Callable[[], PixelRule] | None = None
    float_layers: tuple[str, ...] = ()
    accelerator: str | None = None
    confidence: Confidence = field(default_factory=Confidence)


@dataclass(frozen=True)
class Target:
    """A kind of device or app, chosen as ``--target=NAME``.

    Attributes:
      name, description: see `registry.Entry`.
      format: format of the .tflite file that the package contains.
      write: a function that takes a `Source`, writes the package and returns a `Package`, or raises
        UserError if the target cannot run the model; or its name as ``module:function``.
      needs: what must be installed, for help texts; empty if nothing.
      arena: whose arena its package has, `patches.request.TFLM` or ``C``, so that the file can run
        patch by patch; empty if neither.
      named: whether the package is a library that lies beside others, so that its folder bears the
        network's name.
    """

    name: str
    description: str
    format: Format
    write: Callable[[Source], Package] | str
    needs: str = ""
    arena: str = ""
    named: bool = False


_PACKAGES = f"{__package__}.packages"

TARGETS = registry.table(
    Target(
        "micro",
        "a C++17 library for microcontrollers (Arduino, PlatformIO, ESP-IDF, Zephyr, CMake)",
        INT8,
        f"{_PACKAGES}:write_micro",
        needs="`pip install --pre tflite-micro`",
        arena=TFLM,
        named=True,
    ),
    Target(
        "c",
        "the network as plain C99 without an interpreter, for any microcontroller",
        INT8,
        f"{_PACKAGES}:write_c",
        arena=C,
    ),
    Target(
        "android",
        "a Gradle project: the network as a Kotlin library, and an app with a camera",
        Format("int8", "uint8"),
        f"{_PACKAGES}:write_android",
    ),
    Target(
        "ethos-u",
        "a file that Vela has compiled for Arm's Ethos-U accelerators",
        INT8,
        f"{_PACKAGES}:write_ethos_u",
        needs="`pip install ethos-u-vela`",
    ),
    Target(
        "web",
        "a page that classifies pictures and measures latency in the browser",
        INT8,
        f"{_PACKAGES}:write_web",
        needs="npm, which fetches LiteRT.js",
    ),
)


def help_text() -> str:
    """Names, descriptions and requirements of all targets, for help texts."""
    return "; ".join(
        f"{target.name}: {target.description}{f' (needs {target.needs})' if target.needs else ''}"
        for target in TARGETS.values()
    )
