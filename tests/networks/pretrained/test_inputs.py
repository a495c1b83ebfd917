"""Weights for another range of values and for other numbers of channels."""

from __future__ import annotations

import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.inputs import adapt_input, with_input_range
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec

SCALE = (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225))
OFFSET = (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (2, 33, 33, 3)).astype(np.float32)


def random_weights(spec: ArchSpec, scale=SCALE, offset=OFFSET) -> PretrainedWeights:
    arrays = {
        variable.path: RANDOM.uniform(0.5, 1.5, variable.shape).astype(np.float32)
        if variable.path.endswith("moving_variance")
        else RANDOM.normal(0, 0.3, variable.shape).astype(np.float32)
        for variable in build(spec).weights
        if "seed" not in variable.path
    }
    return PretrainedWeights("random", spec, arrays, scale, offset, "unknown", "0" * 64, "here")


def network(*stem: Block, channels: int = 3) -> ArchSpec:
    body = MBConv("block", 8, 16, 3, activation="relu6")
    return ArchSpec("net", (33, 33, channels), (*stem, body, Classifier("predictions", 5)))


STEM = {
    "batch norm": ConvBlock("stem", 8, 3, 2, padding="valid"),
    "bias": ConvBlock("stem", 8, 3, 2, padding="valid", batch_norm=False),
}


def outputs(weights: PretrainedWeights, pixels: np.ndarray) -> np.ndarray:
    model = build(weights.spec)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(weights.arrays[variable.path])
    return np.asarray(model(pixels * np.array(weights.scale) + np.array(weights.offset)))


@pytest.mark.parametrize("stem", STEM)
def test_another_range_is_exact_without_padding(stem):
    weights = random_weights(network(STEM[stem]))
    folded = with_input_range(weights)
    assert (folded.scale, folded.offset) == ((1 / 128,) * 3, (-1.0,) * 3)
    want = outputs(weights, PIXELS)
    assert np.ptp(want) > 0.1
    np.testing.assert_allclose(outputs(folded, PIXELS), want, rtol=1e-4, atol=1e-4)


def test_another_range_is_exact_inside_the_padded_border():
    spec = spec_by_name("elite9-relu6").resized((33, 33, 3))
    weights = random_weights(spec)
    folded = with_input_range(weights)
    stems = []
    for form in (weights, folded):
        model = build(ArchSpec("stem", spec.input_shape, spec.blocks[:1]))
        for variable in model.weights:
            variable.assign(form.arrays[variable.path])
        stems.append(np.asarray(model(PIXELS * np.array(form.scale) + np.array(form.offset))))
    want, got = stems
    np.testing.assert_allclose(got[:, 1:-1, 1:-1], want[:, 1:-1, 1:-1], atol=1e-4)
    assert np.abs(got[:, 0] - want[:, 0]).max() > 1e-2  # the text says so


def test_weights_of_this_range_are_left_alone():
    weights = random_weights(network(STEM["bias"]), (1 / 128,) * 3, (-1.0,) * 3)
    assert with_input_range(weights) is weights
    assert adapt_input(weights, 3) is weights


@pytest.mark.parametrize("stem", STEM)
def test_greyscale_is_three_equal_channels(stem):
    weights = random_weights(network(STEM[stem]))
    grey = adapt_input(weights, 1)
    assert grey.spec.input_shape == (33, 33, 1)
    pixels = PIXELS[..., :1]
    model = build(grey.spec)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(grey.arrays[variable.path])
    got = np.asarray(model(pixels / 128 - 1))
    want = outputs(weights, pixels.repeat(3, axis=-1))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_more_channels_keep_the_size_of_the_outputs():
    weights = random_weights(network(STEM["bias"]))
    six = adapt_input(weights, 6)
    stem = with_input_range(weights).arrays["stem_conv/kernel"]
    np.testing.assert_allclose(six.arrays["stem_conv/kernel"][:, :, 3:], stem / 2, rtol=1e-6)
    assert six.arrays["stem_conv/kernel"].shape == (3, 3, 6, 8)
    assert six.arrays["stem_conv/kernel"].dtype == np.float32


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(UserError, match="takes images of 2 channels"):
        adapt_input(random_weights(network(STEM["bias"], channels=2), *[(1 / 128,) * 3] * 2), 1)
    with pytest.raises(UserError, match="block_dwconv reads the image"):
        body = (MBConv("block", 8, None, 3), Classifier("predictions", 2))
        with_input_range(random_weights(ArchSpec("net", (8, 8, 3), body)))
    with pytest.raises(UserError, match="neither a bias nor batch normalisation"):
        with_input_range(random_weights(ArchSpec("net", (8, 8, 3), (_Bare("stem"),))))


class _Bare(Block):
    """A convolution that nothing follows."""

    def draw(self, graph, x):
        return graph.apply(self.name, ops.Conv(4, 3), x)
