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

COUNTED_CORES = {
    **dict.fromkeys(("Cortex-M4", "Cortex-M7", "Cortex-M33"), "m4"),
    "Cortex-M55": "m55",
}
"""Cores to the latency target with the instructions that networks in C execute there: those of a
Cortex-M4 on cores with the DSP extension and without vectors."""

CYCLES_PER_INSTRUCTION = {"Cortex-M4": 1.4, "Cortex-M33": 1.4}
"""By core, an assumption. The inner loop of nn_conv has 20 instructions and takes 27 to 29 cycles
by the table in Arm's reference manual of the Cortex-M4, if memory never makes it wait; flash memory
does. A Cortex-M33 is taken to be as fast. A Cortex-M7 depends on its caches and executes up to two
instructions at once, and an M55's vectors take several cycles: of those nothing is assumed."""

SUITABLE = "-relu6-nose"
"""Ending of the pools that suit microcontrollers: swish and squeeze-excite take most of their time
there, and gain little accuracy in int8."""

SMALL_KB = 800.0
SMALLER_POOL = "elite-small-relu6-nose"
"""What joins the pool where files may have fewer kB than this: eLite's smallest network without
squeeze-excite takes about 780 kB with ten classes, those of this pool 210 kB and more."""


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

    @property
    def latency_target(self) -> str | None:
        """The name of the latency target that stands for this device; None if none does."""
        return COUNTED_CORES.get(self.core)

    @property
    def million_instructions_a_second(self) -> float | None:
        """How fast a network in C runs, estimated; None where nothing is assumed of the core."""
        cycles = CYCLES_PER_INSTRUCTION.get(self.core)
        return None if cycles is None else self.clock_mhz / cycles

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
