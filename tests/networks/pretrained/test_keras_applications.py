"""Weights of keras.applications: our network computes what Keras' own does."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from efficientnet_elite.networks.pretrained.keras_applications import from_model
from tests.support.keras_networks import check_same, pixels, random_application

PREPROCESSING = {
    "efficientnet": keras.applications.efficientnet,
    "mobilenetv1": keras.applications.mobilenet,
    "mobilenetv2": keras.applications.mobilenet_v2,
    "mobilenetv3": keras.applications.mobilenet_v3,
    "nasnet": keras.applications.nasnet,
}


def check(name: str, side: int | None, **options) -> None:
    model = random_application(name, side, **options)
    side = model.input_shape[1] or 64
    images = pixels(side)
    family = next(family for family in PREPROCESSING if name.startswith(family))
    want = np.asarray(model(PREPROCESSING[family].preprocess_input(images.copy())))
    weights = from_model(model)
    assert weights.spec.name == name
    check_same(weights, images, want)
    keras.backend.clear_session()


FAST = {
    "efficientnet-b0": 65,  # odd maps at every stage
    "mobilenetv1-0.25": 96,
    "mobilenetv2-0.35": 65,
    "mobilenetv3-small": 65,
    "mobilenetv3-small-minimalistic": 64,
}
SLOW = {
    "efficientnet-b3": 64,
    "mobilenetv1": 224,
    "mobilenetv1-0.75": 160,
    "mobilenetv1-0.5": 128,
    "mobilenetv2": 224,
    "mobilenetv2-0.5": 96,
    "mobilenetv2-0.75": 75,
    "mobilenetv2-1.3": 96,
    "mobilenetv2-1.4": 96,
    "mobilenetv3-large": 224,
    "mobilenetv3-large-0.5": 96,
    "mobilenetv3-large-0.75": 75,
    "mobilenetv3-large-1.25": 64,
    "mobilenetv3-small-0.5": 64,
    "mobilenetv3-small-0.75": 64,
    "mobilenetv3-small-1.25": 64,
    "mobilenetv3-large-minimalistic": 65,
    "nasnet-a": 75,
}


@pytest.mark.parametrize("name", FAST)
def test_same_outputs(name):
    check(name, FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_same_outputs_for_more(name):
    check(name, SLOW[name])
