"""A training that is killed within an epoch goes on at a step, and nothing tells it from others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.training.checkpoint import PARTS, Checkpoint
from efficientnet_elite.training.outcome import TrainingError
from efficientnet_elite.training.running_epoch import RunningEpoch
from efficientnet_elite.training.trainer import Trainer
from tests.support.tiny_training import SPEC

ALWAYS = 1e-9  # minutes: after every step
CONFIG = TrainConfig(
    epochs=2,
    batch_size=200,
    learning_rate=0.02,
    warmup_epochs=1.0,
    batch_norm_momentum=0.9,
    mix="mixup+cutmix",
    checkpoint_minutes=ALWAYS,
)


@pytest.fixture(scope="module")
def digits():
    return data_lib.load(DataConfig(), max_side=24, progress=False)


@pytest.fixture(scope="module")
def trainer(digits):
    def make(path, **settings):
        config = replace(CONFIG, **settings)
        return Trainer(SPEC, config, digits, base_resolution=16, seed=3, checkpoint=path)

    return make


@pytest.fixture(scope="module")
def straight(trainer, tmp_path_factory):
    path = tmp_path_factory.mktemp("straight") / "tiny.npz"
    trainer(path, checkpoint_minutes=0).run(2, ignore)
    return Checkpoint.load(path)


def ignore(_):
    pass


class Stop(Exception):
    pass


def stop_at(epoch, step, how):
    """For `Trainer.run`: ends the training at a step of the second epoch, or of another."""
    epochs = []
    return epochs.append, lambda done, of: how() if (len(epochs), done) == (epoch, step) else None


def stopped():
    raise Stop


def assert_same(one: Checkpoint, other: Checkpoint):
    without_times = [[{**e, "seconds": 0} for e in saved.history] for saved in (one, other)]
    assert without_times[0] == without_times[1]
    for part in PARTS:
        assert len(one.parts[part]) > 0
        for x, y in zip(one.parts[part], other.parts[part], strict=True):
            np.testing.assert_array_equal(x, y)


def test_going_on_at_a_step_is_the_same_as_not_stopping(straight, trainer, tmp_path):
    """Each trainer knows only the files, as another process would."""
    path = tmp_path / "tiny.npz"
    with pytest.raises(Stop):
        trainer(path).run(2, *stop_at(0, 5, stopped))
    saved = Checkpoint.load(RunningEpoch(path, 1).path)
    assert len(saved.losses) == 4  # the fifth was not written yet
    assert not path.exists()
    last, steps = trainer(path, checkpoint_minutes=60), []
    last.run(2, ignore, lambda step, of: steps.append(step))
    assert steps[0] == 5
    assert last.history[0].seconds > saved.seconds > 0
    assert_same(Checkpoint.load(path), straight)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.npz"]


KILLED = """
import os, signal, sys
from pathlib import Path
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.training.trainer import Trainer
from tests.training.test_running_epoch import CONFIG, SPEC, stop_at

digits = data_lib.load(DataConfig(), max_side=24, progress=False)
trainer = Trainer(SPEC, CONFIG, digits, base_resolution=16, seed=3, checkpoint=Path(sys.argv[1]))
trainer.run(2, *stop_at(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.slow
def test_a_killed_process(straight, trainer, tmp_path):
    """In its second epoch; and what continues it is stopped once more."""
    path = tmp_path / "tiny.npz"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", KILLED, path], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(Stop):
        trainer(path).run(2, *stop_at(0, 5, stopped))
    steps = []
    trainer(path).run(2, ignore, lambda step, of: steps.append(step))
    assert steps[0] == 5
    assert_same(Checkpoint.load(path), straight)


def test_a_signal_waits_for_the_step_which_is_written(trainer, tmp_path):
    path = tmp_path / "tiny.npz"
    with pytest.raises(KeyboardInterrupt):
        trainer(path, checkpoint_minutes=60).run(
            2, *stop_at(0, 3, lambda: signal.raise_signal(signal.SIGINT))
        )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(Checkpoint.load(RunningEpoch(path, 1).path).losses) == 3


def test_a_second_signal_does_not_wait(trainer, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it was held")

    path = tmp_path / "tiny.npz"
    with pytest.raises(KeyboardInterrupt):
        trainer(path, checkpoint_minutes=60).run(1, *stop_at(0, 1, twice))
    assert not list(tmp_path.iterdir())


def test_a_divergence_goes_back_to_the_beginning_of_the_epoch(trainer, tmp_path, capsys):
    """What was written within the epoch is gone, and is sound as long as it is there."""
    path = tmp_path / "tiny.npz"
    with pytest.raises(Stop):
        trainer(path).run(1, *stop_at(0, 3, stopped))
    diverging = trainer(path)
    real = diverging._step.graph

    def late(images, labels, rate, decay, step, weight):
        loss = real(images, labels, rate, decay, step, weight)
        return tf.constant(np.nan) if step == 4 else loss

    diverging._step.graph = late
    begun = []
    with pytest.raises(TrainingError, match="the loss became nan in step 5"):
        diverging.run(1, ignore, lambda step, of: begun.append(step))
    assert begun == [3, 4, 5, 1, 2, 3, 4, 5]
    assert "it is trained again from epoch 0 on" in capsys.readouterr().err
    saved = Checkpoint.load(RunningEpoch(path, 1).path)
    assert (len(saved.losses), saved.rate_factor) == (4, 0.5)
    assert np.isfinite(saved.losses).all()


def test_files_that_continue_nothing_are_removed(straight, trainer, tmp_path, capsys):
    epoch = RunningEpoch(tmp_path / "a.npz", 1)
    history = straight.history[:1]
    state = replace(straight, history=history, losses=(0.5, 0.25), seconds=3.0)
    epoch.write(state)
    found = epoch.read(history, steps=2)
    assert (found.losses, found.seconds) == ((0.5, 0.25), 3.0)
    for other, steps in (([], 2), (straight.history, 2), (history, 1)):
        epoch.write(state)
        assert epoch.read(other, steps) is None
        assert not epoch.path.exists()
    epoch.path.write_bytes(b"torn")
    assert epoch.read(history, steps=2) is None
    assert "this epoch begins again" in capsys.readouterr().err
    assert not epoch.path.exists()
    RunningEpoch(tmp_path / "a.npz", 0).write(state)
    assert not list(tmp_path.iterdir())


def test_it_is_due_after_its_minutes_and_counts_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    epoch, never = (RunningEpoch(Path("a.npz"), minutes) for minutes in (2, 0))
    epoch.begin([1.0], seconds=50)
    now[0] = 219.0
    assert (epoch.is_due, epoch.seconds, epoch.steps) == (False, 169, 1)
    now[0] = 220.0
    assert epoch.is_due and not never.is_due
    epoch.leave_out(20)
    assert epoch.seconds == 150
