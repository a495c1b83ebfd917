"""Weights of classes: from counts, from files, and in the loss."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import settings
from efficientnet_elite.training.class_weights import check, class_weights, written_out
from efficientnet_elite.training.tasks import Classification, Segmentation
from efficientnet_elite.training.trainer import Trainer
from tests.support.tiny_training import SPEC


def images(counts, **options):
    """A data set with so many training images of each class, as far as weights look at it."""
    return SimpleNamespace(
        name="folder:pets",
        labels=("cat", "dog", "owl")[: len(counts)],
        masks=False,
        num_classes=len(counts),
        class_counts=lambda part: None if options.get("streamed") else np.array(counts),
        **{k: v for k, v in options.items() if k != "streamed"},
    )


def of(setting, data):
    return class_weights(setting, data, pytest.fail)


def test_balanced_classes_count_the_same_and_a_mean_image_counts_one():
    counts = np.array([100, 50, 10])
    weights = of("balanced", images(counts))
    assert np.ptp(weights * counts) == pytest.approx(0, abs=1e-3)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    assert of("none", images(counts)) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.json", '{"dog": 4, "owl": 0.5}'),
        ("w.csv", "class,weight\ndog,4\nowl,0.5\n"),
        ("w.csv", "dog, 4\n\nowl,0.5"),
    ],
)
def test_weights_of_a_file_are_recorded_themselves(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    config = settings.training_config({"class_weights": str(path)}, SearchConfig())
    path.unlink()  # the record needs it no more
    again = settings.training_config({}, config)
    weights = of(again.train.class_weights, images([1, 1, 1]))
    assert weights == pytest.approx(3 * np.array([1, 4, 0.5]) / 5.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("dog,4,5", "holds no weights"),
        ("dog,4\nowl,many", "holds no weights"),
        ("dog,-1", "the weight of dog is -1"),
        ("dog,nan", "the weight of dog is nan"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, content, message):
    path = tmp_path / "w.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        written_out(str(path))


def test_other_wrong_weights():
    with pytest.raises(UserError, match="=ballanced: use balanced, oversample, none, or a JSON"):
        written_out("ballanced")
    with pytest.raises(UserError, match=r"'mouse', which is no class .* cat, dog"):
        of('{"mouse": 2}', images([1, 1]))
    with pytest.raises(UserError, match="have the weight 0"):
        of('{"cat": 0}', images([5, 0]))
    with pytest.raises(UserError, match="read as a stream"):
        of("balanced", images([1, 1], streamed=True))
    assert of('{"cat": 3}', images([1, 1], streamed=True)) == pytest.approx([1.5, 0.5])


def test_users_are_told_of_uneven_classes():
    assert check("none", images([99, 20])) is None
    assert check("balanced", images([100, 20])) is None
    assert check("none", images([100, 20])) == (
        "classes are uneven: 20 training images of dog, 100 of cat: --class_weights=balanced lets "
        "all classes count the same, --class_weights=oversample shows them equally often"
    )


def test_the_loss_is_weighted_by_the_label():
    logits = tf.constant(np.random.default_rng(0).normal(size=(4, 3)), tf.float32)
    labels = tf.constant([0, 2, 2, 1])
    weights = np.array([2, 0, 0.5], np.float32)
    each = [
        float(Classification(3).loss(logits[i : i + 1], labels[i : i + 1], 0.1)) for i in range(4)
    ]
    found = float(Classification(3, weights).loss(logits, labels, 0.1))
    assert found == pytest.approx((2 * each[0] + 0.5 * each[1] + 0.5 * each[2]) / 4, rel=1e-5)
    masks, ignored = tf.reshape(labels, (1, 2, 2)), tf.constant([[[0, 2], [255, 1]]])
    pixels = tf.reshape(logits, (1, 2, 2, 3))
    assert float(Segmentation(3, weights).loss(pixels, masks, 0.1)) == pytest.approx(found)
    found = float(Segmentation(3, weights).loss(pixels, ignored, 0.1))
    assert found == pytest.approx((2 * each[0] + 0.5 * each[1]) / 3, rel=1e-5)


def test_balanced_accuracy_counts_rare_classes_as_much_as_frequent_ones():
    labels = np.array([0] * 8 + [1] * 2)
    chosen = np.array([0] * 8 + [0, 1])
    top1, balanced = (Classification(3, score=score) for score in ("top-1", "balanced"))
    tally = top1.tally(chosen[:5], labels[:5]) + top1.tally(chosen[5:], labels[5:])
    assert top1.score(tally) == 0.9
    assert balanced.score(tally) == 0.75  # the third class has no image
    assert top1.accuracies(tally) == balanced.accuracies(tally) == {"top1": 0.9, "balanced": 0.75}


def test_a_training_uses_the_weights(tmp_path):
    """Classes without weight are not learned: no image is given them."""
    data = data_lib.load(DataConfig(), progress=False)
    others = json.dumps({str(number): 0.0 for number in range(2, 10)})
    config = TrainConfig(
        **{"epochs": 1, "batch_size": 32, "learning_rate": 0.03, "warmup_epochs": 0.0},
        **{"schedule": "cosine", "ema": 0.5, "batch_norm_momentum": 0.9, "drop_rates": 0.0},
        label_smoothing=0.0,
        class_weights=others,
        score="balanced",
    )
    trainer = Trainer(
        SPEC,
        config,
        data,
        base_resolution=16,
        seed=0,
        checkpoint=tmp_path / "x.npz",
    )
    trainer.run(1, lambda epoch: None)
    (epoch,) = trainer.history
    assert epoch.validation_accuracy == epoch.balanced != epoch.top1
    batches = data_lib.eval_batches(data, "test", resolution=16, batch_size=512, base_resolution=16)
    (batch,) = batches
    with trainer.averaged_weights():
        chosen = trainer.model(batch[0], training=False).numpy().argmax(-1)
    assert np.isin(chosen, (0, 1)).mean() > 0.9  # about 0.2 before
