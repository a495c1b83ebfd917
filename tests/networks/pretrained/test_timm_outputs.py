"""Outputs of the networks of timm and torchvision, compared with those of the libraries.

This needs PyTorch, timm and torchvision, which CI does not install. The outputs of every network of
the table are within 1e-4 of the largest logit of the library's own: for random weights, with
statistics of batch normalisation from random images. ``tf_*`` networks are compared at 64 pixels.
All others are compared at 65 pixels, where padding of both sides is the same as TensorFlow's; at 64
pixels they are required to differ, as their `deviation` says.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.pretrained.timm import read
from efficientnet_elite.networks.pretrained.timm_networks import NETWORKS, TorchNetwork
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights

PROGRAM = Path(__file__).parents[2] / "support" / "torch_outputs.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("timm") is None or find_spec("torchvision") is None,
        reason="timm or torchvision is not installed",
    ),
]


@pytest.fixture(scope="module")
def libraries() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate()


def difference(weights: PretrainedWeights, content: Mapping[str, np.ndarray], side: int) -> float:
    """The largest difference of a logit, as a share of the largest logit."""
    model = build(weights.spec.resized((side, side, 3)))
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(weights.arrays[variable.path])
    outputs = np.asarray(model(content[f"images/{side}"], training=False))
    expected = content[f"logits/{side}"]
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.library}-{n.name}")
def test_outputs_are_those_of_the_library(network: TorchNetwork, libraries, tmp_path):
    path = tmp_path / "outputs.npz"
    libraries.stdin.write(f"{network.library} {network.name} {path} 64 65\n")
    libraries.stdin.flush()
    assert libraries.stdout.readline()
    with np.load(path) as file:
        content = dict(file)
    path.unlink()
    tensors = {
        name.removeprefix("tensor/"): array
        for name, array in content.items()
        if name.startswith("tensor/")
    }
    weights = read(tensors, network.name)
    if weights.deviation:
        assert difference(weights, content, 65) < 1e-4
        assert difference(weights, content, 64) > 0.05
    else:
        assert difference(weights, content, 64) < 1e-4
