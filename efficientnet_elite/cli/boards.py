"""Measures .tflite files on several boards and phones, in one table. The file boards.toml names the
boards; each is local (this machine), ssh (Linux with Python), adb (Android), qemu (an emulated
Cortex-A, which counts instructions), cortex-m (an emulated Cortex-M4 or M55), ethos-u (an
accelerator, which Vela estimates) or browser.

run measures, list prints the file's boards, check tries to reach them, add writes one into the
file, and kinds prints what each kind of board needs. What a board gave is kept in --out, as
BOARD.json and BOARD.csv, and is not measured again for the same files; --metric_table of
`elite search` takes either. docs/boards.md has more.

  elite boards add pi4 ssh address=pi@192.168.1.20
  elite boards check
  elite boards run a.int8.tflite b.int8.tflite --html=boards.html
  elite boards run --workdir=runs/digits --csv=boards.csv
  elite boards run a.int8.tflite --ethos_u
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    from efficientnet_elite.job.boards.definitions import Board, Result

FLAGS = latency.new_flags()
absl_flags.DEFINE_string("boards", "boards.toml", "File that names the boards.", flag_values=FLAGS)
absl_flags.DEFINE_boolean(
    "ethos_u",
    False,
    "Take all Ethos-U accelerators of Arm, each with several memory modes, in place of a file of "
    "boards.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "only", [], "Names of the boards to take; all of the file without.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "workdir", None, "Work directory whose exported files are measured.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "out",
    None,
    "Folder for what each board gave. Without: boards in the work directory, or else beside the "
    "file of boards, with its name and .results; ethos-u.results for --ethos_u.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_boolean(
    "fresh", False, "Measure boards again that have been measured.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "html", None, "Page to write: tables and plots, one file that works offline.", flag_values=FLAGS
)
common.define_format(FLAGS, "Format on stdout of list, check and kinds.")


def run(flags: Any, arguments: list[str]) -> int:
    """Does what the first argument says; returns the exit status."""
    action, *rest = arguments or [""]
    if action not in _ACTIONS:
        raise UserError(f"the first argument says what to do: {', '.join(_ACTIONS)}")
    return _ACTIONS[action](flags, rest)


def _run(flags: Any, arguments: list[str]) -> int:
    from efficientnet_elite.job import latencies
    from efficientnet_elite.job.boards import results, suite

    if flags.workdir:
        common.no_arguments(arguments)
        workdir = common.workdir(flags)
        models, out = latencies.exported_files(workdir), workdir / "boards"
    elif arguments:
        file = "ethos-u" if flags.ethos_u else flags.boards
        models, out = arguments, Path(file).expanduser().with_suffix(".results")
    else:
        raise UserError("name .tflite files, or give --workdir")
    outputs = [path for path in (flags.json, flags.csv, flags.html) if path]
    if len(set(outputs)) < len(outputs):
        raise UserError("--json, --csv and --html must name different files")
    for path in outputs:
        if Path(path).expanduser().is_dir():
            raise UserError(f"{path} is a folder: name a file to write")
    boards = _chosen(flags)
    options = latency.Options(flags.runs, flags.warmup, flags.threads, flags.seed, flags.sustained)
    found = suite.run(
        boards,
        [Path(model) for model in models],
        options,
        Path(flags.out).expanduser() if flags.out else out,
        fresh=flags.fresh,
        on_message=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if "-" not in (flags.json, flags.csv):
        measured, estimated = results.by_board(found), results.by_accelerator(found)
        tables = [measured] if len(measured[0]) > 1 or not estimated else []
        tables += [estimated] if estimated else []
        print("\n".join(map(common.table, tables)), end="")
    for remark in results.remarks(found):
        print(f"elite boards: {remark}", file=sys.stderr)
    _write(flags, found)
    return int(any(result["error"] is not None for result in found))


def _write(flags: Any, found: list[Result]) -> None:
    from efficientnet_elite.job.boards import results
    from efficientnet_elite.report import boards_page

    common.write_texts(
        {
            flags.json: lambda: results.whole(found),
            flags.csv: lambda: results.as_csv(found),
            flags.html: lambda: boards_page.render(results.rows(found)),
        }
    )


def _list(flags: Any, arguments: list[str]) -> int:
    common.no_arguments(arguments)
    rows = [
        {"board": board.name, "kind": board.kind.name, **board.settings} for board in _chosen(flags)
    ]
    settings = [
        ", ".join(f"{key} = {value}" for key, value in row.items() if key not in ("board", "kind"))
        for row in rows
    ]
    table = [
        {"board": row["board"], "kind": row["kind"], "settings": text}
        for row, text in zip(rows, settings, strict=True)
    ]
    print(common.as_json(rows) if flags.format == "json" else _shown(flags, table), end="")
    return 0


def _check(flags: Any, arguments: list[str]) -> int:
    from efficientnet_elite.job.boards import suite

    common.no_arguments(arguments)
    rows = suite.check(_chosen(flags))
    shown = rows if flags.format == "json" else [
        row | {"ready": "yes" if row["ready"] else "no"} for row in rows
    ]  # fmt: skip
    print(_shown(flags, shown), end="")
    return int(not all(row["ready"] for row in rows))


def _add(flags: Any, arguments: list[str]) -> int:
    from efficientnet_elite.job.boards import definitions
    from efficientnet_elite.job.boards.kinds import KINDS

    if len(arguments) < 2:
        raise UserError(
            "name the board, its kind and setting=value ...: `elite boards kinds` lists the kinds "
            "with their settings"
        )
    name, kind, *settings = arguments
    path = Path(flags.boards).expanduser()
    board = definitions.add(path, name, kind, settings, KINDS)
    print(f"{path}: {board.name}, {board.kind.description}")
    return 0


def _kinds(flags: Any, arguments: list[str]) -> int:
    from efficientnet_elite.job.boards.kinds import KINDS

    common.no_arguments(arguments)
    rows = [
        {
            "kind": kind.name,
            "setting": setting.name,
            "required": "yes" if setting.required else "no",
            "meaning": setting.help,
        }
        for kind in KINDS.values()
        for setting in kind.settings
    ]
    print(_shown(flags, rows), end="")
    return 0


def _chosen(flags: Any) -> list[Board]:
    """The boards of the file that --only names."""
    from efficientnet_elite.job.boards import definitions
    from efficientnet_elite.job.boards.kinds import KINDS

    if flags.ethos_u:
        from efficientnet_elite.job.boards import ethos_u

        boards, place = ethos_u.configurations(KINDS["ethos-u"]), "--ethos_u"
    else:
        boards, place = definitions.read(Path(flags.boards).expanduser(), KINDS), flags.boards
    unknown = set(flags.only) - {board.name for board in boards}
    if unknown:
        known = ", ".join(board.name for board in boards)
        raise UserError(f"{place} has no board {sorted(unknown)[0]}; it has {known}")
    return [board for board in boards if not flags.only or board.name in flags.only]


def _shown(flags: Any, rows: list[dict[str, Any]]) -> str:
    if flags.format == "json":
        return common.as_json(rows)
    if flags.format == "csv":
        return common.as_csv(rows)
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in cells
    )


_ACTIONS = {"run": _run, "list": _list, "check": _check, "add": _add, "kinds": _kinds}
