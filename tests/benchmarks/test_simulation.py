"""The simulated search: same driver, ledger and tournament as a real one, an invented executor."""

from __future__ import annotations

import math

import pytest

from efficientnet_elite.benchmarks.studies.simulation import Scale, simulate
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.replay import Curve

RECORDED = [
    Curve(
        f"m{level}",
        tuple(level * (1 - math.exp(-epoch / 8)) for epoch in range(1, 41)),
        tuple(4 * math.exp(-epoch / 12) + (80 - level) / 40 for epoch in range(1, 41)),
    )
    for level in (60, 66, 70, 71, 75)
]
SCALE = Scale(candidates=60, group_size=6, epochs=30, round_epochs=2, workers=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    def run(**changes):
        workdir = tmp_path_factory.mktemp("simulation")
        scale = Scale(**{**vars(SCALE), **changes})
        figures = simulate(scale, workdir, RECORDED, progress=False)
        with Ledger(workdir) as ledger:
            return figures, ledger.decisions(), ledger.scores()

    return run


@pytest.fixture(scope="module")
def reliable(run):
    return run(failures_an_hour=0.0)


def test_every_group_has_a_champion_trained_to_the_end(reliable):
    figures, decisions, scores = reliable
    assert figures["champions"] == len(decisions) == 10
    assert sum(len(own) == SCALE.epochs for own in scores.values()) == 10
    assert figures["epochs"] == sum(map(len, scores.values())) < 60 * SCALE.epochs


def test_neither_failures_nor_the_number_of_workers_change_a_decision(run, reliable):
    for changes in ({"failures_an_hour": 1.0}, {"failures_an_hour": 0.0, "workers": 1}):
        _, decisions, scores = run(**changes)
        assert decisions == reliable[1]
        assert scores == reliable[2]


def test_the_account_adds_up(run, reliable):
    figures, _, _ = run(failures_an_hour=1.0)
    parts = [figures[key] for key in ("utilisation", "building", "lost_training", "broken")]
    assert all(part > 0 for part in parts)
    assert sum(parts) <= 1
    assert figures["failures"] > 0
    # A reliable worker that never waits does nothing but train and build.
    alone, _, _ = run(failures_an_hour=0.0, workers=1)
    assert alone["utilisation"] + alone["building"] == pytest.approx(1.0)
    assert reliable[0]["simulated_days"] < alone["simulated_days"] < 8 * figures["simulated_days"]


def test_a_used_work_directory_is_refused(tmp_path):
    simulate(SCALE, tmp_path, RECORDED, progress=False)
    with pytest.raises(UserError, match="another --workdir"):
        simulate(SCALE, tmp_path, RECORDED, progress=False)
