"""What a measurement ran on, and under which conditions: names, clock, temperature, load.

Everything is read from files of Linux below a root folder, which is ``/`` on the board itself. The
files of a phone can therefore be copied elsewhere and read there. What a system does not tell is
None.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path("/")
BUSY = 0.5
"""A load per core above which a measurement is marked."""

FILES = (
    "proc/cpuinfo",
    "proc/device-tree/model",
    "proc/loadavg",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq",
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/cooling_device*/type",
    "sys/class/thermal/cooling_device*/cur_state",
    "sys/class/power_supply/*/status",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/firmware/acpi/platform_profile",
)
"""All that is read here, as patterns below the root."""

# Counters of whole processors, in microjoules. Their parts (intel-rapl:0:0) and what counts the
# same again in another way (intel-rapl-mmio:0, the whole machine as "psys") are left out.
_ENERGY = "sys/class/powercap/intel-rapl:[0-9]*"

_UNDER_LIMITS = 0xF  # bits of a Raspberry Pi: too low a voltage, capped, throttled, too warm now

# Numbers of CPU parts by implementer, as Linux prints them (arch/arm64/include/asm/cputype.h and
# the manuals of the processors).
_PARTS = {
    0x41: {
        0xB76: "ARM1176",
        0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9",
        0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15",
        0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57",
        0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
        0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1",
        0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
        0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C",
        0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4",
    },
    0x48: {0xD01: "TaiShan-v110"},
    0x4E: {0x004: "Carmel"},
    0x51: {
        0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver", 0x802: "Kryo 3xx Gold",
        0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver",
    },
    0x61: {0x022: "Icestorm (M1)", 0x023: "Firestorm (M1)"},
    0xC0: {0xAC3: "Ampere-1"},
}  # fmt: skip


@dataclass(frozen=True)
class Host:
    """The machine and the process that measured.

    Attributes:
      cpu: name of the board and the processor.
      cores: number of logical processor cores, or None if it is unknown.
      system: operating system, its release, and the machine type.
      python: version of Python.
      runtime: name and version of the LiteRT package.
      peak_rss_mb: peak resident memory of the whole process so far in megabytes (10^6 bytes),
        including the Python interpreter and all models; None on Windows.
      clusters: the kinds of Arm cores with their highest clock, such as ``4x Cortex-A55 1.80 GHz,
        4x Cortex-A76 2.20 GHz``; None for other processors.
      libc: name and version of the C library.
    """

    cpu: str
    cores: int | None
    system: str
    python: str
    runtime: str
    peak_rss_mb: float | None
    clusters: str | None = None
    libc: str | None = None


@dataclass(frozen=True)
class State:
    """What changes while a machine works, at one moment.

    Attributes:
      mhz: mean of the cores' clocks in MHz.
      celsius: the highest temperature of all sensors of the board.
      load: programs that were running or waiting in the last minute, divided by the cores.
      limited: whether the clock is held down now, because of heat or a low voltage.
      limitings: how often it was held down since the start, where the processor counts that.
      discharging: whether a battery supplies the board.
      saving: whether a mode that saves power is on.
    """

    mhz: float | None
    celsius: float | None
    load: float | None
    limited: bool | None
    limitings: int | None
    discharging: bool | None
    saving: bool | None = None


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement.

    Attributes:
      governor: how Linux chooses the clock, such as ``performance``.
      affinity: the cores that the program may use, such as ``0-3``.
      mhz_before, mhz_after, celsius_before, celsius_after: see `State`.
      load: see `State`, before the measurement.
      throttled: whether the clock was held down before, during or after it.
      on_battery: whether a battery supplied the board.
      marks: why the figures should not be trusted, such as ``throttled``; empty if nothing is known
        against them.
      battery_saver: whether a mode that saves power was on, as Android's battery saver.
    """

    governor: str | None
    affinity: str | None
    mhz_before: float | None
    mhz_after: float | None
    celsius_before: float | None
    celsius_after: float | None
    load: float | None
    throttled: bool | None
    on_battery: bool | None
    marks: str
    battery_saver: bool | None = None


def describe_host() -> Host:
    """Returns a description of this machine and this process."""
    return Host(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        runtime=_runtime_version(),
        peak_rss_mb=_peak_rss_mb(),
        clusters=clusters(),
        libc=" ".join(platform.libc_ver()).strip() or None,
    )


def cpu_name(root: Path = ROOT) -> str:
    """Returns the names of the board and the processor, as far as the system knows them.

    On Arm, ``/proc/cpuinfo`` has no "model name", or one that is only the architecture. There the
    device tree names the board ("Raspberry Pi 4 Model B Rev 1.4"), numbers tell the kinds of cores,
    and older kernels have a field "Hardware".

    Args:
      root: folder that contains ``proc/``; tests use another one than ``/``.
    """
    # Strings in the device tree end with a NUL character.
    board = _read(root / "proc/device-tree/model").strip("\0 \n")
    fields: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    processor = fields.get("model name") or clusters(root) or fields.get("Hardware")
    names = [name for name in (board, processor) if name]
    return ", ".join(names) or platform.processor() or platform.machine() or "unknown"


def clusters(root: Path = ROOT) -> str | None:
    """Returns the kinds of Arm cores in their order; see `Host`. None if no core tells its part."""
    cores: list[tuple[str, float]] = []
    number, implementer = 0, 0
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, text = (part.strip() for part in line.partition(":"))
        try:
            if key == "processor":
                number = int(text)
            elif key == "CPU implementer":
                implementer = int(text, 16)
            elif key == "CPU part":
                name = _PARTS.get(implementer, {}).get(int(text, 16))
                cpufreq = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
                highest = _numbers([cpufreq / "cpuinfo_max_freq"])
                unknown = f"part {text} of implementer {implementer:#04x}"
                cores.append((name or unknown, highest[0] / 1e6 if highest else 0.0))
        except ValueError:
            continue
    kinds = [(kind, len(list(members))) for kind, members in groupby(cores)]
    texts = [f"{n}x {name}" + (f" {ghz:.2f} GHz" if ghz else "") for (name, ghz), n in kinds]
    return ", ".join(texts) or None


def state(root: Path = ROOT) -> State:
    """Returns the state of the machine now."""
    cpu = root / "sys/devices/system/cpu"
    clocks = [khz / 1e3 for khz in _numbers(cpu.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    cpuinfo = _read(root / "proc/cpuinfo").splitlines()
    if not clocks:
        clocks = [float(line.split(":")[1]) for line in cpuinfo if line.startswith("cpu MHz")]
    cores = sum(line.split(":")[0].strip() == "processor" for line in cpuinfo) or os.cpu_count()
    temperatures = _numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    plausible = [value / 1e3 for value in temperatures if -40e3 < value < 150e3 and value]
    waiting = _read(root / "proc/loadavg").split()
    limitings = _numbers(cpu.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    supplies = [_read(path).strip() for path in (root / "sys/class/power_supply").glob("*/status")]
    profile = _read(root / "sys/firmware/acpi/platform_profile").strip()
    return State(
        mhz=round(sum(clocks) / len(clocks), 1) if clocks else None,
        celsius=round(max(plausible), 1) if plausible else None,
        load=round(float(waiting[0]) / cores, 2) if waiting and cores else None,
        limited=_limited(root),
        limitings=int(sum(limitings)) if limitings else None,
        discharging="Discharging" in supplies if supplies else None,
        saving=profile == "low-power" if profile else None,
    )


def conditions(before: State, after: State, root: Path = ROOT) -> Conditions:
    """Returns the conditions of a measurement between two states of the machine."""
    cpu = root / "sys/devices/system/cpu"
    governors = {_read(p).strip() for p in cpu.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    signs = [sign for sign in (before.limited, after.limited) if sign is not None]
    if before.limitings is not None and after.limitings is not None:
        signs.append(after.limitings > before.limitings)
    throttled = any(signs) if signs else None
    batteries = {before.discharging, after.discharging} - {None}
    on_battery = any(batteries) if batteries else None
    saving = {before.saving, after.saving} - {None}
    battery_saver = any(saving) if saving else None
    marks = []
    if before.load is not None and before.load > BUSY:
        marks.append(f"load of {before.load:.2f} a core")
    if throttled:
        marks.append("throttled")
    if on_battery:
        marks.append("on battery")
    if battery_saver:
        marks.append("battery saver")
    return Conditions(
        governor=", ".join(sorted(governors)) or None,
        affinity=_affinity() if root == ROOT else None,
        mhz_before=before.mhz,
        mhz_after=after.mhz,
        celsius_before=before.celsius,
        celsius_after=after.celsius,
        load=before.load,
        throttled=throttled,
        on_battery=on_battery,
        marks="; ".join(marks),
        battery_saver=battery_saver,
    )


def energy(root: Path = ROOT) -> dict[str, tuple[float, float]]:
    """Returns what the energy counters of the processors say now.

    Linux gives them to root alone, as a rule, and not within most virtual machines.

    Returns:
      Name of the counter to its microjoules and the number at which it begins anew; empty where
      Linux tells nothing.
    """
    found = {}
    for zone in sorted(root.glob(_ENERGY)):
        if zone.name.count(":") == 1 and _read(zone / "name").startswith("package"):
            numbers = [*_numbers([zone / "energy_uj"]), *_numbers([zone / "max_energy_range_uj"])]
            if len(numbers) == 2:
                found[zone.name] = numbers[0], numbers[1]
    return found


def joules(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> float | None:
    """Returns the energy between two results of `energy` in joules; None if it is unknown.

    A counter that is smaller after than before began anew once, which takes it minutes.
    """
    if not before or before.keys() != after.keys():
        return None
    total = 0.0
    for name, (start, highest) in before.items():
        used = after[name][0] - start
        total += used if used >= 0 else used + highest
    return total / 1e6


def _limited(root: Path) -> bool | None:
    """Whether something holds the clock down now."""
    signs = []
    for kind in (root / "sys/class/thermal").glob("cooling_device*/type"):
        if "cpu" in _read(kind).lower() or _read(kind).strip() == "Processor":
            signs += [step > 0 for step in _numbers([kind.with_name("cur_state")])]
    firmware = _read(root / "sys/devices/platform/soc/soc:firmware/get_throttled").strip()
    if firmware:
        signs.append(bool(int(firmware, 16) & _UNDER_LIMITS))
    return any(signs) if signs else None


def _affinity() -> str | None:
    """The cores that this process may use, as ranges."""
    if not hasattr(os, "sched_getaffinity"):  # macOS, Windows
        return None
    cores = sorted(os.sched_getaffinity(0))
    ranges = []
    for _, members in groupby(enumerate(cores), lambda pair: pair[1] - pair[0]):
        numbers = [core for _, core in members]
        ranges.append(f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0]))
    return ",".join(ranges)


def _numbers(paths: Iterable[Path]) -> list[float]:
    """The numbers in files, without those that cannot be read."""
    found = []
    for path in sorted(paths):
        try:
            found.append(float(_read(path)))
        except ValueError:
            continue
    return found


def _read(path: Path) -> str:
    """Returns the text of a file, or an empty text if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _runtime_version() -> str:
    for name in ("ai-edge-litert", "ai-edge-litert-nightly"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "ai-edge-litert, unknown version"


def _peak_rss_mb() -> float | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6  # Linux reports KiB, macOS bytes
