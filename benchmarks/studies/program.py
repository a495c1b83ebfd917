"""The command line of this folder's programs that have flags of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Sets the flags; returns the program's name and what is no flag.

    Ends the program where help is asked for (status 0) or a flag is wrong (one line, status 2).
    """
    if {"-h", "--help"} & set(argv[1:]):
        print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\n{values.get_help()}")
        sys.exit(0)
    try:
        return values(argv)
    except flags.Error as error:
        print(f"{argv[0]}: {error} (--help lists the flags)", file=sys.stderr)
        sys.exit(2)
