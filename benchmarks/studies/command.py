"""The command line that all studies share: help, errors, exit status and common flags."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from efficientnet_elite.benchmarks.studies import tables
from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    from efficientnet_elite.search.replay import Curve


def run(values: flags.FlagValues, main: Callable[..., None], *, arguments: bool = False) -> None:
    """Runs a study's main function with the flags of the command line, then ends the process.

    The exit status is 0, 1 after a `UserError` (one line on stderr), or 2 for wrong flags.

    Args:
      values: the study's flags; they get the values of the command line.
      main: prints the study's results to stdout.
      arguments: whether `main` gets the list of arguments that are not flags. Without this, such
        arguments are an error.
    """
    program = Path(sys.argv[0]).stem
    positional = parse(values, sys.argv)
    if positional and not arguments:
        print(f"{program}: unexpected argument {positional[0]!r} (see --help)", file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reads it when it is imported
    try:
        main(positional) if arguments else main()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Sets the flags; returns the arguments that are not flags, without the program's name.

    Ends the process if help is asked for (exit status 0) or a flag is wrong (one line on stderr,
    exit status 2).
    """
    if {"-h", "--help"} & set(argv[1:]):
        print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\n{values.get_help()}")
        sys.exit(0)
    try:
        return values(argv)[1:]
    except flags.Error as error:
        print(f"{Path(argv[0]).stem}: {error} (--help lists the flags)", file=sys.stderr)
        sys.exit(2)


def define_workdir(values: flags.FlagValues, text: str) -> None:
    """Defines ``--workdir``, which is required."""
    flags.DEFINE_string("workdir", None, text, required=True, flag_values=values)


def recorded_curves(names: Sequence[str]) -> Iterator[tuple[str, list[Curve]]]:
    """Reads the files of ``--curves``; gives the name of each pool and its curves, of one length.

    Raises:
      UserError: no file is named, or one is no table of learning curves.
    """
    from efficientnet_elite.search import replay

    if not names:
        raise UserError("name files of learning curves with --curves=a.csv,b.csv")
    for name in names:
        path = Path(name).expanduser()
        with path.open(newline="", encoding="utf-8-sig") as lines:
            yield path.stem, replay.aligned(replay.read_curves(lines, str(path)))


def define_network_size(values: flags.FlagValues) -> None:
    """Defines ``--base_resolution`` and ``--classes``."""
    flags.DEFINE_integer(
        "base_resolution",
        224,
        "Input side in pixels at resolution coefficient 1.",
        flag_values=values,
    )
    flags.DEFINE_integer("classes", 1000, "Number of classes.", flag_values=values)


def define_runs(values: flags.FlagValues, default: int) -> None:
    """Defines ``--runs``, the number of timed inferences."""
    flags.DEFINE_integer(
        "runs",
        default,
        "Number of timed inferences of each network; 0 measures no latencies.",
        lower_bound=0,
        flag_values=values,
    )


def define_format(values: flags.FlagValues, formats: tuple[str, ...] = tables.TEXT_FORMATS) -> None:
    """Defines ``--format``; the first of the formats is the default."""
    flags.DEFINE_enum("format", formats[0], formats, "Output format.", flag_values=values)
