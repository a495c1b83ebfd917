"""The driver of a search: hands out training, records what comes back, eliminates.

The driver alone writes the ledger. What is trained and decided next follows from the ledger alone
(`tournament`). A search that was killed therefore continues where it stopped, and no decision
depends on the number of workers or on the order in which they finish. Groups advance independently
of each other: after an event in one group only this group is judged again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.search import champions
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.display import Display
from efficientnet_elite.search.executors.protocol import (
    Executor,
)
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.record import SearchRecord, read_record
from efficientnet_elite.search.search_loop import SearchLoop
from efficientnet_elite.search.workdir import (
    champions_path,
    clear_temporary,
    write_json,
)


def drive(
    ledger: Ledger,
    executor: Executor,
    workdir: Path,
    *,
    progress: bool = True,
    on_message: Callable[[str], None] = lambda text: None,
    on_recorded: Callable[[Epoch], None] = lambda epoch: None,
    began: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    record: SearchRecord | None = None,
) -> list[dict[str, Any]]:
    """Trains and eliminates until every group has its champion, trained to the end.

    A search with a budget in hours trains epoch by epoch and looks at the clock in between
    (`deadline.Timekeeper`): it crowns champions, and ends their training, before the time is over.

    Args:
      ledger: ledger of the search; what it has on record is not trained again.
      executor: where to train. It is closed at the end, also after an error.
      workdir: where the checkpoints are and ``champions.json`` is written. The caller holds its
        `workdir.lock`.
      progress: whether to show a progress bar on stderr.
      on_message: gets a line about every candidate that failed or had to repeat an epoch.
      on_recorded: gets every epoch that is new in the ledger.
      began: when this run of the search began, by ``clock``; None for now. For a budget in hours.
      clock: seconds, counted from any moment.
      record: content of the ledger, if the caller has read it already.

    Returns:
      the champions, heaviest group first, as written to ``champions.json``.

    Raises:
      UserError: the search cannot go on, as with a full disk; or the decisions on record do not
        follow from the scores on record. Everything that was recorded stays on record.
    """
    clear_temporary(workdir)
    try:
        record = record or read_record(ledger)
        if difference := audit(record).difference:
            raise UserError(
                f"the decisions in {ledger.path} do not follow from the rules of this version "
                f"({difference}): continue with the version that began the search, or use another "
                "--workdir"
            )
        with Display(progress) as display:

            def say(text: str) -> None:
                display.clear()
                on_message(text)

            search = SearchLoop(ledger, record, executor, workdir, display, say, on_recorded)
            standings = search.run(clock, clock() if began is None else began)
    finally:
        executor.close()
        clear_temporary(workdir)
    described = champions.describe(ledger, standings)
    write_json(champions_path(workdir), described)
    return described
