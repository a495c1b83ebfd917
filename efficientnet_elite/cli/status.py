"""Shows the groups, the candidates that are left, the scores and the time left of a search. The
search may be running or not.

With --watch the display is updated until the search is finished. If stdout is not a terminal, the
state is printed again whenever it has changed; with --format=json each state is one line. Ctrl-C
ends this command, not the search.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.search import summary_text
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.summary import Summary, SummaryReader, as_dict, summarize

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
common.define_format(FLAGS, formats=("table", "json"))
absl_flags.DEFINE_boolean(
    "watch", False, "Update the display until the search is finished.", flag_values=FLAGS
)
absl_flags.DEFINE_float(
    "interval", 2.0, "Seconds between two updates with --watch.", lower_bound=0.1, flag_values=FLAGS
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the state of the search to stdout, once or until the search is finished."""
    common.no_arguments(arguments)
    with Ledger(common.workdir(flags)) as ledger:
        if flags.watch:
            _watch(ledger, flags.interval, as_json=flags.format == "json")
        elif flags.format == "json":
            print(json.dumps(as_dict(summarize(ledger)), indent=2))
        else:
            print(summary_text.as_text(summarize(ledger)), end="")


def _watch(ledger: Ledger, interval: float, *, as_json: bool) -> None:
    show: Callable[[Summary], None]
    if as_json:
        show = _print_json
    else:
        show = _Screen(sys.stdout, interval).show if sys.stdout.isatty() else _print_block
    try:
        for state in changes(ledger, interval):
            show(state)
    except KeyboardInterrupt:
        print()


def changes(ledger: Ledger, interval: float) -> Iterator[Summary]:
    """The state of the search, now and after every change, until it is finished.

    The ledger is checked every ``interval`` seconds, which costs next to nothing while it is
    unchanged.
    """
    version = shown = None
    reader = SummaryReader(ledger)
    while True:
        if (latest := ledger.changes()) != version:
            version, state = latest, reader.read()
            if state != shown:
                shown = state
                yield state
            if state.finished:
                return
        time.sleep(interval)


def _print_json(state: Summary) -> None:
    print(json.dumps(as_dict(state)), flush=True)


def _print_block(state: Summary) -> None:
    print(summary_text.as_text(state), flush=True)


class _Screen:
    """Shows each state in place of the last one, below what was on the terminal before."""

    def __init__(self, out: TextIO, interval: float):
        self._out, self._interval = out, interval
        self._height = 0

    def show(self, state: Summary) -> None:
        """Replaces the state that is shown; the last state of a search stays in full."""
        text = summary_text.as_text(state).splitlines()
        if not state.finished:
            columns, rows = shutil.get_terminal_size()
            if len(text) > rows - 2:
                text = summary_text.as_text(state, racing_only=True).splitlines()
            if len(text) > rows - 2:  # lines that have scrolled away cannot be replaced
                text = [*text[: rows - 3], "…"]
            clock = time.strftime("%H:%M:%S")
            text.append(f"as of {clock}, checked every {self._interval:g} s; Ctrl-C leaves")
            text = [line[: columns - 1] for line in text]
        back = f"\x1b[{self._height}F" if self._height else ""
        self._out.write(f"{back}\x1b[J" + "".join(f"{line}\n" for line in text))
        self._out.flush()
        self._height = len(text)
