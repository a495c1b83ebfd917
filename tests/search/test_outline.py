"""A summary from the outline of a ledger is that from all of its content, at every moment."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest

from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.protocol import EpochDone
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.search.outline import CurveFacts, Listed, Outline
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.rules import average
from efficientnet_elite.search.summary import SummaryReader, summarize, summarize_outline
from efficientnet_elite.search.summary_text import as_text
from tests.support import large
from tests.support.invented import Invented, ledger_of
from tests.support.searches import CONFIG, GROUPS


def in_full(ledger: Ledger):
    """A summary from everything that the ledger holds."""
    record = read_record(ledger)
    outline = Outline(
        meta=record.meta,
        groups={
            number: [
                Listed(
                    c.name, number, c.width, c.depth, c.spec.resolution, c.spec.params, c.spec.macs
                )
                for c in group
            ]
            for number, group in record.groups.items()
        },
        repeats=record.repeats,
        facts={
            name: CurveFacts(
                len(done),
                average(record.scores[name]),
                record.scores[name][-1],
                median(epoch.seconds for epoch in done),
            )
            for name, done in record.epochs.items()
            if done
        },
        noise=record.noise,
        failures=record.failures,
        halts=record.halts,
        standings=record.standings(),
    )
    return summarize_outline(outline, ledger.timings())


@pytest.mark.parametrize(
    "settings", [{"select": "int8"}, {"rule": "average", "first_elimination": None}]
)
def test_it_is_the_same_after_every_epoch(tmp_path, settings):
    """Read anew, and by a reader that has seen all epochs before. Some scores are no numbers."""
    config, looks = replace(CONFIG, **settings), 0
    repeats = [Repeat("0b-seed1", "0b", 1)]

    class Watched(Invented):
        def wait(self, on_event):
            def look(slot, event):
                nonlocal looks
                on_event(slot, event)
                if isinstance(event, EpochDone):
                    with Ledger(tmp_path) as beside:
                        expected = repr(in_full(beside))
                        assert repr(summarize(beside)) == expected
                    assert repr(reader.read()) == expected
                    looks += 1

            super().wait(look)

    with ledger_of(tmp_path, GROUPS, config, repeats) as ledger, Ledger(tmp_path) as watching:
        reader = SummaryReader(watching)
        executor = Watched(failing={"0a": 3, "2b": 0}, seconds=0.0)
        drive(ledger, executor, tmp_path, progress=False)
        assert repr(reader.read()) == repr(in_full(ledger))
        assert reader.read().finished
    assert looks > 10


def test_of_a_larger_search(tmp_path):
    epochs = large.write(tmp_path, groups=3, epochs=40)
    with Ledger(tmp_path) as ledger:
        summary = summarize(ledger)
        assert summary == in_full(ledger)
        assert summary.finished and summary.epochs_done == epochs
        text = as_text(summary)
        # An epoch that is recorded out of order, and one after a gap.
        ledger._db.execute("DELETE FROM epochs WHERE candidate='g0c0' AND epoch IN (2, 5)")
        ledger._db.execute("INSERT INTO epochs VALUES ('g0c0', 2, 0.5, 1.0, 10.0, NULL, NULL)")
        changed = summarize(ledger)
        assert changed == in_full(ledger)
        assert as_text(changed) != text
