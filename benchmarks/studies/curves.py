"""Invented learning curves, for replaying rules of elimination on what no pool at hand contains.

`python -m benchmarks.studies.curves --kind=step --epochs=90 > step.csv`, then
`elite replay --curves=step.csv`. Each invented network has a final accuracy, a speed at which it
approaches it, and a penalty that it pays while the learning rate is high; all three are independent
of each other, so that curves cross. Accuracies fluctuate with the learning rate, downwards more
than upwards. The train loss follows the final accuracy as closely as ``--loss_tells`` says (1: it
ranks the networks exactly; 0: it knows nothing of them).
"""

from __future__ import annotations

import csv
import sys

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import program

KINDS = ("cosine", "step", "exponential", "linear")

FLAGS = flags.FlagValues()
flags.DEFINE_enum("kind", "cosine", KINDS, "Decay of the learning rate.", flag_values=FLAGS)
flags.DEFINE_integer("models", 24, "Networks.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer("epochs", 200, "Of each.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_float("spread", 2.5, "Deviation of the final accuracies, points.", flag_values=FLAGS)
flags.DEFINE_float("noise", 1.0, "Of an epoch at the first learning rate.", flag_values=FLAGS)
flags.DEFINE_float("crossing", 1.0, "How much the penalties differ.", flag_values=FLAGS)
flags.DEFINE_float("loss_tells", 0.9, "Correlation of loss and final accuracy.", flag_values=FLAGS)
flags.DEFINE_boolean("train_loss", True, "Whether to write a train loss.", flag_values=FLAGS)


def learning_rate(kind: str, epochs: int) -> np.ndarray:
    """Of each epoch, as a share of the first."""
    epoch = np.arange(1, epochs + 1)
    done = epoch / epochs
    return {
        "cosine": (1 + np.cos(np.pi * done)) / 2,
        "step": np.where(done < 0.5, 1.0, np.where(done < 0.75, 0.1, 0.01)),
        "exponential": 0.97 ** (epoch / 2.4 * 350 / epochs),
        "linear": 1 - done,
    }[kind]


def invent(
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
    """Accuracies in percent and train losses, both (models, epochs); see the flags."""
    random = np.random.default_rng(seed)
    rate = learning_rate(kind, epochs)
    epoch = np.arange(1, epochs + 1)
    ability = random.standard_normal(models)[:, None]
    pace = np.maximum(0.03 * epochs * np.exp(0.5 * random.standard_normal(models)), 1.5)[:, None]
    penalty = 11 * np.exp(0.25 * crossing * random.standard_normal(models))[:, None]
    unlearned = 60 * ((1 + epoch / pace) ** -1.3 - (1 + epochs / pace) ** -1.3)
    level = 72 + spread * ability - unlearned
    strays = 0.9 * random.standard_normal((models, epochs))
    strays -= 1.2 * random.exponential(1, (models, epochs))
    strays *= noise * np.exp(0.3 * random.standard_normal(models))[:, None] * np.sqrt(rate)
    strays += 0.25 * random.standard_normal((models, epochs))  # of the validation part
    accuracy = np.clip(level - penalty * rate + strays, 0.1, 99.9)
    other = random.standard_normal(models)[:, None]
    told = loss_tells * ability + np.sqrt(1 - loss_tells**2) * other
    fitted = level - penalty * rate / 2 + spread * (told - ability)
    loss = np.exp((75 - fitted) / 22 + 0.01 * random.standard_normal((models, epochs)))
    return accuracy, loss


def main(arguments: list[str]) -> int:
    """Writes the CSV to stdout; returns the exit status."""
    program.parse(FLAGS, arguments)
    accuracy, loss = invent(
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
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
