"""Finalists that are cross-validated: `--validation=crossfit`."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from efficientnet_elite import report
from efficientnet_elite.config import CROSSFIT, FOLDS, DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.report.cost import group_costs
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.executors.local import LocalExecutor
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.executors.protocol import EpochDone, WorkItem
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.planning import choose_repeats, plan_candidates
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.search.tournament import Pending, standing
from tests.support import reports
from tests.support.invented import POOL, Invented, ledger_of
from tests.support.searches import outcome, searched

SCHEDULE = Schedule(4, 12, "last", finalist_seed=1, folds=3)
GROUPS = {0: "abc", 1: "ab"}
CONFIG = SearchConfig(
    rule="average",
    round_epochs=4,
    train=TrainConfig(epochs=16),
    data=DataConfig(validation=CROSSFIT),
)


def judged(**last):
    """Where the candidates a and b stand that have these accuracies after four epochs."""
    scores = {name.replace("_", "-"): [0.4, 0.5, 0.4, value] for name, value in last.items()}
    return standing("ab", scores, SCHEDULE)


def test_each_further_fold_is_a_training_and_the_mean_decides():
    close = judged(a=0.50, b=0.52)
    assert close.pending == tuple(
        Pending(name, 4, seed=fold, fold=fold) for name in "ab" for fold in (1, 2)
    )
    assert [need.training for need in close.pending] == [
        *("a-fold1", "a-fold2"),
        *("b-fold1", "b-fold2"),
    ]
    found = judged(a=0.50, b=0.52, a_fold1=0.56, a_fold2=0.53, b_fold1=0.5, b_fold2=0.42)
    first, second = found.decisions
    assert (found.champion, first.score, second.score) == (
        "a",
        pytest.approx(0.53),
        pytest.approx(0.48),
    )
    assert first.trainings == 3
    assert "mean of 3 trainings, ranks 1 of 2" in decision_text(first)


def search(workdir, executor, **options):
    return searched(workdir, executor, GROUPS, CONFIG, validation_images=60, **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return search(workdir, Invented()), workdir


def test_a_search_trains_each_finalist_once_for_each_fold(undisturbed):
    found, workdir = undisturbed
    further = {name: len(epochs) for name, epochs in found["epochs"].items() if "-fold" in name}
    judged = [d for ds in found["decisions"].values() for d in ds if d.trainings]
    assert judged and {d.trainings for d in judged} == {FOLDS}
    assert further == {
        f"{d.candidate}-fold{fold}": d.epoch for d in judged for fold in range(1, FOLDS)
    }
    with Ledger(workdir) as ledger:
        record, summary = read_record(ledger), summarize(ledger)
    assert audit(record).difference is None
    assert (summary.finished, summary.progress) == (True, 1.0)
    assert summary.epochs_done == sum(map(len, record.epochs.values()))
    costs = group_costs(summary, record.schedule, record.epochs, record.repeats, record.further)
    for cost in costs:
        assert cost.epochs_forecast.least <= cost.epochs_trained <= cost.epochs_forecast.most


def test_progress_counts_all_folds_that_are_waited_for(undisturbed, tmp_path):
    class Stop(Exception):
        pass

    left = []

    def look(epoch):
        if "-fold" in epoch.candidate:
            with Ledger(tmp_path) as ledger:
                left.append(summarize(ledger).epochs_left)
            if len(left) == 3:
                raise Stop

    with pytest.raises(Stop):
        search(tmp_path, Invented(), on_recorded=look)
    assert [before - after for before, after in pairwise(left)] == [1, 1]
    with Ledger(tmp_path) as ledger:  # and what was interrupted goes on
        drive(ledger, Invented(), tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed[0]


def test_workers_and_deaths_change_nothing(undisturbed, tmp_path):
    fold = next(name for name in undisturbed[0]["epochs"] if name.endswith("-fold3"))
    log = tmp_path / "log"
    make = Invented(log=log, deadly={fold: 2}, deaths=2)
    assert search(tmp_path, ProcessPool(make, 2, tmp_path)) == undisturbed[0]


def test_a_budget_leaves_out_folds_before_candidates():
    candidates = [replace(member, group=0) for member in POOL[:4]]
    _, plan, text = plan_candidates(candidates, CONFIG)
    assert (plan["finalist_seeds"], text) == (FOLDS, "forecast: 32 to 96 epochs")
    config = replace(CONFIG, budget_epochs=47)
    _, plan, text = plan_candidates(candidates, config)
    assert (plan["finalist_seeds"], plan["candidates"]) == (1, 4)
    assert text.endswith("to keep the budget: one training of each finalist")


def test_settings_that_do_not_go_together():
    with pytest.raises(UserError, match="finalist_seeds=2 and validation=crossfit: use one"):
        replace(CONFIG, finalist_seeds=2)
    named = replace(POOL[1], name=f"{POOL[0].name}-fold4")
    with pytest.raises(
        UserError, match=f"validation=crossfit: candidate {named.name} has the name"
    ):
        choose_repeats([POOL[0], named], CONFIG)


def test_the_ledger_of_a_search_says_that_it_cross_validates(tmp_path):
    with ledger_of(tmp_path, GROUPS, CONFIG) as ledger:
        assert schedule_of(ledger.meta()).further == FOLDS - 1
    with ledger_of(tmp_path / "plain", GROUPS, SearchConfig()) as ledger:
        assert schedule_of(ledger.meta()).further == 0


def test_the_report_tells_of_folds(tmp_path):
    reports.search(
        tmp_path,
        groups=1,
        size=8,
        epochs=6,
        accuracy=lambda place, epoch: 0.5 + 0.1 * ((epoch + place) % 2),
        validation=CROSSFIT,
    )
    page = report.write_page(tmp_path).read_text(encoding="utf-8")
    assert "mean of 5 trainings, ranks 1 of 2" in page
    assert "have 4 further trainings, each validated by another fold, where" in page


@pytest.mark.slow  # two real trainings
def test_an_executor_trains_on_the_images_of_the_fold(tmp_path):
    """Its epochs are those of a data set whose parts are those of the fold."""
    from efficientnet_elite import data as data_lib

    images = data_lib.load(DataConfig(validation=CROSSFIT), max_side=12, progress=False)
    blocks = (ConvBlock("stem", 4, stride=2), Classifier("p", 10))
    train = TrainConfig(epochs=1, batch_size=256)

    def trained(data, fold):
        executor = LocalExecutor(train, data, base_resolution=8, seed=0)
        name = f"{data.sizes['validation']}-{fold}"
        spec = ArchSpec(name, (8, 8, 3), blocks)
        executor.submit(0, WorkItem(spec, 0, 1, tmp_path / f"{name}.ckpt", seed=1, fold=fold))
        events = []
        executor.wait(lambda slot, event: events.append(event))
        (epoch,) = (event.result for event in events if isinstance(event, EpochDone))
        return epoch.validation_accuracy, epoch.train_loss

    assert trained(images, 2) == trained(images.in_fold(2), 0)
