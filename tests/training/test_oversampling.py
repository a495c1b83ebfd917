"""Drawing all classes equally often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.data.parts import BalancedPart, IndexedPart
from efficientnet_elite.errors import UserError
from efficientnet_elite.training.class_weights import as_drawn, check
from efficientnet_elite.training.trainer import Trainer
from tests.support.tiny_training import SPEC

COUNTS = {0: 60, 1: 12, 2: 7, 3: 1}  # training images of each digit; the others have none
BATCH, STEPS = 16, 5  # 80 images are 5 batches


@pytest.fixture(scope="module")
def uneven():
    data = data_lib.load(DataConfig(), progress=False)
    part = data.parts["train"]
    labels = part.labels
    kept = [np.flatnonzero(labels == digit)[:count] for digit, count in COUNTS.items()]
    some = IndexedPart(part._store, part._labels, part._indices[np.sort(np.concatenate(kept))])
    return replace(data, parts={**data.parts, "train": some})


def drawn(data, *, epochs, first=0, seed=0):
    """Numbers of images and their labels, (epochs, images of an epoch)."""
    part = as_drawn("oversample", data).parts["train"]
    assert isinstance(part, BalancedPart) and part.size == 80
    keys = part.training_keys(seed, first * STEPS, STEPS, BATCH).take(epochs * STEPS * BATCH)
    columns = zip(*keys.as_numpy_iterator(), strict=True)
    return [np.array(column).reshape(epochs, -1) for column in columns]


def test_every_epoch_shows_all_classes_equally_often_and_all_images_in_turn(uneven):
    numbers, labels = drawn(uneven, epochs=6)
    for epoch in labels:
        assert np.bincount(epoch).tolist() == [20, 20, 20, 20]
    part = uneven.parts["train"]
    of = dict(zip(part._indices, part.labels, strict=True))
    assert all(of[number] == label for number, label in zip(numbers.flat, labels.flat, strict=True))
    # 120 draws of each class: 60 images twice, 12 ten times, 7 seventeen times and one more.
    for digit, count in COUNTS.items():
        times = np.unique(numbers[labels == digit], return_counts=True)[1]
        assert len(times) == count and np.ptp(times) <= 1
    assert len(set(numbers[0][labels[0] == 0])) == 20, "none twice before all others"
    assert (labels[0] != labels[1]).any()


def test_the_draws_depend_on_seed_and_epoch_alone(uneven):
    numbers, _ = drawn(uneven, epochs=4)
    assert np.array_equal(drawn(uneven, epochs=2, first=2)[0], numbers[2:])
    assert not np.array_equal(drawn(uneven, epochs=4, seed=1)[0], numbers)


def test_batches_that_the_classes_do_not_divide(uneven):
    part = as_drawn("oversample", uneven).parts["train"]
    keys = part.training_keys(0, 0, 3, 10).take(120)
    labels = np.array([label for _, label in keys.as_numpy_iterator()]).reshape(4, 30)
    assert np.ptp([np.bincount(epoch, minlength=4) for epoch in labels], axis=1).max() <= 1
    assert np.bincount(labels.flat).tolist() == [30, 30, 30, 30]


@pytest.mark.slow
def test_a_training_that_goes_on_equals_one_without_a_break(uneven, tmp_path):
    config = TrainConfig(
        epochs=2, batch_size=16, class_weights="oversample", checkpoint_minutes=0, drop_rates=0.0
    )

    def trained(name: str, *parts: int) -> Trainer:
        for epochs in parts:
            trainer = Trainer(
                *(SPEC, config, uneven), base_resolution=16, seed=0, checkpoint=tmp_path / name
            )
            trainer.run(epochs, lambda epoch: None)
        return trainer

    whole, broken = trained("whole.npz", 2), trained("broken.npz", 1, 2)
    plain = replace(config, class_weights="none")
    assert [epoch.train_loss for epoch in whole.history] == [
        epoch.train_loss for epoch in broken.history
    ]
    other = Trainer(
        *(SPEC, plain, uneven), base_resolution=16, seed=0, checkpoint=tmp_path / "plain.npz"
    )
    other.run(1, lambda epoch: None)
    assert other.history[0].train_loss != whole.history[0].train_loss


def test_images_without_a_known_class_are_refused(uneven):
    masks = replace(uneven, masks=True)
    with pytest.raises(UserError, match=r"does not tell \(labels are masks\): use weights"):
        check("oversample", masks)
    streamed = replace(uneven, parts={**uneven.parts, "train": object()})
    with pytest.raises(UserError, match=r"does not tell \(it is read as a stream\)"):
        as_drawn("oversample", streamed)
    assert check("oversample", uneven) is None
    assert as_drawn("none", uneven) is uneven
