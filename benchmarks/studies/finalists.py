"""Whether further trainings of the last two candidates pay: regret against budget.

    python -m benchmarks.studies.finalists --curves=a.csv,b.csv --deviations=0.3,1,3
    python -m benchmarks.studies.finalists --curves=a.csv,b.csv --trainings=5 --images=60

The recorded pools have one training a network. Here each network gets several, which differ as
those of two seeds do. Each is the sum of

- the recorded curve without its fluctuation,
- a deviation that lasts; half of it shows in the training loss, too,
- a fluctuation as large as that of the recorded curves,
- the noise of so many validation images. Each training has others, whereas those of
  ``--finalist_seeds`` have the same images: the study flatters them.

Rules are played with one and with ``--trainings`` trainings of finalists, each with rounds of
several lengths, so that both can be compared at equal budget. ``regret`` is that of the training
that is exported, which is the first one of the chosen network; ``network`` is that of the chosen
network, by its accuracy without the deviation of a seed. docs/rules.md shows the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.search import replay
from efficientnet_elite.search.replay import Curve
from efficientnet_elite.search.workdir import write_json

ROUND_SHARES = (0.01, 0.015, 0.02, 0.03, 0.05)  # of the whole training
_WINDOW = 7  # epochs of the mean that takes the fluctuation out of a curve

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "curves", [], "Files of learning curves, see `elite replay --help`.", flag_values=FLAGS
)
flags.DEFINE_list(
    "deviations",
    ["0.3", "1", "3"],
    "Standard deviations of the final accuracy between seeds, in points.",
    flag_values=FLAGS,
)
flags.DEFINE_string("rule", "race", "Rule of elimination.", flag_values=FLAGS)
flags.DEFINE_float(
    "images", 1000.0, "Validation images; their noise is added.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "trainings",
    2,
    "Trainings of a finalist: 2 as with --finalist_seeds=2, 5 as with --validation=crossfit.",
    lower_bound=2,
    flag_values=FLAGS,
)
flags.DEFINE_integer("groups", 600, "Number of groups.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer("group_size", 8, "Models in a group.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", flag_values=FLAGS)
flags.DEFINE_string("json", None, "File to write the rows to.", flag_values=FLAGS)


def smooth(values: np.ndarray) -> np.ndarray:
    """Means over a window, which becomes narrower towards both ends; the ends stay as they are."""
    half, last = _WINDOW // 2, len(values) - 1
    reach = [min(half, i, last - i) for i in range(len(values))]
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reach)])


def trainings(
    curve: Curve, deviation: float, images: float, random: np.random.Generator
) -> tuple[Curve, float, float]:
    """The trainings of a network, the further ones within the first.

    With them the true final accuracy of the first, and that of the network.

    Args:
      curve: the recorded training.
      deviation: standard deviation of the final accuracy between seeds, in points.
      images: validation images.
      random: source of the deviations.
    """
    recorded = np.array(curve.accuracies)
    level = smooth(recorded)
    fluctuation = smooth(np.abs(recorded - level)) * 1.25  # mean absolute to standard deviation
    made, finals = [], []
    for _ in range(FLAGS.trainings):
        lasting = deviation * random.standard_normal()
        true = level + lasting + fluctuation * random.standard_normal(len(level))
        share = np.clip(true / 100, 0.001, 0.999)
        sampling = 100 * np.sqrt(share * (1 - share) / images)
        # The same images are seen after every epoch, so that half of their noise lasts.
        seen = sampling * (random.standard_normal() + random.standard_normal(len(level))) / 2**0.5
        losses = None
        if curve.losses is not None:
            slope = np.polyfit(level, np.log(np.maximum(curve.losses, 1e-9)), 1)[0]
            noise = 0.01 * random.standard_normal(len(level))
            losses = tuple(np.array(curve.losses) * np.exp(slope * lasting / 2 + noise))
        accuracies = np.clip(true + seen, 0.01, 99.99)
        made.append(Curve(curve.model, tuple(accuracies), losses))
        finals.append(float(true[-1]))
    return replace(made[0], further=tuple(made[1:])), finals[0], float(level[-1])


def measure(pool: str, curves: Sequence[Curve], deviation: float) -> list[dict[str, Any]]:
    """A row for each length of rounds, with one and with several trainings of finalists."""
    random = np.random.default_rng(FLAGS.seed)
    groups, finals, levels = [], [], []
    for group in replay.draw(curves, FLAGS.groups, FLAGS.group_size, FLAGS.seed):
        made = [trainings(curve, deviation, FLAGS.images, random) for curve in group]
        groups.append([training for training, _, _ in made])
        finals.append({training.model: final for training, final, _ in made})
        levels.append({training.model: level for training, _, level in made})
    epochs = len(curves[0].accuracies)
    rows = []
    for length in sorted({max(1, round(share * epochs)) for share in ROUND_SHARES}):
        played = {}
        for count in (1, FLAGS.trainings):
            play = replay.player(FLAGS.rule, length, images=FLAGS.images, trainings=count)
            results = [play(group) for group in groups]
            played[count] = [
                (
                    max(final.values()) - final[result.chosen],
                    max(level.values()) - level[result.chosen],
                    sum(result.epochs.values()),
                )
                for final, level, result in zip(finals, levels, results, strict=True)
            ]
        once, again = played.values()
        differences = [b[0] - a[0] for a, b in zip(once, again, strict=True)]
        for count, found in played.items():
            rows.append(
                {
                    "pool": pool,
                    "deviation": deviation,
                    "round_epochs": length,
                    "finalist_trainings": count,
                    "trainings": round(fmean(cost for _, _, cost in found) / epochs, 3),
                    "regret": round(fmean(regret for regret, _, _ in found), 3),
                    "network": round(fmean(regret for _, regret, _ in found), 3),
                    "difference": round(fmean(differences), 3) if count > 1 else None,
                    "error": round(np.std(differences) / len(differences) ** 0.5, 3)
                    if count > 1
                    else None,
                }
            )
    return rows


def main() -> None:
    """Prints the rows."""
    rows = []
    for pool, curves in command.recorded_curves(FLAGS.curves):
        for deviation in FLAGS.deviations:
            rows += measure(pool, curves, float(deviation))
    if FLAGS.json:
        write_json(Path(FLAGS.json), rows)
    tables.print_fields(rows)


if __name__ == "__main__":
    command.run(FLAGS, main)
