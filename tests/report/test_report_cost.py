"""The report on plan, cost and noise."""

from __future__ import annotations

import json
from statistics import stdev

import pytest

from efficientnet_elite import report
from efficientnet_elite.report.bracket import bracket
from efficientnet_elite.report.cost import ForecastCheck
from efficientnet_elite.search.budget import Forecast, Pace
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.search.tournament import Halt
from tests.support.reports import group_of, rounds_of, search, texts, unillustrated

# -- costs -----------------------------------------------------------------------------------------


def test_costs_by_hand(tmp_path):
    search(tmp_path, groups=1, size=3)
    first, total = report.gather(tmp_path).costs
    members = group_of(tmp_path).members
    # Three for one epoch, two for another, the champion for the two that are left.
    assert first.epochs_forecast == Forecast(7, 7)
    assert first.epochs_trained == 7
    assert (first.epochs_left, first.epochs_off) == (0, 0.0)
    low, middle, high = sorted(m.macs for m in members)
    assert first.work_forecast.least == low + middle + high + low + middle + 2 * low
    assert first.work_forecast.most == low + middle + high + high + middle + 2 * high
    assert first.work_trained == sum(m.macs * m.epochs_done for m in members)
    assert first.work_forecast.least <= first.work_trained <= first.work_forecast.most
    assert first.work_off == pytest.approx(first.work_trained / first.work_forecast.expected - 1)
    assert first.seconds == 14.0  # two an epoch
    assert (total.group, total.epochs_trained, total.work_off) == (None, 7, first.work_off)


def test_costs_of_a_failure_and_of_a_running_search(tmp_path):
    search(tmp_path, groups=2, size=2, budget=3)
    before = report.gather(tmp_path).costs
    assert [(c.epochs_forecast.most, c.epochs_trained, c.epochs_left) for c in before] == [
        (5, 2, 3), (5, 1, 4), (10, 3, 7)
    ]  # fmt: skip
    assert [c.work_off for c in before] == [None] * 3
    with Ledger(tmp_path) as ledger:
        for member in summarize(ledger).groups[1].members:
            ledger.record_failure(member.name, 2, "out of memory")
    after = report.gather(tmp_path).costs
    assert (after[1].epochs_left, after[1].epochs_off) == (0, pytest.approx(1 / 5 - 1))


def test_repeats_cost_too(tmp_path):
    search(tmp_path, groups=2, size=3, seeds=3)
    contents = report.gather(tmp_path)
    first, _, total = contents.costs
    # Seven epochs of the candidates, and two repeats of one of them for an epoch each.
    assert (first.repeats, first.epochs_forecast, first.epochs_trained) == (2, Forecast(9, 9), 9)
    assert (first.epochs_left, first.epochs_off, first.seconds) == (0, 0.0, 18.0)
    (epochs,) = contents.forecast_checks
    assert (epochs.least, epochs.most) == (total.epochs_forecast.least, total.epochs_forecast.most)
    assert (epochs.spent, epochs.left, epochs.verdict) == (18, 0, "within")
    median = sorted(m.macs for m in group_of(tmp_path).members)[1]
    assert first.work_trained == 2 * median + sum(
        m.macs * m.epochs_done for m in group_of(tmp_path).members
    )
    page = unillustrated(tmp_path)
    assert "Forecast: 18 epochs; actual: 18, as forecast." in page.text
    assert "Repeats" in page.text


def test_repeats_that_are_to_come_are_left_to_train(tmp_path):
    search(tmp_path, groups=1, size=2, seeds=2, budget=0)
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("DELETE FROM epochs")
        name = ledger.repeats()[0].name
        assert report.gather(tmp_path).costs[0].epochs_left == 6
        ledger.record_failure(name, 1, "diverged")
        assert report.gather(tmp_path).costs[0].epochs_left == 5


# -- plan ------------------------------------------------------------------------------------------


def test_a_forecast_in_hours_is_compared_with_training_and_building(tmp_path):
    """Not with the clock, which began before and which several workers share."""
    pace = Pace(epoch=2.0, per_mac=0.0, build=10.0)
    search(tmp_path, groups=1, size=3, pace=pace, budget_hours=1.0)
    with Ledger(tmp_path) as ledger:
        ledger.record_elapsed(90.0)
        ledger._db.execute("DELETE FROM timings")
        ledger.record_timing("graph building", "g0a", 30.0)
        ledger.record_timing("export", "g0a", 500.0)
    _, seconds = report.gather(tmp_path).forecast_checks
    assert (seconds.least, seconds.most, seconds.budget) == (44.0, 44.0, 3600.0)
    assert (seconds.spent, seconds.left, seconds.verdict) == (44.0, 0.0, "within")
    assert seconds.clock == 90.0
    told = (
        "Forecast: 44 s of training on one worker, within a budget of 1 h 00 min; actual: 44 s, as "
        "forecast. The search took 1 min 30 s of wall-clock time, including the preparation before "
        "training"
    )
    assert told in unillustrated(tmp_path).text


@pytest.mark.parametrize(
    ("spent", "left", "verdict"),
    [(9, 0, "below"), (10, 0, "within"), (20, 0, "within"), (21, 0, "above"), (21, 3, "above"),
     (15, 3, None), (15, None, None)],
)  # fmt: skip
def test_verdict_on_a_forecast(spent, left, verdict):
    assert ForecastCheck("epochs", 10, 20, None, spent, left).verdict == verdict


def test_what_a_budget_has_changed_is_told(tmp_path):
    search(tmp_path, groups=1, size=3, budget=2)
    with Ledger(tmp_path) as ledger:
        plan = ledger.meta()["plan"] | {"candidates_left_out": 4}
        config = ledger.meta()["config"] | {"round_epochs": 3, "budget_epochs": 9}
        for key, value in (("plan", plan), ("config", config)):
            ledger._db.execute("UPDATE meta SET value=? WHERE key=?", (json.dumps(value), key))
    page = unillustrated(tmp_path)
    assert "Forecast: 7 epochs, within a budget of 9; actual: 2 so far, and about 5" in page.text
    assert "keep the budget: rounds of 1 epochs instead of 3, 4 candidates left out." in page.text


def test_time_was_up(tmp_path):
    search(tmp_path, groups=2, size=3, budget=4, seeds=2)
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("DELETE FROM epochs WHERE candidate IN (SELECT name FROM replicas)")
        ledger.record_halt(0, Halt(1, 1, None))
        ledger.record_halt(1, Halt(1, 0, 3))
    contents = report.gather(tmp_path)
    assert sum(cost.epochs_left for cost in contents.costs[:2]) == contents.summary.epochs_left
    page = unillustrated(tmp_path)
    assert "Group 0: the tournament was ended in round 1." in page.text
    assert (
        "Group 1: the tournament was ended in round 1, the champion was trained for 3" in page.text
    )
    tables = json.loads(report.write_data(tmp_path).read_text())["tables"]
    assert [list(line.values()) for line in tables["halts"]["rows"]] == [
        [0, 1, 1, None],
        [1, 1, 0, 3],
    ]
    # Nobody has a score there, but neither has anybody failed.
    drawn = texts(bracket(group_of(tmp_path, 1), rounds_of(group_of(tmp_path, 1))))
    assert "failed" not in drawn
    assert ("class", "failed") not in page.attributes


# -- noise -----------------------------------------------------------------------------------------


def test_measured_noise_is_shown_with_its_trainings(tmp_path):
    search(tmp_path, groups=1, size=3, seeds=3)
    contents = report.gather(tmp_path)
    middle = contents.trainings[0].candidate
    assert [(r.candidate, r.seed, r.epoch) for r in contents.trainings] == [
        (middle, seed, 1) for seed in range(3)
    ]
    scores = [repeat.score for repeat in contents.trainings]
    assert contents.summary.noise == pytest.approx(stdev(scores))
    page = unillustrated(tmp_path)
    told = f"measured: {100 * stdev(scores):.2f} points, by 3 trainings of 1 network"
    assert told in page.text
    assert all(f"{100 * score:.2f}" in page.text for score in scores)


def test_the_trainings_have_the_scores_that_make_the_noise(tmp_path):
    """Also where these are not of accuracies alone."""
    search(tmp_path, groups=1, size=3, seeds=3, rule="race")
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("UPDATE epochs SET train_loss = 1.5 - validation_accuracy")
    found = report.gather(tmp_path)
    scores = [repeat.score for repeat in found.trainings]
    accuracies = [found.epochs[repeat.name][0].validation_accuracy for repeat in found.trainings]
    assert scores != pytest.approx(accuracies, abs=1e-4)  # the level after one epoch
    assert found.summary.noise == pytest.approx(stdev(scores))


def test_noise_that_is_not_known_yet(tmp_path):
    search(tmp_path, groups=1, size=3, seeds=2)
    with Ledger(tmp_path) as ledger:
        (repeat,) = ledger.repeats()
        ledger._db.execute("DELETE FROM epochs WHERE candidate=?", (repeat.name,))
    contents = report.gather(tmp_path)
    assert [repeat.score is None for repeat in contents.trainings] == [False, True]
    page = unillustrated(tmp_path)
    assert "The noise of a score is being measured: 1 of 2 trainings" in page.text
    with Ledger(tmp_path) as ledger:
        ledger.record_failure(repeat.name, 1, "diverged")
    page = unillustrated(tmp_path)
    assert "No two trainings of one network reached the first elimination" in page.text
    assert "failed: diverged" in page.text
