"""The notebook runs from top to bottom, and the how-tos' C compiles with a package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_elite.export.packages import packages
from tests.docs.test_tutorial import write_photographs
from tests.support import tiny_tflite

ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "examples/own_photos.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
# As much of the camera's header as the how-to uses.
CAMERA = """
#include <stddef.h>
#include <stdint.h>
#define ESP_OK 0
#define CAMERA_CONFIG {0}
typedef int esp_err_t;
typedef struct { int pin; } camera_config_t;
typedef struct { uint8_t *buf; size_t len; size_t width; size_t height; } camera_fb_t;
esp_err_t esp_camera_init(const camera_config_t *config);
camera_fb_t *esp_camera_fb_get(void);
void esp_camera_fb_return(camera_fb_t *frame);
"""


def test_the_notebook_is_stored_without_results():
    assert NOTEBOOK["nbformat"] == 4
    for cell in CELLS:
        assert cell["outputs"] == [] and cell["execution_count"] is None
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Its cells in one process, as a kernel runs them."""
    write_photographs(tmp_path / "PHOTOS")
    program = "\n\n".join("".join(cell["source"]) for cell in CELLS)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (right,) = re.findall(r"([\d.]+)% of the test images are right", done.stdout)
    assert float(right) > 50  # a third by chance
    (wrong,) = re.findall(r"(\d+) of 120 photographs are taken for another class", done.stdout)
    assert int(wrong) < 60
    assert ".int8.tflite" in done.stdout
    assert (tmp_path / "runs/notebook/report.html").is_file()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_c_of_the_camera_compiles(tmp_path):
    page = (ROOT / "docs/howto-esp32-s3.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```c\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    model, labels = tmp_path / "flowers.tflite", tmp_path / "labels.txt"
    model.write_bytes(tiny_tflite.pair()[1])
    labels.write_text("\n".join(tiny_tflite.LABELS))
    packages.of_file(model, "c", labels=labels, takes="elite", out_dir=tmp_path / "net")
    (tmp_path / "esp_camera.h").write_text(CAMERA)
    (tmp_path / "main.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{tmp_path / 'net'}"]
    subprocess.run(["gcc", *flags, "-c", "main.c", "-o", "main.o"], cwd=tmp_path, check=True)
    assert "golden" in {path.name for path in (tmp_path / "net").iterdir()}
