"""What `--device` and `--latency_target` choose: limits, groups, and variants that suit."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.device import costs, devices
from efficientnet_elite.device.instructions import CORES
from efficientnet_elite.device.latency_targets import X86, LatencyTarget, latency_target
from efficientnet_elite.device.limits import ceilings, metrics_by_limit
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import settings, value_types
from efficientnet_elite.networks.families import user
from efficientnet_elite.search.candidates import pool_members

_CLASSES = 10  # for which networks are counted, before the images are known


def expanded(
    options: Mapping[str, Any], config: SearchConfig, in_file: Collection[str] = ()
) -> dict[str, Any]:
    """Options with those that ``device`` and ``latency_target`` stand for.

    What the user gave himself stays as it is, apart from a limit of milliseconds for a device whose
    milliseconds are estimated: it becomes a limit of instructions.

    Args:
      options: values by the names of flags; None for those that are not given.
      config: the settings that the options will replace.
      in_file: dotted names of the settings that stand in the user's file of settings.

    Raises:
      UserError: the device or the target is unknown, or does not go with other options.
    """
    chosen: dict[str, Any] = {}
    device = None
    if (name := options.get("device")) is not None:
        device = _device(name)
        chosen |= device.limits()
        if device.is_microcontroller and config.pool == SearchConfig().pool:
            chosen["pool"] = f"{config.pool}{devices.SUITABLE}"
            size_kb = options.get("max_size_kb")
            if size_kb is None:
                size_kb = config.limits.size_kb or chosen["max_size_kb"]
            if value_types.checked(size_kb, float, "max_size_kb") < devices.SMALL_KB:
                chosen["pool"] += f",{devices.SMALLER_POOL}"
    options = {**options, **_by_target(options, config, in_file, device)}
    table = settings.options()
    given = {option for option, value in options.items() if value is not None}
    return dict(options) | {
        option: value
        for option, value in chosen.items()
        if option not in given and not {*table[option].fields} & {*in_file}
    }


def _by_target(
    options: Mapping[str, Any],
    config: SearchConfig,
    in_file: Collection[str],
    device: devices.Device | None,
) -> dict[str, Any]:
    """The options that a latency target, given or chosen by the device, adds or replaces."""
    name, table = options.get("latency_target"), options.get("metric_table") or config.metric_table
    if name is None:
        # A table says more of the device than an estimate.
        name = None if device is None or table else device.latency_target
        if name is None:
            return {}
    target = latency_target(str(name))
    limit: dict[str, Any] = {}
    if target.metric in {core.metric for core in CORES.values()}:
        limit = _instructions(options, in_file, device, target)
    elif target.name == X86:
        _check_x86(table)
    elif target.metric == "latency_ms" and not table:
        raise UserError(f"latency_target={name} needs --metric_table=FILE")
    if options.get("group_by") is not None or "group_by" in in_file:
        return limit
    return {
        **limit,
        "group_by": tuple(target.metric if m == "macs" else m for m in config.group_by),
    }


def _check_x86(table: Any) -> None:
    """UserError where latencies would not be those of an x86-64."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UserError(
            f"latency_target={X86} measures on this machine, which is {platform.machine()}: "
            "leave it to --group_by=params,latency_ms"
        )
    if table:
        raise UserError(
            f"latency_target={X86} measures on this machine, and --metric_table holds other "
            "latencies: use --latency_target=table for them"
        )


def _instructions(
    options: Mapping[str, Any],
    in_file: Collection[str],
    device: devices.Device | None,
    target: LatencyTarget,
) -> dict[str, Any]:
    """The limit of instructions that stands for one of milliseconds, if that is given."""
    name, limit = target.name, costs.METRICS[target.metric].limit
    if "limits.latency_ms" in in_file:
        raise UserError(
            "latency_ms in the file of settings is measured on this machine, and "
            f"latency_target={name} asks for another: replace it by {limit}"
        )
    if options.get("max_latency_ms") is None:
        return {}
    speed = device and device.million_instructions_a_second
    if not speed:
        of = f"{device.name} has a {device.core}" if device else "there is no --device"
        raise UserError(
            f"max_latency_ms with latency_target={name} needs the --device of a Cortex-M4 or M33, "
            f"for its clock, and {of}: use --max_{limit}"
        )
    if options.get(f"max_{limit}") is not None:
        raise UserError(
            f"max_latency_ms and max_{limit}: with latency_target={name} both "
            "limit instructions, use one of them"
        )
    milliseconds = value_types.checked(options["max_latency_ms"], float, "max_latency_ms")
    return {"max_latency_ms": None, f"max_{limit}": milliseconds * speed / 1000}


def announcement(name: str, config: SearchConfig) -> str:
    """What a device means for a pool, in a line: its limits, and how many networks exceed each.

    The classes of the images are not known yet: networks with ten are counted.

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
        if user.sources_of_pool(config.pool)
        else [
            member.spec
            for member in pool_members(
                config.pool,
                base_resolution=config.base_resolution,
                classes=_CLASSES,
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
    parts.append(f"groups by {' and '.join(costs.METRICS[m].title for m in config.group_by)}")
    line = (
        f"{name} ({device.core}, {device.clock_mhz} MHz, {device.flash_kib:,} KiB of flash, "
        f"{device.ram_kib:,} KiB of RAM), {config.pool} at {config.base_resolution} px "
        f"with {_CLASSES} classes: " + ", ".join(parts)
    )
    if speed := device.million_instructions_a_second:
        line += f"; networks in C run at about {speed:.0f} M instructions a second, an estimate"
    return line


def _device(name: Any) -> devices.Device:
    known = devices.DEVICES
    if name not in known:
        raise UserError(
            f"device={name!r} is unknown{settings.nearest(str(name), known)} "
            "(`elite devices` lists them)"
        )
    return known[name]
