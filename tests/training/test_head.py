"""Logistic regression against known solutions, and as the classifier of a network."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.training import head
from efficientnet_elite.training.head import (
    classifier_name,
    features_before,
    fit_head,
    fit_logistic_regression,
    set_head,
)
from tests.support.tiny_pretrained import SAME


def blobs(count, classes, seed=0, spread=1.0, dimensions=6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, dimensions))
    labels = rng.integers(0, classes, count)
    features = centres[labels] + rng.normal(0, spread, (count, dimensions))
    return (features * np.arange(1, dimensions + 1) + 3).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_the_solution_is_that_of_scikit_learn(classes, monkeypatch):
    monkeypatch.setattr(head, "STRENGTHS", (0.1,))
    features, labels = blobs(300, classes)
    kernel, bias = fit_logistic_regression(features, labels, classes)
    deviation = features.std(0)
    standardised = (features - features.mean(0)) / (deviation + 0.1 * deviation.mean())
    # Its penalty is 1 / (2 C) on the sum of losses. A model of two classes has one row there.
    scale = 2 if classes == 2 else 1
    reference = LogisticRegression(C=scale / (0.1 * 300), max_iter=1000, tol=1e-8)
    reference.fit(standardised, labels)
    logits = features @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(p, reference.predict_proba(standardised), atol=2e-3)


def test_the_strength_fits_the_noise_and_copies_do_not_mislead_it(monkeypatch):
    """Labels that mean nothing need the strongest penalty, with mirrored views or without."""
    used = []

    def spy(function, start, **options):
        used.append(function.__defaults__[0])
        return minimize(function, start, **options)

    monkeypatch.setattr(head, "minimize", spy)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(120, 40)).astype(np.float32)
    labels = rng.integers(0, 3, 120)
    for features in (noise, np.repeat(noise[:, np.newaxis], 2, axis=1)):
        fit_logistic_regression(features, labels, 3)
        assert used[-1] == head.STRENGTHS[0]
    clear, labels = blobs(300, 3, spread=0.05)
    fit_logistic_regression(clear, labels, 3)
    assert used[-1] == head.STRENGTHS[-1]


def test_it_generalises_and_repeats_to_the_bit():
    features, labels = blobs(400, 5, spread=0.5)
    features = np.column_stack([features, np.ones(400, np.float32)])  # a dead feature
    kernel, bias = fit_logistic_regression(features, labels, 5)
    again = fit_logistic_regression(features, labels, 5)
    np.testing.assert_array_equal(kernel, again[0])
    np.testing.assert_array_equal(bias, again[1])
    others, truth = blobs(400, 5, seed=1, spread=0.5)
    others = np.column_stack([others, np.ones(400, np.float32)])
    assert ((others @ kernel + bias).argmax(1) == truth).mean() > 0.9


def test_few_images_of_a_class():
    features = np.array([[0.0], [1.0], [2.0]], np.float32)
    kernel, bias = fit_logistic_regression(features, np.array([0, 1, 2]), 3)
    assert np.isfinite(kernel).all() and np.isfinite(bias).all()


# -- of networks ---------------------------------------------------------------------------------


def test_the_head_of_a_network():
    digits = data_lib.load(DataConfig(), max_side=24, progress=False)
    model = build(SAME)
    classifier = classifier_name(SAME)
    assert classifier == "predictions"

    def accuracy():
        right = total = 0
        for images, labels in data_lib.eval_batches(
            digits, "test", resolution=16, batch_size=100, base_resolution=16
        ):
            right += int((np.argmax(model(images, training=False), -1) == labels.numpy()).sum())
            total += len(labels)
        return right / total

    assert accuracy() < 0.4
    features = features_before(model, classifier)
    set_head(model, classifier, fit_head(features, digits, base_resolution=16, seed=0))
    assert accuracy() > 0.75


@pytest.mark.parametrize(
    "name, classifier",
    [
        ("elite9", "predictions"),
        ("mobilenetv3-small", "predictions"),
        ("mobilenetv1", "predictions"),
        ("squeezenet-1.1", None),  # classifies each position, and averages afterwards
        ("condensenext", "predictions"),
    ],
)
def test_which_layer_is_the_classifier(name, classifier):
    assert classifier_name(spec_by_name(name, classes=3)) == classifier


def test_nearly_constant_features_do_not_get_large_weights():
    features, labels = blobs(300, 3)
    rare = np.random.default_rng(0).normal(scale=1e-4, size=(300, 20)).astype(np.float32)
    kernel, _ = fit_logistic_regression(np.concatenate([features, rare], 1), labels, 3)
    width = features.shape[1]
    assert np.abs(kernel[width:]).max() < np.abs(kernel[:width]).max()
