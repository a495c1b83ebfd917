"""Packages of a search's champions, by the command line, on the shared search."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.export import formats, inspect
from efficientnet_elite.export.runtimes import tflm
from efficientnet_elite.export.workdir import export_networks
from tests.support import tflm_runs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--workdir={0} --labels=x", "--labels belongs to --model"),
        ("--workdir={0} --dataset=digits", "--dataset belongs to a .keras file"),
        ("--workdir={0} --accelerator=x", "--accelerator belongs to --target=ethos-u or micro"),
        ("--workdir={0} --target=web --layers=3", "--layers shows what is exported without"),
        ("--workdir={0} --target=web --output=softmax", "leave --output=softmax out"),
        ("--model={0}/x.tflite", "say what to make of it with --target"),
        ("--model={0}/x.tflite --target=web --formats=float16", "--formats has no effect"),
        ("--model={0}/x.tflite --target=web --max_accuracy_drop=1", "--max_accuracy_drop has no"),
        ("--model={0}/x.keras --target=android --output=softmax", "leave --output=softmax out"),
        ("--model={0}/x.tflite --target=web --patches=2x2", "use --target=micro or c"),
        ("--model={0}/x.tflite --target=c --patches=auto", "--patches=auto needs --max_arena_kb"),
        ("--workdir={0} --max_arena_kb=9", "--max_arena_kb belongs to --patches=auto"),
        ("--workdir={0} --patches=1x1", "use auto, none, or rows and columns such as 4x4"),
        ("--model={0}/x.keras --remedies=qat", "--remedies needs images, which --dataset names"),
    ],
)
def test_flags_without_effect_are_refused(tmp_path, capsys, arguments, said):
    assert cli.main(["export", *arguments.format(tmp_path).split()]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.slow
def test_a_champion_is_exported_again_as_it_was(searched, tmp_path):
    """What a later call does not speak of stays as an earlier one wanted it."""
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    name = json.loads((workdir / "champions.json").read_text())[-1]["name"]
    path = workdir / "export" / name / f"{name}.json"
    uint8, float16 = formats.Format("int8", "uint8"), formats.Format("float16")

    def export(**options) -> tuple[bool, dict]:
        """Whether it had to be exported, and what its sidecar says then."""
        made = export_networks(workdir, names=[name], progress=False, **options)
        return bool(made), json.loads(path.read_text())

    asked = {"method": "percentile", "calibration_images": 20, "max_accuracy_drop": 100.0}
    _, first = export(formats=[float16], remedies=["qat", "calibration"], **asked)
    settings = first["details"]["settings"]
    assert settings == {
        **asked, "output": "logits", "remedies": ["calibration", "qat"],
        "unknown": None, "unknown_precision": None,
        "patches": "none", "max_arena_kb": None, "arena": "TFLM",
    }  # fmt: skip
    assert set(first["files"]) == {"float32", "int8", "float16"}
    assert export(again=False) == (False, first)
    assert export(again=False, **asked) == (False, first)

    exported, second = export(again=False, formats=[uint8])  # as a package for Android wants it
    assert exported
    assert set(second["files"]) == {"float32", "int8", "float16", "int8.uint8"}
    assert second["files"]["int8"] == first["files"]["int8"]
    assert second["details"]["settings"] == settings
    assert second["int8_remedies"]["needed_accuracy"] == first["int8_remedies"]["needed_accuracy"]

    exported, third = export(again=False, calibration_images=10)
    assert exported
    assert len(third["details"]["calibration"]["indices"]) == 10
    assert third["details"]["settings"] == {**settings, "calibration_images": 10}
    assert set(third["files"]) == set(second["files"])

    # Of an older version, which did not write down what it was asked for.
    del third["details"]["settings"]
    path.write_text(json.dumps(third))
    assert export(again=False) == (False, third)
    exported, fourth = export(again=False, max_accuracy_drop=90.0)
    assert exported
    assert fourth["details"]["settings"] | {"remedies": []} == {
        **{"calibration_images": 10, "method": "percentile", "output": "logits"},
        **{"max_accuracy_drop": 90.0, "remedies": []},
        **{"unknown": None, "unknown_precision": None},
        **{"patches": "none", "max_arena_kb": None, "arena": "TFLM"},
    }
    path.write_text("{")
    exported, anew = export(again=False)
    assert exported
    assert anew["details"]["settings"]["method"] == "auto"
    assert set(anew["files"]) == {"float32", "int8"}


@pytest.mark.slow
@pytest.mark.usefixtures("registry")
@pytest.mark.skipif(not tflm.available(), reason="pip install --pre tflite-micro")
def test_packages_of_a_champion(searched, tmp_path, capsys):
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    champion = json.loads((workdir / "champions.json").read_text())[-1]["name"]
    folder = workdir / "export" / champion

    def package(target: str) -> dict[str, int]:
        """Runs the command; when each exported model was written."""
        assert cli.main(["export", f"--workdir={workdir}", f"--target={target}", champion]) == 0
        header, line = capsys.readouterr().out.splitlines()
        assert header.split() == ["network", "model", "arena", "package"]
        assert line.startswith(champion)
        assert str(folder / target) in line
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tflite")}

    exported = package("micro")
    assert set(exported) == {f"{champion}.{kind}.tflite" for kind in ("float32", "int8")}
    sidecar = json.loads((folder / f"{champion}.json").read_text())
    assert sidecar["details"]["start"] is None  # random weights
    (config,) = folder.glob("micro/*/src/*_config.h")
    (crop,) = re.findall(r"kCropFraction = (.*)f;", config.read_text())
    assert float(crop) == pytest.approx(sidecar["details"]["crop_fraction"])
    assert package("micro") == exported  # nothing is exported twice

    (arena,) = map(int, re.findall(r"kArenaBytes = (\d+);", config.read_text()))
    model = (folder / f"{champion}.int8.tflite").read_bytes()
    side = inspect.image_shape(inspect.read(model))[0]
    images = np.zeros((1, side, side, 3), np.float32)
    assert tflm_runs.run(model, images, arena).shape == (1, 10)

    again = package("android")
    assert set(again) - set(exported) == {f"{champion}.int8.uint8.tflite"}
    (packaged,) = (folder / "android").rglob(f"{champion}.tflite")
    (image,) = inspect.read(packaged.read_bytes()).inputs
    assert image.type == "UINT8"
    assert package("web") == again
    assert (folder / "web" / f"{champion}.int8.tflite").read_bytes() == model
    assert package("micro") == again
