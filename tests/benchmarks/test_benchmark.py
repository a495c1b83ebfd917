"""The latency program: its functions, the program, and alone where there is no TensorFlow."""

import ast
import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from efficientnet_elite.benchmarks import host, latency
from efficientnet_elite.benchmarks.latency import Options, measure_latencies
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.job.latencies import measure_exported
from efficientnet_elite.search.ledger import Ledger

FOLDER = Path(latency.__file__).parent
FEW = Options(runs=5, warmup=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A float model, its int8 form, and a far heavier one."""
    folder = tmp_path_factory.mktemp("models")

    def network(width: int, side: int) -> keras.Model:
        image = keras.Input((side, side, 3))
        x = layers.Conv2D(width, 3, activation="relu")(image)
        x = layers.Conv2D(width, 3, activation="relu")(x)
        return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))

    light = network(8, 16)
    images = np.random.default_rng(0).uniform(-1, 0.99, (8, 16, 16, 3))
    files = {
        "light": to_tflite(light, calibration=None),
        "int8": to_tflite(light, calibration=images),
        "heavy": to_tflite(network(64, 64), calibration=None),
    }
    paths = {name: folder / f"{name}.tflite" for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    return paths


@pytest.fixture
def bad(models, tmp_path) -> dict[str, Path]:
    """Files that cannot be run, one for each way to be bad."""
    good = models["light"].read_bytes()
    rng = np.random.default_rng(0)
    model = schema.ModelT.InitFromPackedBuf(good)
    model.operatorCodes[0] = schema.OperatorCodeT(
        builtinCode=schema.BuiltinOperator.CUSTOM,
        deprecatedBuiltinCode=schema.BuiltinOperator.CUSTOM,
        customCode="NobodyHasThis",
    )
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    contents = {
        "truncated": good[: len(good) // 2],
        "random": rng.bytes(5000),
        "random-with-magic": rng.bytes(4) + b"TFL3" + rng.bytes(5000),
        "empty": b"",
        "text": b"<!DOCTYPE html><html>404</html>",
        "custom-operator": bytes(builder.Output()),
    }
    paths = {name: tmp_path / f"{name}.tflite" for name in (*contents, "missing", "folder")}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    paths["folder"].mkdir()
    return paths


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=FOLDER.parent
    )


def test_rows_describe_the_models(models):
    light, int8, heavy = measure_latencies(list(models.values()), Options(runs=20, threads=2))
    assert [row.model for row in (light, int8, heavy)] == [str(path) for path in models.values()]
    assert (light.input, int8.input) == ("1x16x16x3 float32", "1x16x16x3 int8")
    for row in (light, int8, heavy):
        assert row.file_bytes == Path(row.model).stat().st_size
        assert (row.runs, row.threads, row.error) == (20, 2, None)
        assert 0 < row.min_ms <= row.median_ms <= row.p90_ms
        assert row.min_ms <= row.mean_ms
    assert light.ratio == 1
    assert heavy.ratio > 5  # 140 times the arithmetic


class Machine:
    """A fake clock, and fake LiteRT interpreters whose inferences advance it.

    Args:
      milliseconds: gives the duration of an inference from the model's name and the number of
        inferences before it.

    Attributes:
      log: names of the models that ran an inference, in order, without the first inference of each
        interpreter (when it is loaded).
    """

    def __init__(self, monkeypatch, milliseconds: Callable[[str, int], float]):
        self.now = 0
        self.log: list[str] = []
        self.milliseconds = milliseconds

        def interpreter(model_path: str, num_threads: int) -> FakeInterpreter:
            return FakeInterpreter(self, Path(model_path).name)

        monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", interpreter)
        monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: self.now)


class FakeInterpreter:
    def __init__(self, machine: Machine, name: str):
        self.machine, self.name = machine, name
        self.loaded = False

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict]:
        return []

    def invoke(self) -> None:
        if not self.loaded:
            self.loaded = True
            return
        machine = self.machine
        machine.now += round(machine.milliseconds(self.name, len(machine.log)) * 1e6)
        machine.log.append(self.name)


@pytest.fixture
def three(tmp_path) -> list[Path]:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def test_ratios_hold_on_a_machine_that_changes_its_speed(monkeypatch, three):
    costs = {"a": 3, "b": 1.5, "c": 12}
    # The machine slows down from round to round; a round has two inferences of three models.
    Machine(monkeypatch, lambda name, inferences: costs[name] * (1 + inferences // 6 % 10))
    rows = measure_latencies(three, Options(runs=50, warmup=0))
    assert [row.ratio for row in rows] == [1, 0.5, 4]
    assert rows[0].min_ms == 3
    assert rows[0].median_ms == pytest.approx(3 * 5.5)


def test_models_take_turns_in_changing_order(monkeypatch, three):
    machine = Machine(monkeypatch, lambda name, inferences: 1)
    measure_latencies(three, Options(runs=30, warmup=4, seed=1))
    warmup, turns = machine.log[:12], machine.log[12:]
    assert warmup == list("abc") * 4
    # A turn is two inferences, the first untimed; a round has each model once.
    assert turns[::2] == turns[1::2]
    rounds = ["".join(turns[start : start + 6 : 2]) for start in range(0, len(turns), 6)]
    assert len(rounds) == 30
    assert all(sorted(order) == list("abc") for order in rounds)
    assert len(set(rounds)) == 6

    again = Machine(monkeypatch, lambda name, inferences: 1)
    measure_latencies(three, Options(runs=30, warmup=4, seed=1))
    assert again.log == machine.log
    other = Machine(monkeypatch, lambda name, inferences: 1)
    measure_latencies(three, Options(runs=30, warmup=4, seed=2))
    assert other.log != machine.log


def test_statistics(monkeypatch, three):
    """One hundred known times: 1 to 100 ms, shuffled."""
    times = [float(ms) for ms in range(1, 101)]
    random.Random(0).shuffle(times)
    # Each timed inference follows an untimed one.
    Machine(monkeypatch, lambda name, inferences: times[inferences // 2])
    (row,) = measure_latencies(three[:1], Options(runs=100, warmup=0))
    statistics = (row.min_ms, row.median_ms, row.mean_ms, row.p90_ms)
    assert statistics == pytest.approx((1, 50.5, 50.5, 90.1))


def test_progress_counts_the_rounds(models):
    seen = []
    measure_latencies([models["light"]], FEW, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]


def test_bad_files_cost_a_line_each_and_the_others_are_measured(models, bad, tmp_path):
    result = tmp_path / "result.json"
    arguments = [*bad.values(), models["light"], models["heavy"], f"--json={result}", "--runs=3"]
    done = program(*arguments)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "cannot be run" in line]
    assert len(lines) == len(bad)
    for line, path in zip(lines, bad.values(), strict=True):
        assert f"{path}: cannot be run: " in line
    assert "Traceback" not in done.stderr
    assert "NobodyHasThis" in lines[list(bad).index("custom-operator")]
    assert "no such file" in lines[list(bad).index("missing")]

    rows = json.loads(result.read_text())["rows"]
    assert [row["model"] for row in rows] == [str(argument) for argument in arguments[:-2]]
    assert all(row["error"] and row["median_ms"] is None for row in rows[: len(bad)])
    light, heavy = rows[len(bad) :]
    assert light["error"] is None
    assert light["ratio"] == 1  # the first that could be run
    assert heavy["median_ms"] > 0


def test_all_files_bad(bad):
    done = program(bad["empty"], "--csv=-")
    assert done.returncode == 1
    assert next(csv.DictReader(done.stdout.splitlines()))["error"]


def test_json_and_csv_say_the_same(models, tmp_path):
    as_json, as_csv = tmp_path / "r.json", tmp_path / "r.csv"
    done = program(models["light"], models["int8"], f"--json={as_json}", f"--csv={as_csv}")
    assert done.returncode == 0, done.stderr
    result = json.loads(as_json.read_text())
    options = {"runs": 100, "warmup": 10, "threads": 1, "seed": 0, "sustained": 0}
    assert result["options"] == options
    assert result["host"]["runtime"].startswith("ai-edge-litert ")
    assert result["host"]["peak_rss_mb"] > 10
    assert result["host"]["cores"] == os.cpu_count()
    lines = list(csv.DictReader(as_csv.read_text().splitlines()))
    for line, row in zip(lines, result["rows"], strict=True):
        values = {**row, **result["host"], **result["conditions"]}
        assert line == {key: "" if value is None else str(value) for key, value in values.items()}
    head, columns, *table = done.stdout.splitlines()
    assert result["host"]["cpu"] in head
    assert columns.split()[:4] == ["model", "input", "kB", "median"]
    assert [line.split()[0] for line in table] == [str(models["light"]), str(models["int8"])]
    assert sorted(tmp_path.iterdir()) == [as_csv, as_json]


def test_dash_writes_that_alone_to_stdout(models):
    done = program(models["light"], "--json=-", "--runs=2")
    assert json.loads(done.stdout)["rows"][0]["runs"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model given"),
        (["m.tflite", "--threads=0"], "--threads=0"),
        (["m.tflite", "--runs=many"], "--runs=many"),
        (["m.tflite", "--thread=1"], "thread"),
        (["m.tflite", "--json=/nowhere/r.json"], "the folder of /nowhere/r.json does not exist"),
        (["m.tflite", "--json=-", "--csv=-"], "--json and --csv both write to -"),
    ],
)
def test_usage_errors(capsys, arguments, message):
    assert latency.main(["latency", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert message in err


def test_figures_that_cannot_be_kept_are_shown(models, tmp_path, capsys):
    target = tmp_path / "r.json"
    Path(f"{target}.part").mkdir()  # what is written first, to be renamed when it is complete
    assert latency.main(["latency", str(models["light"]), "--runs=2", f"--json={target}"]) == 1
    out, err = capsys.readouterr()
    assert str(models["light"]) in out
    assert err == f"latency: {target}.part: Is a directory\n"


def test_the_files_of_a_search_are_those_that_its_sidecars_name(models, tmp_path, capsys):
    with pytest.raises(UserError, match="nothing is exported"):
        measure_exported(tmp_path)
    folder = tmp_path / "export" / "net"
    folder.mkdir(parents=True)
    for name in ("net.int8.tflite", "net.float16.tflite"):  # the second is of an earlier export
        shutil.copy(models["int8"], folder / name)
    sidecar = folder / "net.json"
    sidecar.write_text(json.dumps({"files": {"int8": {"file": "net.int8.tflite"}}}))
    with Ledger(tmp_path, create=True):
        pass
    assert measure_exported(tmp_path, ["--runs=2"]).status == 0
    (row,) = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert row["model"] == str(folder / "net.int8.tflite")
    for damaged in ("{", "[]", '{"files": {"int8": 7}}'):
        sidecar.write_text(damaged)
        with pytest.raises(UserError, match=r"net\.json is damaged: run `elite export"):
            measure_exported(tmp_path)


SHARED = {"__init__", "command", "figures", "ratios", "study", "tables", "trained"}
STUDIES = sorted({path.stem for path in (FOLDER / "studies").glob("*.py")} - SHARED)


@pytest.mark.parametrize("name", STUDIES)
def test_studies_run_from_a_checkout_and_list_their_flags(name):
    command = [sys.executable, "-m", f"benchmarks.studies.{name}"]
    root = FOLDER.parent
    good, bad = (
        subprocess.run([*command, flag], capture_output=True, text=True, timeout=60, cwd=root)
        for flag in ("--help", "--colour=red")
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert re.search(r"^ +--\w+: ", good.stdout, re.MULTILINE)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.endswith("Unknown command line flag 'colour' (--help lists the flags)\n")
    assert bad.stderr.count("\n") == 1
    listing = (FOLDER / "studies/README.md").read_text()
    assert f"| `{name}" in listing
    assert f"python -m benchmarks.studies.{name}" in good.stdout


def test_flags_of_one_call_do_not_reach_the_next(models, tmp_path, capsys):
    result = tmp_path / "r.json"
    model = str(models["light"])
    assert latency.main(["latency", model, "--runs=2", f"--json={result}"]) == 0
    result.unlink()
    assert latency.main(["latency", model, "--runs=2"]) == 0
    assert not result.exists()
    assert "1x16x16x3 float32" in capsys.readouterr().out


def test_help_lists_the_flags(capsys):
    assert latency.main(["latency", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"--{name}:" in out for name in ("runs", "warmup", "threads", "seed", "json", "csv"))


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R) N100\nprocessor\t: 1\n", None, "Intel(R) N100"),
        (
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
            b"Raspberry Pi 4 Model B Rev 1.4\0",
            "Raspberry Pi 4 Model B Rev 1.4, 1x Cortex-A72",
        ),
        (
            "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nHardware\t: BCM2835\n",
            b"Raspberry Pi 3 Model B\0",
            "Raspberry Pi 3 Model B, ARMv7 Processor rev 4 (v7l)",
        ),
        ("processor\t: 0\nHardware\t: Qualcomm SM8250\n", None, "Qualcomm SM8250"),
        ("processor\t: 0\nmodel name\t:\n", None, "from platform"),
        (None, None, "from platform"),
    ],
)
def test_cpu_name(tmp_path, monkeypatch, cpuinfo, board, name):
    monkeypatch.setattr(host.platform, "processor", lambda: "from platform")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    if cpuinfo is not None:
        (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    if board is not None:
        (tmp_path / "proc/device-tree/model").write_bytes(board)
    assert host.cpu_name(tmp_path) == name


def test_what_models_need_alone_is_measured_in_processes_of_their_own(models):
    light, heavy = latency.measure_all(
        [str(models["light"]), str(models["heavy"])], Options(runs=3, warmup=0, sustained=1)
    )
    for row in (light, heavy):
        assert row.initialisation_ms > 0 and row.first_ms > 0 and row.rss_mb > 0
        assert row.p5_ms <= row.median_ms <= row.p95_ms
        assert len(row.sustained_ms) == 1
    assert heavy.first_ms > light.first_ms
    assert heavy.sustained_ms[0] > light.sustained_ms[0]


def test_a_model_that_crashes_its_process_costs_only_its_row(models, monkeypatch, tmp_path):
    crashing = tmp_path / "alone.py"
    crashing.write_text(
        f"import runpy, signal, os, sys\n"
        f"if 'heavy' in sys.argv[1]: os.kill(os.getpid(), signal.SIGSEGV)\n"
        f"runpy.run_path({latency.alone.__file__!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(latency.alone, "__file__", str(crashing))
    light, heavy = latency.measure_all([str(models["light"]), str(models["heavy"])], FEW)
    assert (light.error, heavy.error) == (None, "its process was ended by SIGSEGV")
    assert light.median_ms > 0 and heavy.median_ms is None


def files(root: Path, **contents: str) -> None:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


CORES = [(0x41, 0xD05, 1_800_000)] * 2 + [(0x41, 0xD0B, 2_400_000), (0x99, 0x123, None)]


def test_kinds_of_cores(tmp_path):
    text = ""
    for number, (implementer, part, khz) in enumerate(CORES):
        text += f"processor\t: {number}\nCPU implementer\t: {implementer:#x}\n"
        text += f"CPU part\t: {part:#x}\nCPU revision\t: 0\n\n"
        if khz:
            folder = f"sys/devices/system/cpu/cpu{number}/cpufreq"
            files(tmp_path, **{f"{folder}/cpuinfo_max_freq": f"{khz}\n"})
    files(tmp_path, **{"proc/cpuinfo": text})
    assert host.clusters(tmp_path) == (
        "2x Cortex-A55 1.80 GHz, 1x Cortex-A76 2.40 GHz, 1x part 0x123 of implementer 0x99"
    )
    assert host.clusters(tmp_path / "nothing") is None


def test_conditions(tmp_path):
    """A warm phone on battery whose fan or clock limit is in use, and then a machine that idles."""
    cpu = "sys/devices/system/cpu/cpu0"
    files(
        tmp_path,
        **{
            "proc/cpuinfo": "processor\t: 0\nprocessor\t: 1\n",
            "proc/loadavg": "1.50 1.00 0.50 2/99 1234\n",
            f"{cpu}/cpufreq/scaling_cur_freq": "1200000\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1800000\n",
            f"{cpu}/cpufreq/scaling_governor": "schedutil\n",
            "sys/class/thermal/thermal_zone0/temp": "61500\n",
            "sys/class/thermal/thermal_zone1/temp": "-274000\n",
            "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
            "sys/class/thermal/cooling_device0/cur_state": "2\n",
            "sys/class/power_supply/battery/status": "Discharging\n",
        },
    )
    before = host.state(tmp_path)
    assert before == host.State(1500.0, 61.5, 0.75, True, None, True)
    warm = host.conditions(before, before, tmp_path)
    assert (warm.governor, warm.throttled, warm.on_battery) == ("schedutil", True, True)
    assert warm.marks == "load of 0.75 a core; throttled; on battery"
    idle = host.State(2400.0, 40.0, 0.1, False, 7, None)
    assert host.conditions(idle, idle, tmp_path).marks == ""
    counted = host.State(2400.0, 40.0, 0.1, False, 8, None)
    assert host.conditions(idle, counted, tmp_path).marks == "throttled"
    firmware = "sys/devices/platform/soc/soc:firmware/get_throttled"
    files(tmp_path, **{firmware: "50005\n", "sys/class/thermal/cooling_device0/cur_state": "0"})
    assert host.state(tmp_path).limited is True
    files(tmp_path, **{firmware: "50000\n"})  # it was throttled once, and is not now
    assert host.state(tmp_path).limited is False


def test_a_mode_that_saves_power_is_a_mark(tmp_path):
    profile = "sys/firmware/acpi/platform_profile"
    assert host.conditions(host.state(tmp_path), host.state(tmp_path), tmp_path).marks == ""
    files(tmp_path, **{profile: "balanced\n", "proc/cpuinfo": "processor\t: 0\n"})
    before = host.state(tmp_path)
    files(tmp_path, **{profile: "low-power\n"})
    found = host.conditions(before, host.state(tmp_path), tmp_path)
    assert (found.battery_saver, found.marks) == (True, "battery saver")
    assert host.conditions(before, before, tmp_path).battery_saver is False


def energy_counters(root: Path, *packages: int) -> dict[str, tuple[float, float]]:
    """Counters of processors, of their parts, and of the whole machine, as Linux has them."""
    folder = "sys/class/powercap"
    zones = {f"intel-rapl:{n}": (f"package-{n}", uj) for n, uj in enumerate(packages)}
    zones |= {"intel-rapl:0:0": ("core", 5), "intel-rapl:9": ("psys", 7)}
    zones |= {"intel-rapl-mmio:0": ("package-0", packages[0])}
    for zone, (name, microjoules) in zones.items():
        files(root, **{f"{folder}/{zone}/name": f"{name}\n",
                       f"{folder}/{zone}/energy_uj": f"{microjoules}\n",
                       f"{folder}/{zone}/max_energy_range_uj": "9000000\n"})  # fmt: skip
    return host.energy(root)


def test_energy_of_all_processors_and_nothing_twice(tmp_path):
    before = energy_counters(tmp_path, 1_000_000, 8_500_000)
    after = energy_counters(tmp_path, 3_000_000, 500_000)  # the second one began anew
    assert host.joules(before, after) == pytest.approx(2 + 1)
    assert host.energy(tmp_path / "nothing") == {}
    assert host.joules({}, {}) is host.joules(before, {}) is None


def test_energy_of_an_inference(models, tmp_path, monkeypatch):
    states = iter([energy_counters(tmp_path, 1_000_000), energy_counters(tmp_path, 3_000_000)])
    monkeypatch.setattr(host, "energy", lambda: next(states))
    (row,) = measure_latencies([models["light"]], Options(runs=1, warmup=0, sustained=1))
    assert row.energy_mj is not None
    inferences = 2000 / row.energy_mj  # of 2 joules in all
    assert inferences == pytest.approx(round(inferences))
    assert 0.2 < inferences * row.sustained_ms[0] / 1000 < 1.5  # what fits into a second
    monkeypatch.setattr(host, "energy", dict)
    (row,) = measure_latencies([models["light"]], Options(runs=1, warmup=0, sustained=1))
    assert row.energy_mj is None and row.sustained_ms


def test_sources_are_python_3_9():
    for path in FOLDER.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.mark.slow
def test_on_a_machine_without_tensorflow(models, tmp_path):
    """A new environment with the three packages, and the copied folder."""
    environment, folder = tmp_path / "venv", tmp_path / "board" / "benchmarks"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    # Nothing of this checkout or of the test's environment.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(python), *map(str, arguments)]
        where = folder.parent
        return subprocess.run(command, capture_output=True, text=True, env=clean, cwd=where)

    def install(*packages: str) -> None:
        done = run("-m", "pip", "install", "--quiet", *packages)
        if done.returncode and "No matching distribution" in done.stderr:
            pytest.skip(f"pip reaches no package index: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "studies"))
    install("absl-py", "numpy")
    done = run("-m", "benchmarks", models["light"])
    assert done.returncode == 1
    assert done.stderr.endswith("__main__.py: needs LiteRT: pip install ai-edge-litert\n")
    assert done.stderr.count("\n") == 1

    install("ai-edge-litert")
    for absent in ("tensorflow", "keras", "efficientnet_elite"):
        assert f"No module named '{absent}'" in run("-c", f"import {absent}").stderr
    done = run(
        "-m", "benchmarks", models["light"], models["int8"], "--runs=5", "--json=result.json"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder.parent / "result.json").read_text())["rows"]
    assert [row["input"] for row in rows] == ["1x16x16x3 float32", "1x16x16x3 int8"]
    assert all(row["median_ms"] > 0 for row in rows)
