"""Pretrained weights that are nothing but random numbers, registered as a source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.sources import SOURCES, Source
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from tests.support.random_weights import pretrained


def random_weights(
    name: str, network: str, *, side: int = 32, sha256: str = ""
) -> PretrainedWeights:
    """The initial weights of a network with seven classes."""
    from efficientnet_elite.networks.build import build

    spec = replace(spec_by_name(network, classes=7), input_shape=(side, side, 3))
    arrays = {
        variable.path: np.asarray(variable, np.float32)
        for variable in build(spec, seed=5).variables
        if "float" in variable.dtype
    }
    return replace(
        pretrained(name, spec, arrays, sha256=sha256 or "ab" * 32), origin="random numbers"
    )


def register(
    monkeypatch: pytest.MonkeyPatch, weights: PretrainedWeights, *, present: bool = True
) -> None:
    """Makes weights a source, in place of one of the same name if there is one.

    Weights that are not present cannot be loaded.
    """

    def load() -> PretrainedWeights:
        if not present:
            raise UserError(f"{weights.name} is not installed")
        return weights

    source = Source(
        name=weights.name,
        description="a test's weights",
        licence=weights.licence,
        starts="networks of its family",
        present=lambda: present,
        load=load,
    )
    monkeypatch.setitem(SOURCES, weights.name, source)
