"""Training: continuation, int8, the schedule, and steps against the formulas."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from math import cos, pi

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import ConvBlock
from efficientnet_elite.networks.build import build
from efficientnet_elite.search.executors.local import LocalExecutor
from efficientnet_elite.search.executors.protocol import Finished, Int8Done, WorkItem
from efficientnet_elite.training.checkpoint import PARTS, Checkpoint
from efficientnet_elite.training.learning_rate import learning_rate
from efficientnet_elite.training.loading import load_averaged
from efficientnet_elite.training.trainer import Trainer, TrainingError
from tests.support.tiny_training import SPEC, tiny

CONFIG = TrainConfig(
    epochs=3,
    batch_size=64,
    learning_rate=0.02,
    warmup_epochs=1.0,
    ema=0.9,
    batch_norm_momentum=0.9,
)


@pytest.fixture(scope="module")
def digits():
    tf.config.experimental.enable_op_determinism()  # as the search's executor does
    return data_lib.load(DataConfig(), max_side=24, progress=False)


@pytest.fixture(scope="module")
def trainer(digits):
    def make(path, spec=SPEC, config=CONFIG, seed=3):
        return Trainer(spec, config, digits, base_resolution=16, seed=seed, checkpoint=path)

    return make


@pytest.fixture(scope="module")
def straight(trainer, tmp_path_factory):
    """Three epochs without a pause."""
    path = tmp_path_factory.mktemp("straight") / "tiny.npz"
    uninterrupted = trainer(path)
    steps = []
    uninterrupted.run(3, lambda epoch: None, lambda step, of: steps.append((step, of)))
    assert steps == [(n, steps[-1][1]) for _ in range(3) for n in range(1, steps[-1][1] + 1)]
    return uninterrupted


def ignore(_):
    pass


def without_times(history):
    return [{**entry, "seconds": None} for entry in history]


def test_continuing_is_the_same_as_not_stopping(straight, trainer, tmp_path):
    """The second trainer knows only the checkpoint, as another process would."""
    path = tmp_path / "tiny.npz"
    trainer(path).run(1, ignore)
    results = []
    second = trainer(path)
    assert second.epochs_done == 1
    second.run(3, results.append)
    assert [result.epoch for result in results] == [2, 3]
    second.run(3, results.append)  # nothing is left to do
    assert len(results) == 2
    a, b = Checkpoint.load(straight.checkpoint), Checkpoint.load(path)
    assert without_times(a.history) == without_times(b.history)
    for part in PARTS:
        assert len(a.parts[part]) > 0
        for x, y in zip(a.parts[part], b.parts[part], strict=True):
            np.testing.assert_array_equal(x, y)
    assert straight.accuracy("test") == second.accuracy("test")


def test_it_learns(straight):
    first, last = straight.history[0], straight.history[-1]
    assert last.train_loss < first.train_loss
    assert last.validation_accuracy > 0.2  # ten classes


def test_averaged_weights_are_loaded_from_the_file(straight, digits):
    model, spec, epochs = load_averaged(straight.checkpoint)
    assert (spec, epochs) == (SPEC, 3)
    current = straight.model.get_weights()
    with straight.averaged_weights():
        images = np.ones((2, 16, 16, 3), np.float32)
        np.testing.assert_array_equal(model(images), straight.model(images, training=False))
    for before, after in zip(current, straight.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    right = total = 0
    for x, y in data_lib.eval_batches(
        digits, "validation", resolution=16, batch_size=64, base_resolution=16
    ):
        right += int((np.argmax(model(x), -1) == y.numpy()).sum())
        total += len(y)
    assert right / total == straight.history[-1].validation_accuracy
    with pytest.raises(UserError, match="missing"):
        load_averaged(straight.checkpoint.with_name("absent.npz"))


def test_seeds_matter(straight, trainer, tmp_path):
    other = trainer(tmp_path / "other.npz", seed=4)
    other.run(1, ignore)
    assert other.history[0].train_loss != straight.history[0].train_loss


def test_a_checkpoint_of_another_network(straight, trainer):
    wider = replace(SPEC, blocks=(ConvBlock("stem", 16, kernel=3, stride=2), *SPEC.blocks[1:]))
    with pytest.raises(UserError, match="another network"):
        trainer(straight.checkpoint, spec=wider)


@pytest.mark.slow
def test_drop_rates_are_part_of_the_recipe(straight, trainer, tmp_path):
    plain = tiny(drop=0.0)
    assert SPEC.with_drop_rates(0.0) == plain
    assert SPEC.with_drop_rates(0.5) == tiny(drop=0.05)
    without = trainer(tmp_path / "a.ckpt", config=replace(CONFIG, drop_rates=0.0))
    without.run(1, ignore)
    dropout_free = trainer(tmp_path / "b.ckpt", spec=plain)
    dropout_free.run(1, ignore)
    assert without.history[0].train_loss == dropout_free.history[0].train_loss
    assert without.history[0].train_loss != straight.history[0].train_loss
    assert load_averaged(tmp_path / "a.ckpt")[1] == SPEC  # the network keeps its own rates


def test_divergence_ends_the_training_and_keeps_the_last_good_checkpoint(trainer, tmp_path):
    path = tmp_path / "tiny.npz"
    diverging = trainer(path, config=replace(CONFIG, learning_rate=1e30))
    message = r"the loss became (nan|inf) in step \d+ at .*, which is half of .* --learning_rate"
    with pytest.raises(TrainingError, match=message):
        diverging.run(3, ignore)
    saved = Checkpoint.load(path).history if path.exists() else []
    assert saved == [asdict(result) for result in diverging.history]
    assert all(np.isfinite(result.train_loss) for result in diverging.history)


def test_after_a_divergence_the_rate_is_half_to_the_end(trainer, tmp_path, capsys):
    """What follows is the training that had half the rate from the beginning."""
    path = tmp_path / "tiny.npz"
    diverging = trainer(path)
    real, rates = diverging._step.graph, []

    def at_most(images, labels, rate, *others):
        rates.append(float(rate))
        loss = real(images, labels, rate, *others)
        return loss if rate <= 0.01 else tf.constant(np.nan)

    diverging._step.graph = at_most
    diverging.run(1, ignore)
    first = next(number for number, rate in enumerate(rates, 1) if rate > 0.01)
    message = f"the loss became nan in step {first} at a learning rate of {rates[first - 1]:.3g}"
    assert f"tiny: {message}; it is trained again from epoch 0 on" in capsys.readouterr().err
    half = trainer(tmp_path / "half.npz", config=replace(CONFIG, learning_rate=0.01))
    half.run(2, ignore)
    continued = trainer(path)
    continued.run(2, ignore)
    losses = [[result.train_loss for result in each.history] for each in (half, continued)]
    assert losses[0] == losses[1]


# -- in int8 -------------------------------------------------------------------------------------


def lossless(model, representative_images):
    """A quantization that loses nothing: it computes what the model computes now."""
    weights = model.get_weights()

    def infer(images):
        before = model.get_weights()
        model.set_weights(weights)
        logits = model(images, training=False).numpy()
        model.set_weights(before)
        return logits

    return infer


def test_int8_is_measured_with_the_averaged_weights(straight, digits):
    image_sets = []

    def quantize(model, representative_images):
        image_sets.append(representative_images)
        return lossless(model, representative_images)

    before = straight.model.get_weights()
    result = straight.evaluate_int8(quantize)
    accuracy = straight.history[-1].validation_accuracy
    assert (result.float_accuracy, result.int8_accuracy) == (accuracy, accuracy)
    assert (result.epoch, result.images) == (3, digits.sizes["validation"])
    for old, new in zip(before, straight.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    images, _ = data_lib.calibration_images(
        digits, resolution=16, base_resolution=16, count=200, seed=3
    )
    np.testing.assert_array_equal(image_sets[0], images)

    def always_class_0(model, representative_images):
        return lambda x: np.eye(10)[np.zeros(len(x), int)]

    result = straight.evaluate_int8(always_class_0)
    batches = data_lib.eval_batches(
        digits, "validation", resolution=16, batch_size=64, base_resolution=16
    )
    labels = np.concatenate([y.numpy() for _, y in batches])
    assert result.int8_accuracy == (labels == 0).mean()
    assert result.change == result.int8_accuracy - accuracy


def test_int8_on_some_images(straight, monkeypatch):
    """The same images are used in float32 and in int8, and each time."""
    monkeypatch.setattr("efficientnet_elite.training.trainer.INT8_IMAGES", 40)
    batches = []

    def quantize(model, representative_images):
        infer = lossless(model, representative_images)
        return lambda images: (batches.append(images), infer(images))[1]

    results = [straight.evaluate_int8(quantize) for _ in range(2)]
    assert {(r.images, r.float_accuracy, r.int8_accuracy) for r in results} == {
        (40, results[0].float_accuracy, results[0].float_accuracy)
    }
    first, second = np.array_split(np.concatenate(batches), 2)
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first.reshape(40, -1), axis=0)) > 35  # not a few images many times


def test_a_network_that_cannot_be_quantized(straight):
    def quantize(model, representative_images):
        raise UserError("a dead layer")

    result = straight.evaluate_int8(quantize)
    assert (result.int8_accuracy, result.fault, result.change) == (None, "a dead layer", -1)
    assert result.float_accuracy == straight.history[-1].validation_accuracy


def test_the_executor_measures_the_epoch_it_was_asked_for(straight, digits, tmp_path):
    """It does not measure the later weights of a checkpoint that was trained further."""
    path = tmp_path / "tiny.npz"
    path.write_bytes(straight.checkpoint.read_bytes())
    executor = LocalExecutor(CONFIG, digits, base_resolution=16, seed=3, quantize=lossless)

    def run(until):
        events = []
        executor.submit(0, WorkItem(SPEC, 3, until, path, int8_at_end=True))
        executor.wait(lambda slot, event: events.append(event))
        return events

    *_, measured, last = run(2)
    assert last == Finished()
    second = straight.history[1]
    assert measured.result.epoch == 2
    assert measured.result.float_accuracy == second.validation_accuracy
    assert Checkpoint.load(path.with_suffix(".ahead")).history == [
        asdict(result) for result in straight.history
    ]
    assert len(Checkpoint.load(path).history) == 2
    again = run(2)  # nothing is trained or built
    assert [type(event) for event in again] == [Int8Done, Finished]
    assert again[0].result.int8_accuracy == measured.result.int8_accuracy

    executor.submit(0, WorkItem(SPEC, 2, 3, path))
    executor.wait(lambda slot, event: None)
    *_, measured, last = run(2)  # also if the executor still holds it, trained further
    assert (measured.result.epoch, last) == (2, Finished())


# -- the step, in NumPy --------------------------------------------------------------------------


def test_steps_follow_the_formulas(digits, trainer, tmp_path):
    """Two steps of one batch each: RMSProp, L2, and the average, whose decay grows."""
    config = replace(
        CONFIG, batch_size=digits.sizes["train"], weight_decay=0.1, warmup_epochs=0, epochs=2
    )
    spec = tiny(drop=0.0)  # nothing random inside the network
    path = tmp_path / "tiny.npz"
    trainer(path, spec, config).run(2, ignore)
    saved = Checkpoint.load(path)

    model = build(spec, seed=3)
    for layer in model.layers:
        if hasattr(layer, "moving_mean"):
            layer.momentum = config.batch_norm_momentum
    stream, steps = data_lib.train_batches(
        digits, resolution=16, batch_size=config.batch_size, seed=3
    )
    assert steps == 1
    average = [np.array(v) for v in model.variables]
    count = len(model.trainable_variables)
    mean_square, momentum = [1.0] * count, [0.0] * count
    for step, (images, labels) in enumerate(stream.take(2)):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            target = tf.one_hot(labels, 10) * 0.9 + 0.01
            loss = -tf.reduce_mean(tf.reduce_sum(target * tf.nn.log_softmax(logits), -1))
        assert float(loss) == pytest.approx(saved.history[step]["train_loss"], rel=1e-5)
        gradients = tape.gradient(loss, model.trainable_variables)
        rate = learning_rate(config, step, 1)
        for i, (gradient, variable) in enumerate(
            zip(gradients, model.trainable_variables, strict=True)
        ):
            g, w = gradient.numpy().astype(np.float64), np.array(variable, np.float64)
            if variable.path.rsplit("/")[-1] in ("kernel", "bias"):
                g = g + 0.1 * w
            mean_square[i] = 0.9 * mean_square[i] + 0.1 * g * g
            momentum[i] = 0.9 * momentum[i] + rate * g / np.sqrt(mean_square[i] + 1e-3)
            variable.assign(w - momentum[i])
        decay = min(config.ema, (1 + step) / (10 + step))
        average = [
            decay * a + (1 - decay) * np.array(v)
            for a, v in zip(average, model.variables, strict=True)
        ]

    def same(part, expected):
        for got, want in zip(saved.parts[part], expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-6)

    same("weights", model.variables)
    same("average", average)
    same("optimizer", [*mean_square, *momentum])
    statistics = [v for v in model.variables if "moving" in v.path]
    assert statistics
    assert all(np.ptp(np.array(v)) > 0 for v in statistics)


# -- schedule ------------------------------------------------------------------------------------

PAPER = TrainConfig()


def test_the_papers_schedule_against_values_computed_by_hand():
    steps = 1000

    def rate(epoch):
        return learning_rate(PAPER, round(epoch * steps), steps)

    assert learning_rate(PAPER, 0, steps) == pytest.approx(0.00625 / 5000)
    assert rate(2.5) == pytest.approx(0.003125, rel=1e-3)
    assert learning_rate(PAPER, 4999, steps) == pytest.approx(0.00625)
    # After warm-up two whole periods of 2.4 epochs have passed (5 / 2.4 = 2.08).
    assert rate(5.0) == pytest.approx(0.00625 * 0.97**2)
    assert rate(7.199) == pytest.approx(0.00625 * 0.97**2)
    assert rate(7.21) == pytest.approx(0.00625 * 0.97**3)
    assert rate(349.9) == pytest.approx(0.00625 * 0.97**145)


def test_the_cosine_schedule():
    config = TrainConfig(epochs=11, warmup_epochs=1, schedule="cosine", learning_rate=2.0)
    assert learning_rate(config, 100, 100) == pytest.approx(2.0)
    assert learning_rate(config, 600, 100) == pytest.approx(1.0)
    assert learning_rate(config, 350, 100) == pytest.approx(1 + cos(pi / 4))
    assert learning_rate(config, 1100, 100) == pytest.approx(0.0, abs=1e-12)


@given(
    st.sampled_from(["exponential", "cosine"]),
    st.integers(1, 40),
    st.floats(0, 6),
    st.integers(1, 60),
)
def test_rates_rise_then_fall_in_small_steps(schedule, epochs, warmup, steps):
    config = TrainConfig(epochs=epochs, warmup_epochs=warmup, schedule=schedule)
    rates = [learning_rate(config, step, steps) for step in range(epochs * steps)]
    assert max(rates) <= config.learning_rate * (1 + 1e-9)
    assert all(rate >= 0 for rate in rates)
    boundary = sum(step / steps < warmup for step in range(epochs * steps))
    assert all(a < b for a, b in pairwise(rates[:boundary]))
    assert all(a >= b for a, b in pairwise(rates[boundary:]))
    if schedule == "exponential":  # no step falls by more periods than it can span
        spanned = int(1 / steps / config.decay_epochs) + 1
        for a, b in pairwise(rates[boundary:]):
            assert b >= a * config.decay_rate**spanned * (1 - 1e-9)


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"schedule": "linear"},
        {"warmup_epochs": -1.0},
        {"drop_rates": -0.1},
    ],
)
def test_impossible_recipes(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        TrainConfig(**wrong)
