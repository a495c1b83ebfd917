"""Pools of Keras models of the user."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_candidates
from tests.support.counting import check_counts


@pytest.fixture(scope="module")
def mynets(tmp_path_factory):
    """A folder with the example of docs/families.md as module ``mynets``, and faulty pools."""
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    folder = tmp_path_factory.mktemp("own")
    (folder / "mynets.py").write_text(
        example + "\n\ndef wrong(side, classes):\n"
        "    return {'small': lambda: net(side, classes + 1, 8)}\n\n"
        "def grey(side, classes):\n"
        "    return {'one': lambda: keras.Sequential([keras.Input((side, side, 1)),\n"
        "            layers.Flatten(), layers.Dense(classes)])}\n\n"
        "def odd(side, classes):\n"
        "    text = keras.Sequential([keras.Input((side, side, 3)), layers.Flatten(),\n"
        "                             layers.Embedding(9, classes), layers.GlobalMaxPooling1D()])\n"
        "    return {'text': lambda: text}\n\n"
        "def sure(side, classes):\n"
        "    inner = keras.Sequential([net(side, classes, 8), layers.Softmax()])\n"
        "    return {'sure': lambda: keras.Sequential([keras.Input((side, side, 3)), inner])}\n\n"
        "def ready(side, classes):\n"
        "    make = keras.applications.MobileNetV3Small\n"
        "    return {'ready': lambda: make((side, side, 3), weights=None, classes=classes)}\n\n"
        "def unnamed(side, classes):\n"
        "    return {'../up': None}\n\n"
        "def again(side, classes):\n"
        "    return {'elite9': lambda: net(side, classes, 8)}\n\n"
        "def numbers(side, classes):\n"
        "    return {'a': 3}\n\n"
        "def broken(side, classes):\n"
        "    def make():\n"
        "        raise RuntimeError('no memory of it\\nat all')\n"
        "    return {'a': make}\n"
    )
    (folder / "slip.py").write_text("def pool(side, classes)\n    return {}\n")
    return folder


def test_a_pool_of_user_models(mynets, monkeypatch):
    monkeypatch.syspath_prepend(mynets)
    pool = pool_candidates("mynets:pool", base_resolution=32, classes=5)
    assert [c.name for c in pool] == ["plain-8", "plain-16", "plain-32"]
    assert [c.spec.params for c in pool] == [27 * n + n + 5 * n + 5 for n in (8, 16, 32)]
    assert [c.spec.macs for c in pool] == [15 * 15 * 27 * n + 5 * n for n in (8, 16, 32)]
    spec = pool[1].spec
    assert ArchSpec.from_json(spec.to_json()) == spec
    check_counts(spec)
    first, second = (build(spec, seed=3).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.abs(first[0] - build(spec, seed=4).get_weights()[0]).max() > 0
    mixed = pool_candidates("elite,mynets:pool", base_resolution=32, classes=5)
    assert {c.family for c in mixed} == {"elite", "mynets:pool"}


def test_user_models_of_one_channel(mynets, monkeypatch):
    monkeypatch.syspath_prepend(mynets)
    (one,) = pool_candidates("mynets:grey", base_resolution=32, classes=5, channels=1)
    assert one.spec.input_shape == (32, 32, 1) and one.spec.params == 5 * 32 * 32 + 5
    assert ArchSpec.from_json(one.spec.to_json()) == one.spec
    check_counts(one.spec)
    for pool, wanted, other in (("mynets:grey", 1, 3), ("mynets:pool", 3, 1)):
        with pytest.raises(UserError, match=f"use --channels={wanted}, or build it for"):
            pool_candidates(pool, base_resolution=32, classes=5, channels=other)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("mynets:absent", "absent"),
        ("nowhere:pool", "nowhere"),
        ("mynets:net", "net"),
        ("mynets:wrong", r"returns \(6,\)"),
        ("mynets:odd", "cannot count"),
        ("mynets:sure", "ends in Softmax: it must return logits"),
        ("mynets:ready", "ends in softmax: it must return logits"),
        ("mynets:unnamed", "is not allowed as a name"),
        ("mynets:again,elite", "two networks called 'elite9'"),
        ("mynets:numbers", "cannot build model 'a': 'int' object is not callable"),
        (
            "mynets:broken",
            r"cannot build model 'a': no memory of it \(mynets.py, line \d+\)",
        ),
        ("slip:pool", r"expected ':' \(slip.py, line 1\)"),
    ],
)
def test_faulty_pools_are_user_errors(mynets, monkeypatch, pool, message):
    monkeypatch.syspath_prepend(mynets)
    with pytest.raises(UserError, match=message) as error:
        pool_candidates(pool, base_resolution=32, classes=5)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_search_over_user_models(mynets, tmp_path):
    """The command finds the models in its working directory and exports int8 champions."""
    command = (
        "search --config=quick --pool=mynets:pool --base_resolution=16 --epochs=4 --groups=1 "
        f"--max_candidates=3 --workdir={tmp_path}"
    )
    program = [sys.executable, "-m", "efficientnet_elite", *command.split()]
    done = subprocess.run(program, cwd=mynets, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*int8*.tflite"))
