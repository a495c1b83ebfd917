"""`elite boards`: the file of boards, this machine as one, what is kept, and the table."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from efficientnet_elite import cli
from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.device import metric_table
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.boards import definitions, program, results
from efficientnet_elite.job.boards.kinds import KINDS
from efficientnet_elite.networks.names import spec_by_name
from tests.support.boards import model, models


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def elite(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["boards", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_boards_are_added_and_listed(here, capsys):
    assert elite(capsys, "add", "here", "local", "cores=0") == (
        0,
        "boards.toml: here, this machine\n",
        "",
    )
    ssh = ("add", "pi4", "ssh", "address=pi@pi4", "port=2222", "options=LogLevel=ERROR,Ciphers=x")
    assert elite(capsys, *ssh)[0] == 0
    assert Path("boards.toml").read_text() == (
        '[here]\nkind = "local"\ncores = "0"\n\n'
        '[pi4]\nkind = "ssh"\naddress = "pi@pi4"\nport = 2222\n'
        'options = ["LogLevel=ERROR", "Ciphers=x"]\n'
    )
    status, out, _ = elite(capsys, "list", "--format=json")
    assert (status, json.loads(out)[1]["port"]) == (0, 2222)
    status, out, _ = elite(capsys, "list", "--only=here")
    assert out == "board  kind   settings\nhere   local  cores = 0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "boards.toml has no board"),
        ("[a", "boards.toml is not TOML: "),
        ("port = 1", "'port' stands outside of a board: [port] begins one"),
        ('["a b"]\nkind = "local"', "the name 'a b' has more than letters, digits, - and _"),
        ("[a]", "kind = None of a is none of local, ssh, adb, qemu, cortex-m, ethos-u, browser"),
        ('[a]\nkind = "ssh"', "a lacks address: host, user@host, or a name of ~/.ssh/config"),
        ('[a]\nkind = "local"\ncore = "1"', "a has no setting 'core'; those of local: cores"),
        ('[a]\nkind = "local"\ncores = 1', "cores of a must be of type str"),
        ('[a]\nkind = "ssh"\naddress = "b"\nport = true', "port of a must be of type int"),
        (
            '[a]\nkind = "cortex-m"\ncpu = "z80"',
            "cpu = 'z80' of a is none of cortex-m4, cortex-m55",
        ),
    ],
)
def test_a_wrong_file_is_told_in_a_line(here, capsys, text, message):
    Path("boards.toml").write_text(text)
    status, out, err = elite(capsys, "list")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("elite boards: boards.toml") and message in err


def test_wrong_calls_change_nothing(here, capsys):
    assert "there is no boards.toml: `elite boards add NAME" in elite(capsys, "list")[2]
    assert elite(capsys)[2] == (
        "elite boards: the first argument says what to do: run, list, check, add, kinds\n"
    )
    for wrong in (["a"], ["a", "local", "cores"], ["a", "nothing"], ["a", "ssh"]):
        assert elite(capsys, "add", *wrong)[0] == 1
    assert list(here.iterdir()) == []
    elite(capsys, "add", "a", "local")
    assert elite(capsys, "add", "a", "local")[2].endswith("has a board a already\n")
    assert "has no board b; it has a" in elite(capsys, "list", "--only=b")[2]
    assert elite(capsys, "run")[2] == "elite boards: name .tflite files, or give --workdir\n"
    both = elite(capsys, "run", "a.tflite", "--json=x", "--html=x")
    assert both[2] == "elite boards: --json, --csv and --html must name different files\n"
    folder = elite(capsys, "run", "a.tflite", f"--csv={here}")
    assert folder[2] == f"elite boards: {here} is a folder: name a file to write\n"
    assert elite(capsys, "run", "--workdir=work")[2] == (
        "elite boards: nothing is exported in work: run `elite export --workdir=work`\n"
    )
    missing = elite(capsys, "run", "nothing.tflite")
    assert missing[2].startswith("elite boards: nothing.tflite is missing: ")


def test_every_kind_is_listed_with_its_settings(here, capsys):
    lines = elite(capsys, "kinds")[1].splitlines()
    assert {line.split()[0] for line in lines[1:]} == set(KINDS)


def test_this_machine_is_measured_once(here, capsys):
    light, heavy = models(here)
    broken = here / "broken.tflite"
    broken.write_bytes(b"nothing")
    elite(capsys, "add", "here", "local")
    run = ("run", light, heavy, broken, "--runs=5", "--json=a.json", "--csv=a.csv", "--html=a.html")
    status, out, err = elite(capsys, *run)
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split() == ["model", "here", "ms"]
    shown = {line.split()[0]: line.split()[1] for line in lines}
    assert list(shown) == [str(light), str(heavy), str(broken)]
    assert float(shown[str(heavy)]) > float(shown[str(light)]) > 0
    assert shown[str(broken)] == "-"
    assert err.startswith("here: measured\n")
    assert f"elite boards: here: {broken}: " in err

    (board,) = json.loads(Path("a.json").read_text())["boards"]
    assert (board["board"], board["kind"], board["error"]) == ("here", "local", None)
    assert board["host"]["runtime"].startswith("ai-edge-litert ")
    assert [row["input"] for row in board["rows"]] == ["1x16x16x3 int8", "1x64x64x3 int8", None]
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert tuple(rows[0]) == results.COLUMNS
    assert float(rows[1]["median_ms"]) == board["rows"][1]["median_ms"]
    page = Path("a.html").read_text()
    assert "3 files on 1 board" in page and "heavy.int8" in page and "<svg" in page

    again = elite(capsys, *run)
    assert again[1] == out
    assert again[2].startswith(f"here: measured already, at {board['measured_at']}\n")
    model(light, 16, 5)  # another file of this name
    assert elite(capsys, *run)[2].startswith("here: measured\n")
    assert elite(capsys, *run, "--fresh")[2].startswith("here: measured\n")
    assert elite(capsys, *run, "--threads=2")[2].startswith("here: measured\n")


def test_a_board_that_fails_costs_its_rows_alone(here, capsys):
    light, _ = models(here)
    elite(capsys, "add", "gone", "ssh", "address=127.0.0.1", "port=1")
    elite(capsys, "add", "here", "local")
    status, out, err = elite(capsys, "run", light, "--runs=2", "--csv=a.csv", "--html=a.html")
    assert status == 1
    assert out.splitlines()[0].split() == ["model", "here", "ms"]
    (line,) = [line for line in err.splitlines() if "gone" in line]
    assert line.startswith("elite boards: gone: ")
    gone, row = csv.DictReader(Path("a.csv").read_text().splitlines())
    assert gone["error"] and not gone["model"]
    assert row["board"] == "here" and float(row["median_ms"]) > 0
    assert not Path("boards.results/gone.json").exists()
    status, out, _ = elite(capsys, "check", "--format=json")
    assert status == 1
    assert [row["ready"] for row in json.loads(out)] == [False, True]


def test_the_table_of_a_board_limits_a_search(here, capsys):
    spec = spec_by_name("mobilenetv1-0.25", classes=5, base_resolution=16)
    file = model(here / f"{spec.name}.int8.tflite", spec.resolution, 4)
    for name in ("one", "two"):
        elite(capsys, "add", name, "local")
    elite(capsys, "run", file, "--runs=2", "--csv=all.csv")
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    for form in ("csv", "json"):
        found = metric_table.latencies(here / f"boards.results/one.{form}", [spec])
        assert found == {spec.name: float(rows[0]["median_ms"])}
    with pytest.raises(UserError, match=r"all\.csv is about one, two: name the file of one board"):
        metric_table.latencies(here / "all.csv", [spec])


def test_a_table_of_instructions_is_none_of_latencies(tmp_path):
    path = tmp_path / "a76.csv"
    path.write_text("model,input,median_ms,instructions\na.tflite,1x8x8x3 int8,,5000\n")
    with pytest.raises(UserError, match="has instructions, which are no latencies"):
        metric_table.latencies(path, [])
    path.write_text("model,input\na,b\n")
    with pytest.raises(UserError, match="is not what `elite benchmark"):
        metric_table.latencies(path, [])


def test_accuracies_of_exported_files_are_known(here, capsys):
    """Of a work directory; a file that was exported again has none."""
    folder = here / "work" / "export" / "net"
    for name in ("net", "other"):
        folder = here / "work" / "export" / name
        folder.mkdir(parents=True)
        file = model(folder / f"{name}.int8.tflite", 16, 4 if name == "net" else 8)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        sidecar = {
            "files": {"int8": {"file": file.name, "sha256": digest}},
            "verification": {"int8_accuracy": 0.75, "float_accuracy": 0.8},
        }
        (folder / f"{name}.json").write_text(json.dumps(sidecar))
    elite(capsys, "add", "here", "local")
    run = ("run", "--workdir=work", "--runs=2", "--csv=a.csv", "--html=a.html")
    assert elite(capsys, *run)[0] == 0
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert [row["accuracy"] for row in rows] == ["0.75", "0.75"]
    assert "Accuracy on here" in Path("a.html").read_text()
    assert (here / "work/boards/here.json").is_file()
    model(folder / "other.int8.tflite", 16, 6)
    assert results.accuracy(folder / "other.int8.tflite") is None


def test_what_the_program_says_when_it_fails(tmp_path):
    for status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        with pytest.raises(UserError, match="the program was ended by SIGKILL"):
            program.parse("", "half a line", status, [tmp_path])
    with pytest.raises(UserError, match="the program failed: No module named benchmarks"):
        program.parse("", "\n/bin/python: \nNo module named benchmarks\n", 1, [tmp_path])


def test_a_signal_ends_the_command_and_what_it_started(here, capsys):
    _, heavy = models(here)
    for name in ("one", "two"):
        elite(capsys, "add", name, "local")
    command = [sys.executable, "-m", "efficientnet_elite", "boards", "run"]
    process = subprocess.Popen(
        [*command, str(heavy), "--runs=1000000"], stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{process.pid}/task")
    deadline = time.monotonic() + 60
    # No pause: the signal meets the command while it waits for the new process to begin.
    while not any((task / "children").read_text() for task in children.iterdir()):
        assert time.monotonic() < deadline
    started = [int(pid) for task in children.iterdir()
               for pid in (task / "children").read_text().split()]  # fmt: skip
    process.terminate()
    try:
        _, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:  # what goes on measuring would slow down all other tests
        for pid in (*started, process.pid):
            os.kill(pid, signal.SIGKILL)
        raise
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "\nelite boards: ended by SIGTERM; the same command goes on from here\n"
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not Path("boards.results").exists()


def test_cores_are_kept_to_and_models_run_without_a_pause(here, capsys):
    light, _ = models(here)
    elite(capsys, "add", "here", "local", "cores=0")
    run = ("run", light, "--runs=2", "--sustained=2", "--json=a.json", "--html=a.html")
    assert elite(capsys, *run)[0] == 0
    (board,) = json.loads(Path("a.json").read_text())["boards"]
    assert board["conditions"]["affinity"] == "0"
    assert len(board["rows"][0]["sustained_ms"]) == 2
    assert "Latency without a pause" in Path("a.html").read_text()


BROWSER = {
    "host": {"cpu": "Pixel 8", "cores": 9, "system": "Android 14", "python": "none",
             "runtime": "LiteRT.js 2", "peak_rss_mb": None, "browser": "Chrome 130"},
    "options": {"runs": 50, "warmup": 5, "threads": 1, "seed": 0},
}  # fmt: skip


def test_a_browser_s_files_are_taken(here, capsys):
    light, heavy = models(here)
    for file, ms in ((light, 2.0), (heavy, 6.0)):
        row = {"model": file.name, "file_bytes": file.stat().st_size, "median_ms": ms,
               "input": "1x16x16x3 int8", "threads": 1, "runs": 50, "error": None}  # fmt: skip
        Path(f"{file.stem}.json").write_text(json.dumps({**BROWSER, "rows": [row]}))
    elite(capsys, "add", "phone", "browser", "results=light.int8.json,heavy.int8.json")
    assert "Pixel 8, LiteRT.js 2, 2 measurements" in elite(capsys, "check")[1]
    other = model(here / "other.tflite", 16, 3)
    assert elite(capsys, "run", light, heavy, other, "--json=a.json")[0] == 0
    (board,) = json.loads(Path("a.json").read_text())["boards"]
    assert [row["median_ms"] for row in board["rows"]] == [2.0, 6.0, None]
    assert [row["ratio"] for row in board["rows"]] == [1.0, 3.0, None]
    assert board["rows"][2]["error"] == "none of the page's files is about it"
    model(light, 16, 5)
    assert "the page measured another file of this name" in elite(capsys, "run", light)[2]
    Path("light.int8.json").write_text("{}")
    assert "is no measurement of a web package" in elite(capsys, "run", light)[2]


def test_a_kind_from_outside(here, capsys, monkeypatch):
    """A kind of board is a table's entry; nothing else is to be told."""

    def measure(board, files, options, scratch):
        rows = [{"model": str(file), "median_ms": 7.0, "instructions": None, "error": None}
                for file in files]  # fmt: skip
        return {"host": {}, "conditions": {}, "options": {}, "rows": rows}

    mine = definitions.Kind("mine", "mine", (), check=lambda board: "mine", measure=measure)
    monkeypatch.setitem(KINDS, "mine", mine)
    light, _ = models(here)
    elite(capsys, "add", "a", "mine")
    assert elite(capsys, "run", light)[1].splitlines()[1].split() == [str(light), "7.000"]


def test_options_reach_the_program():
    command = program.command(["python"], ["-a.tflite"], Options(runs=3, sustained=2))
    assert command[-2:] == ["--", "-a.tflite"]
    assert {"--runs=3", "--sustained=2", "--json=-"} <= set(command)
