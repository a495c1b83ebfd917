"""What this installation and this machine can do: versions, extras, hardware, runtimes, sources."""

from __future__ import annotations

import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from efficientnet_elite import machine, registry
from efficientnet_elite.errors import UserError

_PACKAGE = "efficientnet-elite"


def examine(folder: Path) -> dict[str, Any]:
    """Looks at this installation and machine; what cannot be found out is None or says why.

    Args:
      folder: the disk space is that of this folder's disk.

    Returns:
      ``python``, ``system``, ``processors``, ``memory_bytes`` (of the machine or its container),
      ``free_disk_bytes``, ``gpus`` (names; None without TensorFlow), ``packages`` (name to version,
      None if absent), ``extras`` (name to its absent packages), ``runtimes`` and
      ``sources``, each name to None if it works here, and otherwise to what is missing.
    """
    packages, extras = _requirements()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": machine.processors(),
        "memory_bytes": machine.memory_bytes(),
        "free_disk_bytes": shutil.disk_usage(folder).free,
        "gpus": _gpus(),
        "packages": {_PACKAGE: _version(_PACKAGE), **{name: _version(name) for name in packages}},
        "extras": {
            extra: [name for name in names if _version(name) is None]
            for extra, names in extras.items()
        },
        "runtimes": _runtimes(),
        "sources": _sources(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """The packages that this one needs, and those of each of its extras."""
    packages: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in distribution(_PACKAGE).requires or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if name is not None:
            (extras.setdefault(extra[1], []) if extra else packages).append(name[0])
    return packages, extras


def _gpus() -> list[str] | None:
    try:
        import tensorflow as tf
    except ImportError:
        return None
    return [device.name for device in tf.config.list_physical_devices("GPU")]


def _runtimes() -> dict[str, str | None]:
    from efficientnet_elite.export.runtimes.verify import RUNTIMES

    return {name: runtime.missing() for name, runtime in RUNTIMES.items()}


def _sources() -> dict[str, str | None]:
    """The sources of pretrained weights."""
    from efficientnet_elite.networks.pretrained.sources import SOURCES

    found: dict[str, str | None] = {}
    for name, source in SOURCES.items():
        try:
            present = registry.resolve(source.present)()
        except (ImportError, UserError, OSError) as error:
            found[name] = str(error)
            continue
        found[name] = None if present else f"not present: {source.install}"
    return found
