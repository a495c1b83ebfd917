"""Segmentation networks: exact counts, Keras models, int8."""

from __future__ import annotations

import numpy as np
import pytest
from networks import int8_correlation, noise, normalise

from efficientnet_elite import models, ops
from efficientnet_elite.families import FAMILIES
from efficientnet_elite.families.segmentation import SEGMENTERS, ESPNet
from efficientnet_elite.spec import ArchSpec

# (name, width, (height, width) in pixels, classes) to all parameters and multiply-accumulates:
# those of the authors' code, without what it creates and never uses.
COUNTS = {
    ("espnet-c-3", 1.0, (512, 1024), 20): (189781, 2159435776),
    ("espnet-c-5", 1.0, (512, 1024), 20): (255061, 2683723776),
    ("espnet-c-8", 1.0, (512, 1024), 20): (352981, 3470155776),
    ("espnet-3", 1.0, (512, 1024), 20): (205141, 3398721536),
    ("espnet-5", 1.0, (512, 1024), 20): (270421, 3923009536),
    ("espnet-8", 1.0, (512, 1024), 20): (368341, 4709441536),
    ("espnetv2", 0.5, (384, 384), 21): (87563, 168071388),
    ("espnetv2", 0.5, (512, 1024), 20): (87552, 596248176),
    ("espnetv2", 1.0, (384, 384), 21): (246999, 305617116),
    ("espnetv2", 1.0, (512, 1024), 20): (246988, 1085283952),
    ("espnetv2", 1.5, (384, 384), 21): (487143, 482238172),
    ("espnetv2", 1.5, (512, 1024), 20): (487132, 1713255536),
    ("espnetv2", 2.0, (384, 384), 21): (813815, 759129308),
    ("espnetv2", 2.0, (512, 1024), 20): (813804, 2697742960),
    ("lraspp-mobilenetv3-large", 1.0, (520, 520), 21): (3246194, 2086219688),
    ("lraspp-mobilenetv3-large", 1.0, (1024, 2048), 19): (3245854, 15774900096),
    ("lraspp-mobilenetv3-small", 1.0, (1024, 2048), 19): (1090014, 5064171520),
}


def small(name: str) -> ArchSpec:
    return SEGMENTERS[name](name, 0.25, 0.4, 64, 3)


@pytest.mark.parametrize("setting", COUNTS, ids=str)
def test_published_settings(setting):
    name, width, (height, across), classes = setting
    spec = SEGMENTERS[name](name, width, 1.0, 64, classes).resized((height, across, 3))
    assert (spec.params, spec.macs) == COUNTS[setting]
    share = 8 if name.startswith("espnet-c") else 1
    assert spec.graph.nodes[-1].shape == (height // share, across // share, classes)
    assert spec.classes == classes


def test_espnets_two_decoders():
    """Its authors' training code joins 19 channels at half the image's side, its test code 16."""
    spec = ESPNet(8, "level1_join").build("train", 1.0, 1.0, 64, 20).resized((512, 1024, 3))
    assert (spec.params, spec.macs) == (368881, 4780220416)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_specs_survive_json_and_scale(name):
    build = SEGMENTERS[name]
    whole = build(name, 1.0, 1.0, 64, 3)
    assert ArchSpec.from_json(whole.to_json()) == whole
    for part in (build(name, 0.5, 1.0, 64, 3), build(name, 1.0, 0.5, 64, 3)):
        assert part.params < whole.params
        assert part.macs < whole.macs
        assert part.graph.nodes[-1].shape == whole.graph.nodes[-1].shape


def test_the_dilated_backbone_keeps_a_sixteenth_of_the_image():
    """Nothing strided behind a sixteenth, all of the last stage dilated; weights are the same."""
    spec = SEGMENTERS["lraspp-mobilenetv3-large"]("x", 1.0, 1.0, 224, 10)
    dilated = [
        node
        for node in spec.graph.nodes
        if isinstance(node.op, ops.DepthwiseConv) and node.op.dilation == 2
    ]
    assert [node.shape for node in dilated] == [(14, 14, 672), (14, 14, 960), (14, 14, 960)]
    classifier = FAMILIES["mobilenetv3-large"].build("x", 1.0, 1.0, 224, 10)
    plain = [node for node in classifier.graph.nodes if node.name.startswith("block")]
    own = [node for node in spec.graph.nodes if node.name.startswith("block")]
    assert [node.params for node in own] == [node.params for node in plain]


@pytest.mark.parametrize("name", ["espnet-3", "espnetv2", "lraspp-mobilenetv3-small"])
def test_keras_models_equal_their_specs(name):
    spec = small(name)
    model = models.build(spec)
    normalise(model, noise(spec))
    assert model.count_params() == spec.params
    for node in spec.graph.nodes:
        assert model.get_layer(node.name).output.shape[1:] == node.shape, node.name
    image = noise(spec)[:1]
    logits = np.asarray(model(image))
    assert logits.shape == (1, 64, 64, 3)
    assert np.isfinite(logits).all()
    # Resizing must not switch what follows it to training's batch statistics.
    np.testing.assert_array_equal(logits, model(image, training=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["espnet-3", "espnetv2", "lraspp-mobilenetv3-small"])
def test_int8_files_agree(name):
    spec = small(name)
    model = models.build(spec)
    normalise(model, noise(spec))
    assert int8_correlation(model, noise(spec)) > 0.9
