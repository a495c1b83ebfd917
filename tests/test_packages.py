"""Packages of a search's champions, by the command line, on the shared search."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_web import registry  # noqa: F401, a fixture: npm without network

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, tflm


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
        assert line.endswith(str(folder / target))
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tflite")}

    exported = package("micro")
    assert set(exported) == {f"{champion}.{kind}.tflite" for kind in ("float32", "int8")}
    sidecar = json.loads((folder / f"{champion}.json").read_text())
    (config,) = folder.glob("micro/src/*_config.h")
    (crop,) = re.findall(r"kCropFraction = (.*)f;", config.read_text())
    assert float(crop) == pytest.approx(sidecar["details"]["crop_fraction"])
    assert package("micro") == exported  # nothing is exported twice

    # Few activations: planning takes more memory than what TFLM reports in the end.
    (arena,) = map(int, re.findall(r"kArenaBytes = (\d+);", config.read_text()))
    model = (folder / f"{champion}.int8.tflite").read_bytes()
    side = inspect.image_side(inspect.read(model))
    images = np.zeros((1, side, side, 3), np.float32)
    assert tflm.run(model, images, arena).shape == (1, 10)
    with pytest.raises(UserError, match="TFLM cannot load the model"):
        tflm.run(model, images, arena - tflm.ALIGNMENT)

    again = package("android")
    assert set(again) - set(exported) == {f"{champion}.int8.uint8.tflite"}
    (image,) = inspect.read((folder / "android" / f"{champion}.tflite").read_bytes()).inputs
    assert image.type == "UINT8"
    assert package("web") == again
    assert (folder / "web" / f"{champion}.int8.tflite").read_bytes() == model
    assert package("micro") == again
