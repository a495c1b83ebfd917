"""What a search's status says, against figures worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import outlook, tournament
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.search.summary import State, as_dict, standings, summarize
from efficientnet_elite.search.summary_text import as_text
from efficientnet_elite.search.tournament import Halt
from efficientnet_elite.text import duration, quantity
from efficientnet_elite.training.outcome import Int8Result
from tests.support.ledgers import CONFIG, start, train


def member(summary, name):
    return next(member for member in summary.members if member.name == name)


def test_before_the_first_epoch(tmp_path):
    ledger, _ = start(tmp_path, {0: "abc"})
    with ledger:
        summary = summarize(ledger)
    # Three to epoch 2, two to epoch 4, one to epoch 6.
    assert (summary.epochs_forecast, summary.epochs_left) == (12, 12)
    assert (summary.epochs_done, summary.progress, summary.seconds_left) == (0, 0.0, None)
    assert {m.state for m in summary.members} == {State.RACING}
    assert summary.groups[0].round == 1
    assert not summary.finished


def test_numbers_in_the_middle(tmp_path):
    ledger, macs = start(tmp_path, {0: "abc", 1: "a"})
    with ledger:
        train(ledger, "g0a", 0.2, 0.4, seconds=3.0)
        train(ledger, "g0b", 0.5, 0.7, seconds=2.0)
        train(ledger, "g0c", 0.6, 0.7, seconds=1.0)
        train(ledger, "g0c", 0.8, seconds=1.0, first=3)
        ledger.record_timing("graph building", "g0a", 7.5)
        summary = summarize(ledger)
    first, second = summary.groups

    out = member(summary, "g0a")
    assert (out.state, out.round, out.rank, out.ranked) == (State.ELIMINATED, 1, 3, 3)
    assert out.score == pytest.approx(0.3) and out.average_score == pytest.approx(0.3)
    assert out.last_score == 0.4
    best = member(summary, "g0c")
    assert (best.state, best.rank, best.epochs_done, best.epochs_needed) == (State.RACING, 1, 3, 4)
    assert best.score == pytest.approx(0.65)  # when it was decided
    assert best.average_score == pytest.approx(0.7)  # since
    assert first.round == 2
    assert second.champion == "g1a"
    assert second.round is None

    # b: 2 epochs, c: 1, then one of the two for 2 more; group 1: 6.
    assert (first.epochs_left, second.epochs_left) == (5, 6)
    assert first.seconds_left == pytest.approx(2 * 2.0 + 1 * 1.0 + 2 * 1.5)
    per_mac = (3.0 + 2.0 + 1.0) / sum(macs[f"g0{letter}"] for letter in "abc")
    assert second.seconds_left == pytest.approx(6 * per_mac * macs["g1a"])
    assert summary.seconds_left == first.seconds_left + second.seconds_left
    assert summary.seconds == {"training": 13.0, "graph building": 7.5}

    done = 2 * macs["g0a"] + 2 * macs["g0b"] + 3 * macs["g0c"]
    left = 2 * macs["g0b"] + macs["g0c"] + (macs["g0b"] + macs["g0c"]) + 6 * macs["g1a"]
    assert summary.progress == pytest.approx(done / (done + left))


def test_a_slow_epoch_does_not_spoil_the_forecast(tmp_path):
    ledger, _ = start(tmp_path, {0: "a"})
    with ledger:
        train(ledger, "g0a", 0.1, 0.2, seconds=1.0)
        train(ledger, "g0a", 0.3, seconds=36000.0, first=3)
        assert summarize(ledger).seconds_left == 3.0


def test_trainings_with_other_seeds_are_no_candidates_of_the_forecast(tmp_path):
    ledger, macs = start(tmp_path, {0: "ab"}, repeats=[Repeat("g0a-seed1", "g0a", 1)])
    with ledger:
        train(ledger, "g0a", 0.1, seconds=60.0)
        train(ledger, "g0a-seed1", 0.1, seconds=60.0)
        found = member(summarize(ledger), "g0b").seconds_per_epoch
    assert found == pytest.approx(60.0 * macs["g0b"] / macs["g0a"])


def test_repeats_are_a_part_of_what_is_left(tmp_path):
    repeats = [Repeat(f"g0a-seed{seed}", "g0a", seed) for seed in (1, 2)]
    ledger, macs = start(tmp_path, {0: "ab", 1: "a"}, repeats=repeats)
    with ledger:
        for name in ("g0a", "g0b"):
            train(ledger, name, 0.5, 0.5, seconds=10.0)
        train(ledger, "g1a", *[0.5] * 6, seconds=10.0)
        train(ledger, "g0a-seed1", 0.5, seconds=10.0)
        waiting = summarize(ledger)
        # One epoch of the one, two of the other, then four of the champion.
        group = waiting.groups[0]
        assert (group.epochs_left, group.seconds_left) == (7, 70.0)
        assert (group.round, group.champion, group.finished) == (1, None, False)
        assert (waiting.epochs_done, waiting.epochs_left, waiting.epochs_forecast) == (11, 7, 18)
        done = 3 * macs["g0a"] + 2 * macs["g0b"] + 6 * macs["g1a"]
        left = 3 * macs["g0a"] + 4 * (macs["g0a"] + macs["g0b"]) / 2
        assert waiting.progress == pytest.approx(done / (done + left))
        assert "11 of 18 epochs trained, about 1 min 10 s of training on one" in as_text(waiting)
        ledger.record_failure("g0a-seed2", 1, "diverged")
        assert summarize(ledger).epochs_left == 5
        ledger.record_halt(0, Halt(1, 2))
        assert summarize(ledger).epochs_left == 4


def test_a_group_is_not_finished_before_its_repeats(tmp_path):
    repeats = [Repeat("g0a-seed1", "g0a", 1)]
    ledger, _ = start(tmp_path, {0: "ab"}, repeats=repeats)
    with ledger:
        for name in ("g0a", "g0b"):
            ledger.record_failure(name, 1, "diverged")
        going = summarize(ledger)
        assert (going.finished, going.epochs_left, going.progress) == (False, 2, 0.0)
        train(ledger, "g0a-seed1", 0.5, 0.5)
        assert summarize(ledger).finished


def test_int8_may_be_all_that_is_left(tmp_path):
    ledger, _ = start(tmp_path, {0: "ab"}, replace(CONFIG, select="int8"))
    with ledger:
        assert summarize(ledger).seconds_left is None
        for name in ("g0a", "g0b"):
            train(ledger, name, 0.5, 0.5)
        assert summarize(ledger).seconds_left == 4.0  # of the champion
        for name in ("g0a", "g0b"):
            ledger.record_int8(name, Int8Result(2, 0.5, 0.5, 100, 1.0))
        train(ledger, "g0a", *[0.5] * 4, first=3)
        summary = summarize(ledger)
    assert (summary.epochs_left, summary.seconds_left, summary.finished) == (0, 0.0, False)


def test_what_was_cut_short_is_told(tmp_path):
    ledger, _ = start(tmp_path, {0: "abc", 1: "ab"})
    with ledger:
        train(ledger, "g0a", 0.5)
        train(ledger, "g0b", 0.6, 0.6, 0.6)
        ledger.record_halt(0, Halt(1, 1, 3))
        ledger.record_halt(1, Halt(1, 0))
        summary = summarize(ledger)
    text = as_text(summary)
    told = " ".join(text.split())
    assert "group 0: g0b is the champion time is up: the champion has been trained for 3" in told
    assert (
        "time is short: the tournament ends in round 1 by the scores of epoch 0, and the rest"
        in told
    )
    assert "eliminated in round 1, ranked 2 of 3" in text
    (late,) = (line for line in text.splitlines() if line.startswith("  g0c"))
    assert late.endswith("eliminated in round 1: time was up")
    found = json.loads(json.dumps(as_dict(summary), allow_nan=False))["groups"]
    assert [group["halt"] for group in found] == [
        {"round": 1, "epoch": 1, "end": 3},
        {"round": 1, "epoch": 0, "end": None},
    ]


def test_a_champion_that_fails_after_its_end_is_the_champion(tmp_path):
    ledger, _ = start(tmp_path, {0: "a"})
    with ledger:
        train(ledger, "g0a", *[0.5] * 6)
        ledger.record_failure("g0a", 7, "out of memory, while int8 was measured")
        summary = summarize(ledger)
    assert member(summary, "g0a").state is State.CHAMPION
    assert summary.groups[0].champion == "g0a" and summary.finished


def test_failures(tmp_path):
    ledger, _ = start(tmp_path, {0: "ab", 1: "ab"})
    with ledger:
        train(ledger, "g0a", 0.9)
        ledger.record_failure("g0a", 2, "diverged")
        train(ledger, "g0b", 0.1, 0.1)
        ledger.record_failure("g1a", 1, "diverged")
        ledger.record_failure("g1b", 1, "out of memory")
        summary = summarize(ledger)
    assert member(summary, "g0a").state is State.FAILED
    assert member(summary, "g0a").reason == "diverged"
    assert member(summary, "g0a").score is None
    assert summary.groups[0].champion == "g0b"
    nobody = summary.groups[1]
    assert (nobody.champion, nobody.finished, nobody.epochs_left) == (None, True, 0)
    assert "no champion: every candidate has failed" in as_text(summary)
    assert "failed: out of memory" in as_text(summary)
    json.dumps(as_dict(summary), allow_nan=False)


def test_standings_equal_the_tournament_in_the_order_of_preference(tmp_path):
    ledger, _ = start(tmp_path, {1: "ab", 0: "ab"})
    with ledger:
        for name in ("g0a", "g0b", "g1a", "g1b"):
            train(ledger, name, 0.5, 0.5)
        found = standings(ledger)
        scores = ledger.scores()
    schedule = Schedule(2, 6)
    assert list(found) == [0, 1]
    for number in (0, 1):
        members = [f"g{number}a", f"g{number}b"]
        assert found[number] == tournament.standing(members, scores, schedule)
        assert found[number].champion == members[0]  # the tie goes to the one named first


def test_a_ledger_that_has_not_been_started(tmp_path):
    with Ledger(tmp_path, create=True) as ledger, pytest.raises(UserError, match="elite search"):
        summarize(ledger)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    round_epochs=st.integers(1, 4),
    more=st.integers(0, 6),
    stop=st.integers(0, 60),
    data=st.data(),
)
def test_done_and_left_make_the_plan_at_any_moment(
    tmp_path_factory, sizes, round_epochs, more, stop, data
):
    epochs = round_epochs + more
    config = SearchConfig(
        round_epochs=round_epochs, rule="average", train=TrainConfig(epochs=epochs)
    )
    groups = {number: "abcde"[:size] for number, size in enumerate(sizes)}
    ledger, _ = start(Path(tmp_path_factory.mktemp("work")), groups, config)
    with ledger:
        ledger._db.execute("PRAGMA synchronous=OFF")
        for _ in range(stop):
            jobs = [job for s in standings(ledger).values() for job in s.pending]
            if not jobs:
                break
            job = data.draw(st.sampled_from(jobs))
            done = len(ledger.scores().get(job.candidate, ()))
            train(ledger, job.candidate, data.draw(st.floats(0, 1)), first=done + 1)
        summary = summarize(ledger)
    assert summary.epochs_done + summary.epochs_left == summary.epochs_forecast
    assert summary.epochs_forecast == outlook.least_epochs(sizes, Schedule(round_epochs, epochs))
    assert summary.finished == (summary.epochs_left == 0)
    assert 0 <= summary.progress <= 1
    assert (summary.progress == 1) == summary.finished
    if all(member.epochs_done for member in summary.members):  # each a second an epoch
        assert summary.seconds_left == pytest.approx(summary.epochs_left)


def test_text(tmp_path):
    ledger, _ = start(tmp_path, {0: "abc", 1: "a"})
    with ledger:
        train(ledger, "g0a", 0.25, 0.5)
        train(ledger, "g0b", 0.5, 0.75)
        train(ledger, "g1a", *[0.5] * 6)
        ledger.record_failure("g0c", 1, "x" * 200)
        text = as_text(summarize(ledger))
    lines = text.splitlines()
    assert max(map(len, lines)) == 100  # the long reason is cut
    assert "group 1: g1a is the champion" in lines
    heads = next(line for line in lines if "candidate" in line and "state" in line)
    row = next(line for line in lines if line.startswith("  g0a"))
    assert row.split()[:2] == ["g0a", "4.06"]
    assert "37.50 %" in row
    assert "50.00 %" in row
    assert heads.index("state") == row.index("eliminated in round 1, ranked 2 of 3")


def test_as_dict_is_plain(tmp_path):
    ledger, _ = start(tmp_path, {0: "ab"})
    with ledger:
        train(ledger, "g0a", 0.25, 0.5)
        found = json.loads(json.dumps(as_dict(summarize(ledger)), allow_nan=False))
    assert found["groups"][0]["members"][0]["last_score"] == 0.5
    assert found["groups"][0]["members"][1]["state"] == "racing"
    assert found["groups"][0]["members"][1]["average_score"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (18120, "5 h 02 min"),
        (273600, "3 d 04 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9996, "10.0 k"),
        (999_600, "1.00 M"),
        (4_062_374, "4.06 M"),
        (1.85e9, "1.85 G"),
    ],
)
def test_quantity(count, text):
    assert quantity(count) == text


@given(st.floats(1, 1e12))
def test_quantity_keeps_three_digits(count):
    number, *unit = quantity(count).split()
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit[0] if unit else ""]
    tolerance = (
        0.5
        if factor == 1
        else 0.0051 * 10 ** max(0, math.floor(math.log10(count / factor))) * factor
    )
    assert abs(float(number) * factor - count) <= tolerance


def test_text_of_those_who_race(tmp_path):
    ledger, _ = start(tmp_path, {0: "abc", 1: "ab"})
    with ledger:
        for name, score in (("g0a", 0.1), ("g0b", 0.5), ("g0c", 0.9)):
            train(ledger, name, score, score)
        ledger.record_failure("g1a", 1, "diverged")
        summary = summarize(ledger)
    everyone, racing = as_text(summary), as_text(summary, racing_only=True)
    gone = {line.split()[0] for line in everyone.splitlines() if line not in racing.splitlines()}
    assert gone == {"g0a", "g1a"}


def test_decisions_as_dict(tmp_path):
    ledger, _ = start(tmp_path, {0: "ab"})
    with ledger:
        train(ledger, "g0a", 0.25, 0.5)
        ledger.record_failure("g0b", 1, "diverged")
        summary = summarize(ledger)
    first, second = json.loads(json.dumps(as_dict(summary), allow_nan=False))["groups"][0][
        "decisions"
    ]
    assert (first["candidate"], first["score"], first["survives"]) == ("g0a", 0.375, True)
    assert (second["candidate"], second["score"], second["survives"]) == ("g0b", None, False)
