"""The report on the choice between champions; and all of the report as data."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace

import pytest

from efficientnet_elite import report
from efficientnet_elite.cli import main
from efficientnet_elite.report import data, tradeoff
from efficientnet_elite.report.contents import Figures
from efficientnet_elite.report.page import render
from efficientnet_elite.search import champions
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.summary import standings, summarize
from tests.support import large
from tests.support.reports import (
    HOSTILE,
    Page,
    benchmark,
    champion,
    noisy,
    row,
    search,
    sidecar,
    unillustrated,
)

# -- Pareto set ------------------------------------------------------------------------------------


def options(*champions):
    """Compares invented champions whose specs cost nothing that can be computed."""
    members = [SimpleNamespace(**vars(c.member), name=c.export.name) for c in champions]
    found = [
        SimpleNamespace(group=0, member=m, export=c.export)
        for m, c in zip(members, champions, strict=True)
    ]
    candidates = [SimpleNamespace(name=m.name, spec=None) for m in members]
    return tradeoff.options(found, candidates, {})


@pytest.fixture
def only_measured(monkeypatch):
    measured = {n: m for n, m in tradeoff.METRICS.items() if n in ("size_bytes", "latency_ms")}
    monkeypatch.setattr(tradeoff, "METRICS", measured)
    monkeypatch.setattr(tradeoff, "computed", lambda spec: {})


def test_which_cost_makes_a_champion_worth_a_choice(only_measured):
    found = options(
        champion("accurate", 0.95, 3000, 3.0),
        champion("small", 0.90, 1000, 4.0),
        champion("fast", 0.90, 2000, 2.0),
        champion("between", 0.90, 1500, 3.0),
        champion("beaten", 0.80, 2500, 4.0),
    )
    assert found.tested
    assert found.metrics == ("size_bytes", "latency_ms")
    rows = {option.name: option for option in found.rows}
    assert rows["accurate"].alone == ("size_bytes", "latency_ms")
    assert rows["small"].alone == ("size_bytes",)
    assert rows["fast"].alone == ("latency_ms",)
    assert (rows["between"].on_front, rows["between"].alone) == (True, ())
    assert rows["beaten"].beaten_by == ("small", "fast", "between")
    assert [name for name, option in rows.items() if not option.on_front] == ["beaten"]


def test_a_cost_known_of_some_is_left_out(only_measured):
    found = options(champion("a", 0.9, 2000, 1.0), champion("b", 0.9, 1000))
    assert (found.metrics, found.partly) == (("size_bytes",), ("latency_ms",))
    assert [option.on_front for option in found.rows] == [False, True]


def test_what_the_search_measured_counts_too(tmp_path):
    names = search(tmp_path)
    measured = {"tflm_arena_bytes": dict.fromkeys(names, 300_000)}
    reasons = {"elite9": "size 1,312 kB > 900.00 kB"}
    with Ledger(tmp_path) as ledger:
        for key, value in (("measured", measured), ("excluded", reasons)):
            ledger._db.execute("INSERT INTO meta VALUES (?, ?)", (key, json.dumps(value)))
    options = report.gather(tmp_path).options
    assert [option.costs["tflm_arena_bytes"] for option in options.rows] == [300_000] * 2
    page = unillustrated(tmp_path)
    assert "TFLM arena" in page.text
    assert "1 candidate of the pool excluded because of a limit elite9 size 1,312" in page.text
    tables = json.loads(report.write_data(tmp_path).read_text())["tables"]
    assert tables["over_limits"]["rows"] == [{"name": "elite9", "reason": reasons["elite9"]}]


def test_the_page_compares_all_costs(tmp_path):
    first, second = search(tmp_path)
    page = unillustrated(tmp_path)
    assert "nothing has been exported yet" in page.text
    sidecar(tmp_path, first, 0.925, 2000)
    sidecar(tmp_path, second, 0.875, 3000)
    benchmark(tmp_path, row(first, 2000, 12.0), row(second, 3000, 13.0))
    page = unillustrated(tmp_path)
    assert "peak activations" in page.text
    assert f"Take {first}" in page.text
    contents = report.gather(tmp_path)
    assert next(o.name for o in contents.options.rows if o.on_front) == first


def test_a_search_by_int8_is_judged_by_int8(tmp_path):
    # The champion of group 0 loses in int8 all that it is ahead in float32.
    names = search(
        tmp_path, groups=2, size=2,
        accuracy=lambda place, epoch: 0.9 if place % 2 == 0 else 0.8,
        change=lambda place: -0.3 if place % 2 == 0 else 0.0,
    )  # fmt: skip
    options = report.gather(tmp_path).options
    assert (options.tested, options.kind) == (False, "int8")
    assert [option.accuracy for option in options.rows] == pytest.approx([0.6, 0.8])
    page = unillustrated(tmp_path)
    assert "The accuracy is that of int8 on the validation part" in page.text
    assert "in the last eliminations by that of the int8" in page.text
    sidecar(tmp_path, names[0], 0.9, 1000)
    sidecar(tmp_path, names[1], 0.8, 2000)
    page = unillustrated(tmp_path)
    assert f"Take {names[1]} : the smallest champion within 1 point of the best int8" in page.text
    found = json.loads(report.write_data(tmp_path).read_text())
    assert found["search"]["recommended_by"] == "int8 accuracy on the validation part"
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("DELETE FROM int8 WHERE candidate=? AND epoch=4", (names[1],))
    page = unillustrated(tmp_path)
    assert (
        f"Take {names[0]} : the smallest champion within 1 point of the best float32" in page.text
    )
    assert "that was not measured for every champion" in page.text


def test_champions_closer_than_the_noise_are_ties(tmp_path):
    """The smaller is taken, where the number of validation images does not tell them apart."""
    first, second = search(
        tmp_path, groups=2, size=1, accuracy=lambda place, epoch: 0.80 if place else 0.83
    )
    sidecar(tmp_path, first, 0.83, 3000)
    sidecar(tmp_path, second, 0.80, 2000)
    assert f"Take {first} : the smallest champion within 1 point of" in unillustrated(tmp_path).text
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("INSERT INTO meta VALUES ('validation_images', '100')")
        tied, other = champions.describe(ledger, standings(ledger))
    assert (tied["ties"], other["ties"]) == ([second], [first])
    text = unillustrated(tmp_path).text
    noise = "3.9"  # sqrt(0.815 * 0.185 / 100), in points
    assert f"Take {second} : the smallest champion within {noise} points of the best" in text
    assert f"{first}, {second} are ties: their differences are smaller than the noise" in text
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("UPDATE meta SET value='10000' WHERE key='validation_images'")
        assert [c["ties"] for c in champions.describe(ledger, standings(ledger))] == [[], []]
    assert "ties" not in unillustrated(tmp_path).text


def test_masks_are_judged_by_miou(tmp_path):
    names = search(tmp_path, score="mIoU")
    for name in names:
        sidecar(tmp_path, name, 0.5, 1000, score="mIoU")
    page = Page(report.write_page(tmp_path))
    for expected in ("int8 test mIoU", "mIoU against file size", "What mIoU costs", "mIoU, %"):
        assert expected in page.text, expected
    assert "divided by their union" in page.text
    for unknown in ("95 %", "interval", "test accuracy", "validation accuracy"):
        assert unknown not in page.text.replace("\u00a0", " "), unknown
    found = json.loads(report.write_data(tmp_path).read_text())
    assert found["search"]["score"] == "mIoU"
    assert found["tables"]["champions"]["rows"][0]["int8_accuracy_low"] is None


def test_columns_of_which_nothing_is_known_are_left_out(tmp_path):
    first, _ = search(tmp_path)
    assert "Latency, ms" not in unillustrated(tmp_path).text
    sidecar(tmp_path, first, 0.925, 2000)
    assert "File, kB" in unillustrated(tmp_path).text
    benchmark(tmp_path, row(first, 2000, 12.0))
    assert "Latency, ms" in unillustrated(tmp_path).text


def test_champions_in_training_are_not_compared(tmp_path):
    search(tmp_path, groups=2, size=1, epochs=4, budget=6)  # the second has two epochs to go
    assert [len(report.gather(tmp_path).options.rows)] == [1]


# -- as data ---------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    skipped = [{"path": "a,b.jpg", "reason": f"{HOSTILE}\nline"}]
    names = search(tmp_path, size=4, epochs=6, accuracy=noisy, skipped=skipped, seeds=2)
    sidecar(tmp_path, names[0], 0.925, 2000)
    benchmark(tmp_path, row(names[0], 2000, 12.34))
    return tmp_path


def test_json(finished):
    def no_constant(name):
        raise AssertionError(name)

    path = report.write_data(finished)
    found = json.loads(path.read_text(), parse_constant=no_constant)
    assert found["format"] == data.FORMAT
    assert found["search"]["finished"] is True
    assert found["benchmark"]["host"]["cpu"] == "Board & Co"
    tables = found["tables"]
    assert set(tables) == {
        "champions", "pareto", "candidates", "curves", "eliminations", "decisions", "rules",
        "rule_choices", "noise", "repeat_curves", "forecast", "costs", "times", "skipped_images",
    }  # fmt: skip
    for table in tables.values():
        assert table["about"]
        assert all(table["columns"].values())
        assert all(list(line) == list(table["columns"]) for line in table["rows"])
    with Ledger(finished) as ledger:
        summary, epochs = summarize(ledger), ledger.epochs()
    assert len(tables["candidates"]["rows"]) == 8
    trained = tables["curves"]["rows"] + tables["repeat_curves"]["rows"]
    assert len(trained) == sum(map(len, epochs.values()))
    assert {line["repeat"] for line in tables["repeat_curves"]["rows"]} == {
        line["training"] for line in tables["noise"]["rows"] if line["seed"]
    }
    assert tables["forecast"]["rows"][0]["spent"] == len(trained)
    assert found["search"]["noise"] == summary.noise > 0
    decided = [d for group in summary.groups for d in group.decisions]
    assert [line["reason"] for line in tables["decisions"]["rows"]] == [
        decision_text(d) for d in decided
    ]
    exported, missing = tables["champions"]["rows"]
    assert exported["int8_accuracy_low"] < exported["int8_accuracy"] == 0.925
    assert exported["int8_median_ms"] == 12.34
    assert exported["float_median_ms"] is missing["int8_accuracy_low"] is None


def test_csv_says_the_same_as_json(finished, capsys):
    assert main(["report", f"--workdir={finished}", "--format=json"]) == 0
    assert main(["report", f"--workdir={finished}", "--format=csv"]) == 0
    path, *files = capsys.readouterr().out.splitlines()
    tables = json.loads((finished / "report.json").read_text())["tables"]
    assert path == str(finished / "report.json")
    assert files == [str(finished / "report" / f"{name}.csv") for name in tables]

    def cell(value):
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)

    for name, table in tables.items():
        text = (finished / "report" / f"{name}.csv").read_bytes().decode()
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
        assert lines == [{k: cell(v) for k, v in line.items()} for line in table["rows"]]


def test_tables_without_rows_go(finished):
    report.write_tables(finished)
    stale = finished / "report" / "skipped_images.csv"
    stale.rename(finished / "report" / "other.csv")
    report.write_page(finished)
    assert (finished / "report" / "other.csv").exists()  # no business of the page
    written = report.write_tables(finished)
    assert sorted(written) == sorted((finished / "report").glob("*.csv"))


@pytest.mark.parametrize("budget", [0, 1, 9])
def test_data_at_any_time(tmp_path, budget):
    search(tmp_path, budget=budget)
    json.dumps(json.loads(report.write_data(tmp_path).read_text()), allow_nan=False)
    assert {path.stem for path in report.write_tables(tmp_path)} >= {"candidates", "costs"}


def test_a_search_of_failures_has_data(tmp_path):
    search(tmp_path, budget=3)
    with Ledger(tmp_path) as ledger:
        for candidate in ledger.candidates():
            ledger.record_failure(candidate.name, 2, "diverged")
    tables = json.loads(report.write_data(tmp_path).read_text())["tables"]
    assert None in [line["score"] for line in tables["decisions"]["rows"]]


def test_balanced_accuracy_is_named_where_it_judges(tmp_path):
    """Files are still measured by accuracy on the test part."""
    names = search(tmp_path, score="balanced")
    for name in names:
        sidecar(tmp_path, name, 0.5, 1000)
    text = unillustrated(tmp_path).text
    assert "curves show validation balanced accuracy after" in text
    assert "chosen by float32 validation balanced accuracy" in text
    assert "Accuracy, % Balanced accuracy, %" in text and "int8 test accuracy" in text


def test_a_large_search_shows_its_best_groups_in_full(tmp_path):
    """All others have a line, and all counts are those of the whole search."""
    large.write(tmp_path, groups=5, size=4, epochs=12)
    assert "Other groups" not in unillustrated(tmp_path).text
    contents = report.gather(tmp_path, 2)
    with Ledger(tmp_path) as ledger:
        last = {name: curve[-1] for name, curve in ledger.scores().items()}
        champions = {group.number: group.champion for group in summarize(ledger).groups}
    best = sorted(champions, key=lambda number: last[champions[number]])[-2:]
    assert [group.number for group in contents.summary.groups] == sorted(best)
    assert {round.group for round in contents.rounds} == set(best)
    page = Page(render(contents, Figures({}, {}, None, None)))
    assert "This page shows 2 of 5 groups" in page.text
    assert "Candidates 20 Cost groups 5 Champions 5" in page.text
    for number, name in champions.items():
        assert name in page.text, number
    eliminated = [name for name in last if name not in champions.values()]
    shown = [name for name in eliminated if name in page.text]
    assert {name[:2] for name in shown} == {f"g{number}" for number in best}
