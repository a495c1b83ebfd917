"""Boards in a file, ``boards.toml``, and what kinds of boards there are."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from efficientnet_elite import registry
from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.workdir import write_bytes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

Result: TypeAlias = dict[str, Any]
"""What was measured on a board, as the latency program writes it: ``host``, ``conditions``,
``options`` and ``rows``, which are the fields of `Host`, `Conditions`, `Options` and `Row`."""


@dataclass(frozen=True)
class Setting:
    """Something that a board's table in the file says.

    Attributes:
      name, help: its key, and a sentence without a full stop.
      type: of its value; a file or folder is a str, relative to the folder of ``boards.toml``.
      required: whether each board of the kind must say it.
      values: what it may be, where that is limited.
    """

    name: str
    help: str
    type: type = str
    required: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of board.

    Attributes:
      name, description: see `registry.Entry`.
      settings: of boards of this kind.
      check: says in a line what a board is, or raises UserError with what it lacks.
      measure: measures models, in the order in which they are given. It gets the board, the files,
        how to measure, and an empty folder, and returns one row for each file. Raises UserError
        where the board fails.
      machine: the settings that tell which machine is kept busy; without any, it is this one.
        Boards on one machine, such as its small and its large cores, wait for each other.
      reads: whether it only reads figures that were measured before, which are read each time.
    """

    name: str
    description: str
    settings: tuple[Setting, ...]
    check: Callable[[Board], str] | str
    measure: Callable[[Board, Sequence[Path], Options, Path], Result] | str
    machine: tuple[str, ...] = ()
    reads: bool = False


@dataclass(frozen=True)
class Board:
    """A board as the file describes it.

    Attributes:
      name: its name in the file.
      kind: what it is.
      settings: its settings.
      folder: of the file; see `Setting.type`.
    """

    name: str
    kind: Kind
    settings: Mapping[str, Any]
    folder: Path

    def path(self, setting: str, default: str | None = None) -> Path:
        """A file or folder that a setting names.

        Raises:
          UserError: there is none.
        """
        path = self.folder / Path(self.settings.get(setting, default)).expanduser()
        if not path.exists():
            raise UserError(f"{setting} = {str(path)!r} does not exist")
        return path

    @property
    def machine(self) -> tuple[Any, ...]:
        """What is equal for boards that wait for each other; see `Kind.machine`."""
        names = self.kind.machine
        return (self.kind.name, *(str(self.settings.get(name)) for name in names)) if names else ()

    def check(self) -> str:
        """See `Kind.check`."""
        return registry.resolve(self.kind.check)(self)

    def measure(self, models: Sequence[Path], options: Options, scratch: Path) -> Result:
        """See `Kind.measure`."""
        return registry.resolve(self.kind.measure)(self, models, options, scratch)


def read(path: Path, kinds: Mapping[str, Kind]) -> list[Board]:
    """The boards of a file.

    Raises:
      UserError: there is no such file, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {path}: `elite boards add NAME KIND setting=value ...` makes it, with a "
            f"KIND of {', '.join(kinds)}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error
    return parsed(text, path, kinds)


def parsed(text: str, path: Path, kinds: Mapping[str, Kind]) -> list[Board]:
    """The boards that a text describes; ``path`` is its file, for messages and relative paths."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    for name, table in content.items():
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name!r} stands outside of a board: [{name}] begins one")
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: the name {name!r} has more than letters, digits, - and _")
    if not content:
        raise UserError(f"{path} has no board")
    return [_board(name, dict(table), path, kinds) for name, table in content.items()]


def _board(name: str, table: dict[str, Any], path: Path, kinds: Mapping[str, Kind]) -> Board:
    kind_name = table.pop("kind", None)
    if kind_name not in kinds:
        raise UserError(f"{path}: kind = {kind_name!r} of {name} is none of {', '.join(kinds)}")
    kind = kinds[kind_name]
    known = {setting.name: setting for setting in kind.settings}
    for key, value in table.items():
        if key not in known:
            choices = ", ".join(known) or "none"
            raise UserError(
                f"{path}: {name} has no setting {key!r}; those of {kind.name}: {choices}"
            )
        if not isinstance(value, known[key].type) or isinstance(value, bool) != (
            known[key].type is bool
        ):
            raise UserError(f"{path}: {key} of {name} must be of type {known[key].type.__name__}")
        if known[key].values and value not in known[key].values:
            choices = ", ".join(known[key].values)
            raise UserError(f"{path}: {key} = {value!r} of {name} is none of {choices}")
    for setting in kind.settings:
        if setting.required and setting.name not in table:
            raise UserError(f"{path}: {name} lacks {setting.name}: {setting.help}")
    return Board(name, kind, table, path.absolute().parent)


def add(path: Path, name: str, kind: str, given: Sequence[str], kinds: Mapping[str, Kind]) -> Board:
    """Adds a board at the end of a file, which it makes where there is none.

    Args:
      path: the file.
      name, kind: of the new board.
      given: its settings as ``name=value``.
      kinds: those that there are.

    Raises:
      UserError: the file or the new board is wrong; then the file stays as it is.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before and name in (board.name for board in parsed(before, path, kinds)):
        raise UserError(f"{path} has a board {name} already")
    types = (
        {setting.name: setting.type for setting in kinds[kind].settings} if kind in kinds else {}
    )
    lines = [f"[{name}]", f'kind = "{kind}"']
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} is not setting=value")
        lines.append(f"{key} = {_toml(value, types.get(key, str))}")
    text = (before.rstrip("\n") + "\n\n" if before else "") + "\n".join(lines) + "\n"
    board = next(board for board in parsed(text, path, kinds) if board.name == name)
    write_bytes(path, text.encode())
    return board


def _toml(value: str, kind: type) -> str:
    """A value as TOML; JSON's strings and lists of strings are TOML's, too."""
    if kind is list:
        return json.dumps(value.split(","))
    return value if kind in (int, bool) else json.dumps(value)
