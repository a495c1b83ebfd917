"""Writes invented learning curves, to test elimination rules beyond the recorded ones.

    python -m benchmarks.studies.curves --kind=step --epochs=90 > step.csv
    elite replay --curves=step.csv

Each invented network has a final accuracy, a speed at which it approaches this accuracy, and an
accuracy penalty while the learning rate is high. These three are independent of each other, so the
curves of different networks cross. Accuracies fluctuate in proportion to the square root of the
learning rate, downwards more than upwards. ``--loss_tells`` sets how well the training loss ranks
the networks by final accuracy: 1 means exactly, 0 not at all. docs/rules.md shows the results.
"""

from __future__ import annotations

import csv
import sys

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command

KINDS = ("cosine", "step", "exponential", "linear")

FLAGS = flags.FlagValues()
flags.DEFINE_enum(
    "kind", "cosine", KINDS, "Schedule by which the learning rate decays.", flag_values=FLAGS
)
flags.DEFINE_integer("models", 24, "Number of networks.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer(
    "epochs", 200, "Number of epochs of each network.", lower_bound=2, flag_values=FLAGS
)
flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_float(
    "spread",
    2.5,
    "Standard deviation of the final accuracies, in percentage points.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "noise",
    1.0,
    "Factor of an accuracy's fluctuations, which are about 1 point at the first learning rate.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "crossing",
    1.0,
    "How much the networks' penalties at a high learning rate differ; 0 makes them equal.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "loss_tells",
    0.9,
    "Correlation between training loss and final accuracy, 0 to 1.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "train_loss", True, "Whether to write a column with the training loss.", flag_values=FLAGS
)


def learning_rate(kind: str, epochs: int) -> np.ndarray:
    """Returns the learning rate of each epoch (epochs,), relative to the initial one."""
    epoch = np.arange(1, epochs + 1)
    progress = epoch / epochs
    return {
        "cosine": (1 + np.cos(np.pi * progress)) / 2,
        "step": np.where(progress < 0.5, 1.0, np.where(progress < 0.75, 0.1, 0.01)),
        "exponential": 0.97 ** (epoch / 2.4 * 350 / epochs),
        "linear": 1 - progress,
    }[kind]


def invented_curves(
    kind: str,
    *,
    models: int,
    epochs: int,
    seed: int,
    spread: float,
    noise: float,
    crossing: float,
    loss_tells: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns validation accuracies in percent and training losses, both (models, epochs).

    The arguments are the flags of the same names. The constants were chosen to make the curves look
    like recorded ones.
    """
    random = np.random.default_rng(seed)
    rate = learning_rate(kind, epochs)
    epoch = np.arange(1, epochs + 1)
    ability = random.standard_normal(models)[:, None]
    # Epochs after which a network has learned most of what it will learn.
    pace = np.maximum(0.03 * epochs * np.exp(0.5 * random.standard_normal(models)), 1.5)[:, None]
    penalty = 11 * np.exp(0.25 * crossing * random.standard_normal(models))[:, None]
    unlearned = 60 * ((1 + epoch / pace) ** -1.3 - (1 + epochs / pace) ** -1.3)
    level = 72 + spread * ability - unlearned
    fluctuation = 0.9 * random.standard_normal((models, epochs))
    fluctuation -= 1.2 * random.exponential(1, (models, epochs))
    fluctuation *= noise * np.exp(0.3 * random.standard_normal(models))[:, None] * np.sqrt(rate)
    # The validation part is finite, so its accuracies fluctuate even without a learning rate.
    fluctuation += 0.25 * random.standard_normal((models, epochs))
    accuracy = np.clip(level - penalty * rate + fluctuation, 0.1, 99.9)
    unrelated = random.standard_normal(models)[:, None]
    loss_ability = loss_tells * ability + np.sqrt(1 - loss_tells**2) * unrelated
    fitted = level - penalty * rate / 2 + spread * (loss_ability - ability)
    loss = np.exp((75 - fitted) / 22 + 0.01 * random.standard_normal((models, epochs)))
    return accuracy, loss


def main() -> None:
    """Writes the curves as CSV to stdout."""
    accuracy, loss = invented_curves(
        FLAGS.kind,
        models=FLAGS.models,
        epochs=FLAGS.epochs,
        seed=FLAGS.seed,
        spread=FLAGS.spread,
        noise=FLAGS.noise,
        crossing=FLAGS.crossing,
        loss_tells=FLAGS.loss_tells,
    )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = ["model", "epoch", "validation_accuracy"]
    writer.writerow([*names, "train_loss"] if FLAGS.train_loss else names)
    for model, (scores, losses) in enumerate(zip(accuracy, loss, strict=True)):
        for epoch, (score, value) in enumerate(zip(scores, losses, strict=True), start=1):
            row = [f"invented{model:02d}", epoch, f"{score:.2f}"]
            writer.writerow([*row, f"{value:.4f}"] if FLAGS.train_loss else row)


if __name__ == "__main__":
    command.run(FLAGS, main)
