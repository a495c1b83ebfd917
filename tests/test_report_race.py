"""The report on the tournament: brackets, decisions, costs, rules; and all of it as data."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from test_report import HOSTILE, Page, benchmark, row, search, sidecar
from test_report_parts import champion

from efficientnet_elite import report, rules
from efficientnet_elite.cli import main
from efficientnet_elite.ledger import Ledger
from efficientnet_elite.report import comparison, data, eliminations, tradeoff
from efficientnet_elite.report.bracket import bracket
from efficientnet_elite.report.cuts import cuts
from efficientnet_elite.summary import summarize


def noisy(place, epoch):
    """Candidates that overtake each other, the same in every run."""
    return 0.5 + 0.03 * place % 0.11 + 0.2 * (1 - 1 / epoch) + ((place * 7 + epoch * 13) % 11) / 60


def texts(figure):
    return [e.text for e in ElementTree.fromstring(figure.svg).iter("text")]


def group_of(workdir, number=0):
    with Ledger(workdir) as ledger:
        return summarize(ledger).groups[number]


# -- rounds and brackets --------------------------------------------------------------------------


def test_cuts_by_hand(tmp_path):
    search(tmp_path, groups=1, size=3)
    first, second = cuts(group_of(tmp_path))
    # Later candidates learn faster: scores 0.4, 0.65, 0.733 after the first epoch.
    assert [round(d.score, 3) for d in first.decisions] == [0.733, 0.65, 0.4]
    assert [len(first.kept), len(first.out), len(second.kept), len(second.out)] == [2, 1, 1, 1]
    assert first.gap == pytest.approx(0.25)
    assert [first.margin(d) for d in first.decisions] == pytest.approx([1 / 3, 0.25, -0.25])
    assert (second.round, second.epoch) == (2, 2)


def test_a_failure_makes_no_gap(tmp_path):
    search(tmp_path, groups=1, size=2, budget=1)
    with Ledger(tmp_path) as ledger:
        failed = next(c.name for c in ledger.candidates() if not ledger.scores().get(c.name))
        ledger.record_failure(failed, 1, "diverged")
    (cut,) = cuts(group_of(tmp_path))
    assert (cut.gap, cut.close) == (None, False)
    assert [cut.margin(d) for d in cut.decisions] == [None, None]
    drawn = texts(bracket(group_of(tmp_path), [cut]))
    assert "failed" in drawn


def test_a_bracket(tmp_path):
    search(tmp_path, groups=1, size=15, epochs=12, accuracy=noisy)
    group = group_of(tmp_path)
    figure = bracket(group, cuts(group))
    found = texts(figure)
    assert [t for t in found if t.startswith("Round")] == [f"Round {i}" for i in (1, 2, 3, 4)]
    assert "Champion" in found
    for decision in group.decisions:
        assert f"{100 * decision.score:.2f}" in found
    assert found.count(group.champion) == 5
    assert all(name in figure.svg for name in ("var(--accent)", "aria-label"))
    told = ElementTree.fromstring(figure.svg).attrib["aria-label"]
    assert f"Champion: {group.champion}" in told


def test_no_bracket_before_a_decision(tmp_path):
    search(tmp_path, groups=2, size=2, budget=1)
    assert bracket(group_of(tmp_path), cuts(group_of(tmp_path))) is None
    assert "No round has been decided yet" in Page(report.write(tmp_path)).text


def test_too_close_to_call_is_told(tmp_path):
    search(tmp_path, groups=1, size=9, epochs=8, rule="last", accuracy=noisy)
    group = group_of(tmp_path)
    decided = cuts(group)
    # Round 1 is an exact tie; noise shows from epoch 3 on.
    assert [cut.round for cut in decided if cut.close] == [1, 3, 4]
    assert len({d.score for d in decided[0].decisions if d.rank in (5, 6)}) == 1
    page = Page(report.write(tmp_path))
    assert "Too close to call: 3 cuts of 4" in page.text
    assert "group 0, round 4: " in page.text
    assert texts(bracket(group, decided)).count("too close to call") == 3
    assert all(decision.reason in page.text for decision in group.decisions)


def test_rounds_in_which_everybody_went_on_are_left_out(tmp_path):
    search(tmp_path, groups=1, size=5)
    contents = report.gather(tmp_path)
    first, *others = contents.cuts
    idle = replace(first, kept=first.decisions, out=(), gap=None)
    drawn = texts(bracket(group_of(tmp_path), [idle, *others]))
    assert [t for t in drawn if t.startswith("Round")] == ["Round 2", "Round 3"]
    remark = "Rounds in which everybody did are not drawn"
    assert remark not in eliminations.tournament(contents, report.draw(contents))
    contents = replace(contents, cuts=[idle, *others])
    assert remark in eliminations.tournament(contents, report.draw(contents))


def test_nothing_was_too_close(tmp_path):
    search(tmp_path, groups=1, size=9, epochs=8)
    assert "No cut was found too close to call" in Page(report.write(tmp_path)).text


# -- costs ----------------------------------------------------------------------------------------


def test_costs_by_hand(tmp_path):
    search(tmp_path, groups=1, size=3)
    first, total = report.gather(tmp_path).costs
    members = group_of(tmp_path).members
    # Three for one epoch, two for another, the champion for the two that are left.
    assert first.epochs_planned == first.epochs_trained == 7
    assert (first.epochs_left, first.epochs_off) == (0, 0.0)
    macs = [m.macs for m in members]
    assert first.work_planned == pytest.approx(7 * sum(macs) / 3)
    assert first.work_trained == sum(m.macs * m.epochs_done for m in members)
    assert first.work_off == pytest.approx(first.work_trained / first.work_planned - 1)
    assert first.seconds == 14.0  # two an epoch
    assert (total.group, total.epochs_trained, total.work_off) == (None, 7, first.work_off)


def test_costs_of_a_failure_and_of_a_running_search(tmp_path):
    search(tmp_path, groups=2, size=2, budget=3)
    before = report.gather(tmp_path).costs
    assert [(c.epochs_planned, c.epochs_trained, c.epochs_left) for c in before] == [
        (5, 2, 3), (5, 1, 4), (10, 3, 7)
    ]  # fmt: skip
    assert [c.work_off for c in before] == [None] * 3
    with Ledger(tmp_path) as ledger:
        for member in summarize(ledger).groups[1].members:
            ledger.record_failure(member.name, 2, "out of memory")
    after = report.gather(tmp_path).costs
    assert (after[1].epochs_left, after[1].epochs_off) == (0, pytest.approx(1 / 5 - 1))


# -- other rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", rules.RULES)
def test_a_rule_agrees_with_itself(tmp_path, rule):
    search(tmp_path, groups=2, size=7, epochs=12, rule=rule, accuracy=noisy)
    contents = report.gather(tmp_path)
    assert contents.rule == rule
    (own,) = [a for a in contents.agreement if a.used]
    assert own.rule == rule
    assert own.cuts > 2
    assert (own.same, own.others, own.champions_dropped) == (own.cuts, 0, ())


def test_another_rule_by_hand(tmp_path):
    # After one epoch all rules see the same; after two, the average and the last value disagree.
    curves = ((0.9, 0.2, 0.2, 0.2), (0.3, 0.7, 0.9, 0.9), (0.1, 0.1, 0.1, 0.1))
    names = [m.name for m in _members(tmp_path, curves)]
    contents = report.gather(tmp_path)
    first, second = [c for c in contents.choices if c.rule == "last"]
    assert (first.keeps_instead, first.drops_instead) == ((), ())
    assert (first.pairs, first.right) == (1, 0)  # the first leads, and is behind an epoch later
    assert (second.keeps_instead, second.drops_instead) == ((names[1],), (names[0],))
    assert second.pairs == 0
    last = next(a for a in contents.agreement if a.rule == "last")
    assert (last.cuts, last.same, last.others) == (2, 1, 1)
    assert last.champions_dropped == (names[0],)
    page = Page(report.write(tmp_path))
    assert "The 1 cut that another rule would have made otherwise" in page.text


def _members(workdir, curves):
    search(workdir, groups=1, size=3, accuracy=lambda place, epoch: curves[place][epoch - 1])
    with Ledger(workdir) as ledger:
        return ledger.candidates()


def test_nothing_to_compare_before_the_first_cut(tmp_path):
    search(tmp_path, budget=1)
    assert comparison.choices(report.gather(tmp_path).cuts, {}) == []
    assert "What other rules" not in Page(report.write(tmp_path)).text


# -- Pareto set -----------------------------------------------------------------------------------


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
    monkeypatch.setattr(tradeoff, "_specified", lambda spec: {})


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
        for key, value in (("measured", measured), ("cut", reasons)):
            ledger._db.execute("INSERT INTO meta VALUES (?, ?)", (key, json.dumps(value)))
    options = report.gather(tmp_path).options
    assert [option.costs["tflm_arena_bytes"] for option in options.rows] == [300_000] * 2
    page = Page(report.write(tmp_path))
    assert "TFLM arena" in page.text
    assert "1 candidate of the pool over a limit and not trained elite9 size 1,312" in page.text
    tables = json.loads(report.write_data(tmp_path).read_text())["tables"]
    assert tables["over_limits"]["rows"] == [{"name": "elite9", "reason": reasons["elite9"]}]


def test_the_page_compares_all_costs(tmp_path):
    first, second = search(tmp_path)
    page = Page(report.write(tmp_path))
    assert "nothing has been exported yet" in page.text
    sidecar(tmp_path, first, 0.925, 2000)
    sidecar(tmp_path, second, 0.875, 3000)
    benchmark(tmp_path, row(first, 2000, 12.0), row(second, 3000, 13.0))
    page = Page(report.write(tmp_path))
    assert "peak activations" in page.text
    assert f"Take {first}" in page.text
    contents = report.gather(tmp_path)
    assert next(o.name for o in contents.options.rows if o.on_front) == first


def test_champions_in_training_are_not_compared(tmp_path):
    search(tmp_path, groups=2, size=1, epochs=4, budget=6)  # the second has two epochs to go
    assert [len(report.gather(tmp_path).options.rows)] == [1]


# -- as data --------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    skipped = [{"path": "a,b.jpg", "reason": f"{HOSTILE}\nline"}]
    names = search(tmp_path, size=4, epochs=6, accuracy=noisy, skipped=skipped)
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
        "champions", "pareto", "candidates", "curves", "cuts", "decisions", "rules",
        "rule_choices", "costs", "times", "skipped_images",
    }  # fmt: skip
    for table in tables.values():
        assert table["about"]
        assert all(table["columns"].values())
        assert all(list(line) == list(table["columns"]) for line in table["rows"])
    with Ledger(finished) as ledger:
        summary, epochs = summarize(ledger), ledger.epochs()
    assert len(tables["candidates"]["rows"]) == 8
    assert len(tables["curves"]["rows"]) == sum(map(len, epochs.values()))
    decided = [d for group in summary.groups for d in group.decisions]
    assert [line["reason"] for line in tables["decisions"]["rows"]] == [d.reason for d in decided]
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
    report.write(finished)
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
