"""The ``elite`` command: subcommands, their flags, and how errors reach the user.

A subcommand is a module of this package with ``FLAGS`` (its own `absl.flags.FlagValues`, so that
no flag is global) and ``run(flags, arguments)``, which may return an exit status. Only the chosen
one is imported. A subcommand turns flags into a call of `efficientnet_elite.job` and prints what
that returns; none imports another.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from efficientnet_elite.cli.scratch import temporary_files
from efficientnet_elite.errors import UserError, as_user_error

COMMANDS = {
    "models": "list networks with their parameters, MACs and cost groups",
    "table5": "compare Table 5 of the paper with parameters and MACs counted here",
    "weights": "list pretrained weights that networks can start from, or import a file of them",
    "data": "look at a folder of photographs: balance, duplicates, images that are suspicious",
    "search": "run a Network Candidate Search, from images to verified int8 TFLite champions",
    "config": "print the settings of a search as a file, with a comment for each",
    "devices": "list boards and phones, and the limits that --device sets for them",
    "status": "show the state of a search: groups, candidates left, scores and time left",
    "train": "train networks by name and report their test accuracy",
    "predict": "print the class and its probability of images, with any .tflite or .keras file",
    "pretrain": "distil pretrained weights into every network of a pool, for later searches",
    "evaluate": "print the test accuracy of checkpoints, .tflite and .keras files",
    "export": "export champions or a Keras model, verify them, and make packages for devices",
    "verify": "run a .tflite file in every installed runtime and compare the results",
    "benchmark": "measure the latency of .tflite models or of a search's champions",
    "boards": "measure .tflite models on several boards and phones, or in emulators",
    "report": "write report.html of a search or training again, or its data as JSON or CSV",
    "compare": "compare searches and trainings: settings, accuracies, sizes, latencies",
    "replay": "compare rules of elimination on learning curves, or audit a search's decisions",
    "doctor": "show versions, extras, machine, and which runtimes and sources work here",
    "completion": "print a script that completes commands and flags in bash, zsh or fish",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return (
        "usage: elite COMMAND [--flag=value ...]\n\n"
        "Searches for the best tiny image classifier for your images and your device.\n\n"
        + "\n".join(lines)
        + "\n\n`elite COMMAND --help` lists the flags of a command."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``elite``; returns the exit status: 0, 1 for a user's error, 2 for wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = " ".join(["elite", *arguments[:1]])
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Windows' encodings of files and pipes lack signs that names of classes may have.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _signals_end_like_ctrl_c():
            status = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # output that cannot be written is an error like any other
        return status
    except KeyboardInterrupt as interrupt:
        resumes = arguments[:1] in (["search"], ["train"], ["pretrain"], ["boards"])
        hint = "; the same command goes on from here" if resumes else ""
        _let_go(interrupt)
        number = interrupt.number if isinstance(interrupt, _Ended) else signal.SIGINT
        cause = f"ended by {number.name}" if isinstance(interrupt, _Ended) else "interrupted"
        try:
            print(f"\n{command}: {cause}{hint}", file=sys.stderr, flush=True)
        except OSError:  # after SIGHUP the terminal is gone
            _drop_output()
        return 128 + number
    except BrokenPipeError:  # as in `elite models | head -1`
        _drop_output()
        return 141
    except sqlite3.DatabaseError as error:  # raised while reading; opening has its own messages
        from efficientnet_elite.search.ledger import reason_unreadable

        print(f"{command}: {reason_unreadable(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # a file where a folder should be, no permission, a full disk
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"{command}: {place}{error.strerror or error}", file=sys.stderr)
        _drop_output()
        return 1


class _Ended(KeyboardInterrupt):
    """A signal that asks the process to end; whatever handles Ctrl-C handles it, too."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _signals_end_like_ctrl_c() -> Iterator[None]:
    """Context in which TERM and HUP raise `_Ended`; a second one ends the process at once.

    A signal that is ignored, as HUP is under nohup, stays so.
    """

    def end(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Ended(signal.Signals(number))

    taken = []
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no HUP
        number = getattr(signal, name, None)
        try:
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)
                taken.append(number)
        except ValueError:  # signals are the main thread's matter
            break
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _let_go(error: BaseException) -> None:
    """Frees what interrupted frames hold, and discards errors of that.

    A signal can catch an object half made, for instance a progress bar. Such an object cannot be
    closed, and Python would print that error after the message of the command.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    cause: BaseException | None = error
    try:
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__context__
    finally:
        sys.unraisablehook = hook


def _drop_output() -> None:
    """Discards what is still to be written, so that the interpreter does not fail at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"efficientnet-elite {version('efficientnet-elite')}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"elite: no command {command!r}; `elite --help` lists them", file=sys.stderr)
        return 2
    module = import_module(f"efficientnet_elite.cli.{command}")
    return _dispatch(command, module, rest)


def _flag_help(flags: Any) -> str:
    lines = []
    for name in sorted(flags):
        flag = flags[name]
        default = "" if flag.default in (None, []) else f" [{_default_text(flag.default)}]"
        indent = " " * 6
        text = textwrap.fill(
            f"{flag.help}{default}",
            100,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        lines += [f"  --{name}", text]
    return "\n".join(lines)


def _default_text(value: Any) -> str:
    """A default as it would be written after the flag."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _with_underscores(arguments: Sequence[str], flags: Any) -> list[str]:
    """The arguments with the flags' own names: ``--base-resolution`` is ``--base_resolution``."""
    written, rest = list(arguments), []
    if "--" in written:  # what follows is no flag
        rest = written[written.index("--") :]
        written = written[: len(written) - len(rest)]
    for index, argument in enumerate(written):
        if found := re.match(r"(--?)([a-z0-9]+(?:[-_][a-z0-9]+)*)(?==|$)", argument):
            name = found[2].replace("-", "_")
            if name.removeprefix("no_") in flags and name not in flags:  # --no-flip is --noflip
                name = f"no{name.removeprefix('no_')}"
            if name in flags or name.removeprefix("no") in flags:
                written[index] = f"{found[1]}{name}{argument[found.end() :]}"
    return written + rest


def _dispatch(command: str, module: object, arguments: list[str]) -> int:
    from absl import flags as absl_flags

    flags: absl_flags.FlagValues = module.FLAGS  # type: ignore[attr-defined]
    if any(argument in ("-h", "--help", "-help") for argument in arguments):
        print(f"elite {command}: {COMMANDS[command]}\n\n{(module.__doc__ or '').strip()}")
        if list(flags):
            print(f"\nFlags:\n{_flag_help(flags)}")
        return 0
    flags.unparse_flags()
    try:
        positional = flags([f"elite {command}", *_with_underscores(arguments, flags)])[1:]
    except absl_flags.Error as error:
        print(
            f"elite {command}: {error} (`elite {command} --help` lists the flags)", file=sys.stderr
        )
        return 2
    try:
        with temporary_files():
            return module.run(flags, positional) or 0  # type: ignore[attr-defined]
    except UserError as error:
        print(f"elite {command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (missing := as_user_error(error)) is None:
            raise
        print(f"elite {command}: {missing}", file=sys.stderr)
        return 1
