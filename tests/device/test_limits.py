"""Limits, device tables and measured costs: who is excluded, and what is said when nothing fits."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.host import describe_host
from efficientnet_elite.config import Limits, SearchConfig
from efficientnet_elite.device import costs, limits, metric_table
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.measure import Measurer
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.search.candidates import pool_candidates, pool_members, select
from efficientnet_elite.search.ledger import Ledger
from tests.support.command import SEARCH_FLAGS, elite

POOL = {"base_resolution": 32, "classes": 10}
SPECS = [candidate.spec for candidate in pool_members("elite", **POOL)]


@settings(deadline=None)
@given(st.integers(20, 400), st.integers(200, 6000))
def test_within_every_limit_or_excluded_with_each_reason(arena_kb, size_kb):
    bounds = Limits(arena_kb=arena_kb, size_kb=size_kb)
    try:
        excluded = limits.excluded(SPECS, bounds)
    except UserError:
        excluded = None
    expected = {}
    for spec in SPECS:
        over = [
            costs.of(spec, "size_bytes") > size_kb * 1000,
            costs.of(spec, "arena_bytes") > arena_kb * 1000,
        ]
        if any(over):
            expected[spec.name] = sum(over)
    if excluded is None:
        assert len(expected) == len(SPECS)
    else:
        assert {name: reason.count(">") for name, reason in excluded.items()} == expected


def test_a_reason():
    spec = spec_by_name("elite9")
    excluded = limits.excluded([spec, SPECS[-1]], Limits(macs_m=50))
    assert excluded == {"elite9": f"MACs {spec.macs / 1e6:.2f} M > 50.00 M"}


def test_a_reason_tells_close_values_apart():
    heavy, light = SPECS[-1], SPECS[0]
    heavy, light = sorted((heavy, light), key=lambda spec: spec.macs, reverse=True)
    bound = heavy.macs / 1e6 - 1e-6  # one less
    (reason,) = limits.excluded([heavy, light], Limits(macs_m=bound)).values()
    over, at = (float(text.split()[-2].replace(",", "")) for text in f"{reason}".split(" > "))
    assert (over, at) == pytest.approx((heavy.macs / 1e6, bound), abs=1e-9)
    assert over > at


def test_a_limit_that_is_just_met():
    (spec,) = SPECS[:1]
    assert limits.excluded([spec], Limits(params_m=spec.params / 1e6)) == {}


def test_nothing_fits():
    table = {
        "heavy": {"size_bytes": 4e6, "macs": 9e6},
        "light": {"size_bytes": 1.2e6, "macs": 3e6},
    }
    message = limits.nothing_fits(table, {"size_bytes": 1e6, "macs": 5e6})
    assert "the tightest is max_size_kb=1000, which alone excludes 2 of 2" in message
    assert message.endswith("the nearest candidate, light, would fit with size 1,200 kB")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_impossible_limits(value):
    with pytest.raises(UserError, match=r"max_size_kb=.*: must be a number above 0"):
        Limits(size_kb=value)


def test_limits_are_settings_of_a_search():
    config = SearchConfig(limits=Limits(size_kb=900, latency_ms=3), metric_table="/pi4.json")
    assert SearchConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_selection_groups_what_is_left_and_measures_only_that():
    asked = []

    def measure(metric, specs):
        asked.append((metric, [spec.name for spec in specs]))
        return {spec.name: spec.macs / 1e6 for spec in specs}

    bounds = Limits(params_m=3, latency_ms=1.5)
    found = select("elite", **POOL, groups=3, limits=bounds, measure=measure)
    small = [spec.name for spec in SPECS if spec.params <= 3e6]
    assert asked == [("latency_ms", small)]
    kept = {candidate.name for candidate in found.candidates}
    assert kept == {spec.name for spec in SPECS if spec.params <= 3e6 and spec.macs <= 1.5e6}
    assert kept.isdisjoint(found.excluded) and len(kept) + len(found.excluded) == len(SPECS)
    assert {candidate.group for candidate in found.candidates} >= {0, 2}
    # Nothing but the pool: as it was before there were limits.
    whole = select("elite", base_resolution=224, classes=1000)
    assert whole.candidates == pool_candidates("elite")


def test_grouping_by_what_was_measured():
    def measure(metric, specs):
        return {spec.name: spec.params for spec in specs}

    by_measured = select("elite", **POOL, metrics=["latency_ms"], measure=measure)
    by_params = select("elite", **POOL, metrics=["params"])
    groups = [c.group for c in by_measured.candidates]
    assert groups == [c.group for c in by_params.candidates]
    with pytest.raises(UserError, match="latency_ms must be measured"):
        select("elite", **POOL, metrics=["latency_ms"])


def table(path: Path, *rows: tuple[str, str, float | None]) -> Path:
    found = [
        latency.Row(model=model, input=shape, median_ms=ms, error=None if ms else "broken")
        for model, shape, ms in rows
    ]
    path.write_text(latency.as_json(found, latency.Options(), describe_host()))
    return path


def test_a_device_table(tmp_path):
    first, second = SPECS[-1], SPECS[-2]
    sides = [f"1x{spec.resolution}x{spec.resolution}x3" for spec in (first, second)]
    pi = table(
        tmp_path / "pi4.json",
        (f"models/{first.name}.float32.tflite", f"{sides[0]} float32", 9.0),
        (f"models/{first.name}.int8.tflite", "1x999x999x3 int8", 99.0),
        (f"models/{first.name}.int8.tflite", f"{sides[0]} int8", 1.5),
        (f"{second.name}-{second.resolution}px-0123abcd.int8.tflite", f"{sides[1]} int8", 2.5),
    )
    assert metric_table.latencies(pi, [second, first]) == {first.name: 1.5, second.name: 2.5}
    with pytest.raises(UserError, match=r"no int8 latency for 62 of 64 candidates \(elite0, "):
        metric_table.latencies(pi, SPECS)


ROW = '{"rows": [{"model": %s, "input": "1x8x8x3 int8", "median_ms": %s}]}'


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"rows": [1]}', '{"rows": [{"file": "a"}]}', '{"rows": 1}', ROW % (5, 1),
     ROW % ('"a"', '"x"'), ROW % ('"a"', "NaN"), ROW % ('"a"', "1e999"), ROW % ('"a"', 0),
     ROW % ('"a"', "[1]")],
)  # fmt: skip
def test_a_table_of_something_else(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(UserError, match="is not what `elite benchmark --json"):
        metric_table.latencies(path, SPECS)


def test_two_latencies_of_a_file(tmp_path):
    spec = SPECS[-1]
    shape = f"1x{spec.resolution}x{spec.resolution}x3 int8"
    rows = [(f"{folder}/{spec.name}.int8.tflite", shape, ms) for folder, ms in (("a", 1), ("b", 2))]
    found = table(tmp_path / "pi.json", *rows, ("other.int8.tflite", shape, None))
    with pytest.raises(UserError, match=f"has 2 int8 latencies of {spec.name}: keep only one row"):
        metric_table.latencies(found, [spec])


@pytest.mark.slow
def test_latency_here_is_measured_once(tmp_path):
    measure = Measurer(tmp_path, options=latency.Options(runs=3, warmup=1), progress=False)
    first = measure("latency_ms", SPECS[-1:])
    assert first.keys() == {SPECS[-1].name} and first[SPECS[-1].name] > 0
    assert measure("latency_ms", SPECS[-1:]) == first
    (file,) = tmp_path.glob("*.tflite")
    # A device that ran this very file: its table has the row under the file's name.
    rows = latency.measure_latencies([file], latency.Options(runs=2, warmup=0))
    (tmp_path / "pi.json").write_text(latency.as_json(rows, latency.Options(), describe_host()))
    there = Measurer(tmp_path, tmp_path / "pi.json")("latency_ms", SPECS[-1:])
    assert there == {SPECS[-1].name: rows[0].median_ms}


def models(*arguments: str):
    return elite("models", "--pool=elite", "--base_resolution=32", "--classes=10", *arguments)


def test_the_pool_says_why_each_was_cut():
    done = models("--max_params_m=3", "--metrics=peak_bytes", "--format=json")
    rows = json.loads(done.stdout)
    assert len(rows) == len(SPECS)
    for row in rows:
        over = row["params"] > 3e6
        assert (row["group"] is None) == over == (row["excluded"] is not None)
        assert not over or row["excluded"].startswith("parameters ")
        assert row["peak_bytes"] > 0
    done = models("--max_params_m=3")
    assert "not trained because" in done.stdout.splitlines()[0]
    assert "> 3.000 M" in done.stdout


def test_an_empty_pool():
    done = models("--max_size_kb=100", "--max_macs_m=500")
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "the tightest is max_size_kb=100, which alone excludes 64 of 64" in line
    assert "the nearest candidate, elite-w4d4r" in line or "the nearest candidate, elite9" in line


@pytest.mark.slow
def test_a_search_never_trains_what_is_over_a_limit(tmp_path):
    limit = "--max_size_kb=1000"
    done = elite("search", *SEARCH_FLAGS, limit, "--noexport", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    with Ledger(tmp_path) as ledger:
        meta, trained = ledger.meta(), ledger.candidates()
    assert meta["config"]["limits"]["size_kb"] == 1000
    assert (
        meta["excluded"] and f"{len(meta['excluded'])} candidates are over a limit" in done.stderr
    )
    assert all(reason.endswith("> 1,000 kB") for reason in meta["excluded"].values())
    assert all(costs.of(candidate.spec, "size_bytes") <= 1e6 for candidate in trained)
    done = elite("search", *SEARCH_FLAGS, "--max_size_kb=900", f"--workdir={tmp_path}")
    assert done.returncode == 1 and "limits.size_kb=1000" in done.stderr


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--group_by=flops", "unknown metric 'flops': choose among params, macs, peak_bytes"),
        ("--max_latency_ms=3", "latency_ms must be measured: say where to keep it with --workdir"),
        ("--max_size_kb=0", "max_size_kb=0"),
    ],
)
def test_one_line_for_what_cannot_be(flag, reason):
    done = models(flag)
    assert done.returncode == 1
    assert reason in done.stderr and len(done.stderr.splitlines()) == 1
