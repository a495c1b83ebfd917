"""Emulated boards: instruction counts of LiteRT on Cortex-A, and of networks in C on Cortex-M."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ai_edge_litert
import pytest

from efficientnet_elite import cli
from efficientnet_elite.benchmarks import host
from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.export.runtimes.compiled_c import CORTEX_M4
from efficientnet_elite.job.boards import qemu
from efficientnet_elite.job.boards.definitions import Board
from efficientnet_elite.job.boards.kinds import CPUS, KINDS
from tests.support.boards import models

ROOT = Path(os.environ.get("ARM64_ROOT", Path(__file__).parents[3] / "shared" / "arm64"))
NATIVE = "qemu-x86_64"
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc: apt-get install gcc")
needs_native = pytest.mark.skipif(
    shutil.which(NATIVE) is None or os.uname().machine != "x86_64",
    reason=f"no {NATIVE}, or another processor: apt-get install qemu-user",
)


def elite(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["boards", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


LOOP = """
#include <stdlib.h>
int main(int count, char **arguments) {
  (void)count;
  long left = atol(arguments[1]);
  __asm__ volatile("1: nop; dec %0; jnz 1b" : "+r"(left));
  return 0;
}
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(CORTEX_M4.missing() is not None, reason=str(CORTEX_M4.missing()))
def test_emulated_microcontrollers(here, capsys):
    light, heavy = models(here)
    broken = here / "broken.tflite"
    broken.write_bytes(b"TFL3" * 10)
    elite(capsys, "add", "m4", "cortex-m")
    elite(capsys, "add", "m55", "cortex-m", "cpu=cortex-m55")
    status, out, err = elite(capsys, "run", light, heavy, broken, "--json=a.json", "--html=a.html")
    assert status == 0
    assert out.splitlines()[0].split() == ["model", "m4", "M", "instr.", "m55", "M", "instr."]
    m4, m55 = json.loads(Path("a.json").read_text())["boards"]
    assert [board["host"]["clusters"] for board in (m4, m55)] == ["1x Cortex-M4", "1x Cortex-M55"]
    assert 2 * m55["rows"][1]["instructions"] < m4["rows"][1]["instructions"]
    first, second, third = m4["rows"]
    # 64x the pixels and 23 times the arithmetic of each; no latency is invented for them.
    assert second["instructions"] > 50 * first["instructions"] > 50 * 50_000
    assert (first["median_ms"], third["instructions"]) == (None, None)
    assert f"elite boards: m4: {broken}: " in err
    assert "million instructions" in Path("a.html").read_text()


@needs_gcc
@needs_native
def test_the_plugin_counts_instructions(tmp_path):
    qemu._compile(tmp_path)

    def count(*command: str) -> int:
        emulator = [NATIVE, "-plugin", str(tmp_path / "instructions.so"), *command]
        done = subprocess.run(emulator, capture_output=True, text=True, check=True)
        (found,) = re.findall(r"^instructions=(\d+)$", done.stderr, re.M)
        return int(found)

    source, loop = tmp_path / "loop.c", tmp_path / "loop"
    source.write_text(LOOP)
    subprocess.run(["gcc", "-static", "-o", str(loop), str(source)], check=True)
    few, many = count(str(loop), "2000"), count(str(loop), "7000")
    assert many - few == pytest.approx(5000 * 3, abs=50)  # reading the number differs, too


@pytest.fixture
def native(tmp_path, monkeypatch) -> Board:
    """A board that is this machine's processor, emulated: LiteRT and plugin are the real ones."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3").symlink_to(sys.executable)
    monkeypatch.setattr(qemu, "EMULATOR", NATIVE)
    monkeypatch.setitem(qemu._PROCESSORS, "max", (0xD0B, "fp"))
    settings = {
        "cpu": "max",
        "root": "root",
        "packages": str(Path(ai_edge_litert.__file__).parents[1]),
    }
    return Board("native", KINDS["qemu"], settings, tmp_path)


@pytest.mark.slow
@needs_gcc
@needs_native
def test_counts_of_litert_repeat(native, tmp_path):
    light, heavy = models(tmp_path)
    (tmp_path / "scratch").mkdir()
    results = [
        native.measure(files, Options(), tmp_path / "scratch")
        for files in ([light, heavy], [heavy])
    ]
    first, second = results[0]["rows"]
    assert first["error"] is None
    assert second["instructions"] > 20 * first["instructions"] > 20 * 1000
    # This Python is not that of a root: where its memory lies differs from run to run.
    again = results[1]["rows"][0]["instructions"]
    assert again == pytest.approx(second["instructions"], rel=1e-2)
    assert results[0]["host"]["clusters"] == "1x Cortex-A76"


def test_what_an_emulated_board_lacks(here, capsys, monkeypatch):
    light, _ = models(here)
    root = here / "root"
    (root / "usr/bin").mkdir(parents=True)
    elite(capsys, "add", "a76", "qemu", "cpu=cortex-a76", "root=root")
    monkeypatch.setattr(qemu, "EMULATOR", "qemu-of-nobody")
    assert elite(capsys, "run", light)[2] == (
        "elite boards: a76: qemu-of-nobody is not installed: apt-get install qemu-user gcc\n"
    )
    monkeypatch.setattr(qemu, "EMULATOR", "sh")
    assert elite(capsys, "run", light)[2] == (
        f"elite boards: a76: {root} holds no usr/bin/python3 (docs/boards.md makes it)\n"
    )
    (root / "usr/bin/python3").touch()
    assert elite(capsys, "run", light)[2] == (
        f"elite boards: a76: {root}/packages holds no ai-edge-litert (docs/boards.md installs it)\n"
    )
    assert elite(capsys, "add", "c", "qemu", "cpu=cortex-a9", "root=root")[2].endswith(
        "cpu = 'cortex-a9' of c is none of cortex-a53, cortex-a72, cortex-a76, neoverse-n1\n"
    )


@pytest.mark.parametrize("cpu", CPUS)
def test_linux_tells_which_processor_is_emulated(tmp_path, cpu):
    qemu._describe(tmp_path, cpu)
    names = {"cortex-a53": "Cortex-A53", "cortex-a72": "Cortex-A72", "cortex-a76": "Cortex-A76",
             "neoverse-n1": "Neoverse-N1"}  # fmt: skip
    assert host.clusters(tmp_path) == f"1x {names[cpu]}"


@pytest.mark.slow
@needs_gcc
@pytest.mark.skipif(not ROOT.is_dir(), reason="no system for aarch64: docs/boards.md makes one")
def test_an_emulated_cortex_a(here, capsys):
    """Newer cores need fewer instructions, because they have those for dot products."""
    light, _ = models(here)
    for cpu in ("cortex-a53", "cortex-a76"):
        elite(capsys, "add", cpu, "qemu", f"cpu={cpu}", f"root={ROOT}")
    assert elite(capsys, "check")[0] == 0
    status, _, err = elite(capsys, "run", light, "--json=a.json")
    assert status == 0, err
    counts = [
        board["rows"][0]["instructions"]
        for board in json.loads(Path("a.json").read_text())["boards"]
    ]
    assert counts[0] > counts[1] > 10_000
    elsewhere = shutil.copy(light, here / "of-another-name.tflite")
    elite(capsys, "run", elsewhere, "--only=cortex-a76", "--json=b.json")
    (board,) = json.loads(Path("b.json").read_text())["boards"]
    assert board["rows"][0]["instructions"] == pytest.approx(counts[1], rel=1e-4)
