"""One of each kind is added from outside the package, by an entry of a table, and then used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest

from efficientnet_elite import cli, registry
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, Limits, SearchConfig, TrainConfig
from efficientnet_elite.data.choices import AUGMENTATIONS, SOURCES
from efficientnet_elite.device import costs, limits
from efficientnet_elite.device.latency_targets import LATENCY_TARGETS, LatencyTarget
from efficientnet_elite.device.lowering import lower
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.runtimes import verify
from efficientnet_elite.job import request
from efficientnet_elite.networks.activations import ACTIVATIONS
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained import imported, sources
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import select
from efficientnet_elite.training.trainer import Trainer
from tests.support import networks, outside, tiny_tflite

ROOT = Path(__file__).parents[1]


@pytest.fixture
def add():
    """Registers an entry in a table until the test is over."""
    added = []

    def register(table, entry) -> None:
        registry.register(table, entry)
        added.append((table, entry.name))

    yield register
    for table, name in added:
        del table[name]


def program(*arguments: str) -> subprocess.CompletedProcess:
    """The command line, with the additions of `outside` that flags are made of."""
    command = [sys.executable, "-m", "tests.support.outside", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def int8_operators(spec: ArchSpec) -> dict[str, int]:
    """Operators of the real int8 file of an untrained network."""
    model, images = build(spec), networks.noise(spec)
    networks.normalise(model, images)
    return inspect.operators(convert.to_tflite(model, calibration=images))


def test_a_backbone(add, capsys):
    add(FAMILIES, outside.BACKBONE)
    assert cli.main(["models", "--pool=plainnet", "--base_resolution=32", "--format=json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) > 10
    spec = spec_by_name("plainnet", classes=4, base_resolution=32)
    assert spec_by_name("plainnet", base_resolution=32).params == rows["plainnet"]["params"]
    assert build(spec).count_params() == spec.params
    assert int8_operators(spec) == lower(spec.graph).operator_counts()
    assert any(
        c.name == "plainnet" for c in select("all", base_resolution=32, classes=4).candidates
    )


@pytest.mark.slow
def test_an_activation(add):
    add(ACTIVATIONS, outside.ACTIVATION)
    spec = spec_by_name("mobilenetv1-0.25-tanh_gate", classes=4, base_resolution=32)
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    layer = next(each for each in build(spec).layers if isinstance(each, keras.layers.Activation))
    np.testing.assert_allclose(layer(x), x * np.tanh(x), rtol=1e-6)
    operators = int8_operators(spec)
    assert operators["TANH"] == operators["MUL"] == 27
    assert operators == lower(spec.graph).operator_counts()
    assert costs.of(spec, "peak_bytes") > 0


@pytest.mark.slow
def test_a_data_source_and_an_augmentation(add, tmp_path):
    add(SOURCES, outside.SOURCE)
    add(AUGMENTATIONS, outside.AUGMENTATION)
    config = TrainConfig(epochs=1, batch_size=16, warmup_epochs=0)
    losses, batches = [], []
    for augment in (None, "inverted"):
        data = data_lib.load(DataConfig("stripes:60", augment=augment), progress=False)
        assert data.labels == ("across", "down")
        stream, _ = data_lib.train_batches(data, resolution=16, batch_size=8, seed=0)
        batches.append(next(iter(stream))[0].numpy())
        spec = spec_by_name("mobilenetv1-0.25", classes=2, base_resolution=16)
        path = tmp_path / f"{augment}.ckpt"
        trainer = Trainer(spec, config, data, base_resolution=16, seed=0, checkpoint=path)
        trainer.run(1, lambda result: losses.append(result.train_loss))
    plain, inverted = ((batch + 1) * 128 for batch in batches)
    np.testing.assert_array_equal(inverted, 255 - plain)
    assert losses[0] != losses[1]
    with pytest.raises(UserError, match=r"unknown data set 'stripes'.* or stripes:IMAGES"):
        data_lib.load(DataConfig("stripes"))
    with pytest.raises(UserError, match=r"there is no augmentation 'x': .*, inverted and FILE"):
        data_lib.load(DataConfig(augment="x"))


def test_a_source_of_pretrained_weights(add, monkeypatch, tmp_path, capsys):
    add(sources.SOURCES, outside.WEIGHTS)
    assert "random" in sources.available()
    assert sources.load_source("random").spec.name == "mobilenetv1-0.25"
    monkeypatch.setattr(imported, "default_folder", lambda: tmp_path)
    assert cli.main(["weights", "--format=json"]) == 0
    row = json.loads(capsys.readouterr().out)[-1]
    assert (row["name"], row["present"], row["licence"]) == ("random", True, "CC0-1.0")


@pytest.mark.slow
def test_additions_that_workers_lack_are_refused(tmp_path):
    """Here: registered where only the main program gets, not where workers import it."""
    program = "\n".join(
        (
            "import sys",
            'if __name__ == "__main__":',
            "    from efficientnet_elite import cli, registry",
            "    from efficientnet_elite.data.choices import AUGMENTATIONS",
            "    from tests.support.outside import AUGMENTATION",
            "    registry.register(AUGMENTATIONS, AUGMENTATION)",
            "    sys.exit(cli.main(sys.argv[1:]))",
        )
    )
    path = tmp_path / "late.py"
    path.write_text(program)
    flags = "--config=quick --pool=mobilenetv1 --base_resolution=8 --max_candidates=2 --groups=1"
    command = [sys.executable, path, "search", *flags.split(), "--workers=2", "--augment=inverted"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("elite search: workers do not know inverted, which your program")
    assert "at the top level" in message


def test_an_export_target(tmp_path):
    model = tmp_path / "net.int8.tflite"
    model.write_bytes(tiny_tflite.pair()[1])
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in tiny_tflite.LABELS))
    assert "listing: a list of the classes" in " ".join(program("export", "--help").stdout.split())
    done = program("export", f"--model={model}", "--target=listing")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "listing") in done.stdout
    listing = (tmp_path / "listing" / "listing.txt").read_text().splitlines()
    assert listing == ["net", *tiny_tflite.LABELS]


def test_a_runtime(add, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the runtime's module is not installed
    names = (verify.REFERENCE, verify.XNNPACK)
    monkeypatch.setattr(verify, "RUNTIMES", {name: verify.RUNTIMES[name] for name in names})
    for steps in (0, 1, 5):
        add(verify.RUNTIMES, outside.shifted(steps))
    path = tmp_path / "net.tflite"
    path.write_bytes(tiny_tflite.pair()[1])
    arguments = ["verify", str(path), "--dataset=digits", "--images=10", "--format=json"]
    assert cli.main(arguments) == 1  # one of them differs too much
    rows = {row["runtime"]: row for row in json.loads(capsys.readouterr().out)["runtimes"]}
    differences = {steps: rows[f"shifted by {steps}"]["difference"] for steps in (0, 1, 5)}
    assert differences == {0: 0, 1: 1, 5: 5}
    assert [rows[f"shifted by {steps}"]["agrees"] for steps in (0, 1, 5)] == [True, True, False]


def test_a_metric_its_limit_and_groups_by_it(add):
    flags = ("--pool=mobilenetv1", "--base_resolution=32", "--classes=10", "--format=json")
    asked = ("--max_operations=75", "--group_by=operations,params", "--metrics=operations")
    done = program("models", *flags, *asked)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    over = [row for row in rows if row["operations"] > 75]
    assert over and len(over) < len(rows)
    assert all((row["group"] is None) == (row in over) for row in rows)
    assert all(row["excluded"].startswith("operations ") for row in over)

    add(costs.METRICS, outside.METRIC)
    config = SearchConfig(limits=Limits.of({"operations": 75, "size_kb": 900}))
    assert SearchConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert limits.ceilings(config.limits) == {"size_bytes": 900e3, "operations": 75}
    with pytest.raises(UserError, match="max_operations=0: must be a number above 0"):
        Limits.of({"operations": 0})


def test_a_latency_target(add):
    add(costs.METRICS, outside.METRIC)
    add(LATENCY_TARGETS, LatencyTarget("graph", "operations of the graph", "operations"))
    asked = request.search_request({"latency_target": "graph", "max_latency_ms": 3.0}, "quick")
    assert asked.config.group_by == ("params", "operations")
    assert asked.config.limits.latency_ms == 3  # measured here: no clock is known of a graph
    with pytest.raises(UserError, match="graph: operations of the graph"):
        request.search_request({"latency_target": "grape"}, "quick")


def test_limits_of_older_ledgers_are_read():
    recorded = json.loads(json.dumps(asdict(SearchConfig(limits=Limits(size_kb=900)))))
    del recorded["limits"]["others"], recorded["data"]["augment"]
    assert SearchConfig.from_dict(recorded) == SearchConfig(limits=Limits(size_kb=900))


def test_a_limit_without_its_metric_is_refused():
    with pytest.raises(UserError, match="there is no limit 'operations': choose from params_m"):
        limits.ceilings(Limits.of({"operations": 75}))


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="there is a 'digits' already"):
        registry.register(SOURCES, SOURCES["digits"])


def test_the_build_documents_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "BUILD.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "operations" in done.stdout and "not trained because" in done.stdout


def test_all_entries_have_a_sentence():
    from efficientnet_elite.export.int8.choices import CALIBRATION_METHODS, REMEDIES
    from efficientnet_elite.export.packages.targets import TARGETS

    tables = (SOURCES, ACTIVATIONS, costs.METRICS, TARGETS, CALIBRATION_METHODS, REMEDIES)
    for table in (*tables, verify.RUNTIMES, sources.SOURCES):
        for name, entry in table.items():
            assert name == entry.name
            assert entry.description and not entry.description.endswith(".")
