"""Phones: a program in the place of adb that answers as phones do."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.boards import adb
from tests.support.boards import models

# The form of benchmark_model's output, with figures of this test. {median} is in microseconds.
OUTPUT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [4]
INFO: Num threads: [1]
INFO: Graph: [{graph}]
INFO: Loaded model {graph}
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 0.012
INFO: Initialized session in 5.579ms.
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if \
exceeding 150 seconds.
INFO: count=1 curr=13576 p5=13576 median=13576 p95=13576

INFO: Running benchmark for at least 4 iterations and at least 0 seconds but terminate if \
exceeding 150 seconds.
INFO: count=4 first={median} curr={median} min={least} max=19000 avg=1.24027e+04 std=25 \
p5={least} median={median} p95=12474

INFO: Inference timings in us: Init: 5579, First inference: 13576, Warmup (avg): 1.3576e+04, \
Inference (avg): 1.24027e+04
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your \
discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=10.5
"""

FILES = {
    "/proc/cpuinfo": "".join(
        f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
        for n, part in enumerate(["0xd05", "0xd05", "0xd41"])
    ),
    "/sys/devices/system/cpu/cpu2/cpufreq/cpuinfo_max_freq": "2400000\n",
    "/sys/class/thermal/thermal_zone0/temp": "38000\n",
    "/sys/class/thermal/cooling_device0/type": "cpufreq-cpu2\n",
    "/sys/class/thermal/cooling_device0/cur_state": "1\n",
}

ADB = """\
#!{python}
import json, sys
from pathlib import Path

folder = Path({folder!r})
phone = json.loads((folder / "phone.json").read_text())
arguments = sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if arguments[0] == "-s":
    serial, arguments = arguments[1], arguments[2:]
    if serial != phone["serial"]:
        sys.exit(f"error: device '{{serial}}' not found")
made = sum('benchmark_model --graph' in line for line in (folder / "calls").open())
if made > phone["lasts"]:
    sys.exit("adb: no devices/emulators found")
if arguments[0] == "get-state":
    print("device")
elif arguments[0] == "push":
    if not Path(arguments[1]).is_file():
        sys.exit(f"adb: error: cannot stat '{{arguments[1]}}': No such file or directory")
elif arguments[0] == "shell":
    script = arguments[1]
    if script.startswith("getprop "):
        print(phone["properties"].get(script.split()[1], ""))
    elif script.startswith("uname"):
        print("Linux 6.1.57-android14 aarch64")
    elif "--graph=" in script:
        model = script.split("--graph=")[1].split()[0].split("/")[-1]
        if model not in phone["outputs"]:
            print("ERROR: Failed to initialize the interpreter")
            sys.exit(1)
        print(phone["outputs"][model])
    elif script.startswith("settings get global low_power"):
        print(phone["low_power"])
    elif script.startswith("dumpsys battery"):
        print("Current Battery Service state:\\n  AC powered: false\\n  status: " + phone["status"])
    elif script.startswith("for f in"):
        for name, text in phone["files"].items():
            print(f"==== {{name}}")
            print(text, end="")
"""


class Phone:
    """What the program answers; `calls` are those that were made."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.content = {
            "serial": "0A1B2C",
            "lasts": 1000,
            "low_power": "null",  # of a phone on which it was never on
            "status": "2",
            "properties": {
                "ro.product.manufacturer": "Fairphone",
                "ro.product.model": "FP5",
                "ro.soc.model": "QCM6490",
                "ro.build.version.release": "14",
            },
            "files": FILES,
            "outputs": {
                f"{index}.tflite": OUTPUT.format(graph=f"{index}.tflite", median=us, least=us - 100)
                for index, us in ((0, 2000), (1, 6000))
            },
        }

    def write(self) -> None:
        (self.folder / "phone.json").write_text(json.dumps(self.content))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def phone(tmp_path, monkeypatch, capsys) -> Phone:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "programs" / "adb"
    program.parent.mkdir()
    program.write_text(ADB.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "benchmark_model").write_bytes(b"for arm64")
    elite(capsys, "add", "fp5", "adb", "serial=0A1B2C", "benchmark_model=benchmark_model")
    phone = Phone(tmp_path)
    phone.write()
    return phone


def elite(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["boards", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_phone_is_measured_in_turns(phone, capsys, tmp_path):
    light, heavy = models(tmp_path)
    assert elite(capsys, "check")[1].splitlines()[1] == (
        "fp5    adb   yes    Fairphone FP5 (QCM6490), Android 14, Linux 6.1.57-android14 aarch64"
    )
    status, out, err = elite(capsys, "run", light, heavy, "--runs=20", "--csv=a.csv")
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["2.000", "6.000"]
    assert "elite boards: fp5: not to be trusted: throttled\n" in err
    first, second = csv.DictReader(Path("a.csv").read_text().splitlines())
    assert first["cpu"] == "Fairphone FP5 (QCM6490), Android 14"
    assert first["clusters"] == "2x Cortex-A55, 1x Cortex-A78 2.40 GHz"
    assert (first["cores"], first["celsius_before"], first["throttled"]) == ("3", "38.0", "True")
    assert (second["ratio"], second["runs"], second["input"]) == ("3.0", "20", "1x64x64x3 int8")
    assert (second["min_ms"], second["p5_ms"], second["p90_ms"]) == ("5.9", "5.9", "")
    assert float(second["mean_ms"]) == pytest.approx(12.4027)
    assert (second["initialisation_ms"], second["first_ms"]) == ("5.579", "13.576")
    assert float(second["rss_mb"]) == pytest.approx(10.5 * 1.048576)
    assert (second["delegate"], second["delegated"]) == ("XNNPACK", "")
    assert second["file_bytes"] == str(heavy.stat().st_size)

    scripts = [call[-1] for call in phone.calls() if "--graph=" in call[-1]]
    assert all("--num_threads=1 --num_runs=4 " in script for script in scripts)
    order = [script.split("--graph=")[1].split()[0][-8] for script in scripts]
    rounds = ["".join(order[start : start + 2]) for start in range(0, 10, 2)]
    assert len(order) == 10 and {"".join(sorted(each)) for each in rounds} == {"01"}
    assert set(rounds) == {"01", "10"}
    assert phone.calls()[-1][-1].startswith("rm -rf ")


def test_a_model_that_the_phone_cannot_run_costs_its_row(phone, capsys, tmp_path):
    light, heavy = models(tmp_path)
    del phone.content["outputs"]["0.tflite"]
    phone.write()
    status, out, err = elite(capsys, "run", light, heavy, "--runs=5")
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["-", "6.000"]
    assert (
        f"fp5: {light}: benchmark_model failed: ERROR: Failed to initialize the interpreter" in err
    )


def test_a_phone_that_is_gone_in_the_middle(phone, capsys, tmp_path):
    light, heavy = models(tmp_path)
    phone.content["lasts"] = 3
    phone.write()
    status, out, err = elite(capsys, "run", light, heavy, "--runs=20")
    assert (status, out) == (1, "model\n")
    assert err == "elite boards: fp5: adb: no devices/emulators found\n"


def test_a_phone_that_saves_power(phone, capsys, tmp_path):
    light, _ = models(tmp_path)
    phone.content["files"] = {"/proc/cpuinfo": FILES["/proc/cpuinfo"]}

    def conditions() -> dict[str, object]:
        phone.write()
        assert elite(capsys, "run", light, "--runs=5", "--fresh", "--json=a.json")[0] == 0
        return json.loads(Path("a.json").read_text())["boards"][0]["conditions"]

    found = conditions()
    assert (found["battery_saver"], found["on_battery"], found["marks"]) == (None, False, "")
    phone.content |= {"low_power": "1", "status": "3"}
    found = conditions()
    assert (found["battery_saver"], found["on_battery"]) == (True, True)
    assert found["marks"] == "on battery; battery saver"
    phone.content |= {"low_power": "0"}
    assert conditions()["battery_saver"] is False


def test_another_phone(phone, capsys, tmp_path):
    light, _ = models(tmp_path)
    phone.content["serial"] = "9Z"
    phone.write()
    assert elite(capsys, "run", light)[2] == ("elite boards: fp5: adb: device '0A1B2C' not found\n")


def test_no_adb(phone, capsys, tmp_path, monkeypatch):
    light, _ = models(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert elite(capsys, "run", light)[2] == (
        "elite boards: fp5: adb is not installed: apt-get install adb\n"
    )


def test_no_benchmark_model(phone, capsys, tmp_path):
    light, _ = models(tmp_path)
    (tmp_path / "benchmark_model").unlink()
    assert elite(capsys, "run", light)[2] == (
        f"elite boards: fp5: benchmark_model = '{tmp_path}/benchmark_model' does not exist\n"
    )


def test_what_benchmark_model_says_of_delegates():
    base = OUTPUT.format(graph="a", median=2000, least=1900)
    said = "INFO: Explicitly applied GPU delegate, and the model graph will be {} executed by the "
    for text, expected in (
        (base.replace("Created", "Forgot"), (None, None)),
        (base + said.format("completely") + "delegate.\n", ("GPU", 1.0)),
        (base + said.format("partially") + "delegate w/ 2 delegate kernels.\n", ("GPU", None)),
    ):
        row = adb.parsed(text)
        assert (row.delegate, row.delegated) == expected


def test_an_old_benchmark_model_prints_no_median():
    old = OUTPUT.format(graph="a", median=2000, least=1900).replace("median=", "middle=")
    with pytest.raises(UserError, match="prints no median"):
        adb.parsed(old)
