"""Prints a script with which a shell completes commands, flags and their values. The argument is
bash, zsh or fish; the script is made of the commands and flags of this version.

  elite completion bash >> ~/.bash_completion
  elite completion zsh > ~/.zfunc/_elite          (with ~/.zfunc in fpath)
  elite completion fish > ~/.config/fish/completions/elite.fish
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError

FLAGS = absl_flags.FlagValues()


@dataclass(frozen=True)
class _Flag:
    """A flag.

    Attributes:
      name: its name.
      words: how it is written, with ``=`` where a value follows.
      values: the only values that it may have; empty if there are others.
      help: the first sentence of its help text.
    """

    name: str
    words: tuple[str, ...]
    values: tuple[str, ...]
    help: str


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the script to stdout."""
    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        raise UserError(f"name your shell: {', '.join(_SHELLS)}")
    print(_SHELLS[arguments[0]](_flags_by_command()), end="")


def _flags_by_command() -> dict[str, list[_Flag]]:
    modules = {name: import_module(f"efficientnet_elite.cli.{name}") for name in cli.COMMANDS}
    return {
        name: [_flag(module.FLAGS[flag]) for flag in sorted(module.FLAGS)]
        for name, module in modules.items()
    }


def _flag(flag: Any) -> _Flag:
    if flag.boolean:
        words: tuple[str, ...] = (f"--{flag.name}", f"--no{flag.name}")
    else:
        words = (f"--{flag.name}=",)
    values = tuple(getattr(flag.parser, "enum_values", ()))
    return _Flag(flag.name, words, values, " ".join((flag.help or "").split()).split(". ")[0])


def _bash(flags: dict[str, list[_Flag]]) -> str:
    words, values = [], []
    for command, known in flags.items():
        written = " ".join(word for flag in known for word in flag.words)
        words.append(f"    {command}) words={shlex.quote(written + ' --help')} ;;")
        values += [
            f"    {command}:__{flag.name}) words={shlex.quote(' '.join(flag.values))} ;;"
            for flag in known
            if flag.values
        ]
    newline = "\n"
    return f"""# Completes `elite` in bash; made by `elite completion bash`.
_elite() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" flag="" words=""
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W {shlex.quote(" ".join(flags))} -- "$current"))
    return
  fi
  # bash takes "=" for a word of its own.
  if [[ $current == "=" ]]; then
    flag="${{COMP_WORDS[COMP_CWORD - 1]}}" current=""
  elif [[ ${{COMP_WORDS[COMP_CWORD - 1]}} == "=" ]]; then
    flag="${{COMP_WORDS[COMP_CWORD - 2]}}"
  fi
  if [[ -n $flag ]]; then
    case "$command:${{flag//-/_}}" in
{newline.join(values)}
    *) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  elif [[ $current == -* ]]; then
    case "$command" in
{newline.join(words)}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace 2> /dev/null
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _elite elite
"""


def _zsh(flags: dict[str, list[_Flag]]) -> str:
    commands = "\n".join(f"  {shlex.quote(f'{name}:{cli.COMMANDS[name]}')}" for name in flags)
    cases = []
    for command, known in flags.items():
        written = []
        for flag in known:
            about = _zsh_text(flag.help)
            for word in flag.words:
                after = f":value:({' '.join(flag.values)})" if flag.values else ":value:_files"
                written.append(shlex.quote(f"{word}[{about}]{after if word[-1] == '=' else ''}"))
        lines = " \\\n      ".join(["_arguments", *written, shlex.quote("*:file:_files")])
        cases.append(f"    {command})\n      {lines} ;;")
    newline = "\n"
    return f"""#compdef elite
# Completes `elite` in zsh; made by `elite completion zsh`.
local -a commands
commands=(
{commands}
)
if ((CURRENT == 2)); then
  _describe command commands
else
  shift words
  ((CURRENT--))
  case $words[1] in
{newline.join(cases)}
  esac
fi
"""


def _zsh_text(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "[]:\\" else letter for letter in text)


def _fish(flags: dict[str, list[_Flag]]) -> str:
    lines = ["# Completes `elite` in fish; made by `elite completion fish`."]
    for command, about in cli.COMMANDS.items():
        lines.append(
            f"complete -c elite -n __fish_use_subcommand -f -a {command} -d {_fish_text(about)}"
        )
    for command, known in flags.items():
        for flag in known:
            for word in flag.words:
                name = word.strip("-=")
                value = ""
                if word.endswith("="):
                    value = f" -x -a {_fish_text(' '.join(flag.values))}" if flag.values else " -r"
                lines.append(
                    f"complete -c elite -n '__fish_seen_subcommand_from {command}' -l {name}{value}"
                    f" -d {_fish_text(flag.help)}"
                )
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    """A text in fish's single quotes, in which a backslash stands before ' and before itself."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
