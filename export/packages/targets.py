"""Export targets: the kinds of devices and apps that packages are made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from efficientnet_elite import registry
from efficientnet_elite.export.formats import INT8, Format

ACCELERATOR = "ethos-u55-128"  # the default of --accelerator


@dataclass(frozen=True)
class Package:
    """A written package.

    Attributes:
      name: name of the network.
      folder: folder of the package.
      model_bytes: bytes of flash memory or disk that the network takes.
      arena_bytes: for microcontrollers, bytes of the arena that TFLM needs; for an Ethos-U, bytes
        of SRAM; otherwise None.
      cycles: for an Ethos-U, Vela's estimate of the cycles of one inference; otherwise None.
    """

    name: str
    folder: Path
    model_bytes: int
    arena_bytes: int | None = None
    cycles: float | None = None


@dataclass(frozen=True)
class Source:
    """The input for writing a package.

    Attributes:
      content: content of the .tflite file.
      file: name of the .tflite file.
      name: name of the network.
      labels: names of the classes, in the order of the outputs.
      folder: the folder to which the package is written.
      crop_fraction: side of the central square that the network classifies, as a share of the
        image's shorter side.
      float_layers: names of the layers that stayed in float in an int8 file.
      accelerator: for ``ethos-u``, one of `ethos_u.ACCELERATORS`.
    """

    content: bytes
    file: str
    name: str
    labels: list[str]
    folder: Path
    crop_fraction: float
    float_layers: tuple[str, ...]
    accelerator: str


@dataclass(frozen=True)
class Target:
    """A kind of device or app, chosen as ``--target=NAME``.

    Attributes:
      name, description: see `registry.Entry`.
      format: format of the .tflite file that the package contains.
      write: a function that takes a `Source`, writes the package and returns a `Package`, or raises
        UserError if the target cannot run the model; or its name as ``module:function``.
      needs: what must be installed, for help texts; empty if nothing.
      takes_softmax: whether the network may end in a softmax.
      takes_sigmoid: whether the network may end in a sigmoid.
    """

    name: str
    description: str
    format: Format
    write: Callable[[Source], Package] | str
    needs: str = ""
    takes_softmax: bool = True
    takes_sigmoid: bool = False


_PACKAGES = f"{__package__}.packages"

TARGETS = registry.table(
    Target(
        "micro",
        "a C++11 library for microcontrollers (Arduino, PlatformIO, or any build)",
        INT8,
        f"{_PACKAGES}:write_micro",
        needs="`pip install --pre tflite-micro`",
        takes_softmax=False,
    ),
    Target(
        "android",
        "a .tflite file with metadata, and Kotlin code that uses it",
        Format("int8", "uint8"),
        f"{_PACKAGES}:write_android",
        takes_softmax=False,
    ),
    Target(
        "ethos-u",
        "a file that Vela has compiled for Arm's Ethos-U accelerators",
        INT8,
        f"{_PACKAGES}:write_ethos_u",
        needs="`pip install ethos-u-vela`",
        takes_sigmoid=True,
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
