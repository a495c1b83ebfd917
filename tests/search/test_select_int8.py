"""Champions chosen by int8 accuracy: decisions and crashes."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.search.tournament import INT8_CANDIDATES, Pending, standing
from efficientnet_elite.training.outcome import Int8Result
from tests.support.int8_searches import CONFIG, GROUPS, invented, outcome, search, work
from tests.support.invented import ledger_of

ROOT = Path(__file__).parents[2]
SCHEDULE = Schedule(round_epochs=1, epochs=4, rule="last")


# -- decisions -----------------------------------------------------------------------------------


def flat(**accuracies):
    return {name: [value] * 4 for name, value in accuracies.items()}


def measured(scores, **accuracies):
    """Of every epoch; None is no int8 form."""
    return {
        name: {
            epoch: Int8Result(epoch, value, accuracies.get(name, value), 50, 0.1, "dead")
            for epoch, value in enumerate(own, start=1)
        }
        for name, own in scores.items()
    }


def test_int8_chooses_another_champion():
    scores = flat(a=0.9, b=0.8)
    assert standing("ab", scores, SCHEDULE).champion == "a"
    result = standing("ab", scores, SCHEDULE, int8=measured(scores, a=0.7, b=0.79))
    assert result.champion == "b"
    first, second = result.decisions
    assert (first.score, second.score) == (0.79, 0.7)
    assert "with int8 at -1.00 points, ranks 1 of 2" in decision_text(first)
    assert "with int8 at -20.00 points, ranks 2 of 2" in decision_text(second)


def test_the_rules_smoothing_is_kept():
    """Only the difference to the same weights in float counts, not the noise of the epoch."""
    scores = {"a": [0.5, 0.9], "b": [0.6, 0.4]}  # averages 0.7 and 0.5
    int8 = measured(scores)
    int8["a"][2] = Int8Result(2, 0.9, 0.75, 50, 0.1)
    schedule = Schedule(2, 2, "average")
    found = standing("ab", scores, schedule, int8=int8).decisions
    assert [(d.candidate, d.score) for d in found] == [("a", 0.55), ("b", 0.5)]
    assert standing("ab", {**scores, "b": [0.7, 0.5]}, schedule, int8=int8).champion == "b"


def test_cuts_among_many_are_made_in_float():
    assert INT8_CANDIDATES == 4
    scores = flat(a=0.9, b=0.8, c=0.7, d=0.6, e=0.5)
    before = standing("abcde", {}, SCHEDULE, int8={})
    assert before.pending == tuple(Pending(name, 1) for name in "abcde")
    result = standing("abcde", scores, SCHEDULE, int8={})
    assert [d.candidate for d in result.decisions] == [*"abcde"]
    assert result.pending == tuple(Pending(name, 2, int8=True) for name in "abc")
    # The last one to be measured is waited for; e leads in int8, but has left.
    int8 = measured(scores, a=0.1, b=0.6, c=0.5, e=0.99)
    del int8["c"][2]
    assert standing("abcde", scores, SCHEDULE, int8=int8).pending == (Pending("c", 2, int8=True),)
    assert standing("abcde", scores, SCHEDULE, int8=measured(scores, a=0.1)).champion == "b"


def test_no_int8_form_ranks_behind_all_who_have_one():
    scores = flat(a=0.99, b=0.5, c=0.98)
    result = standing("abc", scores, SCHEDULE, int8=measured(scores, a=None, b=0.1, c=None))
    first = result.decisions[:3]
    assert [d.candidate for d in first] == ["b", "a", "c"]
    assert "without an int8 form (dead), ranks 2 of 3" in decision_text(first[1])
    assert result.champion == "b"


def test_ties_go_to_the_higher_int8_accuracy_then_to_the_cheaper():
    scores = {"a": [0.5, 0.3], "b": [0.1, 0.7]}
    schedule = Schedule(2, 4, "average")
    # Equal scores: 0.4 - 0.2 and 0.4 - 0.2; in int8 a has 0.1 now and b 0.5.
    int8 = {
        "a": {2: Int8Result(2, 0.3, 0.1, 50, 0.1)},
        "b": {2: Int8Result(2, 0.7, 0.5, 50, 0.1)},
    }
    assert standing("ab", scores, schedule, int8=int8).champion == "b"
    # 0.5 + (0.2 - 0.5) and 0.71 + (0.2 - 0.71) differ in their last bit.
    equal = flat(a=0.5, b=0.71)
    int8 = measured(equal, a=0.2, b=0.2)
    assert 0.5 + int8["a"][1].change != 0.71 + int8["b"][1].change
    for members in ("ab", "ba"):
        assert standing(members, equal, SCHEDULE, int8=int8).champion == members[0]


def test_the_champion_is_measured_at_its_end():
    scores, alone = flat(a=0.9), {"a": [0.9] * 3}
    assert standing("a", alone, SCHEDULE, int8={}).pending == (Pending("a", 4, int8=True),)
    assert standing("a", scores, SCHEDULE, int8={}).pending == (Pending("a", 4, int8=True),)
    assert standing("a", scores, SCHEDULE, int8=measured(scores, a=None)).pending == ()
    # Who cannot be measured has still been trained to the end.
    result = standing("a", scores, SCHEDULE, int8={}, failed={"a": "killed"})
    assert (result.champion, result.pending) == ("a", ())


def test_who_cannot_be_measured_leaves():
    scores = flat(a=0.9, b=0.8)
    int8 = measured(flat(b=0.8))
    result = standing("ab", scores, SCHEDULE, int8=int8, failed={"a": "killed"})
    assert result.champion == "b"
    assert [(d.candidate, decision_text(d)) for d in result.decisions][1] == ("a", "failed: killed")
    assert isnan(result.decisions[1].score)
    # Its rival is measured all the same: what fails when must not change a decision.
    waiting = standing("ab", scores, SCHEDULE, int8={}, failed={"a": "killed"})
    assert (waiting.pending, waiting.decisions) == ((Pending("b", 1, int8=True),), ())


@st.composite
def contests(draw):
    """Members, a schedule, what each does in float and int8, and where it fails."""
    names = "abcdefg"[: draw(st.integers(1, 7), label="size")]
    epochs = draw(st.integers(1, 6), label="epochs")
    rule = draw(st.sampled_from(["average", "last", "race"]), label="rule")
    schedule = Schedule(draw(st.integers(1, epochs), label="round_epochs"), epochs, rule)
    values = st.sampled_from([0.0, 0.25, 0.5, 1.0])  # few: ties are to be common
    curve = st.lists(values, min_size=epochs, max_size=epochs)
    curves = {name: draw(curve) for name in names}
    int8_curve = st.lists(st.none() | values, min_size=epochs, max_size=epochs)
    int8_curves = {name: draw(int8_curve) for name in names}
    # (epochs done, while measuring)
    place = st.tuples(st.integers(0, epochs), st.booleans())
    failing = draw(st.dictionaries(st.sampled_from(names), place, max_size=3), label="failing")
    return names, schedule, curves, int8_curves, failing


def compete(contest, pick):
    """Does what is asked for, an epoch or a measurement at a time; decisions must stand."""
    names, schedule, curves, int8_curves, failing = contest
    scores, int8, failed, seen = {}, {}, {}, []
    while True:
        now = standing(names, scores, schedule, failed=failed, int8=int8)
        decisions = [repr(decision) for decision in now.decisions]
        assert decisions[: len(seen)] == seen, "a decision has changed"
        seen = decisions
        if not now.pending:
            return now, int8
        job = pick(now.pending)
        done = scores.setdefault(job.candidate, [])
        measuring = len(done) == job.until_epoch
        assert job.int8 or not measuring, "nothing is left to do for a job"
        if failing.get(job.candidate) == (len(done), measuring):
            failed[job.candidate] = "killed"
        elif measuring:
            own = int8_curves[job.candidate][len(done) - 1]
            result = Int8Result(len(done), done[-1], own, 50, 0.1, "dead")
            int8.setdefault(job.candidate, {})[len(done)] = result
        else:
            done.append(curves[job.candidate][len(done)])


@given(contests(), st.randoms(use_true_random=False))
def test_the_order_of_work_changes_nothing(contest, random):
    straight, int8 = compete(contest, lambda jobs: jobs[0])
    shuffled, _ = compete(contest, random.choice)
    assert repr(straight) == repr(shuffled)
    names, schedule, *_, failing = contest
    if straight.champion is not None and straight.champion not in failing:
        assert schedule.epochs in int8[straight.champion]
    rounds: dict[int, list] = {}
    for decision in straight.decisions:
        rounds.setdefault(decision.round, []).append(decision)
    for decisions in rounds.values():
        if not any(isnan(decision.score) for decision in decisions):
            told = ["int8" in decision_text(decision) for decision in decisions]
            assert told == [2 <= len(decisions) <= INT8_CANDIDATES] * len(decisions)
    assert straight.champion is not None or set(names) & failing.keys()


# -- the driver, with invented scores ------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.ledger import FILE_NAME, Ledger
from tests.support.invented import Invented, ledger_of
from tests.support.int8_searches import ACCURACIES, CHANGES, CONFIG, GROUPS

workdir = Path(sys.argv[1])
new = not (workdir / FILE_NAME).exists()
with ledger_of(workdir, GROUPS, CONFIG) if new else Ledger(workdir) as ledger:
    executor = Invented(
        ACCURACIES, changes=CHANGES, deadly_int8="0b", deaths=1, log=workdir / "log"
    )
    drive(ledger, executor, workdir, progress=False)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir, said = tmp_path_factory.mktemp("undisturbed"), []
    found = search(workdir, invented(workdir), said.append)
    assert said == ["0c has no int8 form after epoch 4: a dead layer"]
    return found


def test_a_search_by_int8(undisturbed):
    champion = undisturbed["champions"][0]
    assert (champion["name"], champion["epochs"]) == ("0b", 6)
    assert champion["validation_accuracy"] == 0.8
    assert champion["int8_validation_accuracy"] == pytest.approx(0.79)
    epochs = {name: [r.epoch for r in own] for name, own in undisturbed["int8"].items()}
    assert {n: e for n, e in epochs.items() if n < "1"} == {"0a": [4, 6], "0b": [4, 6], "0c": [4]}
    # The pair is measured at its only cut, and the champion once more at its end.
    assert sorted(e for n, e in epochs.items() if n > "1") == [[2], [2, 6]]


def test_a_search_in_float_measures_nothing(tmp_path):
    with ledger_of(tmp_path, GROUPS, replace(CONFIG, select="float")) as ledger:
        (champion, _) = drive(ledger, invented(tmp_path), tmp_path, progress=False)
        assert ledger.int8() == {}
    assert champion["name"] == "0a"
    assert "int8_validation_accuracy" not in champion


def test_the_first_record_stands(tmp_path):
    with ledger_of(tmp_path, GROUPS, CONFIG) as ledger:
        first = Int8Result(4, 0.8, None, 100, 1.5, "a dead layer")
        ledger.record_int8("0a", first)
        ledger.record_int8("0a", replace(first, int8_accuracy=0.7))
        assert ledger.int8() == {"0a": {4: first}}
        assert ledger.timings() == {"training": 0, "int8 accuracy": 1.5}


def test_killed_while_measuring(undisturbed, tmp_path):
    """The epochs stand; only the measurement is repeated."""
    command = [sys.executable, "-c", DRIVER, tmp_path]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL, first.stderr
    with Ledger(tmp_path) as ledger:
        assert len(ledger.scores()["0b"]) == 4
        assert "0b" not in ledger.int8()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path) == undisturbed
    times = work(tmp_path)
    assert times.pop("0b int8") == 2  # it was killed before it wrote its line
    assert {line: n for line, n in times.items() if "int8" not in line and n > 1} == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_killed_while_measuring(undisturbed, tmp_path, workers):
    make = invented(tmp_path, deadly_int8="0b", deaths=2)
    assert search(tmp_path, ProcessPool(make, workers, tmp_path)) == undisturbed
    assert {n for line, n in work(tmp_path).items() if "int8" not in line} == {1}


def test_a_measurement_that_always_kills_its_worker(tmp_path):
    found = search(tmp_path, ProcessPool(invented(tmp_path, deadly_int8="0b"), 1, tmp_path))
    assert list(found["failures"]) == ["0b"]
    assert [c["name"] for c in found["champions"] if c["group"] == 0] == ["0a"]
