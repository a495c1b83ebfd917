"""Second trainings of finalists that are too close to call."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from efficientnet_elite import report
from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.report.cost import group_costs
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.budget import TrainingCost, plan_search
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.planning import choose_repeats, plan_candidates
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.search.summary_text import as_text
from efficientnet_elite.search.tournament import Pending, standing
from tests.support import reports
from tests.support.invented import POOL, Invented, ledger_of
from tests.support.searches import killed_after, outcome, searched

SCHEDULE = Schedule(4, 12, "last", finalist_seed=1)
UNSTEADY = [0.4, 0.5, 0.4]  # second differences of 0.2: the noise is 0.12


def judged(schedule=SCHEDULE, failed=(), **last):
    """Where the candidates a and b stand that have these accuracies after four epochs."""
    scores = {name.replace("_", "-"): [*UNSTEADY, value] for name, value in last.items()}
    return standing("ab", scores, schedule, failed=dict.fromkeys(failed, "diverged"))


def test_both_are_trained_again_and_the_mean_decides():
    close = judged(a=0.50, b=0.52)
    assert close.pending == (Pending("a", 4, seed=1), Pending("b", 4, seed=1))
    assert [need.training for need in close.pending] == ["a-seed1", "b-seed1"]
    assert not close.decisions and not close.finished
    half = judged(a=0.50, b=0.52, b_seed1=0.40)
    assert half.pending == (Pending("a", 4, seed=1),)
    decided = judged(a=0.50, b=0.52, a_seed1=0.56, b_seed1=0.40)
    assert decided.champion == "a"
    first, second = decided.decisions
    assert (first.score, second.score) == (pytest.approx(0.53), pytest.approx(0.46))
    assert (first.trainings, second.trainings) == (2, 2)
    assert decision_text(first).startswith("accuracy of epoch 4, mean of 2 trainings, ranks 1 of 2")
    alone = judged(replace(SCHEDULE, finalist_seed=None), a=0.50, b=0.52).decisions[0]
    assert first.noise < alone.noise, "the noise of a mean is smaller"


def test_what_is_clear_needs_no_second_training():
    clear = judged(a=0.20, b=0.80)
    assert (clear.champion, clear.decisions[0].trainings) == ("b", None)


def test_after_the_whole_training_its_result_decides():
    assert judged(Schedule(4, 4, "last", finalist_seed=1), a=0.50, b=0.52).champion == "b"


def test_where_a_second_training_fails_the_first_ones_decide():
    found = judged(failed=["a-seed1"], a=0.50, b=0.52, b_seed1=0.40)
    assert (found.champion, found.decisions[0].trainings) == ("b", None)


def test_who_was_judged_by_two_remains_so():
    """Under `race` two that are close stay two; later they may not look close by one alone."""
    schedule = Schedule(4, 20, "race", 4, finalist_seed=1)
    names = ("a", "b", "a-seed1", "b-seed1")
    scores = {name: [*UNSTEADY, 0.5] for name in names}
    losses = {name: [2.0, 1.5, 1.2, 1.0] for name in names}
    kept = standing("ab", scores, schedule, losses=losses)
    assert [d.trainings for d in kept.decisions] == [2, 2]
    assert kept.pending == (Pending("a", 8), Pending("b", 8))
    scores |= {"a": [*UNSTEADY, 0.5, 0.9, 0.9, 0.9, 0.9], "b": [*UNSTEADY, 0.5, 0.1, 0.1, 0.1, 0.1]}
    losses |= {"a": [*losses["a"], 0.1, 0.1, 0.1, 0.1], "b": [*losses["b"], 1, 1, 1, 1]}
    later = standing("ab", scores, schedule, losses=losses)
    assert later.pending == (Pending("a", 8, seed=1), Pending("b", 8, seed=1))


# -- whole searches --------------------------------------------------------------------------------

GROUPS = {0: "abcd", 1: "ab", 2: "abc", 3: "a"}
CONFIG = SearchConfig(
    rule="average", round_epochs=4, train=TrainConfig(epochs=16), finalist_seeds=2
)


def search(workdir, executor, config=CONFIG, groups=GROUPS, **options):
    return searched(workdir, executor, groups, config, **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return search(workdir, Invented()), workdir


def test_a_search_trains_finalists_twice(undisturbed):
    found, workdir = undisturbed
    second = {name: len(epochs) for name, epochs in found["epochs"].items() if "-seed1" in name}
    judged = [d for ds in found["decisions"].values() for d in ds if d.trainings == 2]
    assert judged and len(second) == len(judged)
    assert second == {f"{d.candidate}-seed1": d.epoch for d in judged}
    own = {name: epochs for name, epochs in found["epochs"].items() if name not in second}
    assert own.keys() == {f"{g}{letter}" for g, letters in GROUPS.items() for letter in letters}
    champions = [entry["name"] for entry in found["champions"]]
    assert not set(champions) & second.keys()
    with Ledger(workdir) as ledger:
        record, summary = read_record(ledger), summarize(ledger)
        assert audit(record).difference is None
        groups = read_record(ledger, [0, 1])
    assert groups.epochs == {n: e for n, e in record.epochs.items() if n[0] in "01"}
    trained = sum(map(len, record.epochs.values()))
    assert (summary.finished, summary.epochs_done, summary.progress) == (True, trained, 1.0)
    costs = group_costs(summary, record.schedule, record.epochs, record.repeats, record.further)
    assert costs[-1].epochs_trained == trained
    for cost in costs:
        assert cost.epochs_forecast.least <= cost.epochs_trained <= cost.epochs_forecast.most


def test_workers_and_crashes_change_nothing(undisturbed, tmp_path):
    second = next(name for name in undisturbed[0]["epochs"] if name.endswith("-seed1"))
    log = tmp_path / "log"
    make = Invented(log=log, deadly={second: 2}, deaths=2)
    assert search(tmp_path, ProcessPool(make, 2, tmp_path)) == undisturbed[0]
    trained = [line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()]
    assert len(trained) == len(set(trained))


@pytest.mark.parametrize("after", [10, 30, 45, 60])
def test_a_killed_search_goes_on(undisturbed, tmp_path, after):
    killed_after(after, tmp_path, GROUPS, CONFIG)
    with Ledger(tmp_path) as ledger:
        assert 0 < summarize(ledger).progress < 1
        drive(ledger, Invented(), tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed[0]


def test_a_second_training_that_fails(undisturbed, tmp_path):
    second = next(name for name in undisturbed[0]["epochs"] if name.endswith("-seed1"))
    said = []
    found = search(tmp_path, Invented(failing={second: 1}), on_message=said.append)
    assert f"{second} has failed and does not count" in said[0]
    group = int(second[0])
    assert all(d.trainings is None for d in found["decisions"][group])
    assert any(entry["group"] == group for entry in found["champions"])
    with Ledger(tmp_path) as ledger:
        assert audit(read_record(ledger)).difference is None


def test_ledgers_of_versions_without_finalists(tmp_path):
    """They have no such setting, and are judged as they were."""
    config = replace(CONFIG, finalist_seeds=1)
    with ledger_of(tmp_path, GROUPS, config) as ledger:
        recorded = ledger.meta()["config"]
        del recorded["finalist_seeds"]
        ledger.replace_meta("config", recorded)
        assert schedule_of(ledger.meta()).finalist_seed is None
        assert SearchConfig.from_dict(recorded).finalist_seeds == 1
        drive(ledger, Invented(), tmp_path, progress=False)
    assert not any("seed" in name for name in outcome(tmp_path)["epochs"])


def test_the_report_tells_of_second_trainings(tmp_path):
    names = reports.search(
        tmp_path,
        groups=1,
        size=8,
        epochs=6,
        accuracy=lambda place, epoch: 0.5 + 0.1 * ((epoch + place) % 2),
        finalist_seeds=2,
    )
    page = report.write_page(tmp_path).read_text(encoding="utf-8")
    assert "mean of 2 trainings, ranks 1 of 2" in page
    assert "have a second training, with another seed" in page
    tables = json.loads(report.write_data(tmp_path).read_text(encoding="utf-8"))["tables"]
    second = {(line["repeat"], line["candidate"]) for line in tables["repeat_curves"]["rows"]}
    assert len(second) == 2 and (f"{names[0]}-seed1", names[0]) in second
    assert {line["trainings"] for line in tables["decisions"]["rows"]} == {None, 2}
    with Ledger(tmp_path) as ledger:
        trained = sum(map(len, ledger.epochs().values()))
        text = as_text(summarize(ledger))
    assert tables["costs"]["rows"][-1]["epochs_trained"] == trained
    assert f"finished: {trained} epochs trained" in text


def test_a_budget_leaves_out_second_trainings_before_candidates():
    schedule = Schedule(5, 16, "average", finalist_seed=1)
    entrants = [(0, TrainingCost())] * 4  # 4 x 5, 2 x 5, 6; and 2 x 10 of finalists
    assert plan_search(entrants, schedule, 56).schedule == schedule
    assert plan_search(entrants, schedule, 56).forecast.most == 56
    made = plan_search(entrants, schedule, 55)  # 4 x 4, 2 x 4, 8; and 2 x 8
    assert (made.schedule, made.forecast.most) == (replace(schedule, round_epochs=4), 48)
    made = plan_search(entrants, schedule, 47)  # without them, there is room for longer rounds
    assert (made.schedule, made.count) == (replace(schedule, finalist_seed=None), 4)


def test_the_plan_says_so():
    candidates = [replace(member, group=0) for member in POOL[:4]]
    config = replace(CONFIG, budget_epochs=47)
    _, plan, text = plan_candidates(candidates, config)
    assert plan["finalist_seeds"] == 1
    assert text == "forecast: 32 epochs; to keep the budget: one training of each finalist"
    _, plan, text = plan_candidates(candidates, CONFIG)
    assert (plan["finalist_seeds"], text) == (2, "forecast: 32 to 48 epochs")


def test_a_candidate_with_the_name_of_a_second_training_is_refused():
    first = POOL[0]
    named = replace(POOL[1], name=f"{first.name}-seed1")
    with pytest.raises(UserError, match=f"finalist_seeds=2: candidate {named.name} has the name"):
        choose_repeats([first, named], CONFIG)
    assert choose_repeats([first, named], SearchConfig()) == []
