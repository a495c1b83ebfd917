"""Rules of elimination: who of a group goes on, judged by what has been recorded so far.

A rule says after which epochs a group is cut, scores its candidates there, and says how many go on.
It sees validation accuracies and, where they were recorded, train losses; nothing of the future and
nothing of other groups. Accuracies may be shares or percentages: no rule depends on their scale.
``docs/rules.md`` has the measurements. Plain Python throughout, and exact sums (`sum` differs from
version to version), so that the same records give the same decisions everywhere.

This module must not import TensorFlow or Keras, nor print.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import fsum, isfinite, log
from statistics import median
from typing import TypeAlias

from efficientnet_elite.errors import UserError

Curve: TypeAlias = Sequence[float]
"""A value an epoch, the first epoch's first, up to the cut."""


def average(scores: Curve) -> float:
    """The paper's score: mean validation accuracy since the first epoch."""
    return fsum(scores) / len(scores)


def level(accuracies: Curve) -> float:
    """Mean of the best-so-far accuracy over the later half of the epochs.

    At a high learning rate an accuracy strays downwards far more than upwards: the best so far
    follows the upper edge of the curve. Its mean over many epochs owes little to any single one.
    """
    return average(list(accumulate(accuracies, max))[len(accuracies) // 2 :])


def survivors_of(count: int) -> int:
    """How many of ``count`` candidates go on: half, rounded up, so the middle one survives."""
    return (count + 1) // 2


def fluctuation(accuracies: Sequence[Curve], window: int = 10) -> float:
    """Standard deviation of one epoch's accuracy about its trend, estimated from the curves.

    From second differences, which no steady rise contributes to, by their median, which neither a
    single collapse nor one unsteady candidate moves. It stands in for the seed's noise and is a
    lower bound of it: what a whole run owes to its seed does not show within the run.

    Args:
      accuracies: of the candidates that are compared, up to the cut.
      window: how many of the latest epochs to look at; the learning rate changes with time.

    Returns:
      The deviation, in the unit of the accuracies; 0 where no curve has three epochs.
    """
    bends = [
        abs(recent[i] - 2 * recent[i + 1] + recent[i + 2])
        for recent in (curve[-window:] for curve in accuracies)
        for i in range(len(recent) - 2)
    ]
    # A second difference of independent values has 6 times their variance; 1.4826 makes a
    # deviation of a normal distribution's median absolute deviation.
    return 1.4826 * median(bends) / 6**0.5 if bends else 0.0


@dataclass(frozen=True)
class Rule:
    """The paper's tournament with a score of choice: a cut a round, the better half goes on.

    Attributes:
      name: what it is asked for by.
      words: what ranks the candidates; ``{epoch}`` stands for the cut's.
      score: of one candidate's accuracies up to the cut, the higher the better.
      steadiness: standard deviation of the score of so many epochs, as a share of one epoch's.
    """

    name: str
    words: str
    score: Callable[[Curve], float]
    steadiness: Callable[[int], float] = lambda epochs: 1.0

    def cut(self, number: int, round_epochs: int, epochs: int, *, losses: bool) -> int:
        """The epoch after which cut ``number`` (from 1) is made, at most ``epochs``.

        Args:
          number: of the cut.
          round_epochs: length of a round.
          epochs: of the whole training.
          losses: whether train losses are recorded.
        """
        return min(number * round_epochs, epochs)

    def scores(self, accuracies: Sequence[Curve], losses: Sequence[Curve] | None) -> list[float]:
        """Scores of the racing candidates, in their order, in the unit of the accuracies."""
        return [self.score(curve) for curve in accuracies]

    def error(self, accuracies: Sequence[Curve], *, losses: bool) -> float:
        """Noise of a score: where a smaller gap decides, it is too close to call.

        Args:
          accuracies: of the racing candidates, up to the cut.
          losses: whether train losses are recorded.
        """
        return fluctuation(accuracies) * self.steadiness(len(accuracies[0]))

    def keep(
        self, ranked: Sequence[float], error: float, number: int, size: int, *, losses: bool
    ) -> int:
        """How many go on after a cut that does not end the training.

        Args:
          ranked: scores of the racing candidates, the best first; at least two.
          error: noise of a score.
          number: of the cut, from 1.
          size: candidates that the group began with.
          losses: whether train losses are recorded.
        """
        return survivors_of(len(ranked))


@dataclass(frozen=True)
class Race(Rule):
    """Early cuts; who is too close to call stays for one more look.

    - *What*, with train losses: half the score is the best accuracy so far. The other half is the
      latest train loss, translated into accuracy by a straight line through everything the racing
      candidates have recorded (accuracy over the logarithm of the loss). A train loss is a mean
      over the whole training set and so nearly free of noise; it tells a network's capacity long
      before the learning rate has fallen far enough for the accuracy to show it.
    - *What*, without: the `level` of the accuracies.
    - *When*, with: after two fifths of a round, then every fifth of a round. Without, where there
      is one witness only: after seven tenths of a round, and each time a third later than before.
      All looks but the first concern few candidates and cost little.
    - *How many*: half go on, and one more where the gap at the cut is below the noise: that of a
      best accuracy with train losses, of an epoch without. This ends three looks after plain
      halving would have ended, or seven: accuracies alone settle late what is close.
    """

    def cut(self, number: int, round_epochs: int, epochs: int, *, losses: bool) -> int:
        """See `Rule.cut`.

        Short rounds are divided less: four epochs come before the first cut, without train losses
        seven, if need be from two rounds.
        """
        if losses:
            first = max(round(0.4 * round_epochs), min(4, round_epochs))
            step = max(round(0.2 * round_epochs), min(2, round_epochs))
            return min(first + (number - 1) * step, epochs)
        epoch = max(round(0.7 * round_epochs), min(7, 2 * round_epochs))
        for _ in range(number - 1):
            epoch = max(round(epoch * 4 / 3), epoch + 1)
        return min(epoch, epochs)

    def scores(self, accuracies: Sequence[Curve], losses: Sequence[Curve] | None) -> list[float]:
        """See `Rule.scores`."""
        translated = None if losses is None else _as_accuracies(accuracies, losses)
        if translated is None:
            return super().scores(accuracies, losses)
        return [(max(seen) + told) / 2 for seen, told in zip(accuracies, translated, strict=True)]

    def error(self, accuracies: Sequence[Curve], *, losses: bool) -> float:
        """See `Rule.error`."""
        return super().error(accuracies, losses=losses) * (_BEST if losses else 1.0)

    def keep(
        self, ranked: Sequence[float], error: float, number: int, size: int, *, losses: bool
    ) -> int:
        """See `Rule.keep`."""
        count, half = len(ranked), survivors_of(len(ranked))
        halvings = (size - 1).bit_length()
        looks = halvings + (3 if losses else 7)
        if number >= looks or ranked[half - 1] - ranked[half] >= error:
            return half
        # Three become two in any case; two may stay two.
        return half + 1 if count == 2 else min(half + 1, count - 1)


_BEST = 0.59  # the deviation of the largest of ten normal values is so much of one value's
_SMALLEST_LOSS = 1e-9


def _as_accuracies(accuracies: Sequence[Curve], losses: Sequence[Curve]) -> list[float] | None:
    """Each candidate's latest train loss as an accuracy, by least squares over all epochs.

    None where the losses say nothing: one is missing, or a lower one has not meant a better
    accuracy.
    """
    if any(len(own) < len(accuracies[0]) or not all(map(isfinite, own)) for own in losses):
        return None
    logs = [[-log(max(loss, _SMALLEST_LOSS)) for loss in own] for own in losses]
    xs = [x for own in logs for x in own]
    ys = [y for own in accuracies for y in own]
    x_mean, y_mean = average(xs), average(ys)
    variance = fsum((x - x_mean) ** 2 for x in xs)
    covariance = fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    if variance == 0 or covariance <= 0:
        return None
    slope = covariance / variance
    return [y_mean + slope * (own[-1] - x_mean) for own in logs]


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("average", "average of {epoch} epochs", average, lambda epochs: epochs**-0.5),
        Rule("last", "accuracy of epoch {epoch}", lambda curve: curve[-1]),
        Rule("best", "best accuracy of {epoch} epochs", max, lambda epochs: _BEST),
        Race("race", "best accuracy and train loss of {epoch} epochs", level),
    )
}
RECOMMENDED = "race"


def find(name: str) -> Rule:
    """The rule of a name; ``recommended`` is the recommended one. UserError where there is none."""
    rule = RULES.get(RECOMMENDED if name == "recommended" else name)
    if rule is None:
        raise UserError(f"no rule {name!r}: use {', '.join(RULES)} or recommended")
    return rule
