"""The Python interface: cheap to import, as the command line in names, defaults and results."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import efficientnet_elite as ee
from efficientnet_elite.cli import import_module
from efficientnet_elite.config import DataConfig, Limits, SearchConfig, TrainConfig
from efficientnet_elite.job import api, exporting, settings

DOCUMENT = Path(__file__).parents[1] / "docs" / "api.md"


def test_importing_the_package_imports_nothing_else():
    program = (
        "import sys, efficientnet_elite as ee; ee.__version__;"
        "print(sorted(n for n in sys.modules if n.startswith('efficientnet_elite.')));"
        "ee.search, ee.load; ee.list_models(); ee.ArchSpec; dir(ee);"
        "print({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "[]\nset()\n"


def test_every_public_name_is_there():
    assert {"search", "load", "train", "evaluate", "export", "predict", "ELite9", "build"} <= set(
        dir(ee)
    )
    for name in dir(ee):
        assert getattr(ee, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'ELite10'"):
        _ = ee.ELite10


@pytest.mark.parametrize("name", ["search", "export"])
def test_rooms_with_the_name_of_a_function_are_both(name):
    """However the package of that name was imported before."""
    program = (
        f"import efficientnet_elite.{name}, efficientnet_elite as ee\n"
        f"try: ee.{name}(workdir='x', colour='red')\nexcept TypeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "colour" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: ee.search(workdir="x", epoch=3), "'epoch': did you mean epochs?"),
        (lambda: ee.search(workdir="x", size_kb=3), "'size_kb': did you mean max_size_kb?"),
        (lambda: ee.train("elite9", workdir="x", lr=3, batchsize=9), "'lr'"),
        (lambda: ee.evaluate("a.npz", work_dir="x"), "'work_dir': did you mean workdir?"),
        (lambda: ee.export(workdir="x", targets="web"), "'targets': did you mean target?"),
    ],
)
def test_unknown_arguments_name_the_nearest(call, nearest):
    with pytest.raises(TypeError, match=re.escape(nearest)):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "ten"}, "epochs='ten': must be a whole number"),
        ({"epochs": 2.5}, "epochs=2.5: must be a whole number"),
        ({"epochs": 0}, "epochs=0: must be a number above 0"),
        ({"flip": "no"}, "flip='no': must be true or false"),
        ({"schedule": "linear"}, "schedule='linear': use exponential or cosine"),
        ({"group_by": 3}, "group_by=3: must be a list of names"),
        ({"max_size_kb": -1}, "max_size_kb=-1.0: must be a number above 0"),
        ({"config": "slow"}, "no preset 'slow'"),
        ({"config": "absent.toml"}, "absent.toml cannot be read: No such file"),
        ({"workdir": __file__}, "is a file"),
        ({"workdir": ""}, "workdir is empty"),
        ({"learning_rate": 10**400}, "learning_rate is too large a number"),
        ({"workers": "two"}, "workers='two': must be a whole number"),
        ({"workers": True}, "workers=True: must be a whole number"),
    ],
)
def test_wrong_values_cost_one_line(tmp_path, options, message):
    with pytest.raises(ee.UserError) as caught:
        ee.search(**{"workdir": tmp_path, **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ee.train(["elite9"], workdir="x"), "a network's name=['elite9']: must be a text"),
        (lambda: ee.train("elite9", workdir="x", seeds="3"), "seeds='3': must be a whole number"),
        (lambda: ee.evaluate(__file__, base_resolution="9y"), "base_resolution=9y: write HEIGHTx"),
        (lambda: ee.evaluate(__file__, base_resolution=9.5), "base_resolution=9.5: must be a size"),
        (lambda: ee.export(model="a.tflite", target="bogus"), "target='bogus': use micro or"),
        (lambda: ee.load(""), "name the work directory"),
    ],
)
def test_wrong_arguments_of_other_functions_cost_one_line(call, message):
    with pytest.raises(ee.UserError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "bogus"}, "target='bogus': use micro or"),
        ({"calibration": "bogus"}, "calibration='bogus': use auto or minmax or"),
        ({"output": "bogus"}, "output='bogus': use logits or softmax"),
        ({"remedies": "qat,bogus"}, "there is no remedy 'bogus'"),
        ({"max_accuracy_drop": "x"}, "max_accuracy_drop='x': must be a number"),
        ({"max_accuracy_drop": -1}, "max_accuracy_drop=-1.0: must be at least 0"),
        ({"max_accuracy_drop": float("nan")}, "max_accuracy_drop=nan: must be at least 0"),
        ({"calibration_images": 0}, "calibration_images=0: must be at least 1"),
        ({"calibration_images": True}, "calibration_images=True: must be a whole number"),
    ],
)
def test_options_of_an_export_are_checked_as_flags_are(searched, options, message):
    with pytest.raises(ee.UserError, match=re.escape(message)):
        ee.export(workdir=searched, **options)


@pytest.mark.parametrize("name", ["search", "export"])
def test_callable_rooms_describe_themselves(name):
    room, function = getattr(ee, name), getattr(api, name)
    assert inspect.signature(room) == inspect.signature(function)
    assert inspect.getdoc(function) in pydoc.plain(pydoc.render_doc(room)).replace("\n    ", "\n")
    assert pickle.loads(pickle.dumps(room)) is copy.deepcopy(room) is room


def test_numbers_of_numpy_are_numbers():
    options = {"epochs": np.int64(3), "learning_rate": np.float32(0.5), "seed": np.uint8(7)}
    config = settings.search_config(options, SearchConfig())
    assert (config.train.epochs, config.train.learning_rate, config.seed) == (3, 0.5, 7)
    assert type(config.train.epochs) is int and type(config.train.learning_rate) is float


def test_values_reach_their_fields():
    options = {
        "dataset": "folder:photos", "epochs": 10, "max_size_kb": 2000, "group_by": ["macs"],
        "seed": 7, "weight_decay": 0, "flip": False, "metric_table": Path("pi.json"),
    }  # fmt: skip
    assert settings.search_config(options, SearchConfig()) == SearchConfig(
        group_by=("macs",),
        seed=7,
        limits=Limits(size_kb=2000),
        metric_table=str(Path.cwd() / "pi.json"),
        data=DataConfig(dataset=f"folder:{Path.cwd() / 'photos'}", seed=7, flip=False),
        train=TrainConfig(epochs=10, weight_decay=0.0),
    )


@pytest.mark.parametrize("command", ["search", "train", "evaluate", "export", "predict"])
def test_arguments_are_the_flags_of_the_command(command):
    flags = import_module(f"efficientnet_elite.cli.{command}").FLAGS
    parameters = inspect.signature(getattr(api, command)).parameters
    named = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and name not in ("progress", "on_message", "on_skipped")
    }
    for name, default in named.items():
        if default is not parameters[name].empty:
            asked = flags[name].default
            assert (tuple(asked) if isinstance(asked, list) else asked) == default, name
    open_ended = {
        "search": {*settings.options()},
        "train": {*settings.names_of("train", "data", "limits"), *settings.TRAINING_OPTIONS},
        "evaluate": {*settings.names_of("data")},
        "export": exporting.OPTIONS,
        "predict": set(),
    }[command]
    only_printed = {"export": {"layers"}, "predict": {"format"}}.get(command, set())
    assert {*named, *open_ended} == {*flags} - only_printed


@pytest.mark.slow
def test_the_example_of_the_document_runs(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=500
    )
    assert done.returncode == 0, done.stderr
    champions = json.loads((tmp_path / "runs/api/champions.json").read_text())
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(champions)]] == [c["name"] for c in champions]
    accuracy, size, path = lines[0].split()[1:]
    assert 0 < float(accuracy.rstrip("%")) <= 100
    assert (tmp_path / path).stat().st_size == int(size)
    assert str(tmp_path / "runs/api/report.html") in lines
    assert "['float32', 'int8', 'int8.uint8']" in lines
    assert (tmp_path / "runs/api-train/train.json").is_file()
