"""Training with Keras' JAX backend: the same losses as TensorFlow's, and one kind of checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from efficientnet_elite.networks.blocks import Classifier, CondenseLayer, ConvBlock
from efficientnet_elite.networks.pretrained.weights import save
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.checkpoint import PARTS, Checkpoint
from tests.support.backend_training import train
from tests.support.tiny_pretrained import SAME, SMALLER, SOURCE
from tests.support.tiny_training import tiny

pytest.importorskip("jax", reason="JAX is not installed (extra jax)")

STEPS = 8
"""In an epoch of the digits."""
BASE = {
    "epochs": 2,
    "batch_size": 128,
    "learning_rate": 0.02,
    "warmup_epochs": 0.5,
    "ema": 0.9,
    "precision": "float32",
}
PRETRAINED = {
    **BASE,
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "weight_decay": 0.05,
    "gradient_clip": 1.0,
    "freeze_statistics": True,
    "label_smoothing": 0.1,
}
LEARNED = ArchSpec(
    "learned",
    (16, 16, 3),
    (
        ConvBlock("stem", 16, kernel=3, stride=2),
        CondenseLayer("dense", growth=8, groups=2, condensation=2),
        Classifier("predictions", 10, 0.0),
    ),
)


def with_jax(devices=1, **settings):
    """What `train` returns in a process that has the JAX backend and so many devices."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.backend_training", json.dumps(settings)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "source.npz"
    save(SOURCE, path)
    return str(path)


def both(tmp_path, spec, recipe, until=1, **options):
    """The outcomes of a training with each backend."""
    settings = {"spec": spec.to_json(), "recipe": recipe, "until": until, **options}
    ours = with_jax(checkpoint=str(tmp_path / "jax.npz"), **settings)
    theirs = train(checkpoint=str(tmp_path / "tensorflow.npz"), **settings)
    return ours, theirs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"optimizer": "sgd", "mix": "mixup"}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "adamw", "accumulate": 2}, marks=pytest.mark.slow),
        pytest.param({"gradient_clip": 0.1, "class_weights": "balanced"}, marks=pytest.mark.slow),
    ],
)
def test_the_first_losses_are_those_of_tensorflow(settings, tmp_path):
    ours, theirs = both(tmp_path, tiny(drop=0.0), {**BASE, **settings})
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-3)


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        (SMALLER, {"distill": "features", "teacher_reads": "stages"}),
        pytest.param(SAME, {"distill": "logits", "accumulate": 2}, marks=pytest.mark.slow),
        pytest.param(LEARNED, {"distill": "none", "pretrained": "none"}, marks=pytest.mark.slow),
    ],
)
def test_pretrained_starts_teachers_and_learned_convolutions(spec, settings, weights, tmp_path):
    spec = spec.with_drop_rates(0)
    recipe = {**PRETRAINED, "pretrained": weights, **settings}
    ours, theirs = both(tmp_path, spec, recipe)
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=2e-3)


def test_a_checkpoint_of_either_is_continued_by_the_other(tmp_path):
    """Also with dropout, whose generators are part of a checkpoint."""
    spec = tiny(drop=0.1)
    settings = {"spec": spec.to_json(), "recipe": BASE, "until": 2}
    path = tmp_path / "moved.npz"
    train(**{**settings, "until": 1}, checkpoint=str(path))
    begun = Checkpoint.load(path)
    (tmp_path / "of_tensorflow.npz").write_bytes(path.read_bytes())
    continued = with_jax(checkpoint=str(path), **settings)
    ended = Checkpoint.load(path)
    assert ended.history[0] == begun.history[0]
    assert len(continued["losses"]) == STEPS
    assert [len(ended.parts[p]) for p in PARTS] == [len(begun.parts[p]) for p in PARTS]
    # And back: the first epoch of JAX, and one more of TensorFlow.
    path = tmp_path / "back.npz"
    with_jax(**{**settings, "until": 1}, checkpoint=str(path))
    back = train(checkpoint=str(path), **settings)
    assert len(back["scores"]) == 2
    straight = train(checkpoint=str(tmp_path / "straight.npz"), **settings)
    # Dropout draws other numbers: the accuracies are about the same.
    for outcome in (continued, back):
        assert abs(outcome["accuracy"] - straight["accuracy"]) < 0.15


@pytest.mark.slow
def test_a_worker_that_is_alone_divides_batches_over_all_devices(weights, tmp_path):
    """Batch normalisation sees the whole batch, also where it is divided."""
    recipe = {**PRETRAINED, "pretrained": weights, "distill": "features", "accumulate": 2}
    settings = {"spec": SMALLER.with_drop_rates(0).to_json(), "recipe": recipe, "until": 1}
    alone = with_jax(checkpoint=str(tmp_path / "one.npz"), **settings)
    paths = [str(tmp_path / name) for name in ("first.npz", "shared.npz")]
    first = with_jax(devices=2, workers=2, checkpoint=paths[0], **settings)
    shared = with_jax(devices=2, workers=1, checkpoint=paths[1], **settings)
    for other in (first, shared):
        np.testing.assert_allclose(other["losses"], alone["losses"], rtol=1e-4)
    settings["recipe"] = {**recipe, "batch_size": 126}
    with pytest.raises(AssertionError, match="cannot be divided over 2 devices: use a multiple"):
        with_jax(devices=2, workers=1, checkpoint=str(tmp_path / "odd.npz"), **settings)


def test_float16_is_refused(tmp_path):
    settings = {"spec": tiny(0.0).to_json(), "until": 1, "recipe": {**BASE, "precision": "float16"}}
    with pytest.raises(AssertionError, match="use --precision=bfloat16"):
        with_jax(checkpoint=str(tmp_path / "half.npz"), **settings)
