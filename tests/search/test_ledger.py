"""The ledger: what goes in comes out, whatever happens in between."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from math import isnan
from pathlib import Path

import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.search import outlook, summary, tournament
from efficientnet_elite.search.candidates import pool_candidates
from efficientnet_elite.search.decisions import Cause, Decision
from efficientnet_elite.search.ledger import FILE_NAME, Epoch, Ledger
from efficientnet_elite.search.record import curves
from efficientnet_elite.search.schedule import schedule_of

POOL = pool_candidates("elite", base_resolution=32, classes=10)[:4]
NAMES = [candidate.name for candidate in POOL]


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path, create=True) as opened:
        opened.start(POOL, {"config": {"seed": 3}, "labels": ["naïve", "中"]})
        yield opened


def record(ledger, name, *accuracies, first=1):
    for number, accuracy in enumerate(accuracies, start=first):
        ledger.record_epoch(Epoch(name, number, accuracy, 1.5, 2.0))


def test_round_trip(ledger):
    first = Epoch(NAMES[0], 1, 0.1 + 0.2, 1 / 3, 2.5)
    ledger.record_epoch(first)
    ledger.record_failure(NAMES[1], 1, "diverged")
    decisions = [
        Decision(1, 2, NAMES[0], 0.3, 1, True, close=True, rule="race", gap=0.1, noise=0.2),
        Decision(1, 2, NAMES[2], 0.2, 2, False, cause=Cause.LATE, halted=True),
    ]
    ledger.record_decisions(7, decisions)
    ledger.record_timing("export", "", 1.5)
    ledger.record_timing("export", NAMES[0], 2.0)
    with Ledger(ledger.path.parent) as again:
        assert again.candidates() == list(POOL)
        assert again.meta() == {"config": {"seed": 3}, "labels": ["naïve", "中"]}
        assert again.epochs() == {NAMES[0]: [first]}
        assert again.scores() == {NAMES[0]: [0.1 + 0.2]}
        assert again.failures() == {NAMES[1]: "diverged"}
        assert again.decisions() == {7: decisions}
        assert again.timings() == {"export": 3.5, "training": 2.5}


def test_the_first_record_stands(ledger):
    record(ledger, NAMES[0], 0.5)
    record(ledger, NAMES[0], 0.9)
    ledger.record_failure(NAMES[0], 2, "first")
    ledger.record_failure(NAMES[0], 3, "second")
    ledger.record_decisions(0, [Decision(1, 1, NAMES[0], 0.5, 1, True, rule="first")])
    ledger.record_decisions(0, [Decision(1, 1, NAMES[0], 0.9, 2, False, rule="second")])
    assert ledger.scores() == {NAMES[0]: [0.5]}
    assert ledger.failures() == {NAMES[0]: "first"}
    assert [d.rule for d in ledger.decisions()[0]] == ["first"]


def test_epochs_count_up_to_the_first_gap(ledger):
    record(ledger, NAMES[0], 0.3, 0.4, first=3)
    assert ledger.scores() == {NAMES[0]: []}
    record(ledger, NAMES[0], 0.1)
    assert ledger.scores() == {NAMES[0]: [0.1]}
    record(ledger, NAMES[0], 0.2, first=2)
    assert ledger.scores() == {NAMES[0]: [0.1, 0.2, 0.3, 0.4]}


def test_nan_scores(ledger):
    ledger.record_decisions(
        0, [Decision(1, 2, NAMES[0], float("nan"), 1, False, cause=Cause.FAILED)]
    )
    (decision,) = ledger.decisions()[0]
    assert isnan(decision.score)


def test_a_failed_write_leaves_nothing(ledger):
    """All candidates of a search or none: a second start has a name that is taken."""
    with pytest.raises(sqlite3.IntegrityError):
        ledger.start([*pool_candidates("hf", classes=10)[:2], POOL[0]], {"more": 1})
    assert ledger.candidates() == list(POOL)
    assert "more" not in ledger.meta()
    record(ledger, NAMES[0], 0.5)  # the connection is still of use
    assert ledger.scores() == {NAMES[0]: [0.5]}


def no_database(path: Path):
    path.write_bytes(b"certainly no database" * 100)


def other_version(path: Path):
    with Ledger(path.parent, create=True):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def another_tools(path: Path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (name TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: None, "no search in .* check --workdir"),
        (lambda path: path.touch(), "holds no search yet: check --workdir"),
        (another_tools, "is no ledger of this tool: check --workdir"),
        (no_database, "cannot be used as a ledger"),
        (other_version, r"another version of this tool \(format 99, this one reads 4 to 6\)"),
    ],
    ids=["missing", "empty", "another tool's", "no database", "other version"],
)
def test_what_cannot_be_opened(tmp_path, spoil, message):
    spoil(tmp_path / FILE_NAME)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message) as error:
        Ledger(tmp_path)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_cannot_be_written_can_be_read(ledger, monkeypatch):
    record(ledger, NAMES[0], 0.5)
    workdir = ledger.path.parent
    ledger.__exit__()
    before = {path: path.read_bytes() for path in workdir.iterdir()}
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as on a read-only disk
    with Ledger(workdir) as reader:
        assert reader.scores() == {NAMES[0]: [0.5]}
        with pytest.raises(UserError, match="cannot be written"):
            record(reader, NAMES[0], 0.6)
    assert {path: path.read_bytes() for path in workdir.iterdir()} == before


def test_looking_creates_nothing(tmp_path):
    with pytest.raises(UserError):
        Ledger(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, time
from pathlib import Path
from efficientnet_elite.search.ledger import Epoch, Ledger

with Ledger(Path(sys.argv[1])) as ledger:
    print("open", flush=True)
    for number in range(1, 201):
        for name in sys.argv[2:]:
            ledger.record_epoch(Epoch(name, number, number / 1000, 1.0, 1.0))
        time.sleep(0.002)
"""


def test_reading_beside_a_writing_process(ledger):
    """A reader sees only whole records, and ever more of them."""
    workdir = ledger.path.parent
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(workdir), *NAMES], stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout.readline() == b"open\n"
        seen, looks = 0, set()
        while seen < 200 * len(NAMES):
            finished = writer.poll() is not None
            with Ledger(workdir) as reader:
                scores = reader.scores()
            for values in scores.values():
                assert values == [n / 1000 for n in range(1, len(values) + 1)]
            total = sum(map(len, scores.values()))
            assert total >= seen
            seen = total
            looks.add(total)
            assert not finished or seen == 200 * len(NAMES)
        assert writer.wait(timeout=60) == 0
        assert len(looks) > 2, "the reader never saw the writer at work"
    finally:
        writer.kill()
        writer.communicate()


def test_decisions_of_a_real_search_can_be_replayed(searched):
    with Ledger(searched) as ledger:
        schedule = schedule_of(ledger.meta())
        (scores, losses), stored = curves(ledger.epochs()), ledger.decisions()
        groups: dict[int, list[str]] = {}
        for candidate in ledger.candidates():
            groups.setdefault(candidate.group, []).append(candidate.name)
        standings = summary.standings(ledger)
    replayed = {
        group: list(decisions)
        for group, members in groups.items()
        if (decisions := tournament.standing(members, scores, schedule, losses=losses).decisions)
    }
    assert sorted(map(len, groups.values())) == [1, 2]
    assert stored == replayed
    assert stored == {g: list(s.decisions) for g, s in standings.items() if s.decisions}
    assert sum(map(len, scores.values())) == outlook.least_epochs([1, 2], schedule)
