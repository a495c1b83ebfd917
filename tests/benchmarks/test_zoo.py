"""The zoo page: every family once, figures that are kept, tables that are well-formed."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.host import Host
from efficientnet_elite.benchmarks.studies import figures, zoo
from efficientnet_elite.benchmarks.studies.zoo import (
    VARIANTS,
    Row,
    as_text,
    measured_rows,
    page,
    representative,
)
from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec

HOST = Host("board", 2, "Linux", "3.11", "ai-edge-litert 2", None)
ROW = Row(
    network="elite9",
    resolution=132,
    params=1_339_528,
    macs=74_561_616,
    int8_bytes=1_715_000,
    latency=1.0,
    arena_bytes=512_345.0,
    arena_estimate=498_765.0,
    instructions={"m4": 240e6, "a76": 20.04e6},
    operators={"CONV_2D": 9},
    problem="",
)


def test_every_family_has_its_representative():
    names = [representative(family) for family in FAMILIES.values()]
    assert len(set(names)) == len(FAMILIES)
    shown = set(zoo.REPRESENTATIVES)
    assert {family for family, name in zip(FAMILIES, names, strict=True) if name not in shown} == {
        family for family in FAMILIES if family.endswith("-cifar")
    }
    assert {"elite0", "hf0", "efficientnet-b0", "tinynet-a", "mobilenetv2", "darts-v2"} <= set(
        names
    )
    assert shown | set(VARIANTS) <= set(zoo.FLAGS["networks"].default)


def test_the_variants_are_all_combinations():
    assert VARIANTS == [
        "elite9",
        "elite9-nose",
        "elite9-hard_swish",
        "elite9-hard_swish-nose",
        "elite9-relu6",
        "elite9-relu6-nose",
    ]
    operators = [spec_by_name(name).blocks for name in VARIANTS]
    assert len(set(operators)) == len(VARIANTS)


def tables(text: str) -> list[list[list[str]]]:
    """Cells of the tables of a page."""
    texts = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for table in texts
    ]


def test_the_page():
    unknown = replace(ROW, network="strange", int8_bytes=None, latency=None, arena_bytes=None)
    shown = [
        ROW,
        replace(ROW, network="elite9-relu6", macs=ROW.macs // 2, arena_bytes=None, latency=0.701),
        replace(
            unknown,
            arena_estimate=None,
            operators={},
            problem="TFLite cannot express the model: why",
        ),
    ]
    text = page(shown, HOST)
    networks, variants = tables(text)
    assert {len(line) for line in networks + variants} == {13}
    assert [line[0] for line in networks[2:]] == ["elite9", "strange"]
    instructions = ["240.0", "-", "-", "20.0"]  # M4, M55, A53, A76
    assert networks[2][3:] == ["74.6", "1715", "1.00", "1.00", *instructions, "512", "499"]
    assert networks[3][4:] == ["-", "-", "-", *instructions, "-", "-"]
    assert [line[0] for line in variants[2:]] == ["elite9", "elite9-relu6"]
    assert variants[3][5:] == ["0.70", "1.40", *instructions, "-", "499"]
    assert "- strange: TFLite cannot express the model: why\n" in text
    assert "What is missing" not in page(shown[:2], HOST)
    assert json.loads(as_text(shown, "json"))[1]["latency"] == 0.701
    assert [line.rpartition(",")[2] for line in as_text(shown, "csv").splitlines()] == [
        *("operators", "CONV_2D 9", "CONV_2D 9", "")
    ]
    assert len(as_text(shown, "csv").splitlines()) == len(as_text(shown, "table").splitlines()) == 4


@pytest.mark.slow
def test_figures_are_measured_once(tmp_path, monkeypatch):
    specs = [
        ArchSpec(name, (32, 32, 3), (ConvBlock("stem", filters), Classifier("predictions", 2)))
        for name, filters in (("narrow", 4), ("wide", 8))
    ]
    first = measured_rows(specs, tmp_path, runs=2)
    assert [row.network for row in first] == [spec.name for spec in specs]
    assert first[0].latency == 1 and first[1].latency > 0
    assert {row.problem for row in first} == {""}
    for row, spec in zip(first, specs, strict=True):
        assert row.operators["CONV_2D"] > 0 and row.arena_estimate > 32 * 32 * 3
        (file,) = tmp_path.glob(f"{spec.name}-*.int8.tflite")
        assert file.stat().st_size == row.int8_bytes
    monkeypatch.setattr("efficientnet_elite.export.measure.int8_bytes", pytest.fail)
    monkeypatch.setattr(latency, "measure_latencies", pytest.fail)
    monkeypatch.setattr("efficientnet_elite.export.runtimes.tflm.allocation", pytest.fail)
    assert measured_rows(specs, tmp_path, runs=2) == first


def test_tflm_is_asked_when_it_is_there(tmp_path, monkeypatch):
    pytest.importorskip("tflite_micro")
    spec = spec_by_name("mobilenetv1-0.25", base_resolution=32, classes=2)
    with monkeypatch.context() as without:
        without.setattr("efficientnet_elite.export.runtimes.tflm.available", lambda: False)
        (estimate,) = measured_rows([spec], tmp_path, runs=0)
    assert estimate.arena_bytes is None
    (measured,) = measured_rows([spec], tmp_path, runs=0)
    assert measured.arena_bytes == pytest.approx(estimate.arena_estimate, rel=0.02)
    assert {"head", "tail"} <= figures.int8_figures(spec, tmp_path).keys()
