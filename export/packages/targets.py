"""Export targets: the kinds of devices and apps that packages are made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from efficientnet_elite import registry
from efficientnet_elite.export.formats import INT8, Format

ACCELERATOR = "ethos-u55-128"  # what packages for an Ethos-U are made for by default


@dataclass(frozen=True)
class Package:
    """A written package.

    Attributes:
      name: of the network.
      folder: where it is.
      model_bytes: flash memory or disk that the network takes.
      arena_bytes: of a microcontroller package: working memory that TFLM needs; on an Ethos-U its
        SRAM.
      cycles: of an inference on an Ethos-U, as Vela estimates them.
    """

    name: str
    folder: Path
    model_bytes: int
    arena_bytes: int | None = None
    cycles: float | None = None


@dataclass(frozen=True)
class Source:
    """What a package is made of.

    Attributes:
      content: of the .tflite file.
      file: its name.
      name: of the network.
      labels: names of the classes, in the order of the outputs.
      folder: gets the package.
      crop_fraction: share of an image's shorter side that the network was tested on.
      float_layers: layers that stayed in float in an int8 file.
      accelerator: of an Ethos-U, one of `ethos_u.ACCELERATORS`.
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
      format: of the .tflite file that it takes.
      write: `Source` to the `Package` that it has written; UserError where the target cannot run
        the model. ``module:function`` or itself.
      needs: what must be installed, for help; empty for nothing.
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
    """All targets with what they need, for help."""
    return "; ".join(
        f"{target.name}: {target.description}{f' (needs {target.needs})' if target.needs else ''}"
        for target in TARGETS.values()
    )
