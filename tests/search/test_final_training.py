"""The final training of champions: `--final_epochs`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from efficientnet_elite import data as data_lib
from efficientnet_elite import report
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.report.cost import group_costs
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.budget import TooSmallError, TrainingCost, forecast, plan_search
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.local import LocalExecutor
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.executors.protocol import EpochDone, WorkItem
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.planning import choose_repeats, plan_candidates
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.search.summary_text import as_text
from efficientnet_elite.search.tournament import Halt, Pending, standing
from efficientnet_elite.search.workdir import checkpoint_path
from tests.support.invented import POOL, Invented, ledger_of
from tests.support.searches import killed_after, outcome, searched
from tests.support.tiny_training import SPEC

SCHEDULE = Schedule(4, 12, "last", final_epochs=20)


def judged(a=4, b=4, final=0, own=0, failed=(), schedule=SCHEDULE, **options):
    """Where the candidates a and b stand after so many epochs; b is better."""
    scores = {"a": [0.2] * a, "b": [0.8] * (own or b), "b-final": [0.9] * final}
    return standing("ab", scores, schedule, failed=dict.fromkeys(failed, "diverged"), **options)


def test_it_follows_the_tournament_and_is_what_is_exported():
    racing = judged(b=3)
    assert (racing.champion, racing.training) == (None, None)
    begun = judged()
    assert begun.pending == (Pending("b", 20, final=True),)
    assert begun.pending[0].training == begun.training == "b-final"
    assert begun.decisions == judged(schedule=replace(SCHEDULE, final_epochs=0)).decisions
    done = judged(final=20)
    assert done.finished and done.champion == "b" and done.final
    alone = standing("a", {}, SCHEDULE)
    assert alone.pending == (Pending("a", 20, final=True),)


def test_where_it_fails_the_training_of_the_search_goes_on():
    lost = judged(final=7, failed=["b-final"])
    assert lost.pending == (Pending("b", 12),) and not lost.final
    done = judged(final=7, own=12, failed=["b-final"])
    assert (done.finished, done.training) == (True, "b")
    successor = judged(final=7, own=8, failed=["b-final", "b"])
    assert successor.pending == (Pending("a", 20, final=True),)


def test_when_time_is_up_it_ends_where_it_is():
    ended = judged(final=7, halt=Halt(end=7))
    assert (ended.finished, ended.training) == (True, "b-final")
    assert judged(halt=Halt(end=1)).pending == (Pending("b", 1, final=True),)
    assert judged(final=7, halt=Halt(end=7), failed=["b-final"]).training == "b-final"


def test_its_int8_accuracy_is_measured():
    waiting = judged(final=20, a=12, own=12, int8={"a": {}, "b": {}}, schedule=SCHEDULE)
    assert [need.int8 for need in waiting.pending] == [True, True]  # the round before
    alone = standing("a", {"a-final": [0.5] * 20}, SCHEDULE, int8={})
    assert alone.pending == (Pending("a", 20, int8=True, final=True),)
    assert alone.pending[0].training == "a-final"


# -- whole searches --------------------------------------------------------------------------------

GROUPS = {0: "abcd", 1: "ab", 2: "abc", 3: "a"}
CONFIG = SearchConfig(rule="average", round_epochs=4, train=TrainConfig(epochs=16), final_epochs=24)


def search(workdir, executor, config=CONFIG, **options):
    return searched(workdir, executor, GROUPS, config, **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return search(workdir, Invented()), workdir


def test_champions_are_trained_once_more(undisturbed, tmp_path):
    found, workdir = undisturbed
    without = search(tmp_path, Invented(), replace(CONFIG, final_epochs=0))
    assert found["decisions"] == without["decisions"]
    champions = [entry["name"] for entry in found["champions"]]
    assert champions == [entry["name"] for entry in without["champions"]]
    assert not any("training" in entry for entry in without["champions"])
    for entry in found["champions"]:
        assert (entry["training"], entry["epochs"]) == (f"{entry['name']}-final", 24)
        last = found["epochs"][entry["training"]][-1]
        assert entry["validation_accuracy"] == last.validation_accuracy
        assert checkpoint_path(workdir, entry["training"]).is_file()
    assert "3a" not in found["epochs"], "alone in its group, it has nothing to win"
    with Ledger(workdir) as ledger:
        record, summary = read_record(ledger), summarize(ledger)
        group = read_record(ledger, [1])
    assert audit(record).difference is None
    assert {"1a", "1b"} < group.epochs.keys() and any("final" in n for n in group.epochs)
    trained = sum(map(len, record.epochs.values()))
    assert (summary.finished, summary.epochs_done, summary.progress) == (True, trained, 1.0)
    assert as_text(summary).count("24/24") == len(GROUPS)
    costs = group_costs(summary, record.schedule, record.epochs, record.repeats, record.further)
    assert costs[-1].epochs_trained == trained
    for cost in costs:
        assert cost.epochs_forecast.least <= cost.epochs_trained <= cost.epochs_forecast.most


def test_workers_and_crashes_change_nothing(undisturbed, tmp_path):
    log, deadly = tmp_path / "log", undisturbed[0]["champions"][0]["training"]
    make = Invented(log=log, deadly={deadly: 2}, deaths=2)
    assert search(tmp_path, ProcessPool(make, 2, tmp_path)) == undisturbed[0]
    trained = [line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()]
    assert len(trained) == len(set(trained))


@pytest.mark.parametrize("after", [10, 60, 120])
def test_a_killed_search_goes_on(undisturbed, tmp_path, after):
    killed_after(after, tmp_path, GROUPS, CONFIG)
    with Ledger(tmp_path) as ledger:
        before = summarize(ledger)
        assert 0 < before.progress < 1 and before.epochs_left > 0
        drive(ledger, Invented(), tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed[0]


def test_a_lost_checkpoint_is_trained_again(undisturbed, tmp_path):
    search(tmp_path, Invented())
    champion = undisturbed[0]["champions"][0]
    checkpoint_path(tmp_path, champion["name"]).unlink()  # needed no longer
    log = tmp_path / "log"
    checkpoint_path(tmp_path, champion["training"]).unlink()
    with Ledger(tmp_path) as ledger:
        drive(ledger, Invented(log=log), tmp_path, progress=False)
    assert {line.split()[0] for line in log.read_text().splitlines()} == {champion["training"]}
    assert outcome(tmp_path) == undisturbed[0]


def test_a_final_training_that_fails(undisturbed, tmp_path):
    champion, said = undisturbed[0]["champions"][0], []
    broken = Invented(failing={champion["training"]: 5})
    found = search(tmp_path, broken, on_message=said.append)
    assert f"{champion['training']} has failed and does not count" in said[0]
    own = found["champions"][0]
    assert (own["name"], own["epochs"], "training" in own) == (champion["name"], 16, False)
    with Ledger(tmp_path) as ledger:
        assert audit(read_record(ledger)).difference is None
        assert summarize(ledger).finished


def test_the_report_tells_of_it(undisturbed):
    _, workdir = undisturbed
    with Ledger(workdir, create=True) as ledger:
        data = {"name": "digits", "labels": [], "sizes": {}, "skipped": [], "fingerprint": ""}
        ledger.replace_meta("data", data)
        assert schedule_of(ledger.meta()).final_epochs == 24
    tables = json.loads(report.write_data(workdir).read_text(encoding="utf-8"))["tables"]
    finals = {line["repeat"] for line in tables["repeat_curves"]["rows"]}
    assert finals == {entry["training"] for entry in undisturbed[0]["champions"]}


def test_ledgers_of_versions_without_it(tmp_path):
    with ledger_of(tmp_path, GROUPS, CONFIG) as ledger:
        recorded = ledger.meta()["config"]
        del recorded["final_epochs"]
        ledger.replace_meta("config", recorded)
        assert schedule_of(ledger.meta()).final_epochs == 0
        assert SearchConfig.from_dict(recorded).final_epochs == 0


# -- plans -----------------------------------------------------------------------------------------


def test_budgets_count_it():
    schedule = Schedule(4, 12, "average", final_epochs=20)
    entrants = [(0, TrainingCost(1.0, once=1.0))] * 4  # 4 x 4, 2 x 4, 20; graphs: 4 and 1
    made = plan_search(entrants, schedule, 49)
    assert (made.schedule, made.count, made.forecast.least) == (schedule, 4, 49)
    assert plan_search(entrants, schedule, 48).count == 3
    with pytest.raises(TooSmallError) as error:
        plan_search(entrants, schedule, 21)
    assert error.value.least == 22  # its own graph is built at most
    two = forecast([[TrainingCost()] * 4], schedule, workers=2)
    assert two.least == pytest.approx(max(44 / 2, 20))
    assert two.most == pytest.approx(44 / 2 + (12 + 20) / 2)


def test_plans_and_what_is_refused():
    candidates = [replace(member, group=0) for member in POOL[:4]]
    assert plan_candidates(candidates, CONFIG)[2] == "forecast: 48 epochs"
    for epochs in (5, 16):
        with pytest.raises(UserError, match=f"final_epochs={epochs}: must be more than epochs=16"):
            plan_candidates(candidates, replace(CONFIG, final_epochs=epochs))
    with pytest.raises(UserError, match=r"need 24 at least: .* or --final_epochs"):
        plan_candidates(candidates, replace(CONFIG, budget_epochs=20))
    first = POOL[0]
    named = replace(POOL[1], name=f"{first.name}-final")
    with pytest.raises(UserError, match=f"final_epochs=24: candidate {named.name} has the name"):
        choose_repeats([first, named], replace(CONFIG, seeds=1, final_epochs=24))


# -- the training ----------------------------------------------------------------------------------


def test_its_learning_rates_are_those_of_its_length(tmp_path):
    """The same weights as of a training whose recipe has that length."""
    data = data_lib.load(DataConfig(), max_side=24, progress=False)
    spec = replace(SPEC, name="tiny-final")

    def losses(length, **asked):
        config = TrainConfig(epochs=length, batch_size=512, schedule="cosine", warmup_epochs=0)
        executor, events = LocalExecutor(config, data, base_resolution=16, seed=3), []
        path = tmp_path / f"{length}.npz"
        executor.submit(0, WorkItem(spec, 0, 2, path, **asked))
        executor.wait(lambda slot, event: events.append(event))
        return [event.result.train_loss for event in events if isinstance(event, EpochDone)]

    assert losses(2, epochs=5) == losses(5)
