"""Equal work: picks of matched cost, the table, a real run that is interrupted and resumed."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.benchmarks.studies import equal_work, ratios, study
from efficientnet_elite.benchmarks.studies.equal_work import (
    MatchedNetwork,
    as_text,
    match_cost,
    mean_and_deviation,
    summarize,
)
from efficientnet_elite.benchmarks.studies.ratios import RelativeLatency
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.search.candidates import pool_members

SIZES = {"base_resolution": 64, "classes": 10}
FAMILIES = ["elite", "mobilenetv1", "squeezenet"]


def test_a_network_is_nearest_to_itself():
    pick, *others = match_cost(FAMILIES, "elite9", **SIZES)
    assert (pick.family, pick.spec.name, pick.distance) == ("elite", "elite9", 0)
    assert all(other.distance > 0 for other in others)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([c.name for c in pool_members("elite", **SIZES)]))
def test_nothing_of_a_family_is_nearer(target):
    goal = spec_by_name(target, **SIZES)
    members = {family: pool_members(family, **SIZES) for family in FAMILIES}
    every = [c.spec for pool in members.values() for c in pool]
    params = pstdev([math.log10(spec.params) for spec in every])
    macs = pstdev([math.log10(spec.macs) for spec in every])

    def distance(spec):
        return math.hypot(
            math.log10(spec.params / goal.params) / params, math.log10(spec.macs / goal.macs) / macs
        )

    for pick in match_cost(FAMILIES, target, **SIZES):
        least = min(distance(c.spec) for c in members[pick.family])
        assert pick.distance == pytest.approx(least, abs=1e-9)
        assert distance(pick.spec) == pytest.approx(least, abs=1e-9)


def test_a_cost_that_all_share_tells_nothing(monkeypatch):
    """MACs alone decide where all candidates have the same parameters."""
    equal = [c for c in pool_members("elite", **SIZES) if c.spec.params == 689_098]
    assert len({c.spec.macs for c in equal}) > 1
    monkeypatch.setattr(equal_work, "pool_members", lambda *_, **__: tuple(equal))
    (pick,) = match_cost(["elite"], "elite0", **SIZES)
    assert pick.spec.macs == max(c.spec.macs for c in equal)
    assert math.isfinite(pick.distance)


@pytest.mark.parametrize(
    ("families", "target", "complaint"),
    [(["elitee"], "elite9", "unknown pool 'elitee'"), (["elite"], "elite99", "unknown model")],
)
def test_unknown_names(families, target, complaint):
    with pytest.raises(UserError, match=complaint):
        match_cost(families, target, **SIZES)


def test_mean_and_deviation_of_a_sample():
    assert [mean_and_deviation(values) for values in ([], [70.0], [70.0, 72.0])] == [
        "",
        "70.0",
        "71.0 ± 1.4",
    ]


def run(accuracy: float, **changes) -> dict:
    return {
        "float_accuracy": accuracy,
        "int8_accuracy": accuracy - 0.01,
        "int8_bytes": 1234,
        "file": "export/a/a.int8.tflite",
        **changes,
    }


def table():
    specs = [spec_by_name(name, **SIZES) for name in ("elite9", "mobilenetv1", "peleenet")]
    failed = {"error": "the loss became nan"}
    results = [[run(0.7), run(0.72)], [failed, run(0.6, int8_bytes=99)], []]
    return [
        summarize(MatchedNetwork(spec.name, spec, 0.5), of_network)
        for spec, of_network in zip(specs, results, strict=True)
    ]


def test_failed_and_missing_seeds():
    elite, mobile, pelee = table()
    assert elite.int8_accuracies == pytest.approx([69, 71])
    assert (mobile.float_accuracies, mobile.int8_bytes) == ([60.0], 99)
    assert mobile.errors == ["the loss became nan"]
    assert (pelee.file, pelee.int8_bytes, pelee.float_accuracies) == (None, None, [])


def test_formats_say_the_same():
    rows = table()
    heads, rule, *lines = as_text(rows, "markdown", {}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in [heads, *lines]]
    assert rule.count("---") == len(cells[0])
    assert list(csv.reader(io.StringIO(as_text(rows, "csv", {})))) == cells
    assert cells[1][-4:] == ["2", "71.0 ± 1.4", "70.0 ± 1.4", "70.0 72.0"]
    assert cells[2][-4:] == ["1", "60.0", "59.0", "60.0"]
    assert as_text(rows, "table", {}).splitlines()[1].split()[:2] == ["elite9", "elite9"]
    whole = json.loads(as_text(rows, "json", {"epochs": 3}))
    assert (whole["epochs"], whole["rows"][1]["errors"]) == (3, ["the loss became nan"])


def command(workdir: Path, *flags: str) -> subprocess.CompletedProcess:
    base = [
        "--families=elite,mobilenetv1",
        "--dataset=digits",
        "--base_resolution=32",
        "--epochs=1",
        "--batch_size=256",
        f"--workdir={workdir}",
        *flags,
    ]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.studies.equal_work", *base],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_trains_exports_times_and_goes_on(tmp_path):
    first = command(tmp_path, "--seeds=0", "--format=json", "--runs=3")
    assert first.returncode == 0, first.stderr
    elite, mobile = json.loads(first.stdout)["rows"]
    assert elite["latency"] == 1 and mobile["latency"] > 0
    assert (tmp_path / elite["file"]).stat().st_size == elite["int8_bytes"]
    kept = {path: path.read_bytes() for path in tmp_path.glob("*-seed*.json")}
    assert len(kept) == 2
    # One result is lost, but not its training: it alone is made again.
    lost = next(path for path in kept if "mobilenetv1" in path.name)
    lost.unlink()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ckpt")}
    again = command(tmp_path, "--seeds=0", "--format=json", "--runs=3")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ckpt")} == times
    assert json.loads(lost.read_text()) == json.loads(kept[lost])
    # Another recipe does not mix with it; nothing is trained where nothing is to be.
    other = command(tmp_path, "--epochs=2")
    assert other.returncode == 1 and "holds results of other settings" in other.stderr
    report = command(tmp_path, "--seeds=0,1", "--notrain", "--runs=0")
    assert [line.split()[8] for line in report.stdout.splitlines()[1:]] == ["1", "1"]


def test_a_result_is_computed_once(tmp_path):
    flags = equal_work.FLAGS.__class__()
    study.define_flags(flags, epochs=2)
    flags(["program", f"--workdir={tmp_path}"])
    digits = study.Study(flags, "digits")
    assert digits.result("value", lambda: {"a": 1}) == {"a": 1}
    assert digits.result("value", lambda: pytest.fail("computed again")) == {"a": 1}
    with pytest.raises(ZeroDivisionError):
        digits.result("other", lambda: 1 / 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json", "value.json"]
    study.Study(flags, "digits")  # the same settings
    with pytest.raises(UserError, match="other settings"):
        study.Study(flags, "rendered")


def test_kept_ratios_are_relative_to_the_first(tmp_path):
    record = tmp_path / "latency.json"
    a, b, c = (tmp_path / f"{name}.tflite" for name in "abc")
    timed = [("/elsewhere/a.tflite", 1, None), ("/elsewhere/b.tflite", None, "refused")]
    keys = ("model", "ratio", "error")
    record.write_text(json.dumps({"rows": [dict(zip(keys, row, strict=True)) for row in timed]}))
    known = {"a.tflite": RelativeLatency(1), "b.tflite": RelativeLatency(None, "refused")}
    assert ratios.relative_latencies(record, [a, b], runs=5) == known
    assert ratios.relative_latencies(record, [a], runs=0) == {"a.tflite": RelativeLatency(1)}
    assert ratios.relative_latencies(record, [b, a], runs=0) == {}
    assert ratios.relative_latencies(record, [a, b, c], runs=0) == known
    again = ratios.relative_latencies(record, [a, b, c], runs=1)  # none of the files is there
    assert again == {f"{name}.tflite": RelativeLatency(None, "no such file") for name in "abc"}


def test_a_file_that_cannot_be_timed():
    elite, *others = (
        equal_work.with_latency(row, {"a.int8.tflite": RelativeLatency(None, "refused")})
        for row in table()
    )
    assert (elite.latency, elite.errors) == (None, ["cannot be timed: refused"])
    assert others[1].errors == []
