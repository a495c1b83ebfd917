"""Networks that `elite train` has trained, exported like champions."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.export import keras_file
from efficientnet_elite.job import exporting
from efficientnet_elite.search import trainings
from efficientnet_elite.training.checkpoint import Checkpoint
from efficientnet_elite.training.loading import load_averaged

NAME = "mobilenetv1-0.25@16-seed0"


@pytest.fixture(scope="module")
def exported(trained) -> Path:
    return trained / "export" / NAME


def sidecar(folder: Path) -> dict:
    return json.loads((folder / f"{folder.name}.json").read_text())


def test_a_training_has_the_exports_of_a_champion(trained, exported):
    assert {path.name for path in exported.iterdir()} == {
        *(f"{NAME}.{kind}" for kind in ("float32.tflite", "int8.tflite", "int8.uint8.tflite")),
        *(f"{NAME}.json", f"{NAME}.keras", "labels.txt", "predictions.npz", "MODEL_CARD.md"),
    }
    found = sidecar(exported)
    (record,) = json.loads((trained / "train.json").read_text())
    assert found["verification"]["keras_accuracy"] == record["test_accuracies"][0]
    assert found["details"]["training"]["network"] == "mobilenetv1-0.25@16"
    assert found["details"]["epochs"] == 6


def test_each_epoch_has_a_row(trained):
    rows = list(csv.DictReader((trained / "results.csv").read_text().splitlines()))
    history = Checkpoint.load(trained / "checkpoints" / f"{NAME}.npz").history
    assert [(int(row["epoch"]), float(row["validation_accuracy"])) for row in rows] == [
        (epoch["epoch"], epoch["validation_accuracy"]) for epoch in history
    ]
    assert {row["network"] for row in rows} == {"mobilenetv1-0.25@16"}
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates[0] > rates[-1] >= 0  # the quick recipe's schedule falls to 0


def test_rows_of_other_trainings_stay(tmp_path):
    row = {"epoch": 1, "train_loss": 2.5, "validation_accuracy": 0.5, "learning_rate": 0.1}
    trainings.write_epochs(tmp_path, ("elite9", 0), [row])
    trainings.write_epochs(tmp_path, ("elite9", 1), [row])
    trainings.write_epochs(tmp_path, ("elite9", 0), [row, {**row, "epoch": 2}])
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines == [
        "network,seed,epoch,train_loss,validation_accuracy,learning_rate",
        *("elite9,1,1,2.5,0.5,0.1", "elite9,0,1,2.5,0.5,0.1", "elite9,0,2,2.5,0.5,0.1"),
    ]


@pytest.mark.slow
def test_plain_keras_loads_the_file(trained, exported):
    """In a process without a module of ours: pixels in, the logits of the checkpoint out."""
    path = exported / f"{NAME}.keras"
    assert sidecar(exported)["keras"]["needs"] is None
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype('float32')\n"
        "np.save(sys.argv[2], model(pixels))\n"
        "print([name for name in sys.modules if name.startswith('efficientnet_elite')])\n"
    )
    logits = trained.parent / "plain.npy"
    done = subprocess.run(
        [sys.executable, "-c", program, path, logits], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("float32")
    model = load_averaged(trained / "checkpoints" / f"{NAME}.npz")[0]
    assert np.allclose(np.load(logits), model(pixels / 128 - 1), atol=1e-5)


def test_a_file_that_needs_a_layer_of_ours_says_so(tmp_path):
    from efficientnet_elite.networks.layers import Select

    image = keras.Input((8, 8, 3))
    x = Select((2, 0))(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    file = keras_file.of_model(model)
    assert file.entry("net")["needs"] == "import efficientnet_elite.networks.layers"
    path = tmp_path / "net.keras"
    path.write_bytes(file.content)
    assert keras_file.check(path) == (8, 8, 3)
    assert keras_file.load(path).output_shape == (None, 3)


def test_the_keras_file_comes_back_with_the_same_accuracy(exported, tmp_path):
    model = exported / f"{NAME}.keras"
    assert cli.main(["export", f"--model={model}", "--dataset=digits", f"--out={tmp_path}"]) == 0
    before, after = (sidecar(folder)["verification"] for folder in (exported, tmp_path / NAME))
    for key in ("keras_accuracy", "float_accuracy", "int8_accuracy", "test_images"):
        assert after[key] == before[key]


@pytest.mark.parametrize(
    ("fraction", "options"),
    [(57 / (57 + 96 / 7), {"base_resolution": 96}), (1.0, {"center_crop": False}), (None, {})],
)
def test_images_for_the_keras_file_are_cropped_as_before(tmp_path, fraction, options):
    path = tmp_path / "net.keras"
    path.write_bytes(b"the network")
    entry = {"file": path.name, "sha256": hashlib.sha256(b"the network").hexdigest()}
    details = {} if fraction is None else {"crop_fraction": fraction}
    path.with_suffix(".json").write_text(json.dumps({"keras": entry, "details": details}))
    assert exporting._cropped_alike(path, (57, 57, 3), {}) == options
    for given in ({"base_resolution": 64}, {"center_crop": True}):
        assert exporting._cropped_alike(path, (57, 57, 3), given) == given


@pytest.mark.slow
def test_packages_and_moved_images(trained, tmp_path, capsys):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    settings = json.loads(trainings.settings_path(workdir).read_text())
    assert cli.main(["export", f"--workdir={workdir}", "--target=android"]) == 0
    assert (workdir / "export" / NAME / "android").is_dir()
    assert cli.main(["export", f"--workdir={workdir}", "elite0"]) == 1
    assert "has no trained network elite0" in capsys.readouterr().err
    assert cli.main(["export", f"--workdir={workdir}", "--dataset=rendered:images=30"]) == 1
    assert "are not those that the networks in" in capsys.readouterr().err
    for name in ("data", "seed", "max_side"):  # as an earlier version
        del settings[name]
    trainings.settings_path(workdir).write_text(json.dumps(settings))
    (record,) = json.loads((workdir / "train.json").read_text())
    del record["seeds"], record["score"]
    (workdir / "train.json").write_text(json.dumps([record]))
    assert cli.main(["export", f"--workdir={workdir}"]) == 1
    assert "give --dataset" in capsys.readouterr().err
    command = ["export", f"--workdir={workdir}", "--dataset=digits", "mobilenetv1-0.25@16"]
    assert cli.main(command) == 0
    found, before = (sidecar(w / "export" / NAME)["verification"] for w in (workdir, trained))
    for results in (found, before):  # pytest compares no dictionaries in dictionaries
        results |= results.pop("reference_kernels")
    assert found == pytest.approx(before)


def test_a_training_without_its_end(tmp_path, capsys):
    trainings.settings_path(tmp_path).write_text("{}")
    assert cli.main(["export", f"--workdir={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "let `elite train" in error
