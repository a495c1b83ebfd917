"""Lists boards and phones with the limits that --device sets for their memory in `elite search`
and `elite train`: three quarters of the RAM for the arena, and three quarters of the
flash, less 145 kB for the code of TensorFlow Lite Micro, for the file. Where files are loaded from
a disk there is no limit. With the name of a device, only that one is listed.

  elite devices
  elite devices arduino-nano-33-ble --format=json
  elite search PHOTOS --device=arduino-nano-33-ble
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.device.devices import DEVICES, Device
from efficientnet_elite.errors import UserError

FLAGS = absl_flags.FlagValues()
common.define_format(FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the devices to stdout."""
    common.no_arguments(arguments[1:])
    for name in arguments:
        if name not in DEVICES:
            raise UserError(f"no device {name!r}: `elite devices` lists them")
    rows = [_row(DEVICES[name]) for name in arguments or DEVICES]
    print(_FORMATS[flags.format](rows), end="")


def _row(device: Device) -> dict[str, Any]:
    limits = device.limits()
    return {
        "name": device.name,
        "core": device.core,
        "clock_mhz": device.clock_mhz,
        "flash_kib": device.flash_kib,
        "ram_kib": device.ram_kib,
        "max_size_kb": limits.get("max_size_kb"),
        "max_arena_kb": limits.get("max_arena_kb"),
        "description": device.description,
        "source": device.source,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    titles = {
        "name": "device",
        "core": "core",
        "clock_mhz": "MHz",
        "flash_kib": "flash KiB",
        "ram_kib": "RAM KiB",
        "max_size_kb": "max_size_kb",
        "max_arena_kb": "max_arena_kb",
    }
    cells = [
        ["-" if row[key] is None else f"{row[key]:,.0f}" if key[-2:] in ("hz", "ib", "kb") else
         row[key] for key in titles]
        for row in rows
    ]  # fmt: skip
    return common.table([list(titles.values()), *cells])


_FORMATS = {"table": _table, "json": common.as_json, "csv": common.as_csv}
