"""Lists the sources of pretrained weights: whether each is present or must be installed first, its
licence, and which networks it can start. Nothing is downloaded.

With --import, reads a file of weights once and stores it under the name of --as, in the folder
where Keras keeps weights; --pretrained=NAME then finds it. PyTorch files are read without running
code in them.

  elite weights --import=tf_efficientnet_lite0.safetensors --as=lite0-timm
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    "import",
    None,
    "File of weights to read: .pth, .safetensors, .keras, .h5 or .npz.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "as", None, "Name under which the imported weights are found.", flag_values=FLAGS
)
common.define_format(FLAGS, "Format of the list on stdout.")


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the list to stdout, or where the imported weights were stored."""
    common.no_arguments(arguments)
    file, name = flags["import"].value, flags["as"].value  # both are keywords of Python
    if (file is None) != (name is None):
        raise UserError("use --import=FILE and --as=NAME together")
    from efficientnet_elite.networks.pretrained import sources

    if file is not None:
        common.quiet_tensorflow()  # some files need Keras
        path = sources.import_file(Path(file), name)
        print(f"{name}: {path}\nUse it with --pretrained={name}")
        return
    entries = [*sources.SOURCES.values(), *sources.imported_sources().values()]
    rows = [
        {
            "name": entry.name,
            "present": sources.is_present(entry),
            "licence": entry.licence,
            "description": entry.description,
            "starts": entry.starts,
            "deviation": entry.deviation,
            "install": entry.install,
        }
        for entry in entries
    ]
    print(_FORMATS[flags.format](rows), end="")


def _table(rows: list[dict[str, Any]]) -> str:
    """A table of one line for each source, and below it how to get those that are absent."""
    cells = [["name", "present", "licence", "weights", "starts"]]
    for row in rows:
        present = "yes" if row["present"] else "no"
        cells.append([row["name"], present, row["licence"], row["description"], row["starts"]])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells
    ]
    absent = [f"{row['name']}: {row['install']}" for row in rows if not row["present"]]
    hints = "\n" + "\n".join(absent) + "\n" if absent else ""
    differing = [
        f"{row['name']} differs from its origin: {row['deviation']}"
        for row in rows
        if row["deviation"]
    ]
    notes = "\n" + "\n".join(differing) + "\n" if differing else ""
    return common.table(padded) + notes + hints


_FORMATS = {"table": _table, "json": common.as_json, "csv": common.as_csv}
