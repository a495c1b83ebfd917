"""Shows what this installation and this machine can do: versions of packages, absent extras, GPU,
memory and disk, runtimes for `elite verify`, and sources of pretrained weights.

  elite doctor
  elite doctor --json
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_boolean("json", False, "Print it as JSON.", flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints what was found to stdout."""
    from efficientnet_elite.job import doctor

    common.no_arguments(arguments)
    with contextlib.suppress(ImportError):  # what is absent is said below
        common.quiet_tensorflow()
    found = doctor.examine(Path.cwd())
    print(json.dumps(found, indent=2) if flags.json else _text(found))


def _text(found: dict[str, Any]) -> str:
    memory = found["memory_bytes"]
    gpus = found["gpus"]
    lines = [
        f"Python {found['python']}, {found['system']}",
        f"{found['processors']} processors, "
        + (f"{memory / 1e9:.1f} GB of memory, " if memory else "")
        + f"{found['free_disk_bytes'] / 1e9:.1f} GB free on this disk",
        "GPU: unknown without TensorFlow"
        if gpus is None
        else f"GPU: {', '.join(gpus) or 'none that TensorFlow can use'}",
        "",
        "packages",
        *(_line(name, number or "NOT INSTALLED") for name, number in found["packages"].items()),
        "",
        "extras",
        *(
            _line(name, f"absent: {', '.join(absent)}" if absent else "installed")
            for name, absent in found["extras"].items()
        ),
    ]
    for title in ("runtimes", "sources"):
        lines += ["", title, *(_line(name, why or "works") for name, why in found[title].items())]
    return "\n".join(lines)


def _line(name: str, text: str) -> str:
    return f"  {name:28} {text}"
