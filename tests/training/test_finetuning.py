"""The trainer from pretrained weights: continuation, refusals, frozen statistics, distillation."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training import start
from efficientnet_elite.training.checkpoint import PARTS, Checkpoint
from efficientnet_elite.training.trainer import Trainer
from tests.support.tiny_pretrained import SAME, SMALLER, SOURCE, weights

CONFIG = TrainConfig(
    epochs=2,
    batch_size=64,
    learning_rate=0.002,
    warmup_epochs=0.2,
    schedule="cosine",
    ema=0.9,
    batch_norm_momentum=0.9,
    optimizer="adamw",
    weight_decay=0.05,
    gradient_clip=1.0,
    pretrained="tiny",
)
OTHER = weights(SOURCE.spec, name="other", seed=6)


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    known = {"tiny": SOURCE, "other": OTHER}
    monkeypatch.setattr(start, "load_source", known.__getitem__)


@pytest.fixture(scope="module")
def digits():
    tf.config.experimental.enable_op_determinism()
    return data_lib.load(DataConfig(), max_side=24, progress=False)


@pytest.fixture(scope="module")
def with_unlabelled(tmp_path_factory):
    """The digits, and 40 images of noise without labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    config = DataConfig(unlabelled=str(folder))
    return data_lib.load(config, max_side=24, progress=False)


def trainer(path, data, config=CONFIG, spec=SMALLER, seed=3):
    return Trainer(spec, config, data, base_resolution=16, seed=seed, checkpoint=path)


def ignore(_):
    pass


def same_to_the_bit(one, other):
    a, b = Checkpoint.load(one), Checkpoint.load(other)
    for x, y in zip(a.history, b.history, strict=True):
        assert {**x, "seconds": None} == {**y, "seconds": None}
    for part in PARTS:
        assert len(a.parts[part]) > 0
        for x, y in zip(a.parts[part], b.parts[part], strict=True):
            np.testing.assert_array_equal(x, y)
    return True


@pytest.mark.parametrize("spec", [SMALLER, pytest.param(SAME, marks=pytest.mark.slow)])
def test_a_classifier_of_all_stages_begins_better(digits, tmp_path, spec):
    """It takes the same weights, and is fitted to what it reads."""
    stages = spec.reading_stages()
    assert ArchSpec.from_json(stages.to_json()) == stages
    assert stages.reading_stages(False) == spec
    last, head = (s.graph.nodes[-1] for s in (spec, stages))
    channels = {b.name: spec.graph.outputs[b.name].channels for b in spec.blocks[1:-1]}
    ends = ["block1b" if "block1b" in channels else "block1a", "block2a", "top"]
    read = sum(channels[name] for name in ends)
    assert (last.params, head.params) == ((channels["top"] + 1) * 10, (read + 1) * 10)
    plain, begun = (trainer(tmp_path / f"{s is spec}", digits, spec=s) for s in (spec, stages))
    weights = {v.path: np.array(v) for v in plain.model.variables}
    for variable in begun.model.variables:
        if not variable.path.startswith(("predictions", "seed")) and "seed" not in variable.path:
            np.testing.assert_array_equal(variable, weights[variable.path], variable.path)
    assert begun.accuracy("validation") > plain.accuracy("validation")


@pytest.mark.slow
def test_continuing_is_the_same_as_not_stopping(with_unlabelled, tmp_path):
    """With AdamW, distillation of features and predictions, and unlabelled images."""
    config = replace(CONFIG, distill="features", teacher_reads="stages")
    straight, interrupted = tmp_path / "straight.npz", tmp_path / "interrupted.npz"
    whole = trainer(straight, with_unlabelled, config)
    assert 0 < whole.start_seconds < whole.build_seconds
    whole.run(2, ignore)
    trainer(interrupted, with_unlabelled, config).run(1, ignore)
    second = trainer(interrupted, with_unlabelled, config)
    assert second.epochs_done == 1
    second.run(2, ignore)
    assert same_to_the_bit(straight, interrupted)
    assert Checkpoint.load(straight).start == {"name": "tiny", "sha256": SOURCE.sha256}


def test_a_pretrained_start_is_ahead_of_random_weights(digits, tmp_path):
    begun = trainer(tmp_path / "a.npz", digits)
    random = trainer(tmp_path / "b.npz", digits, replace(CONFIG, pretrained="none"))
    assert begun.accuracy("validation") > 0.5 > random.accuracy("validation")
    assert random.start_seconds == 0


@pytest.mark.slow
def test_grey_networks_begin_with_what_was_learned_from_colours(digits, tmp_path):
    """One channel is to them what three equal ones are to the network of the weights."""
    grey = data_lib.load(DataConfig(channels="1"), max_side=24, progress=False)
    of_colours = trainer(tmp_path / "a.npz", digits, spec=SAME)
    whole = trainer(tmp_path / "b.npz", grey, spec=SAME.with_channels(1))
    images, _ = data_lib.calibration_images(
        grey, resolution=16, base_resolution=16, count=20, seed=0
    )
    expected = of_colours.model(np.repeat(images, 3, axis=-1))
    np.testing.assert_allclose(whole.model(images), expected, atol=1e-2 * np.ptp(expected))
    taught = replace(CONFIG, distill="both", epochs=1)
    smaller = trainer(tmp_path / "c.npz", grey, taught, spec=SMALLER.with_channels(1))
    assert smaller.accuracy("validation") > 0.5
    smaller.run(1, ignore)
    assert np.isfinite(smaller.history[0].train_loss)


def test_continuing_with_other_weights_is_refused(digits, tmp_path):
    begun, random = tmp_path / "begun.npz", tmp_path / "random.npz"
    trainer(begun, digits).run(1, ignore)
    trainer(random, digits, replace(CONFIG, pretrained=None)).run(1, ignore)
    assert Checkpoint.load(random).start is None
    for path, pretrained, message in (
        (begun, "other", "began from tiny .* not from other"),
        (begun, None, "began from tiny .* not from random weights"),
        (random, "tiny", "began from random weights .* not from tiny"),
    ):
        with pytest.raises(UserError, match=message) as refusal:
            trainer(path, digits, replace(CONFIG, pretrained=pretrained))
        assert "\n" not in str(refusal.value)
    assert trainer(begun, digits).epochs_done == 1


def test_frozen_statistics(digits, tmp_path):
    config = replace(CONFIG, freeze_statistics=True)
    frozen = trainer(tmp_path / "a.npz", digits, config, spec=SAME)
    before = {v.path: np.array(v) for v in frozen.model.variables}
    frozen.run(1, ignore)
    for variable in frozen.model.variables:
        if "seed" in variable.path:
            continue
        changed = not np.array_equal(variable, before[variable.path])
        assert changed == ("moving" not in variable.path), variable.path
    assert np.isfinite(frozen.history[0].train_loss)


@pytest.mark.slow
def test_distillation_changes_the_training_but_not_the_reported_loss(digits, tmp_path):
    """The first step has the same loss of labels; later ones differ."""
    short = replace(CONFIG, batch_size=digits.sizes["train"], epochs=2, warmup_epochs=0.0)
    plain = trainer(tmp_path / "a.npz", digits, short)
    taught = trainer(tmp_path / "b.npz", digits, replace(short, distill="features"))
    plain.run(2, ignore)
    taught.run(2, ignore)
    first, second = zip(plain.history, taught.history, strict=True)
    assert first[0].train_loss == pytest.approx(first[1].train_loss, rel=1e-4)
    assert second[0].train_loss != second[1].train_loss  # trainings repeat bit for bit


def test_settings_that_do_not_go_together(digits, with_unlabelled, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="needs a network to learn from"):
        trainer(path, digits, replace(CONFIG, pretrained=None, distill="logits"))
    with pytest.raises(UserError, match="for distillation only"):
        trainer(path, with_unlabelled)
    with pytest.raises(UserError, match="name a source"):
        trainer(path, digits, replace(CONFIG, pretrained="auto"))
    assert not path.exists()


def test_checkpoints_of_earlier_versions_began_from_random_weights(digits, tmp_path):
    path = tmp_path / "a.npz"
    first = trainer(path, digits, replace(CONFIG, pretrained=None))
    first.run(1, ignore)
    with np.load(path) as file:
        assert "start" not in str(file["header"])  # as earlier versions wrote it
    again = trainer(path, digits, replace(CONFIG, pretrained="none"))
    assert [asdict(x) for x in again.history] == [asdict(x) for x in first.history]
