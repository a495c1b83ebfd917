"""The ``elite`` command as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from efficientnet_elite import __version__, cli
from efficientnet_elite.cli import search
from efficientnet_elite.data import SkippedImage
from efficientnet_elite.networks.families.efficientnet import TABLE_3
from efficientnet_elite.networks.names import MEMBERS, spec_by_name
from efficientnet_elite.search.candidates import pool_candidates
from efficientnet_elite.search.ledger import Ledger
from tests.support.command import elite

COMMANDS = (
    *("models", "weights", "data", "search", "config", "status", "train", "evaluate", "export"),
    *("benchmark", "report", "predict", "doctor", "completion"),
)
COLUMNS = ["name", "width", "depth", "resolution", "params", "macs", "group"]


def output(capsys, *arguments: str | Path) -> str:
    """What a command that succeeds says on stdout."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


# Runs commands one after the other and names the heavy modules that got imported.
LIGHT = """
import sys
from efficientnet_elite.cli import main
for command in sys.argv[1:]:
    status = main(command.split())
    assert status == 0, (command, status)
heavy = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets", "matplotlib", "sklearn"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def light(*commands: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *commands], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    return done


def test_help_is_light():
    out = light("--help", *(f"{command} --help" for command in COMMANDS)).stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", out, re.MULTILINE)
        assert f"\nelite {command}: " in out


@pytest.mark.parametrize(("family", "size"), [("elite", 64), ("hf", 32)])
def test_models_is_light_and_its_json_is_all_there_is(family, size):
    rows = json.loads(light(f"models --pool={family} --format=json").stdout)
    assert len(rows) == size
    for row, candidate in zip(rows, pool_candidates(family), strict=True):
        spec = candidate.spec
        assert row == {
            "name": candidate.name,
            "width": candidate.width,
            "depth": candidate.depth,
            "resolution": spec.resolution,
            "params": spec.params,
            "macs": spec.macs,
            "group": candidate.group,
        }
    assert {row["width"] for row in rows} == set(TABLE_3.width)
    heaviest = max(rows, key=lambda row: row["macs"])
    assert heaviest["group"] == 0


def test_models_as_csv(capsys):
    text = output(capsys, "models", "--pool=elite", "--format=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 64
    (last,) = [row for row in rows if row["name"] == "elite9"]
    spec = spec_by_name("elite9")
    assert (int(last["params"]), int(last["macs"])) == (spec.params, spec.macs)
    assert (last["width"], last["depth"], last["resolution"]) == ("0.514", "0.5", "224")


def test_models_as_a_table(capsys):
    lines = output(capsys, "models").splitlines()
    assert lines[0].split()[:7] == COLUMNS
    assert [line.split()[0] for line in lines[1:]] == list(MEMBERS)
    assert lines[-7].split() == [
        "elite9", "0.514", "0.5", "224", "1.340", "M", "74.56", "M", "9", "65.46"
    ]  # fmt: skip
    assert len(set(map(len, lines))) == 1


def test_models_for_ones_own_images(capsys):
    text = output(
        capsys, "models", "--pool=hf", "--base_resolution=48", "--classes=5", "--groups=2",
        "--group_method=count", "--format=json",
    )  # fmt: skip
    rows = json.loads(text)
    assert {row["resolution"] for row in rows} == {64, 32}
    assert {row["group"] for row in rows} == {0, 1, 2, 3}
    (hf5,) = [row for row in rows if row["name"] == "hf5"]
    assert hf5["params"] == spec_by_name("hf5", classes=5).params


def test_usage(capsys):
    assert output(capsys, "--version") == f"efficientnet-elite {__version__}\n"
    assert output(capsys, "help") == output(capsys, "-h") == output(capsys, "--help")
    assert cli.main([]) == 2
    assert "usage: elite COMMAND" in capsys.readouterr().out


def test_as_a_process():
    """Exit codes and streams of the real thing."""
    good, bad = elite("models", "--format=json"), elite("tidy")
    assert (good.returncode, good.stderr) == (0, "")
    assert len(json.loads(good.stdout)) == 16
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "elite: no command 'tidy'; `elite --help` lists them\n"


@pytest.mark.parametrize("arguments", ["models --pool=elite", "search --help"])
def test_output_that_cannot_be_written(arguments):
    """Nobody reads on, as behind `| head -1`; no room is left where it goes to."""
    command = [sys.executable, "-m", "efficientnet_elite", *arguments.split()]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as unread:
        done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    told = f"elite {arguments.split()[0]}: No space left on device\n"
    assert (done.returncode, done.stderr.decode()) == (1, told)


@pytest.mark.parametrize(
    ("command", "hint"),
    [("models", ""), ("search --workdir={0}", "; the same command goes on from here")],
)
def test_ctrl_c_costs_one_line(monkeypatch, tmp_path, capsys, command, hint):
    def interrupted(*_):
        raise KeyboardInterrupt

    name, *flags = command.format(tmp_path).split()
    monkeypatch.setattr(f"efficientnet_elite.cli.{name}.run", interrupted)
    assert cli.main([name, *flags]) == 130
    assert capsys.readouterr().err == f"\nelite {name}: interrupted{hint}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_flags(capsys, command):
    text = output(capsys, command, "--help")
    flags = cli.import_module(f"efficientnet_elite.cli.{command}").FLAGS
    assert text.startswith(f"elite {command}: ")
    for name in flags:
        assert re.search(rf"^  --{name}\n +\S", text, re.MULTILINE), name
    if not list(flags):
        return
    lines = text[text.index("Flags:") :].splitlines()
    assert max(map(len, lines)) <= 110
    assert [line for line in lines[1:] if not re.match(r"(  --\w+$|      \S)", line)] == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("models --pool=resnet", 1, "resnet"),
        ("models --pool=elite9", 1, "'elite9': did you mean elite?"),
        ("models --colour=red", 2, "colour"),
        ("models --classes=0", 2, "classes"),
        ("models --groups=none", 2, "groups"),
        ("models elite9", 1, "unexpected argument 'elite9'"),
        ("models --base_resolution=4", 1, "base_resolution=4"),
        ("search --config=slow --workdir={0}", 2, "slow"),
        ("search --epochs=0 --workdir={0}", 1, "epochs=0"),
        ("search --round_epochs=99 --workdir={0}", 1, "round_epochs=99"),
        (
            "search --rule=best --first_elimination=3 --workdir={0}",
            1,
            "first_elimination has no effect under the rule best: leave it out",
        ),
        ("search --max_candidates=0 --workdir={0}", 1, "max_candidates=0"),
        ("search --base_resolution=4 --workdir={0}", 1, "base_resolution=4"),
        ("search --dataset=cats --workdir={0}", 1, "cats"),
        ("search photos --workdir={0}", 1, "photos does not exist: give a folder"),
        ("status", 2, "workdir"),
        ("status --workdir=", 2, "--workdir=DIR"),  # a variable that is not set
        ("status --workdir={0}", 1, "no search in"),
        ("status --workdir={1}", 1, "is a file"),
        ("search --workdir={1}", 1, "is a file"),
        ("train --workdir={0}", 1, "name networks"),
        ("train resnet50 --workdir={0}", 1, "resnet50"),
        ("train elite9@tall --workdir={0}", 1, "NETWORK@PIXELS"),
        ("train elite9@² --workdir={0}", 1, "NETWORK@PIXELS"),
        ("train squeezenet-1.1@8 --workdir={0}", 1, "cannot be made for 8 x 8 pixels"),
        ("evaluate", 1, "name .npz checkpoints"),
        ("evaluate {0}/photo.jpg", 1, "photo.jpg"),
        (
            "evaluate {2} --workdir={0} --dataset=digits",
            1,
            "--dataset has no effect with --workdir",
        ),
        ("verify {2} --workdir={0} --validation=0.1", 1, "--validation has no effect with"),
        ("evaluate {0}/absent.npz", 1, "absent.npz"),
        ("evaluate {0}/absent.tflite", 1, "absent.tflite"),
        ("export", 2, "workdir"),
        ("export --workdir={0}", 1, "ledger.sqlite is missing"),
        ("benchmark", 1, "name .tflite files"),
        ("benchmark --workdir={0}", 1, "nothing is exported"),
        ("benchmark --runs=0 {0}/a.tflite", 2, "runs"),
        ("report --workdir={0}", 1, "no search in"),
    ],
)
def test_mistakes_cost_one_line(capfd, tmp_path, arguments, status, said):
    model = Path(__file__).parents[1] / "support/foreign/uint8_11.tflite"
    words = arguments.format(tmp_path, __file__, model).split()
    capfd.readouterr()
    assert cli.main(words) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"elite {words[0]}: ")
    assert err.count("\n") == 1, err
    assert said in err


@pytest.mark.parametrize("command", ["status", "replay", "report"])
def test_a_ledger_whose_disk_has_lost_bits(searched, tmp_path, capsys, command):
    content = bytearray((searched / "ledger.sqlite").read_bytes())
    for place in Random(0).sample(range(4096, len(content)), 400):  # the first page is sound
        content[place] ^= 0xFF
    (tmp_path / "ledger.sqlite").write_bytes(content)
    assert cli.main([command, f"--workdir={tmp_path}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"elite {command}: ledger.sqlite is damaged (")
    assert err.count("\n") == 1


def test_a_search_that_has_not_begun(tmp_path, capsys):
    """Killed between the ledger's creation and its first entry."""
    with Ledger(tmp_path, create=True):
        pass
    for command in ("status", "report", "export"):
        assert cli.main([command, f"--workdir={tmp_path}"]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err


# -- on the shared search ------------------------------------------------------------------------


def test_status(searched, capsys):
    text = output(capsys, "status", f"--workdir={searched}")
    state = json.loads(output(capsys, "status", "--format=json", f"--workdir={searched}"))
    champions = json.loads((searched / "champions.json").read_text())
    members = [member for group in state["groups"] for member in group["members"]]
    assert {member["name"] for member in members if member["state"] == "champion"} == {
        champion["name"] for champion in champions
    }
    assert state["epochs_done"] == state["epochs_forecast"] == 7
    for member in members:
        assert member["name"] in text


def test_from_champions_to_the_report(searched, tmp_path, capsys):
    """Each later step alone, by its own command, on a search that stopped before them."""
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    champion = json.loads((workdir / "champions.json").read_text())[-1]["name"]
    table = output(capsys, "export", champion, f"--workdir={workdir}").splitlines()
    assert [line.split()[0] for line in table] == ["champion", champion]
    folder = workdir / "export" / champion
    models = sorted(path.name for path in folder.glob("*.tflite"))
    assert models == [f"{champion}.float32.tflite", f"{champion}.int8.tflite"]

    measured = output(capsys, "benchmark", "--runs=3", "--warmup=1", f"--workdir={workdir}")
    assert all(name in measured for name in models)
    assert len(json.loads((workdir / "benchmark.json").read_text())["rows"]) == 2

    evaluated = output(
        capsys, "evaluate", folder / models[1], workdir / "checkpoints" / f"{champion}.npz",
        f"--workdir={workdir}",
    )  # fmt: skip
    int8, averaged = (float(line.split()[-1].rstrip("%")) for line in evaluated.splitlines()[1:])
    exported = [float(cell.rstrip("%")) for cell in table[1].split()[3:5]]
    assert int8 == pytest.approx(exported[1], abs=0.011)
    assert averaged == pytest.approx(exported[0], abs=0.5)  # LiteRT may flip an image on the edge

    path = workdir / "report.html"
    assert output(capsys, "report", f"--workdir={workdir}") == f"{path}\n"
    assert champion in path.read_text()


def test_evaluate_wants_the_images_of_the_network(searched, capsys):
    """Of another number of classes, or masks: one line, and no figure that means nothing."""
    champion = json.loads((searched / "champions.json").read_text())[-1]["name"]
    checkpoint = searched / "checkpoints" / f"{champion}.npz"
    for dataset, wanted in (
        ("rendered:classes=3,images=12,size=32", "3"),
        ("rendered_masks:classes=2,images=12,size=32", "x 3"),
    ):
        assert cli.main(["evaluate", str(checkpoint), f"--dataset={dataset}"]) == 1
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith(f"elite evaluate: {checkpoint} gives 10 values for an image, ")
        assert f"{wanted}: name the images" in last


def test_train_continues_and_reports(tmp_path, capsys):
    command = ["train", "elite9@8", "--epochs=1", "--batch_size=256",
               f"--workdir={tmp_path}"]  # fmt: skip
    lines = output(capsys, *command).splitlines()
    (row,) = (line for line in lines if re.fullmatch(r"elite9@8 +8 .*% +- +1", line))
    assert lines[-1].endswith("report.html")
    (result,) = json.loads((tmp_path / "train.json").read_text())
    assert len(result["test_accuracies"]) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").iterdir()}
    assert row in output(capsys, *command).splitlines()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_bad_set_does_not_fill_the_screen(capsys):
    name = search._skipped_printer()
    for number in range(1000):
        name(SkippedImage(f"{number}.jpg", "empty file"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["skipped 0.jpg: empty file", "skipped 1.jpg: empty file"]
    assert len(lines) == 21 and "skipped_images" in lines[-1]
