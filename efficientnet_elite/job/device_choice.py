"""What `--device` chooses: limits by its memory, and variants that suit its processor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.device import costs, devices
from efficientnet_elite.device.limits import ceilings, metrics_by_limit
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import settings
from efficientnet_elite.search.candidates import pool_members


def expanded(
    options: Mapping[str, Any], config: SearchConfig, in_file: Collection[str] = ()
) -> dict[str, Any]:
    """Options with those that their ``device`` stands for, unless the user gave these himself.

    Args:
      options: values by the names of flags; None for those that are not given.
      config: the settings that the options will replace.
      in_file: dotted names of the settings that stand in the user's file of settings.

    Raises:
      UserError: the device is unknown.
    """
    name = options.get("device")
    if name is None:
        return dict(options)
    device = _device(name)
    chosen: dict[str, Any] = dict(device.limits())
    if device.is_microcontroller and config.pool == SearchConfig().pool:
        chosen["pool"] = f"{config.pool}{devices.SUITABLE}"
    table = settings.options()
    for option, value in options.items():
        if value is not None:
            chosen[option] = value
    return {
        option: value
        for option, value in {**options, **chosen}.items()
        if options.get(option) is not None or not {*table[option].fields} & {*in_file}
    }


def announcement(name: str, config: SearchConfig) -> str:
    """What a device means for a pool, in a line: its limits, and how many networks exceed each.

    Args:
      name: of the device.
      config: the settings, with those that the device chose.
    """
    device = _device(name)
    if not device.is_microcontroller:
        return f"{name} ({device.core}): its memory limits no network; see --max_latency_ms"
    bounds = ceilings(config.limits)
    specs = (
        []
        if ":" in config.pool
        else [
            member.spec
            for member in pool_members(
                config.pool,
                base_resolution=config.base_resolution,
                channels=config.data.input_channels,
            )
        ]
    )
    parts = []
    for limit, metric in metrics_by_limit().items():
        if metric in bounds and costs.METRICS[metric].of is not None:
            over = sum(costs.of(spec, metric) > bounds[metric] for spec in specs)
            value = f"--max_{limit}={config.limits.by_name()[limit]:g}"
            parts.append(f"{value} excludes {over} of {len(specs)} networks" if specs else value)
    return (
        f"{name} ({device.core}, {device.clock_mhz} MHz, {device.flash_kib:,} KiB of flash, "
        f"{device.ram_kib:,} KiB of RAM), {config.pool} at {config.base_resolution} px: "
        + ", ".join(parts)
    )


def _device(name: Any) -> devices.Device:
    known = devices.DEVICES
    if name not in known:
        raise UserError(
            f"device={name!r} is unknown{settings.nearest(str(name), known)} "
            "(`elite devices` lists them)"
        )
    return known[name]
