"""The study of the speed of images runs on a folder of JPEG images and writes its rows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.studies.input_speed", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_all_paths_are_measured(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(120):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(images / f"{i}.jpg")
    (images / "broken.jpg").write_bytes(b"no image")
    done = run(
        f"--images={images}",
        "--resolutions=24",
        "--turns=1",
        "--count=100",
        f"--json={tmp_path / 'rows.json'}",
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    paths = [row["path"] for row in rows]
    assert paths == ["decode", "cached", "cached+augment", "uncached", "evaluation", "keras"]
    for row in rows:
        assert row["resolution"] == 24 and row["images_per_cpu_second"] > 0
    assert rows[0]["ratio"] == 1


@pytest.mark.slow
def test_a_folder_without_images(tmp_path):
    done = run(f"--images={tmp_path}")
    assert done.returncode == 1 and "0 usable JPEG images" in done.stderr
