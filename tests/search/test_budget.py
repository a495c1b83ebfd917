"""Plans within a budget: never beyond it, and a champion for every group."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import zip_longest
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite import cli
from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.budget import (
    Pace,
    TooSmallError,
    TrainingCost,
    forecast,
    forecast_epochs,
    plan_search,
)
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.display import Display
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.protocol import EpochDone
from efficientnet_elite.search.ledger import FILE_NAME, Ledger
from efficientnet_elite.search.noise import Noise, Repeat, pooled_noise
from efficientnet_elite.search.planning import MARGIN, choose_repeats, plan_candidates
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.rules import RULES
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.search.summary_text import as_text
from efficientnet_elite.search.tournament import standing
from tests.support.command import SEARCH_FLAGS, elite
from tests.support.invented import POOL, Invented, Simulated, ledger_of


@st.composite
def schedules(draw):
    epochs = draw(st.integers(1, 60), label="epochs")
    length = draw(st.integers(1, epochs), label="round_epochs")
    rule = draw(st.sampled_from(list(RULES)), label="rule")
    seed = draw(st.sampled_from([None, 1]), label="finalist_seed")
    return Schedule(length, epochs, rule, finalist_seed=seed)


# Eighths: their sums are exact.
COSTS = st.builds(lambda a, b: TrainingCost(a / 8, b / 8), st.integers(1, 80), st.integers(0, 40))


@given(st.integers(1, 12), schedules(), st.randoms(use_true_random=False))
def test_what_a_group_is_trained_for_lies_within_its_forecast(size, schedule, random):
    """Whatever the scores are: few values, so that ties and noise are common."""
    members = [f"m{i}" for i in range(size)]
    trainings = [*members, *(f"{name}-seed1" for name in members)]
    scores: dict[str, list[float]] = {name: [] for name in trainings}
    losses: dict[str, list[float]] = {name: [] for name in trainings}
    while (table := standing(members, scores, schedule, losses=losses)).pending:
        for job in table.pending:
            while len(scores[job.training]) < job.until_epoch:
                scores[job.training].append(random.choice([0.25, 0.5, 0.75]))
                losses[job.training].append(random.choice([0.1, 1.0, 2.0]))
    found = forecast_epochs(size, schedule)
    assert found.least <= sum(map(len, scores.values())) <= found.most
    if schedule.rule != "race" and schedule.finalist_seed is None:
        assert found.least == found.most == found.expected


@given(
    st.lists(st.lists(COSTS, min_size=1, max_size=6), min_size=1, max_size=5),
    schedules(),
    st.floats(0, 1.2),
    st.sampled_from([1, 2, 4]),
)
def test_a_plan_keeps_its_budget_and_every_group(members, schedule, share, workers):
    turns = zip_longest(*members)
    entrants = [(g, cost) for turn in turns for g, cost in enumerate(turn) if cost is not None]

    def cost(count, schedule):
        groups = {}
        for group, each in entrants[:count]:
            groups.setdefault(group, []).append(each)
        return forecast(list(groups.values()), schedule, workers=workers)

    whole = cost(len(entrants), schedule).most
    try:
        made = plan_search(entrants, schedule, share * whole, workers=workers)
    except TooSmallError as error:
        assert error.least > share * whole
        assert error.groups == len(members)
        again = plan_search(entrants, schedule, error.least, workers=workers)
        assert again.count >= len(members)
        return
    assert made.forecast == cost(made.count, made.schedule)
    assert made.forecast.least <= made.forecast.expected <= made.forecast.most <= share * whole
    assert {group for group, _ in entrants[: made.count]} == set(range(len(members)))
    assert made.schedule.epochs == schedule.epochs
    floor = min(schedule.round_epochs, RULES[schedule.rule].shortest_round)
    assert floor <= made.schedule.round_epochs <= schedule.round_epochs
    if made.schedule.finalist_seed != schedule.finalist_seed:
        shortest = replace(schedule, round_epochs=floor)
        assert cost(len(entrants), shortest).most > share * whole
        schedule = replace(schedule, finalist_seed=None)
    if made.count < len(entrants):
        assert made.schedule.round_epochs == floor
        assert cost(made.count + 1, made.schedule).most > share * whole
    elif made.schedule != schedule:
        longer = replace(schedule, round_epochs=made.schedule.round_epochs + 1)
        assert cost(made.count, longer).most > share * whole


def test_by_hand():
    """Rounds first, then candidates, in their order; never a champion's training."""
    schedule = Schedule(10, 40, "average")
    entrants = [(0, TrainingCost()), (1, TrainingCost())] * 4  # 4 + 4
    assert plan_search(entrants, schedule, 200).forecast.expected == 2 * (4 * 10 + 2 * 10 + 20)
    made = plan_search(entrants, schedule, 130)
    assert (made.schedule.round_epochs, made.count, made.forecast.most) == (6, 8, 128)
    made = plan_search(
        entrants, schedule, 110
    )  # rounds of 4: 112 with all, 8 + 36 = 44 less by one
    assert (made.schedule.round_epochs, made.count) == (4, 7)
    assert made.forecast.most == (4 * 4 + 2 * 4 + 32) + (3 * 4 + 2 * 4 + 32)
    assert plan_search(entrants, schedule, 80).count == 2
    with pytest.raises(TooSmallError, match="2 groups need at least 80"):
        plan_search(entrants, schedule, 79)


@settings(deadline=None, max_examples=10)  # ledgers on disk
@given(st.integers(1, 4), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_time_on_several_workers(workers, sizes):
    """A whole search on an invented clock ends within the range that was forecast."""
    schedule = Schedule(2, 7, "average")
    costs = {
        f"{g}{'abcde'[i]}": TrainingCost(1.0 + i, 1.0 + i)
        for g, n in enumerate(sizes)
        for i in range(n)
    }
    groups = [[costs[f"{g}{'abcde'[i]}"] for i in range(n)] for g, n in enumerate(sizes)]
    config = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=7))
    executor = Simulated(workers, lambda name: costs[name].epoch)
    with TemporaryDirectory() as folder:
        letters = {g: "abcde"[:n] for g, n in enumerate(sizes)}
        with ledger_of(Path(folder), letters, config) as ledger:
            drive(ledger, executor, Path(folder), progress=False)
    found = forecast(groups, schedule, workers=workers)
    moved = sum(costs[name].once for name in executor.built) - sum(c.once for c in costs.values())
    assert found.least - 1e-9 <= executor.now <= found.most + moved + 1e-9


def test_pace():
    straight = Pace.fit({100: 3.0, 200: 4.0, 400: 6.0}, build=2.0)
    assert (straight.epoch, straight.per_mac) == pytest.approx((2.0, 0.01))
    assert straight.cost_of(300) == TrainingCost(pytest.approx(5.0), 2.0)
    assert Pace.fit({100: 3.0}, 1.0) == Pace(pytest.approx(0.0), pytest.approx(0.03), 1.0)
    steep = Pace.fit({100: 1.0, 200: 5.0}, 1.0)  # a negative overhead is none
    assert (steep.epoch, steep.per_mac) == pytest.approx((0.0, 0.02))
    falling = Pace.fit({100: 5.0, 200: 4.0}, 1.0)
    assert (falling.epoch, falling.per_mac) == pytest.approx((4.5, 0.0))


CONFIG = SearchConfig(
    groups=3, rule="average", round_epochs=6, max_candidates=30, train=TrainConfig(epochs=20)
)
PACE = Pace(epoch=1.0, per_mac=0.0, build=2.0)


def test_planned_for_a_search():
    some = POOL[:30]
    groups = {c.group for c in some}
    kept, record, text = plan_candidates(some, CONFIG)
    assert kept == tuple(some)
    assert text.startswith("forecast: ")
    assert "budget" not in text
    tight = len(groups) * 20 + 10
    kept, record, text = plan_candidates(some, replace(CONFIG, budget_epochs=tight))
    assert {c.group for c in kept} == groups
    assert list(kept) == [c for c in some if c in kept], "the order is kept"
    assert record["epochs"]["most"] <= tight
    assert record["candidates"] == len(kept) < 30
    assert f"to keep the budget: rounds of 4 epochs instead of 6, {len(kept)} candidates of 30" in (
        text
    )
    hours = (20 + 2) * len(groups) / 3600 / (1 - MARGIN)  # a champion's epochs, and its graph
    kept, record, text = plan_candidates(some, replace(CONFIG, budget_hours=1.0001 * hours), PACE)
    assert len(kept) == len(groups)
    assert record["pace"] == {"epoch": 1.0, "per_mac": 0.0, "build": 2.0, "workers": 1}
    assert record["seconds"]["most"] == pytest.approx(22 * len(groups))
    with pytest.raises(UserError, match=r"budget_hours=.*: champions in \d+ groups need"):
        plan_candidates(some, replace(CONFIG, budget_hours=0.999 * hours), PACE)
    with pytest.raises(UserError, match=f"need {len(groups) * 20} at least") as error:
        plan_candidates(some, replace(CONFIG, budget_epochs=3))
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 30_000), st.floats(1e-4, 1e4))
def test_a_refusal_names_a_budget_that_is_enough(groups, epochs, seconds):
    pool = [replace(c, group=place % groups) for place, c in enumerate(POOL[:8])]
    config = SearchConfig(groups=groups, round_epochs=1, train=TrainConfig(epochs=epochs))
    pace = Pace(epoch=seconds, per_mac=0.0, build=seconds)

    def needed(config, pace=None):
        with pytest.raises(UserError, match=r" need [0-9.]+ at least") as error:
            plan_candidates(pool, config, pace)
        return str(error.value).split(" need ")[1].split()[0]

    if groups * epochs > 1:
        least = int(needed(replace(config, budget_epochs=1)))
        assert least == groups * epochs
        kept, _, _ = plan_candidates(pool, replace(config, budget_epochs=least))
        assert len(kept) >= groups
    hours = float(needed(replace(config, budget_hours=1e-9), pace))
    assert hours <= 1.01 * groups * (epochs + 1) * seconds / 3600 / (1 - MARGIN)
    kept, _, _ = plan_candidates(pool, replace(config, budget_hours=hours), pace)
    assert len(kept) >= groups


def test_a_whole_search_within_its_budget(tmp_path):
    """The ledger's plan, not the setting, says how long rounds are; the audit agrees."""
    pool = [replace(c, group=place % 3) for place, c in enumerate(POOL[:30])]
    config = replace(CONFIG, budget_epochs=150)
    kept, record, _ = plan_candidates(pool, config)
    with Ledger(tmp_path, create=True) as ledger:
        ledger.start(kept, {"config": asdict(config), "plan": record})
        champions = drive(ledger, Invented(), tmp_path, progress=False)
        summary = summarize(ledger)
        found = audit(read_record(ledger))
    assert [(c["group"], c["epochs"]) for c in champions] == [(0, 20), (1, 20), (2, 20)]
    assert summary.round_epochs == record["round_epochs"] == 4
    assert record["epochs"]["least"] <= summary.epochs_done <= record["epochs"]["most"] <= 150
    assert abs(summary.epochs_done / summary.epochs_forecast - 1) <= 0.15
    assert found.decisions > 0
    assert found.difference is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget_epochs=5"], "champions in 2 groups need 6 at least"),
        (["--budget_epochs=0"], "budget_epochs=0: must be a number above 0"),
        (["--budget_hours=nan"], "budget_hours=nan: must be a finite number"),
        (["--budget_epochs=9", "--budget_hours=1"], "use one of them"),
        (["--max_params_m=0.001"], "no candidate is within the limits"),
    ],
)
def test_what_is_impossible_leaves_no_ledger(tmp_path, capsys, flags, said):
    command = ["search", "--base_resolution=8", "--groups=2", "--epochs=3", "--round_epochs=1"]
    assert cli.main([*command, *flags, f"--workdir={tmp_path}"]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / FILE_NAME).exists()


# -- repeats: noise measured with several seeds --------------------------------------------------


def test_repeats_are_of_the_median_candidate_of_every_group_that_is_cut():
    pool = [replace(c, group=place) for place, c in zip((0, 0, 0, 1), POOL, strict=False)]
    (median,) = sorted(pool[:3], key=lambda c: c.spec.macs)[1:2]
    assert choose_repeats(pool, SearchConfig(seeds=3)) == [
        Repeat(f"{median.name}-seed{seed}", median.name, seed) for seed in (1, 2)
    ]
    assert choose_repeats(pool, SearchConfig(seeds=1)) == []
    # Two more trainings up to the first elimination.
    once = forecast([[TrainingCost()] * 3, [TrainingCost()]], Schedule(2, 6))
    assert (
        forecast([[TrainingCost()] * 3, [TrainingCost()]], Schedule(2, 6), seeds=3).least
        == once.least + 4
    )


def test_a_candidate_with_the_name_of_a_repeat_is_refused():
    first, second, third = (replace(c, group=0) for c in POOL[:3])
    median = sorted((first, second, third), key=lambda c: c.spec.macs)[1]
    others = [c for c in (first, second, third) if c is not median]
    clash = replace(others[0], name=f"{median.name}-seed2")
    pool = [median, clash, others[1]]
    assert len(choose_repeats(pool, SearchConfig(seeds=2))) == 1
    with pytest.raises(
        UserError, match=f"seeds=3: candidate {clash.name} has the name of"
    ) as error:
        choose_repeats(pool, SearchConfig(seeds=3))
    assert str(error.value).endswith("rename it")


def test_the_noise_is_that_of_the_score_that_ranks():
    """`race`: half the best accuracy, half the train loss, in which these two agree."""
    schedule, names = Schedule(2, 50, "race"), ["a", "a-seed1"]
    scores = {"a": [0.1, 0.3, 0.4, 0.5], "a-seed1": [0.1, 0.3, 0.6, 0.7, 0.1]}
    losses = {"a": [2.0, 1.5, 1.0, 0.8], "a-seed1": [2.0, 1.5, 1.0, 0.8, 9.0]}
    found = pooled_noise([names], scores, losses, schedule, {})
    assert found == Noise(False, pytest.approx(0.1 / sqrt(2)))
    shorter = {**scores, "a": scores["a"][:3]}
    assert pooled_noise([names], shorter, losses, schedule, {}) == Noise(True, None)
    assert pooled_noise([names], shorter, losses, schedule, {"a": "nan"}) == Noise(False, None)


class Seeded(Invented):
    """Tells which seeds it was asked for."""

    def submit(self, slot, task):
        seeds.add((task.spec.name, task.seed))
        super().submit(slot, task)


seeds: set[tuple[str, int]] = set()
REPEATS = [Repeat("0b-seed1", "0b", 1), Repeat("1a-seed1", "1a", 1)]
FLAT = {"0a": 0.6, "0b": 0.5, "0c": 0.3, "0d": 0.1, "1a": 0.7, "1b": 0.2}


def repeated(workdir, executor, rule="average"):
    """Groups of four and of two in rounds of two epochs, two of them trained twice."""
    config = SearchConfig(round_epochs=2, rule=rule, train=TrainConfig(epochs=6))
    with ledger_of(workdir, {0: "abcd", 1: "ab"}, config, REPEATS) as ledger:
        champions = drive(ledger, executor, workdir, progress=False)
        assert audit(read_record(ledger)).difference is None
        assert summarize(ledger).finished
        return ledger.decisions(), ledger.epochs(), [c["name"] for c in champions]


def test_measured_noise_replaces_the_estimate(tmp_path):
    seeds.clear()
    executor = Seeded({**FLAT, "0b-seed1": 0.75, "1a-seed1": 0.7})
    decisions, epochs, champions = repeated(tmp_path, executor)
    assert champions == ["0a", "1a"]
    assert [len(epochs[r.name]) for r in REPEATS] == [2, 2]
    assert {("0b", 0), ("0b-seed1", 1), ("1a-seed1", 1)} <= seeds
    assert {d.candidate for d in decisions[0]} == {"0a", "0b", "0c", "0d"}
    # 0.5 and 0.75 have a variance of 1/32, 0.7 twice has none; pooled 1/64.
    first = {d.candidate: d for d in decisions[0] if d.round == 1}
    assert not any(first[name].close for name in ("0a", "0b", "0c", "0d"))  # 0.2 apart
    (second, third) = (d for d in decisions[0] if d.round == 2)
    assert second.close
    assert decision_text(third).endswith("too close to call: 0.1 apart, noise 0.12")
    with Ledger(tmp_path) as ledger:
        state = summarize(ledger)
    assert state.noise == pytest.approx(0.125)
    assert "measured noise of a score: 0.12\n" in as_text(state)


class Telling(Invented):
    """Its train losses know its accuracies."""

    def wait(self, on_event):
        super().wait(lambda slot, event: on_event(slot, telling(event)))


def telling(event):
    if not isinstance(event, EpochDone):
        return event
    loss = 2.0 * 0.8**event.result.epoch * (1.5 - event.result.validation_accuracy)
    return EpochDone(replace(event.result, train_loss=loss))


def test_a_running_search_measures_the_noise_of_the_score_that_ranks(tmp_path):
    decisions, _, _ = repeated(tmp_path, Telling({**FLAT, "0b-seed1": 0.75}), "race")
    with Ledger(tmp_path) as ledger:
        noise = summarize(ledger).noise
    assert any(decision_text(d).endswith(f"noise {noise:.2g}") for d in decisions[0])


def test_repeats_are_a_part_of_the_progress(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(Display, "show", lambda self, tasks, share: shares.append(share))
    config = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=2))
    with ledger_of(tmp_path, {0: "ab"}, config, [Repeat("0a-seed1", "0a", 1)]) as ledger:
        drive(ledger, Invented(), tmp_path, progress=False)
    known = [share for share in shares if share is not None]
    assert known == sorted(known)
    assert (len(set(known)), known[-1]) == (7, 1.0)  # three trainings of two epochs


def test_a_repeat_that_fails_does_not_count(tmp_path):
    executor = Invented({**FLAT, "0b-seed1": 0.7}, {"0b-seed1": 1, "1a-seed1": 0})
    decisions, _, champions = repeated(tmp_path, executor)
    assert champions == ["0a", "1a"]
    assert not any(d.close for own in decisions.values() for d in own)  # flat curves, no noise


def test_no_group_is_cut_before_the_noise_is_known(tmp_path):
    """Interrupted there, the search says that it goes on, and does."""
    executor = Invented(FLAT, refused="1a-seed1")
    with pytest.raises(UserError, match="no space"):
        repeated(tmp_path, executor)
    with Ledger(tmp_path) as ledger:
        assert ledger.decisions() == {}
        assert not summarize(ledger).finished
        assert [c["name"] for c in drive(ledger, Invented(FLAT), tmp_path, progress=False)] == [
            "0a",
            "1a",
        ]


@settings(deadline=None, max_examples=6)
@given(st.integers(2, 4), st.sampled_from(list(RULES)))
def test_repeats_on_several_workers(workers, rule):
    """The same decisions as with one, also where a worker is lost."""
    with TemporaryDirectory() as folder:
        found = [
            repeated(
                Path(folder) / str(slots),
                Simulated(slots, lambda name: 1.0 + len(name), lost),
                rule,
            )
            for slots, lost in ((1, ()), (workers, ((1, 3.5),)))
        ]
    (alone, _, champion), (together, _, champions) = found
    assert (repr(alone), champion) == (repr(together), champions)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "engine", "workers"),
    [
        (128, [], 1),  # eight steps an epoch
        (1100, [], 1),  # one
        (128, ["--workers=2"], 2),
        (128, ["--engine=ray", "--workers=2"], 2),
    ],
)
def test_a_real_search_within_hours(tmp_path, batch_size, engine, workers):
    if "--engine=ray" in engine:
        pytest.importorskip("ray")
    flags = [*SEARCH_FLAGS, "--max_candidates=4", "--epochs=2", "--rule=race", "--seeds=2"]
    flags += [f"--batch_size={batch_size}", "--noexport"]
    done = elite("search", *flags, *engine, "--budget_hours=1", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "of training" in done.stderr
    with Ledger(tmp_path) as ledger:
        meta, spent, repeats = ledger.meta(), ledger.timings(), ledger.repeats()
        trained = sum(map(len, ledger.epochs().values()))
        assert audit(read_record(ledger)).difference is None
    recorded = meta["plan"]
    assert recorded["candidates"] == 4
    assert recorded["workers"] == recorded["pace"]["workers"] == workers
    assert recorded["epochs"]["least"] <= trained <= recorded["epochs"]["most"]
    assert {repeat.seed for repeat in repeats} == {1}
    # This machine may be busy: the order of magnitude, no more.
    seconds = spent["training"] + spent["graph building"]
    assert recorded["seconds"]["least"] / 5 < seconds < 5 * recorded["seconds"]["most"]
