"""Repair of networks that took channels from larger ones, and measuring statistics anew."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from efficientnet_elite.networks.pretrained.selection import Selection, select
from efficientnet_elite.networks.pretrained.sources import SOURCES, is_present, load_source
from efficientnet_elite.training.repair import _Moments, _ridge, repair
from tests.support.random_weights import models, random_source, target
from tests.support.shared_data import folder
from tests.support.tiny_pretrained import SMALLER, SOURCE

SIDE = 32


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth random images."""
    noise = np.random.default_rng(0).uniform(0, 255, (60, 8, 8, 3)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE))) for image in noise]
    return np.stack(large).astype(np.float32) / 128 - 1


def features(model: keras.Model, node: str, images: np.ndarray) -> np.ndarray:
    part = keras.Model(model.input, model.get_layer(node).output)
    return np.asarray(part(images, training=False))


def error(
    selection: Selection, model: keras.Model, source: keras.Model, images: np.ndarray, node: str
) -> float:
    """Mean squared error of a node's outputs, as a share of the variance of the source's."""
    goal = features(source, selection.nodes[node], images)[..., selection.channels[node]]
    difference = features(model, node, images) - goal
    return float(np.mean(difference**2) / np.mean((goal - goal.mean((0, 1, 2))) ** 2))


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    return {v.path: np.array(v) for v in model.variables if "seed_generator" not in v.path}


@pytest.mark.parametrize(
    ("from_", "to"),
    [
        ("elite-w3d4r1-relu6-nose", "elite9-relu6-nose"),
        ("elite9", "elite-w4d4r1-nose"),  # without the gates of the source
        ("mobilenetv1", "mobilenetv1-0.75"),  # no residual connections
        ("elite-w3d4r1-relu6-nose", "elite9-relu6-nose-k3-stem4"),  # other kernels, smaller maps
    ],
)
def test_repair_brings_a_network_closer_to_its_source(images, from_, to):
    selection = select(random_source(from_, SIDE), target(to, SIDE))
    model, source = models(selection)
    node = "block3a_dw_bn" if "elite" in to else "block5_dw_bn"
    seen, unseen = images[:40], images[40:]
    before = error(selection, model, source, unseen, node)
    repair(model, source, selection, seen)
    assert error(selection, model, source, unseen, node) < 0.8 * before


def test_kernels_of_single_channels_are_those_of_ridge_regression():
    rng = np.random.default_rng(0)
    read = rng.normal(1, 2, (90, 9, 3)).astype(np.float32)
    given = (read * rng.normal(size=(9, 3))).sum(1).astype(np.float32) + 5
    given += rng.normal(size=given.shape).astype(np.float32)
    start = rng.normal(size=(3, 9))
    moments = _Moments(start.shape)
    for part in (slice(0, 50), slice(50, 90)):
        moments.add(read[part], given[part])
    kernels, mean, variance = moments.solved(start)
    for channel in range(3):
        x, y = read[..., channel], given[:, [channel]]
        expected = _ridge(x, y, start[[channel]].T)
        np.testing.assert_allclose(kernels[channel], expected[:, 0], rtol=1e-3, atol=1e-4)
        outputs = x @ kernels[channel]
        assert (mean[channel], variance[channel]) == pytest.approx(
            (outputs.mean(), outputs.var()), rel=1e-3
        )


def test_what_computes_the_same_is_left_as_it_is(images):
    """A wider and deeper network needs no repair: its function stays the same."""
    selection = select(random_source("elite9-nose", SIDE), target("elite-w3d3r1-nose", SIDE))
    model, source = models(selection)
    repair(model, source, selection, images)
    assert error(selection, model, source, images, "top_bn") < 1e-3
    # The block that the source does not have is measured and still adds nothing.
    added = model.get_layer("block6c_project_bn")
    assert np.all(np.array(added.gamma) == 0)
    x = features(model, "block6c_expand_conv", images)
    measured = np.array(model.get_layer("block6c_expand_bn").moving_mean)
    np.testing.assert_allclose(x.mean((0, 1, 2)), measured, atol=1e-3)


def test_statistics_are_those_of_the_images(images):
    images = images[:, ::2, ::2]
    selection = select(SOURCE, SMALLER)
    model, source = models(selection)
    repair(model, source, selection, images)
    norm = model.get_layer("block2a_dw_bn")
    x = features(model, "block2a_dwconv", images)  # no more than 64 positions: all are looked at
    np.testing.assert_allclose(np.array(norm.moving_mean), x.mean((0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(np.array(norm.moving_variance), x.var((0, 1, 2)), rtol=1e-2)


def test_small_steps_of_a_kernel_stay_small_steps_of_the_output(images):
    """Scale is in the kernels: frozen batch normalisation multiplies by one where it was fitted."""
    selection = select(SOURCE, SMALLER.resized((SIDE, SIDE, 3)))
    model, source = models(selection)
    repair(model, source, selection, images)
    for name in ("stem_bn", "block2a_dw_bn", "block2a_project_bn"):
        norm = model.get_layer(name)
        slope = np.array(norm.gamma) / np.sqrt(np.array(norm.moving_variance) + norm.epsilon)
        np.testing.assert_allclose(slope, 1, rtol=1e-4)


def test_repair_is_the_same_every_time(images):
    selection = select(SOURCE, SMALLER.resized((SIDE, SIDE, 3)))
    results = []
    for seed in (0, 0, 1):
        model, source = models(selection)
        repair(model, source, selection, images, seed)
        results.append(weights(model))
    for path, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][path])
    path = "block1a_project_conv/kernel"
    assert not np.array_equal(results[0][path], results[2][path])
    np.testing.assert_array_equal(
        results[0]["predictions/kernel"],
        np.array(models(selection)[0].get_layer("predictions").kernel),
    )


def test_networks_without_batch_normalisation_stay_as_they_are(images):
    from_, to = "squeezenet-1.1", "squeezenet-1.1-w2d1r1"
    selection = select(random_source(from_, SIDE), target(to, SIDE))
    model, source = models(selection)
    before = weights(model)
    repair(model, source, selection, images[:2])
    for path, array in weights(model).items():
        np.testing.assert_array_equal(array, before[path])


@pytest.mark.slow
def test_segmentation_networks_are_repaired_up_to_their_strides(images):
    """Feature maps that have another size than the source's cannot be compared with it."""
    source_weights = random_source("mobilenetv3-small", SIDE)
    selection = select(source_weights, target("lraspp-mobilenetv3-small-w3d1r1", SIDE))
    model, source = models(selection)
    before = error(selection, model, source, images, "block3_dw_bn")
    repair(model, source, selection, images)
    assert error(selection, model, source, images, "block3_dw_bn") < before
    assert all(np.isfinite(array).all() for array in weights(model).values())


@pytest.mark.slow
def test_repair_on_photographs():
    """Trained weights and photographs: the features come much closer to those of the source."""
    if not is_present(SOURCES["lite0"]):
        pytest.skip("the weights of EfficientNet-Lite0 are absent")
    paths = sorted(folder("flowers5x100").glob("train/*/*.jpg"))[::2]
    photographs = np.stack(
        [np.asarray(Image.open(p).convert("RGB").resize((96, 96))) for p in paths]
    )
    photographs = photographs.astype(np.float32) / 128 - 1
    selection = select(load_source("lite0"), target("elite9-relu6-nose", 96))
    model, source = models(selection)
    seen, unseen = photographs[::2], photographs[1::2]
    before = error(selection, model, source, unseen, "top_bn")
    repair(model, source, selection, seen)
    assert error(selection, model, source, unseen, "top_bn") < 0.7 * before
