"""Common boards and phones with their memory, and the limits that follow for networks.

The data is in ``devices.csv``: the flash that a program can read constants from, and the largest
part of the RAM that is in one piece, in KiB, with the page of the maker that says so. An empty
field for flash means that files are loaded from a disk.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

from efficientnet_elite import registry

RAM_SHARE = FLASH_SHARE = 0.75
"""Shares of the device's memory that a network may take; the rest is for the application."""

TFLM_KB = 145.0
"""Flash in kB that TensorFlow Lite Micro, its kernels and parts of the C library take at most."""

SUITABLE = "-relu6-nose"
"""Ending of the pools that suit microcontrollers: swish and squeeze-excite take most of their time
there, and gain little accuracy in int8."""


@dataclass(frozen=True)
class Device:
    """A board or a phone.

    Attributes:
      name, description: see `registry.Entry`.
      core: its processor; that of the fastest core.
      clock_mhz: the processor's clock.
      flash_kib: flash memory in KiB from which a program reads constants; None where files are
        loaded from a disk.
      ram_kib: the largest part of the RAM in one piece, in KiB.
      source: the page of the maker with these figures.
    """

    name: str
    description: str
    core: str
    clock_mhz: int
    flash_kib: int | None
    ram_kib: int
    source: str

    @property
    def is_microcontroller(self) -> bool:
        """Whether the network lies in flash memory and runs without an operating system."""
        return self.flash_kib is not None

    def limits(self) -> dict[str, float]:
        """Limits by the name of their option, in whole kB; none where memory is no matter."""
        if self.flash_kib is None:
            return {}
        return {
            "max_size_kb": float(FLASH_SHARE * self.flash_kib * 1.024 // 1 - TFLM_KB),
            "max_arena_kb": float(RAM_SHARE * self.ram_kib * 1.024 // 1),
        }


def _read() -> list[Device]:
    text = resources.files(__package__).joinpath("devices.csv").read_text(encoding="utf-8")
    return [
        Device(
            name=row["name"],
            description=row["description"],
            core=row["core"],
            clock_mhz=int(row["clock_mhz"]),
            flash_kib=int(row["flash_kib"]) if row["flash_kib"] else None,
            ram_kib=int(row["ram_kib"]),
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


DEVICES = registry.table(*_read())
