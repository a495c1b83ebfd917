"""Ethos-U accelerators as boards: Vela's estimates in one table, and as a table of latencies."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.device import metric_table
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.packages import ethos_u as vela
from efficientnet_elite.job.boards import ethos_u, results
from efficientnet_elite.job.boards.kinds import KINDS
from efficientnet_elite.networks.names import spec_by_name
from tests.support import random_tflite
from tests.support.boards import model, models

needs_vela = pytest.mark.skipif(not vela.available(), reason=vela.INSTALL)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def elite(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["boards", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def partly(path: Path) -> Path:
    """A network with a convolution that an Ethos-U55 lacks, as its stride is too wide."""
    network = random_tflite.Network(np.random.default_rng(0), 32, 32)
    x = network.conv(network.image, 8, (3, 3), (1, 1), random_tflite.SAME)
    x = network.conv(x, 8, (3, 3), (5, 5), random_tflite.SAME)
    path.write_bytes(network.model(network.head(x)))
    return path


def test_every_accelerator_has_boards_of_several_memory_modes():
    boards = ethos_u.configurations(KINDS["ethos-u"])
    assert {board.settings["accelerator"] for board in boards} == set(vela.ACCELERATORS)
    assert len({board.name for board in boards}) == len(boards) == 29
    assert boards[0].name == "u55-32-sram_only"


@needs_vela
def test_accelerators_stand_in_one_table(here, capsys):
    light, heavy = models(here)
    names = ["u55-32-sram_only", "u55-256-shared_sram", "u85-512-dedicated_sram_384kb"]
    run = ("run", light, heavy, "--ethos_u", f"--only={','.join(names)}", "--json=a.json",
           "--csv=a.csv", "--html=a.html")  # fmt: skip
    status, out, _ = elite(capsys, *run)
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split() == ["model", "board", "M", "cycles", "MHz", "ms", "SRAM", "kB", "flash",
                            "kB", "DRAM", "kB", "operators", "MACs"]  # fmt: skip
    assert [line.split()[:2] for line in lines] == [
        [str(file), name] for file in (light, heavy) for name in names
    ]
    assert all(line.endswith("100.0 %  100.0 %") for line in lines)
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert tuple(rows[0]) == results.COLUMNS
    found = {(row["board"], Path(row["model"]).name): row for row in rows}
    slow, fast, large = (found[name, "heavy.int8.tflite"] for name in names)
    assert float(slow["npu_cycles"]) > 2 * float(fast["npu_cycles"])
    # The same file in other words: cycles at the clock, and what must fit into memory.
    for row in (slow, fast, large):
        milliseconds = float(row["npu_cycles"]) / float(row["npu_mhz"]) / 1e3
        assert float(row["median_ms"]) == float(row["npu_ms"]) == pytest.approx(milliseconds)
        assert float(row["sram_bytes"]) > 64 * 64 * 3
    assert float(fast["flash_bytes"]) > 5000 > float(fast["dram_bytes"]) == 0
    assert float(large["dram_bytes"]) > 5000 > float(large["flash_bytes"]) == 0
    assert float(slow["ratio"]) > 1
    assert (slow["runs"], slow["system"]) == ("", "estimated, not run")
    assert "Accelerators, estimated" in Path("a.html").read_text()
    assert Path("ethos-u.results/u55-32-sram_only.json").is_file()
    assert elite(capsys, *run)[2].startswith("u55-32-sram_only: measured already")


@needs_vela
def test_what_is_left_to_the_processor_is_named_and_has_no_latency(here, capsys):
    file = partly(here / "partly.int8.tflite")
    elite(capsys, "add", "npu", "ethos-u", "accelerator=ethos-u55-128")
    elite(capsys, "add", "here", "local")
    status, out, err = elite(
        capsys, "run", file, "--runs=2", "--json=a.json", "--csv=a.csv", "--html=a.html"
    )
    assert status == 0
    first, second = out.split("\n\n")
    assert first.splitlines()[0].split() == ["model", "here", "ms"]
    assert second.splitlines()[1].split()[:2] == [str(file), "npu"]
    assert f"elite boards: npu: {file}: left to the processor: t" in err
    (row,) = json.loads(Path("a.json").read_text())["boards"][0]["rows"]
    assert row["median_ms"] is None and row["npu_ms"] > 0
    assert row["npu_operators"] == pytest.approx(3 / 4)
    first_macs, left_macs, last_macs = 32 * 32 * 9 * 3 * 8, 7 * 7 * 9 * 8 * 8, 8 * 5
    total = first_macs + left_macs + last_macs
    assert row["npu_macs"] == pytest.approx(1 - left_macs / total)
    page = Path("a.html").read_text()
    assert "Left to the processor" in page and "Accelerators, estimated" in page


@needs_vela
def test_an_accelerator_s_estimates_limit_a_search(here, capsys):
    spec = spec_by_name("mobilenetv1-0.25", classes=5, base_resolution=16)
    file = model(here / f"{spec.name}.int8.tflite", spec.resolution, 4)
    elite(capsys, "run", file, "--ethos_u", "--only=u65-256-sram_only")
    found = metric_table.latencies(here / "ethos-u.results/u65-256-sram_only.csv", [spec])
    assert 0 < found[spec.name] < 1
    partly(file)
    elite(capsys, "run", file, "--ethos_u", "--only=u55-64-sram_only")
    with pytest.raises(UserError, match="has no int8 latency for 1 of 1 candidates"):
        metric_table.latencies(here / "ethos-u.results/u55-64-sram_only.csv", [spec])


@needs_vela
def test_wrong_files_and_configurations_cost_a_line(here, capsys):
    light, _ = models(here)
    broken = here / "broken.tflite"
    broken.write_bytes(b"nothing")
    elite(capsys, "add", "a", "ethos-u", "accelerator=ethos-u55-64", "memory_mode=Nothing")
    status, out, err = elite(capsys, "run", light, broken)
    assert status == 0
    assert out.splitlines()[1].split() == [str(light), "a", *"-" * 8]
    assert err.count("\n") == 3
    assert f"a: {light}: Vela cannot compile the model: " in err
    assert "is none of ethos-u55-32, " in elite(
        capsys, "add", "b", "ethos-u", "accelerator=ethos-u1"
    )[2]  # fmt: skip
    assert "--ethos_u has no board b; it has u55-32-sram_only, " in elite(
        capsys, "list", "--ethos_u", "--only=b"
    )[2]  # fmt: skip


def test_vela_that_is_missing_costs_the_board(here, capsys, monkeypatch):
    monkeypatch.setattr(vela, "available", lambda: False)
    light, _ = models(here)
    status, _, err = elite(capsys, "run", light, "--ethos_u", "--only=u55-32-sram_only")
    assert status == 1
    assert err == (
        "elite boards: u55-32-sram_only: Ethos-U cycles are estimated by Vela, which is not "
        "installed: pip install ethos-u-vela\n"
    )
