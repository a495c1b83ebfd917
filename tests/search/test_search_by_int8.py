"""Champions chosen by int8 accuracy: a real search and its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from efficientnet_elite import report
from efficientnet_elite.config import DataConfig, EngineConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import FILE_NAME
from tests.support.int8_searches import outcome


def real(select: str) -> SearchConfig:
    return SearchConfig(
        pool="tests.support.fragile:networks",
        groups=1,
        group_by=("params",),
        rule="last",
        select=select,
        round_epochs=2,
        base_resolution=8,
        data=DataConfig("digits"),
        train=TrainConfig(
            epochs=4,
            batch_size=32,
            learning_rate=0.002,
            warmup_epochs=0.5,
            schedule="cosine",
            ema=0.9,
            batch_norm_momentum=0.9,
        ),
    )


def really(workdir: Path, select: str, engine: EngineConfig | None = None) -> dict:
    from efficientnet_elite.export.int8.quantizer import int8_form
    from efficientnet_elite.search import run

    run.run(real(select), workdir, engine=engine, progress=False, quantize=int8_form)
    return outcome(workdir)


@pytest.fixture(scope="module")
def by_int8(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("int8") / "run"
    really(workdir, "int8")
    return workdir


@pytest.mark.slow
def test_the_best_in_float_is_not_the_best_in_int8(by_int8):
    in_int8 = outcome(by_int8)
    after_a_round = {name: scores[1] for name, scores in in_int8["scores"].items()}
    assert max(after_a_round, key=after_a_round.get) == "wide"
    (chosen,) = in_int8["champions"]
    assert chosen["name"] != "wide"
    results = in_int8["int8"][chosen["name"]]
    assert [result.epoch for result in results] == [2, 4]
    assert chosen["int8_validation_accuracy"] == results[-1].int8_accuracy
    wide = in_int8["int8"]["wide"][0]
    assert wide.int8_accuracy < wide.float_accuracy - 0.1
    # Accuracies in float are those on record: all of the validation part was looked at.
    for name, own in in_int8["int8"].items():
        for result in own:
            assert result.float_accuracy == in_int8["scores"][name][result.epoch - 1]


@pytest.mark.slow
def test_the_report_shows_it(by_int8):
    found = outcome(by_int8)
    tables = json.loads(report.write_data(by_int8).read_text())["tables"]
    (champion,) = tables["champions"]["rows"]
    assert (
        champion["int8_validation_accuracy"] == (found["champions"][0]["int8_validation_accuracy"])
    )
    for row in tables["decisions"]["rows"]:
        result = next(r for r in found["int8"][row["candidate"]] if r.epoch == row["epoch"])
        assert (row["int8_accuracy"], row["float_accuracy"]) == (
            result.int8_accuracy,
            result.float_accuracy,
        )
        assert f"with int8 at {100 * result.change:+.2f} points" in row["reason"]
    page = report.write_page(by_int8).read_text()
    assert "When 4 candidates or fewer are left, the int8 accuracy minus the float32" in page
    assert page.count("<small>validation</small>") == 2  # of the champion, in float32 and in int8
    for row in tables["decisions"]["rows"]:
        assert f"<td>{100 * row['int8_accuracy']:.2f}</td>" in page


@pytest.mark.slow
def test_a_search_in_float_takes_it(tmp_path):
    (champion,) = really(tmp_path / "run", "float")["champions"]
    assert champion["name"] == "wide"


@pytest.mark.slow
def test_two_workers_choose_alike(by_int8, tmp_path):
    assert really(tmp_path / "run", "int8", EngineConfig(workers=2)) == outcome(by_int8)


def test_without_a_way_to_int8(tmp_path):
    from efficientnet_elite.search import run

    with pytest.raises(UserError, match="select=int8 needs a function that quantizes"):
        run.run(real("int8"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / FILE_NAME).exists()
    with pytest.raises(UserError, match="select='int4': use float or int8"):
        real("int4")
