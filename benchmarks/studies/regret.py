"""Regret against budget: rules of elimination and schedulers of other packages on recorded curves.

    python -m benchmarks.studies.regret --curves=a.csv,b.csv --png=regret.png

Each rule is played with rounds of several lengths, each scheduler of Ray Tune and Optuna as it is.
A point shows two means over all groups: the budget, which is the number of complete trainings that
a group costs, and the regret, which is how far the final accuracy of the chosen model is below that
of the best one, as a share of the regret of a model chosen at random. docs/rules.md shows the
results.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.search import peers, replay, rules
from efficientnet_elite.search.replay import Curve, Player
from efficientnet_elite.search.workdir import write_json

ROUND_SHARES = (0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12)  # of the whole training

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "curves", [], "Files of learning curves, see `elite replay --help`.", flag_values=FLAGS
)
flags.DEFINE_integer("groups", 120, "Number of groups a seed.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("group_size", 8, "Models in a group.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_list("seeds", ["0", "1"], "Seeds of the draws of groups.", flag_values=FLAGS)
flags.DEFINE_boolean("peers", True, "Play Ray Tune's and Optuna's, too.", flag_values=FLAGS)
flags.DEFINE_string("png", None, "Picture to write.", flag_values=FLAGS)
flags.DEFINE_string("json", None, "File to write the rows to.", flag_values=FLAGS)


def players(epochs: int) -> dict[tuple[str, int | None], Player]:
    """Name and length of rounds to player; peers have no rounds.

    Args:
      epochs: of a whole training.
    """
    lengths = sorted({max(1, round(share * epochs)) for share in ROUND_SHARES})
    found: dict[tuple[str, int | None], Player] = {
        (name, length): replay.player(name, length) for name in rules.RULES for length in lengths
    }
    if FLAGS.peers:
        found |= {(name, None): player for name, player in peers.peer_players().items()}
    return found


def measure(pool: str, curves: list[Curve]) -> list[dict[str, Any]]:
    """A row for each player on one pool of curves."""
    groups = [
        group
        for seed in FLAGS.seeds
        for group in replay.draw(curves, FLAGS.groups, FLAGS.group_size, int(seed))
    ]
    epochs = len(curves[0].accuracies)
    at_random = fmean(
        max(final) - fmean(final)
        for final in ([curve.accuracies[-1] for curve in group] for group in groups)
    )
    rows = []
    for (name, length), player in players(epochs).items():
        result = replay.play_all(name, player, groups)
        rows.append(
            {
                "pool": pool,
                "rule": name,
                "round_epochs": length,
                "trainings": round(result.total_epochs.mean / epochs, 3),
                "regret": round(result.regret.mean / at_random, 4),
                "regret_se": round(result.regret.error / at_random, 4),
            }
        )
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes the picture: a panel for each pool, a line for each rule, a mark for each peer."""
    from matplotlib.figure import Figure

    pools = list(dict.fromkeys(row["pool"] for row in rows))
    figure = Figure(figsize=(5 * len(pools), 4.5), layout="constrained")
    for axes, pool in zip(figure.subplots(1, len(pools), squeeze=False)[0], pools, strict=True):
        for name in dict.fromkeys(row["rule"] for row in rows):
            points = sorted(
                (row["trainings"], 100 * row["regret"])
                for row in rows
                if (row["pool"], row["rule"]) == (pool, name)
            )
            style = "-o" if name in rules.RULES else "x"
            axes.plot(*zip(*points, strict=True), style, label=name, markersize=4)
        axes.set(title=pool, xlabel="complete trainings a group", xscale="log")
        axes.set_ylabel("regret, % of a random choice's")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the rows and writes the picture."""
    rows = []
    for pool, curves in command.recorded_curves(FLAGS.curves):
        rows += measure(pool, curves)
    if FLAGS.png:
        draw(rows, Path(FLAGS.png))
    if FLAGS.json:
        write_json(Path(FLAGS.json), rows)
    tables.print_fields(rows)


if __name__ == "__main__":
    command.run(FLAGS, main)
