"""Distillation: what is compared, the losses, and that students approach their teacher."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.training import distillation, start
from efficientnet_elite.training.distillation import Distillation, check_settings, find_taps
from efficientnet_elite.training.optimizers import AdamW
from tests.support.tiny_pretrained import SAME, SMALLER, SOURCE, weights

BATCH = 32


@pytest.fixture(scope="module")
def digits():
    return data_lib.load(DataConfig(), max_side=24, progress=False)


def taps_of(source: str, target: str):
    pretrained = weights(spec_by_name(source, classes=1000, base_resolution=32))
    spec = spec_by_name(target, classes=5, base_resolution=32)
    return find_taps(select(pretrained, spec))


def test_the_last_maps_of_the_stages_are_compared():
    taps = taps_of("elite0-relu6-nose", "elite9-relu6-nose")
    assert [(tap.student, tap.teacher) for tap in taps] == [
        ("block1a_project_bn", "block1a_project_bn"),
        ("block2a_project_bn", "block2b_add"),
        ("block3a_project_bn", "block3b_add"),
        ("block4b_add", "block4c_add"),
        ("block5b_add", "block5c_add"),
        ("block6b_add", "block6d_add"),
        ("block7a_project_bn", "block7a_project_bn"),
        ("top_activation", "top_activation"),
    ]


def test_taps_of_the_same_network_have_all_channels():
    taps = find_taps(select(SOURCE, SAME))
    assert [tap.student for tap in taps] == ["block1b_add", "block2a_project_bn", "top_activation"]
    for tap in taps:
        assert tap.student == tap.teacher
        np.testing.assert_array_equal(tap.channels, np.arange(len(tap.channels)))


def distill(spec, method, digits, source: PretrainedWeights = SOURCE, **options):
    selection = select(source, spec)
    model = build(spec.with_drop_rates(0))
    start.assign(model, selection.arrays)
    made = Distillation(model, selection, method, digits, base_resolution=16, seed=0, **options)
    return model, made


def batches(digits, count):
    stream, _ = data_lib.train_batches(digits, resolution=16, batch_size=BATCH, seed=1)
    return [images for images, _ in stream.take(count)]


def test_a_copy_of_the_teacher_has_no_distance(digits):
    _, made = distill(SAME, "features", digits)
    (images,) = batches(digits, 1)
    outputs = made.outputs(images, training=False)
    assert float(made.loss(outputs, made.targets(images))) < 1e-8


def test_losses_by_hand():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 3, 4, 4, 2)).astype(np.float32)
    variance = teacher.reshape(-1, 2).var(0) + 1e-3
    want = ((student - teacher) ** 2 / variance).mean()
    assert float(distillation.features_loss(student, teacher)) == pytest.approx(want, rel=1e-5)
    student, teacher = rng.normal(size=(2, 5, 3)).astype(np.float32)
    p, q = (np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in (teacher, student))
    want = 4 * (p * np.log(p / q)).sum(1).mean()
    assert float(distillation.logits_loss(student, teacher)) == pytest.approx(want, rel=1e-4)
    assert float(distillation.logits_loss(teacher, teacher)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", ["features", "logits", "both"])
def test_the_distance_falls(digits, method):
    model, made = distill(SMALLER, method, digits)
    (first,) = batches(digits, 1)
    assert len(made.outputs(first, training=False)) == (1 if method == "logits" else 4)
    optimizer = AdamW(model.trainable_variables, TrainConfig(weight_decay=0.0))

    @tf.function(autograph=False)
    def step(images, number):
        targets = made.targets(images)
        with tf.GradientTape() as tape:
            loss = made.loss(made.outputs(images, training=True), targets)
        gradients = tape.gradient(loss, model.trainable_variables)
        # Without labels, the classifier does not take part in matching features.
        gradients = [
            tf.zeros_like(v.value) if g is None else g
            for g, v in zip(gradients, model.trainable_variables, strict=True)
        ]
        optimizer.apply(gradients, 0.01, number)
        return loss

    losses = [
        float(step(images, tf.constant(number, tf.int64)))
        for number, images in enumerate(30 * batches(digits, 1))
    ]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


@pytest.mark.parametrize("reads", ["last", "stages"])
def test_the_teacher_of_logits_knows_the_classes(digits, reads):
    _, made = distill(SAME, "logits", digits, reads=reads)
    stream, _ = data_lib.train_batches(digits, resolution=16, batch_size=BATCH, seed=1)
    right = [
        np.argmax(made.targets(images)[0], -1) == labels.numpy()
        for images, labels in stream.take(10)
    ]
    assert np.concatenate(right).mean() > 0.35  # of random features, and crops are harder


def test_features_of_the_stages_are_mean_and_deviation_of_their_last_maps(digits):
    model = start.source_model(SOURCE, 16)
    features = distillation.stage_features(model, SOURCE.spec)
    (images,) = batches(digits, 1)
    names = ["block1b_add", "block2a_project_bn"]  # top_activation is left out
    maps = keras.Model(model.inputs, [model.get_layer(name).output for name in names])(images)
    want = [moment for x in maps for moment in (x.numpy().mean((1, 2)), x.numpy().std((1, 2)))]
    got = features(images).numpy()
    np.testing.assert_allclose(got, np.concatenate(want, -1), rtol=1e-4, atol=1e-5)


def test_with_the_stages_features_are_both(digits):
    _, made = distill(SMALLER, "features", digits, reads="stages")
    (images,) = batches(digits, 1)
    logits, *maps = made.targets(images)
    assert logits.shape == (BATCH, 10)
    _, both = distill(SMALLER, "both", digits, reads="stages")
    for one, other in zip([logits, *maps], both.targets(images), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    _, alone = distill(SMALLER, "features", digits)
    for one, other in zip(maps, alone.targets(images), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_feature_maps_alone_where_no_classifier_can_be_fitted(digits):
    squeezenet = spec_by_name("squeezenet-1.1", classes=10, base_resolution=64)
    source = weights(squeezenet)
    _, made = distill(squeezenet, "features", digits, source, reads="stages")
    _, alone = distill(squeezenet, "features", digits, source)
    images = tf.zeros((BATCH, 64, 64, 3))
    assert len(made.targets(images)) == len(alone.targets(images)) > 1


def test_nothing_to_learn_from(digits):
    with pytest.raises(UserError, match=r"set --pretrained, or use --distill=none"):
        check_settings(TrainConfig(distill="features"), digits)
    squeezenet = spec_by_name("squeezenet-1.1", classes=10, base_resolution=64)
    with pytest.raises(UserError, match="use --distill=features"):
        distill(squeezenet, "logits", digits, weights(squeezenet))
