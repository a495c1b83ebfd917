"""Files of settings: TOML and YAML are read, TOML is written.

A file may hold some of the settings only. All others are those of the preset that it names as
``base``, or the defaults. Flags and keyword arguments override a file.
"""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from efficientnet_elite.config import FORMER_NAMES, PARTS, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.recipes import PRESETS
from efficientnet_elite.job.settings import (
    choices_of,
    help_of,
    nearest,
    options,
    preset,
    setting_types,
    value_of,
    with_values,
)
from efficientnet_elite.job.value_types import checked

SUFFIXES = (".toml", ".yaml", ".yml")


def is_file_name(text: str) -> bool:
    """Whether ``--config`` names a file rather than a preset."""
    return Path(text).suffix in SUFFIXES


def named_config(name: str | Path) -> SearchConfig:
    """The config of a preset, or of a file; UserError where there is none."""
    return read(Path(name).expanduser()) if is_file_name(str(name)) else preset(str(name))


def base_of(name: str | Path) -> str | None:
    """The preset that ``--config`` names, itself or as the base of a file; None for no preset."""
    if not is_file_name(str(name)):
        return str(name)
    base = _parsed(Path(name).expanduser()).get("base")
    return base if isinstance(base, str) else None


def names_in(name: str | Path) -> frozenset[str]:
    """Dotted names of the settings that a file holds itself; none for a preset.

    UserError where the file cannot be read.
    """
    if not is_file_name(str(name)):
        return frozenset()
    values = _parsed(Path(name).expanduser())
    return frozenset(dotted for dotted, _ in _flattened(values)) - {"base"}


def read(path: Path) -> SearchConfig:
    """Reads a file of settings.

    Raises:
      UserError: the file is missing or has wrong syntax, or a key is unknown, or a value is wrong.
        The message names the file and the key.
    """
    values = dict(_parsed(path))
    base = values.pop("base", None)
    if base is not None and base not in tuple(PRESETS):  # a tuple: a list has no hash
        raise UserError(f"{path}: base={base!r}: use {' or '.join(PRESETS)}")
    try:
        return with_values(
            SearchConfig() if base is None else preset(base), dict(_by_dotted_name(values))
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parsed(path: Path) -> Mapping[str, Any]:
    parse = _parse_toml if path.suffix == ".toml" else _parse_yaml
    try:
        values = parse(path.read_text(encoding="utf-8-sig"))  # editors may add a byte order mark
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be a file of settings") from error
    except ValueError as error:  # wrong syntax, or no UTF-8
        reason = " ".join(str(error).split())
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        raise UserError(f"{path} is not valid {kind}: {reason}") from error
    if not isinstance(values, Mapping):
        raise UserError(f"{path} must hold settings by name, such as `epochs: 10` under `train:`")
    return values


def _parse_toml(text: str) -> Any:
    return tomllib.loads(text)


def _parse_yaml(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):
        """A SafeLoader for YAML 1.2: 1e-5 is a number, and no mapping has a key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            """Builds a mapping; ValueError where a key stands in it twice."""
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key, times in Counter(keys).items() if times > 1]:
                raise ValueError(f"{twice[0]!r} is given twice (line {node.start_mark.line + 1})")
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    try:
        values = yaml.load(text, Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return {} if values is None else values


def _by_dotted_name(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The dotted names and the values of a file; UserError where one is unknown or wrong."""
    types, defaults = setting_types(), SearchConfig()
    for dotted, value in _flattened(values):
        if dotted not in types:
            raise UserError(f"unknown setting {dotted!r}{_nearest_setting(dotted, types)}")
        if value is None and value_of(defaults, dotted) is None:
            yield dotted, None
            continue
        yield dotted, checked(value, types[dotted], dotted, choices_of(dotted))


def _flattened(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in PARTS:
            if not isinstance(value, Mapping):
                raise UserError(f"{name}={value!r}: must hold settings by name")
            for inner, given in value.items():
                inner = FORMER_NAMES.get(inner, inner) if name == "data" else inner
                yield f"{name}.{inner}", given
        else:
            yield str(name), value


def _nearest_setting(dotted: str, known: Mapping[str, Any]) -> str:
    """The nearest setting: a flag's name and a name in a wrong part count as near."""
    name = dotted.rpartition(".")[2]
    for option in options().values():
        if option.name == name:
            return f": did you mean {option.fields[0]}?"
    by_last_part = {key.rpartition(".")[2]: key for key in known}
    if close := re.search("mean (.+)\\?$", nearest(name, by_last_part)):
        return f": did you mean {by_last_part[close[1]]}?"
    return nearest(dotted, known)


# -- writing -------------------------------------------------------------------------------------


def as_toml(config: SearchConfig, undecided: Collection[str] = (), base: str | None = None) -> str:
    """A complete file of a config, with a comment for each setting.

    TOML has no value for "not set": such a setting stands there as a comment.

    Args:
      config: the settings.
      undecided: dotted names of settings that depend on the images; they are comments, too.
      base: preset that gives these.
    """
    parts = [
        "# Settings of a search, for `elite search --config=FILE.toml`. Flags override them.\n"
        '# A setting that you leave out has its default. With the line `base = "quick"` at the\n'
        "# top of the file it has the value of that preset instead."
    ]
    if base is not None:
        parts.append(f'base = "{base}"')
    section = ""
    for dotted in setting_types():
        part, _, name = dotted.rpartition(".")
        if part != section:
            parts.append(f"[{part}]")
            section = part
        value = value_of(config, dotted)
        assignment = f"# {name} = (not set)" if value is None else f"{name} = {_toml(value)}"
        if dotted in undecided:
            assignment = f"# {name} = (follows from the images)"
        comment = textwrap.fill(
            _described(dotted), 98, initial_indent="# ", subsequent_indent="# ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        parts.append(f"{comment}\n{assignment}")
    return "\n\n".join(parts) + "\n"


def _described(dotted: str) -> str:
    choices = choices_of(dotted)
    return help_of(dotted) + (f" One of {', '.join(choices)}." if choices else "")


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)  # exact
    # For booleans, texts and integers TOML and JSON agree, except that TOML escapes DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def as_markdown() -> str:
    """The page docs/configuration.md: every setting with its flag and its values in the presets."""
    configs: dict[str, Callable[[], SearchConfig]] = {"default": SearchConfig, **PRESETS}
    presets = {name: make() for name, make in configs.items()}
    flags: dict[str, list[str]] = {}
    for option in options().values():
        for dotted in option.fields:
            flags.setdefault(dotted, []).append(f"`--{option.name}`")
    parts = [_INTRODUCTION]
    section = None
    for dotted in setting_types():
        part, _, name = dotted.rpartition(".")
        if part != section:
            parts.append(f"## {_TITLES[part]}")
            section = part
        values = {label: value_of(config, dotted) for label, config in presets.items()}
        shown = ", ".join(f"{label} {_markdown_value(value)}" for label, value in values.items())
        if len(set(map(str, values.values()))) == 1:
            shown = f"always {_markdown_value(values['default'])}"
        flag = " or ".join(flags[dotted]) if dotted in flags else "in a file only"
        text = textwrap.fill(
            f"{_described(dotted)} Flag: {flag}. Value in presets: {shown}.", 100,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        parts.append(f"### {name}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def _markdown_value(value: Any) -> str:
    return "not set" if value is None else f"`{_toml(value)}`"


_TITLES = {
    "": "The search (top of the file)",
    "limits": "`[limits]`: what a candidate may cost",
    "data": "`[data]`: images",
    "train": "`[train]`: the training recipe",
}
_INTRODUCTION = """# Settings of a search

Every setting can be given in a file (`.toml` or `.yaml`): `elite search --config=FILE.toml`. Those
that users change often also have a flag. Flags override the file, and the file overrides its base.

```
elite config --config=quick > my.toml      # a complete file, with a comment for each setting
elite search --config=my.toml --epochs=20 --workdir=runs/mine
```

A file may hold only some of the settings:

```toml
base = "quick"        # gives all settings that are not in this file; without it, the defaults do

[limits]
size_kb = 2000

[train]
epochs = 20
weight_decay = 1e-4
```

In YAML the same file is `base: quick`, `limits: {size_kb: 2000}`, `train: {epochs: 20}`; `null`
unsets a setting. Relative paths start at the current directory, as in flags. This page is written
by `elite config --format=markdown > docs/configuration.md`."""
