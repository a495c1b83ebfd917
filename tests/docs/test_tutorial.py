"""The tutorial's commands and Python run as they are printed, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
SIDE = 60  # pixels of the images that stand for the reader's photographs


def write_photographs(folder: Path) -> None:
    """Writes enlarged digits as PNG files, 40 each of three classes."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).astype("uint8")
    for label in range(3):
        (folder / f"class-{label}").mkdir(parents=True)
        for number, image in enumerate(images[digits.target == label][:40]):
            enlarged = Image.fromarray(image).resize((SIDE, SIDE))
            enlarged.save(folder / f"class-{label}" / f"{number}.png")


def test_the_page_has_blocks_of_both_kinds_only():
    assert {language for language, _ in BLOCKS} == {"shell", "python"}


@pytest.mark.slow
def test_runs_as_printed(tmp_path):
    write_photographs(tmp_path / "PHOTOS")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    programs = {"shell": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    printed = []
    for language, block in BLOCKS:
        done = subprocess.run(
            [*programs[language], block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)

    (right,) = re.findall(r"(\d+) of 200 digits are right", "".join(printed))
    assert int(right) > 120
    for workdir in ("tutorial", "try"):
        assert "<html" in (tmp_path / "runs" / workdir / "report.html").read_text()
