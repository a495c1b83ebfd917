"""A classifier for fixed features: multinomial logistic regression, and its use as a head.

A network that starts from pretrained weights needs a new classifier for the user's classes. With a
random one, the first steps of training would disturb the pretrained features. The regression finds
a good classifier for the features as they are, in seconds.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.optimize import minimize

from efficientnet_elite import data as data_lib
from efficientnet_elite import machine
from efficientnet_elite.config import InputSize, SizeLike
from efficientnet_elite.data import ImageData
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.pretrained.matching import logits_layer
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.backend import compiled

Head: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (features, classes) and bias (classes,) of logits = features @ kernel + bias."""

# Strengths of the L2 penalty that are tried, from strong to weak: each fit starts from the last.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
_FOLDS = 3
_ITERATIONS = 60  # of L-BFGS; more change no accuracy
_DEVIATION_FLOOR = 0.1  # times the mean deviation: nearly constant features are not blown up
_HEAD_IMAGES = 20_000  # the most training images that a head is fitted to
_BATCH = 64


def fit_logistic_regression(
    features: NDArray[np.float32], labels: NDArray[Any], classes: int
) -> Head:
    """Fits a multinomial logistic regression by L-BFGS.

    Features are standardised for the fit. The strength of the L2 penalty is the one of `STRENGTHS`
    with the smallest cross-entropy in a cross-validation of three folds. The result depends on the
    arguments alone.

    Args:
      features: float32 (n, d), or (n, views, d) for several views of each image, such as the
        mirrored one. All views of an image are in the same fold.
      labels: class of each image, (n,).
      classes: number of classes.

    Returns:
      The classifier for features that are not standardised.
    """
    with machine.one_thread():
        return _fit(features, labels, classes)


def _fit(features: NDArray[np.float32], labels: NDArray[Any], classes: int) -> Head:
    views = features.reshape(len(features), -1, features.shape[-1])
    mean = views.mean((0, 1))
    deviation = views.std((0, 1))
    deviation = deviation + _DEVIATION_FLOOR * deviation.mean() + 1e-6
    views = ((views - mean) / deviation).astype(np.float32)
    targets = np.eye(classes, dtype=np.float32)[labels]
    fold = _folds(labels)
    losses = np.zeros(len(STRENGTHS))
    for held_out in range(_FOLDS):
        is_held_out = fold == held_out
        if not is_held_out.any() or is_held_out.all():
            continue
        path = _fits(views[~is_held_out], targets[~is_held_out], STRENGTHS)
        losses += [
            _cross_entropy(head, views[is_held_out], targets[is_held_out]) * is_held_out.sum()
            for head in path
        ]
    strengths = STRENGTHS[: int(np.argmin(losses)) + 1]
    kernel, bias = _fits(views, targets, strengths)[-1]
    kernel = kernel / deviation[:, np.newaxis]
    return kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32)


def _folds(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the fold of each image; each class is spread evenly over the folds."""
    order = np.argsort(labels, kind="stable")
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % _FOLDS
    return fold


def _fits(
    views: NDArray[np.float32], targets: NDArray[np.float32], strengths: tuple[float, ...]
) -> list[Head]:
    """Fits one classifier for each strength, in turn from the one before.

    Args:
      views: standardised features, (n, views, d).
      targets: one-hot, (n, classes).
      strengths: of the L2 penalty ``strength / 2 * |kernel|^2`` on the mean cross-entropy.
    """
    rows = views.reshape(-1, views.shape[-1])
    targets = np.repeat(targets, views.shape[1], axis=0)
    shape = rows.shape[1], targets.shape[1]
    transposed = np.ascontiguousarray(rows.T)
    parameters = np.zeros((shape[0] + 1) * shape[1])
    heads = []
    for strength in strengths:

        def loss(
            parameters: NDArray[np.float64], strength: float = strength
        ) -> tuple[float, NDArray[np.float64]]:
            kernel, bias = _unpacked(parameters, shape)
            log_p = _log_softmax(rows @ kernel + bias)
            error = (np.exp(log_p) - targets) / len(rows)
            gradient = transposed @ error + strength * kernel
            value = -float((log_p * targets).sum()) / len(rows)
            value += strength / 2 * float((kernel * kernel).sum())
            return value, np.concatenate([gradient.ravel(), error.sum(0)]).astype(np.float64)

        options = {"maxiter": _ITERATIONS}
        parameters = minimize(loss, parameters, jac=True, method="L-BFGS-B", options=options).x
        heads.append(_unpacked(parameters, shape))
    return heads


def _unpacked(parameters: NDArray[np.float64], shape: tuple[int, int]) -> Head:
    kernel, bias = np.split(parameters.astype(np.float32), [shape[0] * shape[1]])
    return kernel.reshape(shape), bias


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _cross_entropy(head: Head, views: NDArray[Any], targets: NDArray[Any]) -> float:
    log_p = _log_softmax(views @ head[0] + head[1])
    return -float((log_p * targets[:, np.newaxis]).sum(-1).mean())


# -- of networks ---------------------------------------------------------------------------------


def classifier_name(spec: ArchSpec) -> str | None:
    """Name of the layer that makes logits out of one feature vector; None if there is none.

    Networks that classify each position and average afterwards have none, nor have those of
    segmentation.
    """
    nodes = spec.graph.nodes
    node = next((node for node in nodes if node.name == logits_layer(spec)), None)
    if node is None or not isinstance(node.op, ops.Dense | ops.Conv) or node.inputs[0] < 0:
        return None
    shape = nodes[node.inputs[0]].shape
    return node.name if len(shape) == 1 or shape[:2] == (1, 1) else None


def features_before(model: keras.Model, classifier: str) -> keras.Model:
    """Returns a model of the features that a classifier reads, see `classifier_name`."""
    return keras.Model(model.inputs, model.get_layer(classifier).input)


def fit_head(
    features_of: keras.Model, data: ImageData, *, base_resolution: SizeLike, seed: int
) -> Head:
    """Fits a classifier of the data set's classes to the features that a model computes.

    Args:
      features_of: takes images to features, one vector each; it is used as in inference, and is
        not changed.
      data: the data set; training images in their evaluation crop, mirrored too where the pipeline
        mirrors.
      base_resolution: input size of the pool's unscaled network in pixels.
      seed: seed of the choice of images where there are more than 20,000.
    """
    compute = compiled(lambda images: features_of(images, training=False), features_of)
    size = InputSize(*features_of.inputs[0].shape[1:3])
    batches = data_lib.sample_batches(
        data,
        resolution=size,
        base_resolution=base_resolution,
        count=_HEAD_IMAGES,
        seed=seed,
        batch_size=_BATCH,
    )
    features, labels = [], []
    for images, batch_labels in batches:
        views = [images, tf.reverse(images, [2])] if data.pipeline.flip else [images]
        vectors = [np.asarray(compute(view)).reshape(len(images), -1) for view in views]
        features.append(np.stack(vectors, axis=1))
        labels.append(batch_labels.numpy())
    return fit_logistic_regression(
        np.concatenate(features), np.concatenate(labels), data.num_classes
    )


def set_head(model: keras.Model, classifier: str, head: Head) -> None:
    """Gives a model's classifier the weights of a head."""
    layer = model.get_layer(classifier)
    kernel, bias = head
    layer.kernel.assign(kernel.reshape(layer.kernel.shape))
    if layer.bias is not None:
        layer.bias.assign(bias)
