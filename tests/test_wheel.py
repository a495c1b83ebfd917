"""The wheel: what it contains, and that it works in an environment of its own, far from here."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.support import tiny_tflite

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # Built from what git tracks or would track, so that a stale build folder cannot help.
    source = folder / "source"
    source.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_one_top_level_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"efficientnet_elite"}
    assert "efficientnet_elite/export/int8/convert.py" in names
    assert "efficientnet_elite/benchmarks/latency.py" in names
    assert "efficientnet_elite/py.typed" in names
    assert not [name for name in names if "studies" in name or "tests" in name]
    assert "efficientnet_elite/export/packages/web_page/index.html" in names
    assert "efficientnet_elite/export/packages/c/kernels/nn_conv.c" in names
    assert "efficientnet_elite/device/cortex_m55.json" in names
    assert "efficientnet_elite/job/boards/instructions.c" in names
    assert "efficientnet_elite/export/runtimes/c_programs/board.ld" in names


@pytest.mark.slow
def test_installs_and_exports_outside_the_checkout(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", f"{wheel}[train]"], check=True, cwd=tmp_path
    )

    def elite(*arguments: str) -> str:
        return subprocess.run(
            [tmp_path / "env/bin/elite", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    pool = json.loads(elite("models", "--pool=elite", "--format=json"))
    assert len(pool) == 64
    elite(
        "search",
        "--config=quick",
        # One candidate, but trained enough: the logits of a network that is barely trained can
        # grow so large that the float file and Keras differ by more than the export allows.
        "--max_candidates=1",
        "--groups=1",
        "--epochs=5",
        "--round_epochs=2",
        "--seed=1",
        "--workdir=run",
    )
    (champion,) = json.loads((tmp_path / "run/champions.json").read_text())
    exported = tmp_path / "run/export" / champion["name"]
    assert (exported / f"{champion['name']}.int8.tflite").read_bytes()[4:8] == b"TFL3"
    assert "<html" in (tmp_path / "run/report.html").read_text()


@pytest.mark.slow
def test_the_light_install_runs_networks(wheel, tmp_path):
    """Without the extra `train`: predictions, latencies and counts, and one line about the rest."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    done = subprocess.run(
        [python, "-m", "pip", "install", wheel], cwd=tmp_path, capture_output=True, text=True
    )
    if done.returncode != 0 and "Could not find a version" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr

    def elite(*arguments: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            [tmp_path / "env/bin/elite", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
    ).stdout
    assert not {"tensorflow", "keras", "scipy"} & {entry["name"] for entry in json.loads(listed)}

    (tmp_path / "net.tflite").write_bytes(tiny_tflite.pair()[1])
    (tmp_path / "labels.txt").write_text("\n".join(tiny_tflite.LABELS))
    pixels, _ = tiny_tflite.digits()
    Image.fromarray(pixels[0]).save(tmp_path / "digit.png")
    (row,) = json.loads(
        elite("predict", "net.tflite", "digit.png", "--input=elite", "--format=json")
    )
    assert row["class"] in tiny_tflite.LABELS and 0.1 < row["probability"] <= 1
    elite("benchmark", "net.tflite", "--runs=5", "--warmup=1", "--json=rows.json")
    (measured,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert measured["median_ms"] > 0
    assert len(json.loads(elite("models", "--pool=elite", "--format=json"))) == 64
    assert "teensy-4.1" in elite("devices")

    wanted = (
        "this needs the package keras, which comes with what trains and exports: "
        'pip install "efficientnet-elite[train]"\n'
    )
    for command in (("search", "--config=quick"), ("train", "mobilenetv1-0.25@16")):
        said = elite(*command, "--workdir=run", status=1)
        assert said == f"elite {command[0]}: {wanted}"
    assert not (tmp_path / "run").exists()
    (tmp_path / "net.keras").write_bytes(tiny_tflite.keras_file())
    said = elite("predict", "net.keras", "digit.png", status=1)
    assert said == f"elite predict: net.keras: {wanted}"
