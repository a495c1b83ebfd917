"""A budget in hours: what the clock ends, and that everything follows from what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.budget import Pace, forecast
from efficientnet_elite.search.deadline import longest_time
from efficientnet_elite.search.decisions import Cause, decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.protocol import Failed, Stepped
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.rules import RULES
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.search.summary import State, standings, summarize
from efficientnet_elite.search.tournament import Halt, Pending, standing
from tests.support.invented import Invented, Simulated, ledger_of

# -- decisions -------------------------------------------------------------------------------------

SCHEDULE = Schedule(round_epochs=4, epochs=10)


def rising(**levels):
    return {name: [level] * 10 for name, level in levels.items()}


def cut(scores, **epochs):
    return {name: own[: epochs.get(name, 10)] for name, own in scores.items()}


def test_a_halt_crowns_the_best_of_its_epoch():
    scores = cut(rising(a=0.5, b=0.7, c=0.6), a=2, b=1, c=3)
    assert standing("abc", scores, SCHEDULE).champion is None
    result = standing("abc", scores, SCHEDULE, halt=Halt(1, 1))
    assert [(d.candidate, d.rank, d.survives) for d in result.decisions] == [
        ("b", 1, True), ("c", 2, False), ("a", 3, False)
    ]  # fmt: skip
    assert {d.epoch for d in result.decisions} == {1}
    assert all(decision_text(d).endswith("; time is up") for d in result.decisions)
    assert result.pending == (Pending("b", 10),)
    # What comes in later changes nothing, whoever it is of.
    late = {**rising(a=0.9, c=0.9), "b": scores["b"] + [0.1] * 5}
    late = {name: scores[name] + own[len(scores[name]) :] for name, own in late.items()}
    assert standing("abc", late, SCHEDULE, halt=Halt(1, 1)).decisions == result.decisions


def test_a_halt_does_not_bring_back_a_champion_that_has_failed():
    """Also where its successor ends at fewer epochs than it had when it failed."""
    scores = cut(rising(a=0.5, b=0.7), a=4, b=8)
    failed = {"b": "boom"}
    before = standing("ab", scores, SCHEDULE, failed=failed)
    assert before.champion == "a"
    for recorded in ((), before.decisions):
        after = standing("ab", scores, SCHEDULE, failed=failed, halt=Halt(end=5), recorded=recorded)
        assert after.champion == "a" and after.pending == (Pending("a", 5),)
        assert str(after.decisions) == str(before.decisions)


def test_a_halt_leaves_earlier_rounds_alone():
    scores = cut(rising(a=0.5, b=0.7, c=0.6, d=0.1), a=4, b=4, c=5, d=4)
    before = standing("abcd", scores, SCHEDULE)
    after = standing("abcd", scores, SCHEDULE, halt=Halt(2, 4))
    assert after.decisions[: len(before.decisions)] == before.decisions
    assert after.champion == "b"
    ended = standing("abcd", scores, SCHEDULE, halt=Halt(2, 4, 4))
    assert ended.finished
    assert ended.decisions == after.decisions


def test_who_has_not_begun_can_neither_win_nor_take_over():
    scores = {"b": [0.2], "c": [0.1]}
    result = standing("abc", scores, SCHEDULE, halt=Halt(1, 1))
    assert result.champion == "b"
    late = result.decisions[-1]
    assert (late.round, late.epoch, late.candidate, late.rank) == (1, 1, "a", 3)
    assert (late.survives, late.scored, late.cause) == (False, False, Cause.LATE)
    failed = {"b": "nan", "c": "nan"}
    result = standing("abc", scores, SCHEDULE, halt=Halt(1, 1), failed=failed)
    assert (result.champion, result.finished) == (None, True)


def test_where_nobody_has_begun_the_cheapest_goes_on():
    result = standing("abc", {}, SCHEDULE, halt=Halt(1, 0, 1))
    assert result.pending == (Pending("a", 1),)
    assert (
        decision_text(result.decisions[0])
        == "without a score when time was up; the cheapest goes on"
    )
    assert standing("abc", {"a": [0.3]}, SCHEDULE, halt=Halt(1, 0, 1)).finished
    heir = standing("abc", {}, SCHEDULE, halt=Halt(1, 0, 1), failed={"a": "no memory"})
    assert heir.pending == (Pending("b", 1),)


def test_a_failure_after_the_end_of_a_race_does_not_rewrite_it():
    scores = {"a": [], "b": [0.5, 0.5], "c": [0.9]}
    halt = Halt(1, 2)
    before = standing("abc", scores, SCHEDULE, halt=halt)
    after = standing("abc", scores, SCHEDULE, halt=halt, failed={"a": "broken"})
    assert repr(after) == repr(before)  # a score that is no number equals itself as text
    first = standing("ab", {}, SCHEDULE, halt=Halt(1, 0, 1))
    later = standing("ab", {}, SCHEDULE, halt=Halt(1, 0, 1), failed={"a": "broken"})
    assert repr(later.decisions[: len(first.decisions)]) == repr(first.decisions)
    assert (first.champion, later.champion) == ("a", "b")


def test_a_tie_when_time_is_up_goes_to_the_cheaper():
    """Also where the other one has been ahead before."""
    scores = {"a": [0.4, 0.4, 0.5], "b": [0.4, 0.6, 0.5], "c": [0.1] * 3, "d": [0.1] * 3}
    schedule = Schedule(2, 10, "last")
    assert standing("abcd", scores, schedule).survivors == ("b", "a")
    assert standing("abcd", scores, schedule, halt=Halt(2, 3)).champion == "a"


def test_a_champion_that_has_had_its_time_cannot_lose_any_more():
    scores = cut(rising(a=0.5, b=0.7), a=4, b=7)
    failed = {"b": "its checkpoint was lost, and it diverged when trained anew"}
    assert standing("ab", scores, SCHEDULE, failed=failed).champion == "a"
    ended = standing("ab", scores, SCHEDULE, failed=failed, halt=Halt(end=7))
    assert (ended.champion, ended.finished) == ("b", True)


def test_int8_is_not_waited_for():
    scores = cut(rising(a=0.5, b=0.7), a=4, b=4)
    assert standing("ab", scores, SCHEDULE, int8={}).pending == (
        Pending("a", 4, True),
        Pending("b", 4, True),
    )
    result = standing("ab", scores, SCHEDULE, int8={}, halt=Halt(1, 4))
    assert result.pending == (Pending("b", 10, int8=True),)
    assert standing("ab", scores, SCHEDULE, int8={}, halt=Halt(1, 4, 4)).finished


# -- the clock -------------------------------------------------------------------------------------


def test_chains_of_work():
    assert longest_time([], 3) == 0
    assert longest_time([4, 2], 1) == 6
    assert longest_time([4, 2], 2) == 5


class Killed(Exception):
    pass


class Interrupted(Simulated):
    """Killed after so many events."""

    events = 10**9

    def wait(self, on_event):
        self.events -= 1
        if self.events < 0:
            raise Killed
        super().wait(on_event)


PACE = Pace(epoch=0.0, per_mac=1.0, build=0.0)
REPEATS = [Repeat("0b-seed1", "0b", 1)]


def hours_for(workdir, groups, seconds, rule="race", epochs=12, repeats=(), **asked):
    """A new ledger of a search with so much time. An epoch takes a second a MAC, by its pace."""
    config = SearchConfig(
        round_epochs=4,
        rule=rule,
        train=TrainConfig(epochs=epochs),
        budget_hours=seconds / 3600,
        seeds=1 + len(repeats),
        **asked,
    )
    plan = {"round_epochs": 4, "pace": asdict(PACE)}
    return ledger_of(workdir, groups, config, repeats, plan=plan)


def costs_of(ledger):
    macs = {c.name: c.spec.macs for c in ledger.candidates()}
    ends = ("-seed1", "-seed2", "-final")
    return macs | {f"{name}{end}": macs[name] for name in macs for end in ends}


GROUPS = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(
    lambda sizes: {number: "abcde"[:size] for number, size in enumerate(sizes)}
)


@settings(deadline=None, max_examples=10)
@given(
    groups=GROUPS,
    workers=st.integers(1, 3),
    rule=st.sampled_from(list(RULES)),
    repeat=st.booleans(),
    finalist_seeds=st.integers(1, 2),
    final_epochs=st.sampled_from([0, 20]),
    share=st.floats(0.3, 1.2),
    slower=st.floats(0.8, 3.0),
    since=st.floats(0.0, 1.0),
    kill=st.integers(5, 400),
)
def test_the_budget_is_kept(
    groups, workers, rule, repeat, finalist_seeds, final_epochs, share, slower, since, kill
):
    """Whatever the machine does, killed on the way or not: champions, in time, and replayable."""
    repeats = REPEATS if repeat and "b" in groups[0] else []
    asked = {"repeats": repeats, "finalist_seeds": finalist_seeds}
    asked["final_epochs"] = final_epochs
    with TemporaryDirectory() as folder:
        workdir = Path(folder)
        with hours_for(workdir, groups, 1.0, rule, **asked) as ledger:
            costs = costs_of(ledger)
            schedule = Schedule(4, 12, rule, final_epochs=final_epochs)
            by_group: dict[int, list] = {}
            for c in ledger.candidates():
                by_group.setdefault(c.group, []).append(PACE.cost_of(c.spec.macs))
            seeds = 1 + len(repeats)
            most = forecast(list(by_group.values()), schedule, workers=workers, seeds=seeds).most
        workdir = workdir / "run"
        budget = share * most
        epoch = slower * max(costs.values())

        def executor(events):
            made = Interrupted(workers, lambda name: costs[name])
            made._seconds = lambda name: (
                costs[name] * (slower if made.now + before > since * budget else 1.0)
            )
            made.events = events
            return made

        before = 0.0
        with hours_for(workdir, groups, budget, rule, **asked) as ledger:
            first = executor(kill)
            try:
                drive(ledger, first, workdir, progress=False, clock=first.clock)
            except Killed:
                before = ledger.meta().get("elapsed", 0.0)
                assert first.now - before <= 2 * epoch, "more than building and an epoch is lost"
                second = executor(10**9)
                second._epochs = {name: len(own) for name, own in ledger.epochs().items()}
                drive(ledger, second, workdir, progress=False, clock=second.clock)
                spent = before + second.now
            else:
                spent = first.now
            assert audit(read_record(ledger)).difference is None
            assert summarize(ledger).finished
            tables, halts = standings(ledger), ledger.halts()
            trained = {name: len(own) for name, own in ledger.epochs().items()}
        for number in groups:
            end = halts[number].end if number in halts else None
            assert trained[tables[number].training] == (end or final_epochs or schedule.epochs)
        # Building (which takes as long as an epoch here) and the epoch that was begun; and the
        # first epoch of groups that had none.
        begun = sum(halt.end == 1 for halt in halts.values())
        assert spent <= budget + 2 * epoch * (1 + begun)


@settings(deadline=None, max_examples=10)
@given(groups=GROUPS, rule=st.sampled_from(list(RULES)), slower=st.floats(0.5, 1.03))
def test_a_search_that_keeps_its_plan_is_let_alone(groups, rule, slower):
    with TemporaryDirectory() as folder:
        found = []
        for hours in (False, True):
            workdir = Path(folder) / str(hours)
            with hours_for(workdir / "plan", groups, 1.0, rule) as ledger:
                costs, by_group = costs_of(ledger), {}
                for c in ledger.candidates():
                    cost = PACE.cost_of(2 * c.spec.macs)  # an epoch, and building shared by epochs
                    by_group.setdefault(c.group, []).append(cost)
            most = forecast(list(by_group.values()), Schedule(4, 12, rule)).most
            with hours_for(workdir, groups, most if hours else 1e12, rule) as ledger:
                executor = Simulated(1, {n: slower * cost for n, cost in costs.items()}.__getitem__)
                drive(ledger, executor, workdir, progress=False, clock=executor.clock)
                assert ledger.halts() == {}
                found.append((repr(ledger.decisions()), ledger.scores()))
        assert found[0] == found[1]


def test_a_machine_that_becomes_slower(tmp_path):
    """Its race ends early, its champion late in its training."""
    said: list[str] = []
    with hours_for(tmp_path, {0: "abcd", 1: "ab"}, 1.0) as ledger:
        costs = costs_of(ledger)
    workdir, budget = tmp_path / "run", 30 * max(costs.values())
    with hours_for(workdir, {0: "abcd", 1: "ab"}, budget, epochs=20) as ledger:
        executor = Simulated(1, lambda name: 1.0 * costs[name])
        executor._seconds = lambda name: costs[name] * (1 if executor.now < 0.4 * budget else 4)
        champions = drive(
            ledger,
            executor,
            workdir,
            progress=False,
            on_message=said.append,
            clock=executor.clock,
        )
        assert [champion["group"] for champion in champions] == [0, 1]
        halts = ledger.halts()
        assert all(0 < halt.end < 20 for halt in halts.values())
        assert any("time is short: the tournament ends" in text for text in said)
        assert any("time is up: the champion has been trained for" in text for text in said)
        assert summarize(ledger).finished


class Breaking(Simulated):
    """The champion diverges in the epoch after which its time would be up."""

    budget = 0.0

    def submit(self, slot, task):
        if task.done >= 12 and self.now + self._seconds(task.spec.name) > self.budget:
            self._at(self.budget + 1, slot, Stepped(1, 2), task.spec.name)
            self._at(self.budget + 2, slot, Failed("the loss became nan"), task.spec.name)
        else:
            super().submit(slot, task)


def test_a_champion_that_fails_in_its_last_epoch_keeps_what_it_has(tmp_path):
    with hours_for(tmp_path, {0: "ab"}, 1.0) as ledger:
        costs = costs_of(ledger)
    workdir, budget = tmp_path / "run", 30.5 * max(costs.values())
    with hours_for(workdir, {0: "ab"}, budget, epochs=200) as ledger:
        executor = Breaking(1, lambda name: 1.0 * costs[name])
        executor.budget = budget
        (champion,) = drive(ledger, executor, workdir, progress=False, clock=executor.clock)
        name, trained = champion["name"], len(ledger.epochs()[champion["name"]])
        assert set(ledger.failures()) == {name}
        assert ledger.halts()[0].end == trained > 12
        assert audit(read_record(ledger)).difference is None
        (shown,) = (m for m in summarize(ledger).members if m.name == name)
        assert shown.state is State.CHAMPION


def test_the_time_of_an_epoch_that_is_interrupted_counts(tmp_path):
    class Stopped(Simulated):
        def wait(self, on_event):
            if self.built:
                self.now += 0.25
                raise KeyboardInterrupt
            super().wait(on_event)

    with hours_for(tmp_path, {0: "ab"}, 1e9) as ledger:
        for run in (1, 2, 3):
            executor = Stopped(1, lambda name: 1.0)
            with pytest.raises(KeyboardInterrupt):
                drive(ledger, executor, tmp_path, progress=False, clock=executor.clock)
            assert ledger.meta()["elapsed"] == 0.25 * run
        assert not ledger.epochs()


def test_real_time(tmp_path):
    """Real epochs of a tenth of a second, in a budget that is half of what they need."""
    with hours_for(tmp_path, {0: "abcd", 1: "abc"}, 2.0, epochs=20) as ledger:
        champions = drive(ledger, Invented(seconds=0.1), tmp_path, progress=False)
        assert len(champions) == 2
        assert {halt.end for halt in ledger.halts().values()} - {None}
        assert audit(read_record(ledger)).difference is None
        assert ledger.meta()["elapsed"] > 1.0
