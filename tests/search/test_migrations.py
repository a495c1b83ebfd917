"""Ledgers of format 4, written by version 0.1, are read and continued.

The files in ``tests/support/format4`` are dumps of ledgers that the code of that version wrote:
``begun`` and ``finished`` of one real search, in its middle and at its end, and ``every_reason`` of
invented scores, with all kinds of decisions.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import decisions, migrations
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.begun import check_settings
from efficientnet_elite.search.decisions import Cause, Decision, decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.protocol import (
    EpochDone,
    Finished,
    OnEvent,
    Ready,
    WorkItem,
)
from efficientnet_elite.search.ledger import FILE_NAME, Epoch, Ledger
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.rules import RULES
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.training.outcome import EpochResult
from tests.support.invented import ledger_of
from tests.support.ledgers import CONFIG, start, train

DUMPS = Path(__file__).parent.parent / "support" / "format4"


def restore(workdir: Path, name: str) -> Path:
    """A work directory with a ledger of format 4."""
    with sqlite3.connect(workdir / FILE_NAME) as connection:
        connection.executescript((DUMPS / f"{name}.sql").read_text())
    connection.close()
    return workdir


def format_of(workdir: Path) -> int:
    connection = sqlite3.connect(workdir / FILE_NAME)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def old_reasons(workdir: Path) -> dict[tuple[int, str], str]:
    connection = sqlite3.connect(workdir / FILE_NAME)
    try:
        rows = connection.execute("SELECT round, candidate, reason FROM decisions").fetchall()
    finally:
        connection.close()
    return {(number, name): reason for number, name, reason in rows}


class Recorded:
    """Trains what another ledger has on record, without a checkpoint."""

    def __init__(self, ledger: Ledger) -> None:
        self._epochs, self._item = ledger.epochs(), None

    def submit(self, slot: int, item: WorkItem) -> None:
        self._item = item

    def wait(self, on_event: OnEvent) -> None:
        item, self._item = self._item, None
        if item is None:
            on_event(0, Ready())
            return
        for epoch in self._epochs[item.spec.name][: item.until_epoch]:
            values = (epoch.epoch, epoch.validation_accuracy, epoch.train_loss, epoch.seconds)
            on_event(0, EpochDone(EpochResult(*values)))
        on_event(0, Finished())

    def retire(self, slot: int, name: str) -> None:
        pass

    def close(self) -> None:
        pass


def known(decision: Decision) -> dict:
    """What a ledger of format 4 knows of a decision."""
    return {k: v for k, v in vars(decision).items() if k not in ("noise", "gap")}


@pytest.mark.parametrize("name", ["begun", "finished", "every_reason"])
def test_reading_leaves_the_file_as_it_is(tmp_path, name):
    workdir = restore(tmp_path, name)
    before = {path: path.read_bytes() for path in workdir.iterdir()}
    with Ledger(workdir) as ledger:
        record = read_record(ledger)
        assert audit(record).difference is None
        assert audit(record).decisions == len(old_reasons(workdir)) > 0
        assert summarize(ledger).groups
    assert {path: path.read_bytes() for path in workdir.iterdir()} == before
    assert format_of(workdir) == 4


def test_what_the_sentences_said_is_kept(tmp_path):
    """Also the numbers that were rounded in them: gaps and int8 changes follow from the record."""
    workdir = restore(tmp_path, "every_reason")
    reasons = old_reasons(workdir)
    with Ledger(workdir) as ledger:
        found = [d for group in ledger.decisions().values() for d in group]
    assert {d.cause for d in found} == set(Cause)
    for decision in found:
        text, before = decision_text(decision), reasons[decision.round, decision.candidate]
        assert text == before.split(", noise ")[0]  # which format 4 recorded with two digits


def test_a_begun_search_is_continued_with_the_same_decisions(tmp_path):
    for name in ("begun", "finished"):
        (tmp_path / name).mkdir()
        restore(tmp_path / name, name)
    with (
        Ledger(tmp_path / "finished") as finished,
        Ledger(tmp_path / "begun", create=True) as begun,
    ):
        old = begun.decisions()
        assert 0 < sum(map(len, old.values())) < sum(map(len, finished.decisions().values()))
        champions = drive(begun, Recorded(finished), tmp_path / "begun", progress=False)
        assert len(champions) == 2
        continued, complete = begun.decisions(), finished.decisions()
        assert list(continued) == list(complete)
        for group, expected in complete.items():
            assert continued[group][: len(old.get(group, ()))] == old.get(group, [])
            assert [known(d) for d in continued[group]] == [known(d) for d in expected]
        assert summarize(begun).finished
        assert audit(read_record(begun)).difference is None
    assert format_of(tmp_path / "begun") == migrations.FORMAT
    assert format_of(tmp_path / "finished") == 4


@pytest.mark.parametrize(
    ("before", "rounds", "first"),
    [(1, 1, 1), (2, 2, 2), (3, 2, 3), (5, 2, None), (10, 2, None), (20, 4, None), (7, 2, None)],
)
def test_rounds_of_the_race_keep_their_eliminations(tmp_path, before, rounds, first):
    workdir = restore(tmp_path, "finished")
    connection = sqlite3.connect(workdir / FILE_NAME)
    with connection:
        for key in ("config", "plan"):
            connection.execute(
                "UPDATE meta SET value = json_set(value, '$.round_epochs', ?) WHERE key = ?",
                (before, key),
            )
    connection.close()
    with Ledger(workdir) as ledger:
        config = SearchConfig.from_dict(
            ledger.meta()["config"] | {"train": vars(SearchConfig().train)}
        )
        schedule = read_record(ledger).schedule if rounds < 3 else None
    assert (config.round_epochs, config.first_elimination) == (rounds, first)
    step = max(round(0.2 * before), min(2, before))
    wanted = [max(round(0.4 * before), min(4, before)) + n * step for n in range(2)]
    if schedule is not None:
        assert [schedule.elimination_epoch(n) for n in (1, 2)] == wanted


@pytest.mark.parametrize("core", ["m4", "m55"])
def test_groups_that_a_device_chooses_now_do_not_stop_an_older_search(tmp_path, core):
    counted = ("params", f"cortex_{core}_instructions")
    with Ledger(restore(tmp_path, "begun")) as ledger:
        recorded = SearchConfig.from_dict(ledger.meta()["config"])
        assert recorded.group_by != counted
        check_settings(ledger, replace(recorded, group_by=counted))
        with pytest.raises(UserError, match="group_by"):
            check_settings(ledger, replace(recorded, group_by=("macs",)))
    ledger, _ = start(tmp_path / "new", {0: "ab"})
    with ledger, pytest.raises(UserError, match="group_by"):
        check_settings(ledger, replace(CONFIG, group_by=counted))


def test_the_first_write_migrates_and_a_failure_leaves_everything(tmp_path, monkeypatch):
    workdir = restore(tmp_path, "begun")

    def broken(database):
        database.execute("DROP TABLE decisions")
        raise sqlite3.OperationalError("disk full")

    with Ledger(workdir) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", {4: broken})
            with pytest.raises(UserError, match="cannot be written"):
                ledger.record_timing("export", "", 1.0)
        assert format_of(workdir) == 4 and old_reasons(workdir)
        before = ledger.decisions()
        ledger.record_timing("export", "", 1.0)
        assert ledger.decisions() == before
    assert format_of(workdir) == migrations.FORMAT
    with Ledger(workdir) as ledger:
        assert ledger.timings()["export"] == 1.0
        assert ledger.decisions() == before


def test_a_copy_follows_its_file(tmp_path):
    """`elite status` of this version beside a search of the older one."""
    workdir = restore(tmp_path, "begun")
    with Ledger(workdir) as ledger:
        version, done = ledger.changes(), summarize(ledger).epochs_done
        connection = sqlite3.connect(workdir / FILE_NAME)
        with connection:
            connection.execute("DELETE FROM epochs WHERE epoch > 1")
        connection.close()
        assert ledger.changes() != version
        assert summarize(ledger).epochs_done < done


def test_ledgers_of_format_5_have_no_balanced_accuracy(tmp_path):
    """The dump is of invented scores, written by the code of that format."""
    dump = DUMPS.parent / "format5" / "finished.sql"
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.executescript(dump.read_text())
    connection.close()
    with Ledger(tmp_path) as ledger:
        before = ledger.epochs()
        done = [epoch for epochs in before.values() for epoch in epochs]
        assert {epoch.balanced for epoch in done} == {epoch.top1 for epoch in done} == {None}
        assert summarize(ledger).finished
        assert audit(read_record(ledger)).difference is None
        ledger.record_epoch(Epoch("elite0", 9, 0.5, 1.0, 2.0, top1=0.75, balanced=0.5))
    assert format_of(tmp_path) == migrations.FORMAT
    with Ledger(tmp_path) as ledger:
        assert ledger.epochs() == before  # epoch 9 follows a gap
        row = ledger._db.execute("SELECT top1, balanced FROM epochs WHERE epoch = 9").fetchone()
        assert tuple(row) == (0.75, 0.5)


def test_every_older_format_has_a_migration():
    assert list(migrations.MIGRATIONS) == list(range(4, migrations.FORMAT))


def test_new_words_for_a_rule_change_no_begun_search(tmp_path, monkeypatch):
    with ledger_of(tmp_path, {0: "abc"}, CONFIG) as ledger:
        for place, name in enumerate(("0a", "0b", "0c")):
            train(ledger, name, *[0.5 + 0.1 * place] * 6)
        ledger.record_decisions(0, read_record(ledger).standings()[0].decisions[:3])
        before = decision_text(ledger.decisions()[0][0])
        words = RULES["average"].words
        object.__setattr__(RULES["average"], "words", "mean accuracy up to epoch {epoch}")
        try:
            monkeypatch.setitem(decisions._TEXTS, Cause.FAILED, lambda decision: "broken down")
            assert decision_text(ledger.decisions()[0][0]) != before
            assert audit(read_record(ledger)).difference is None
            (champion,) = drive(ledger, Recorded(ledger), tmp_path, progress=False)
        finally:
            object.__setattr__(RULES["average"], "words", words)
    assert champion["name"] == "0c"


def set_meta(workdir: Path, key: str, name: str, value: int) -> None:
    connection = sqlite3.connect(workdir / FILE_NAME)
    with connection:
        connection.execute(
            f"UPDATE meta SET value = json_set(value, '$.{name}', ?) WHERE key = ?", (value, key)
        )
    connection.close()


def test_a_plan_of_format_4_has_a_first_elimination_of_its_own(tmp_path):
    """Rounds of 12 epochs had their first elimination after 5, those of 11 after 4."""
    workdir = restore(tmp_path, "finished")
    connection = sqlite3.connect(workdir / FILE_NAME)
    with connection:
        connection.execute(
            "UPDATE meta SET value = json_set(value, '$.round_epochs', 12, '$.train.epochs', 20)"
            " WHERE key = 'config'"
        )
    connection.close()
    set_meta(workdir, "plan", "round_epochs", 11)
    with Ledger(workdir) as ledger:
        assert [read_record(ledger).schedule.elimination_epoch(n) for n in (1, 2)] == [4, 6]


@pytest.mark.parametrize(
    ("rounds", "first", "accepted"),
    [(5, None, True), (2, None, True), (2, 4, False), (5, 4, False), (6, None, False)],
)
def test_the_number_of_the_old_command_continues_a_search(tmp_path, rounds, first, accepted):
    """`--round_epochs=5` of version 0.1 is `--round_epochs=2` of this one."""
    workdir = restore(tmp_path, "finished")
    set_meta(workdir, "config", "round_epochs", 5)
    set_meta(workdir, "config", "train.epochs", 20)
    with Ledger(workdir, create=True) as ledger:
        begun = SearchConfig.from_dict(ledger.meta()["config"])
        config = replace(begun, round_epochs=rounds, first_elimination=first)
        if accepted:
            check_settings(ledger, config)
        else:
            with pytest.raises(UserError, match="use the same settings"):
                check_settings(ledger, config)
    assert format_of(workdir) == 4  # the version that began it can still continue it


def test_a_fault_of_several_lines_is_kept():
    reason = "accuracy of epoch 4, without an int8 form (bad op\n(x)), ranks 2 of 4, 1 goes on"
    assert migrations._parsed_reason(reason, scored=True) == (
        "ranked",
        {"ranked": 4, "survivors": 1, "int8_fault": "bad op\n(x)"},
    )


@pytest.mark.parametrize("create", [False, True])
def test_a_damaged_ledger_of_format_4_is_left_as_it_is(tmp_path, create):
    workdir = restore(tmp_path, "every_reason")
    connection = sqlite3.connect(workdir / FILE_NAME)
    with connection:
        connection.execute("UPDATE decisions SET score = 'x' WHERE score IS NOT NULL")
    connection.close()
    with pytest.raises(UserError, match="is damaged"):
        Ledger(workdir, create=create)
    assert format_of(workdir) == 4 and old_reasons(workdir)


@pytest.mark.parametrize(
    "change",
    ["cause = 'weather'", "facts = '{\"mood\": 1}'", "facts = 'x'", "score = 'x'",
     "candidate = 'nobody'"],
)  # fmt: skip
def test_decisions_that_cannot_be_read_give_a_clear_line(tmp_path, change):
    workdir = restore(tmp_path, "every_reason")
    with Ledger(workdir) as ledger:
        ledger.record_timing("export", "", 1.0)  # migrates it
    connection = sqlite3.connect(workdir / FILE_NAME)
    with connection:
        connection.execute(
            f"UPDATE decisions SET {change} WHERE rowid = (SELECT MIN(rowid) FROM decisions)"
        )
    connection.close()
    with Ledger(workdir) as ledger, pytest.raises(UserError, match="cannot read the decision"):
        ledger.decisions()
