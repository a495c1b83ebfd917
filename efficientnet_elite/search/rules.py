"""Rules of elimination: which candidates of a group go on, by the epochs recorded so far.

A rule says after which epochs candidates are eliminated, scores the candidates there, and says how
many go on. It sees validation accuracies and, where they were recorded, training losses; nothing of
the future and nothing of other groups. Accuracies are shares, 0..1. ``docs/rules.md`` has the
measurements. Everything is plain Python with exact sums
(`sum` differs between Python versions), so that the same records give the same decisions
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import fsum, isfinite, log, sqrt
from statistics import median, pvariance
from typing import TypeAlias

from efficientnet_elite.errors import UserError

Curve: TypeAlias = Sequence[float]
"""One value per epoch, from the first epoch up to the elimination."""


def average(scores: Curve) -> float:
    """The paper's score: mean validation accuracy since the first epoch."""
    return fsum(scores) / len(scores)


def level(accuracies: Curve) -> float:
    """Mean of the best accuracy so far, over the later half of the epochs.

    At a high learning rate an accuracy deviates downwards far more than upwards: the best so far
    follows the upper edge of the curve. Its mean over many epochs depends little on any single one.
    """
    return average(list(accumulate(accuracies, max))[len(accuracies) // 2 :])


def survivors_of(count: int) -> int:
    """Number of ``count`` candidates that go on: half of them, rounded up."""
    return (count + 1) // 2


def fluctuation(accuracies: Sequence[Curve], window: int = 10, *, bent: bool = False) -> float:
    """Standard deviation of one epoch's accuracy around its trend, estimated from the curves.

    It is computed from the median of second differences: a steady rise contributes nothing to them,
    and neither a single collapse nor one unsteady candidate moves their median. It stands in for
    the standard deviation between seeds and is a lower bound of it, because what a whole run owes
    to its seed does not show within the run.

    Args:
      accuracies: curves of the candidates that are compared, up to the elimination.
      window: how many of the latest epochs to use; the learning rate changes over time.
      bent: leave out the bend that all curves have in an epoch, as they do where they rise steeply
        at first: it is no noise.

    Returns:
      The deviation, in the unit of the accuracies; 0 where no curve has three epochs.
    """
    by_epoch: dict[int, list[float]] = {}
    for curve in accuracies:
        for i in range(max(0, len(curve) - window), len(curve) - 2):
            by_epoch.setdefault(i, []).append(curve[i] - 2 * curve[i + 1] + curve[i + 2])
    if not by_epoch:
        return 0.0
    if bent and len(accuracies) > 1:
        # The median of n values follows each of them a little, which makes the rest smaller.
        widened = sqrt(len(accuracies) / (len(accuracies) - 1))
        by_epoch = {
            i: [widened * (value - median(values)) for value in values]
            for i, values in by_epoch.items()
        }
    # A second difference of independent values has 6 times their variance. The factor 1.4826 turns
    # the median absolute deviation of a normal distribution into its standard deviation.
    return 1.4826 * median(abs(v) for values in by_epoch.values() for v in values) / 6**0.5


def sampling_noise(accuracies: Sequence[Curve], images: float) -> float:
    """Standard deviation that a validation part of so many images leaves to an accuracy.

    That of a share of ``images`` independent answers, at the mean of the best accuracies so far.
    For mIoU, which counts pixels, it is an upper estimate.
    """
    share = min(max(average([max(curve) for curve in accuracies]), 0.0), 1.0)
    return sqrt(share * (1 - share) / images)


@dataclass(frozen=True)
class Rule:
    """The paper's tournament with a score of choice: after every round the better half goes on.

    Attributes:
      name: the name by which it is asked for.
      words: what ranks the candidates; ``{epoch}`` stands for the epoch of the elimination.
      score: the score of one candidate from its accuracies so far; higher is better.
      steadiness: function from the number of epochs, and whether training losses are recorded, to
        the standard deviation of the score as a share of that of one epoch's accuracy.
      images: validation images that an accuracy is measured on, ``inf`` where they are many; None
        for searches of versions up to 0.2.0, whose rules did not know them, and decide as before.
    """

    name: str
    words: str
    score: Callable[[Curve], float]
    steadiness: Callable[[int, bool], float] = lambda epochs, losses: 1.0
    images: float | None = None

    def on(self, images: float | None) -> Rule:
        """This rule for a validation part of so many images."""
        return replace(self, images=images)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The settings of a search that this rule depends on, each to its default in words."""
        return {"round_epochs": "10 epochs"}

    def default_round(self, epochs: int) -> int:
        """Epochs of a round of a training of ``epochs`` epochs where no number is asked for."""
        return min(10, epochs)

    def default_first(self, round_epochs: int, epochs: int) -> int | None:
        """Epoch of the first elimination where none is asked for; None: the end of a round."""
        return None

    @property
    def shortest_round(self) -> int:
        """Epochs of the shortest round to which a plan shortens longer ones for a budget."""
        return 4

    def elimination_epoch(
        self, number: int, round_epochs: int, epochs: int, *, losses: bool, first: int | None = None
    ) -> int:
        """The epoch after which elimination ``number`` (from 1) takes place, at most ``epochs``.

        Args:
          number: number of the elimination.
          round_epochs: epochs between two eliminations.
          epochs: epochs of the whole training.
          losses: whether training losses are recorded, as they are in every search.
          first: epoch of the first elimination; None for the rule's own.
        """
        return min(number * round_epochs, epochs)

    def scores(self, accuracies: Sequence[Curve], losses: Sequence[Curve] | None) -> list[float]:
        """Scores of the racing candidates, in their order, in the unit of the accuracies."""
        return [self.score(curve) for curve in accuracies]

    def noise(self, accuracies: Sequence[Curve], *, losses: bool) -> float:
        """Estimated noise of a score: a decision by a smaller gap is too close to call.

        Args:
          accuracies: curves of the racing candidates up to the elimination.
          losses: whether training losses are recorded.
        """
        estimate = self.fluctuation(accuracies) * self.steadiness(len(accuracies[0]), losses)
        return max(estimate, self.sampling_noise(accuracies))

    def fluctuation(self, accuracies: Sequence[Curve]) -> float:
        """See the function of this name."""
        return fluctuation(accuracies, bent=self.images is not None)

    def sampling_noise(self, accuracies: Sequence[Curve]) -> float:
        """See the function of this name; 0 where the number of images is not known."""
        return 0.0 if self.images is None else sampling_noise(accuracies, self.images)

    def is_ready(self, losses: Sequence[Curve] | None) -> bool:
        """Whether the candidates have learned enough to be compared.

        Args:
          losses: training losses of the racing candidates so far; None where none are recorded.
        """
        return True

    def keep(
        self, ranked: Sequence[float], noise: float, number: int, size: int, *, losses: bool
    ) -> int:
        """Number of candidates that go on after an elimination that does not end the training.

        Args:
          ranked: scores of the racing candidates, the best first; at least two.
          noise: noise of a score.
          number: number of the elimination, from 1.
          size: number of candidates that the group began with.
          losses: whether training losses are recorded.
        """
        return survivors_of(len(ranked))


@dataclass(frozen=True)
class Halving(Rule):
    """Synchronous successive halving: each round is as long as all rounds before it together.

    Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", 2016.
    """

    @property
    def parameters(self) -> Mapping[str, str]:
        """See `Rule.parameters`."""
        return {"round_epochs": "3 % of --epochs, the first round"}

    def default_round(self, epochs: int) -> int:
        """See `Rule.default_round`."""
        return max(1, round(0.03 * epochs))

    @property
    def shortest_round(self) -> int:
        """See `Rule.shortest_round`."""
        return 1

    def elimination_epoch(
        self, number: int, round_epochs: int, epochs: int, *, losses: bool, first: int | None = None
    ) -> int:
        """See `Rule.elimination_epoch`."""
        return min(round_epochs * 2 ** (number - 1), epochs)


@dataclass(frozen=True)
class Race(Rule):
    """Early eliminations in short rounds; candidates too close to call stay for another round.

    - *Score*: a mean of the best accuracy so far and of the latest training loss, translated into
      accuracy by a straight line through everything that the racing candidates have recorded
      (accuracy over the logarithm of the loss). A training loss is a mean over the whole training
      set and therefore almost free of noise; it shows the capacity of a network long before the
      learning rate is low enough for the accuracy to show it. What it says of the final accuracy
      is uncertain, though. Both are weighed by their precision: the fewer validation images and
      the more the accuracies fluctuate, the more the loss counts, and the more the losses of the
      candidates differ, the less. Where no training loss is recorded, the score is the `level` of
      the accuracies.
    - *Time*: the first elimination takes place after two rounds, or after the epoch that is asked
      for, the next ones after one round each. Nobody is eliminated before the median training loss
      is below 95 % of that of the first epoch. Accuracies alone are noisy: without training losses
      the first elimination takes place after three and a half rounds, and each next one a third
      later than the one before, but at least one round later.
    - *Survivors*: the better half goes on, and one candidate more where the gap in the middle is
      below the noise: that of a best accuracy with training losses, that of one epoch without.
      This ends three eliminations after plain halving would have ended, or seven without training
      losses.
    """

    @property
    def parameters(self) -> Mapping[str, str]:
        """See `Rule.parameters`."""
        return {
            "round_epochs": "2 epochs, or 1.5 % of --epochs where that is more",
            "first_elimination": "the end of the second round; without --round_epochs at least 3 % "
            "of --epochs",
        }

    def default_round(self, epochs: int) -> int:
        """See `Rule.default_round`."""
        return min(max(2, round(0.015 * epochs)), epochs)

    def default_first(self, round_epochs: int, epochs: int) -> int | None:
        """See `Rule.default_first`."""
        share = round(0.03 * epochs)
        return share if share > 2 * round_epochs else None

    @property
    def shortest_round(self) -> int:
        """See `Rule.shortest_round`."""
        return 2

    def elimination_epoch(
        self, number: int, round_epochs: int, epochs: int, *, losses: bool, first: int | None = None
    ) -> int:
        """See `Rule.elimination_epoch`."""
        if losses:
            epoch = (2 * round_epochs if first is None else first) + (number - 1) * round_epochs
            return min(epoch, epochs)
        epoch = 7 * round_epochs // 2 if first is None else first
        for _ in range(number - 1):
            epoch = max(round(epoch * 4 / 3), epoch + round_epochs)
        return min(epoch, epochs)

    def scores(self, accuracies: Sequence[Curve], losses: Sequence[Curve] | None) -> list[float]:
        """See `Rule.scores`."""
        translated = None if losses is None else _as_accuracies(accuracies, losses)
        if translated is None:
            return super().scores(accuracies, losses)
        weight = self._weight_of_losses(accuracies, translated)
        return [
            (1 - weight) * max(curve) + weight * from_loss
            for curve, from_loss in zip(accuracies, translated, strict=True)
        ]

    def _weight_of_losses(self, accuracies: Sequence[Curve], translated: Sequence[float]) -> float:
        """Share of the score that the training losses have."""
        if self.images is None:
            return 0.5
        of_accuracies = (_BEST * self.fluctuation(accuracies)) ** 2
        of_accuracies += self.sampling_noise(accuracies) ** 2
        of_losses = _LOSS_ERROR**2 * pvariance(translated)
        whole = of_accuracies + of_losses
        return of_accuracies / whole if whole else 0.5

    def is_ready(self, losses: Sequence[Curve] | None) -> bool:
        """See `Rule.is_ready`."""
        # A first elimination after one epoch was asked for by the user, who then gets it.
        if self.images is None or losses is None or any(len(curve) < 2 for curve in losses):
            return True
        first, latest = (median(curve[end] for curve in losses) for end in (0, -1))
        return latest < _LEARNING * first

    def keep(
        self, ranked: Sequence[float], noise: float, number: int, size: int, *, losses: bool
    ) -> int:
        """See `Rule.keep`."""
        count, half = len(ranked), survivors_of(len(ranked))
        halvings = (size - 1).bit_length()
        last_extension = halvings + (3 if losses else 7)
        if number >= last_extension or ranked[half - 1] - ranked[half] >= noise:
            return half
        # Three become two in any case; two may stay two.
        return half + 1 if count == 2 else min(half + 1, count - 1)


# Standard deviation of the largest of ten normally distributed values, as a share of that of one.
_BEST = 0.59
# Error of a training loss that is translated into accuracy, as a share of the standard deviation of
# the translated losses: 0.5 to 1.2 do alike on recorded curves (docs/rules.md).
_LOSS_ERROR = 0.8
_LEARNING = 0.95  # share of the first epoch's training loss from which on candidates are compared
_SMALLEST_LOSS = 1e-9


def _as_accuracies(accuracies: Sequence[Curve], losses: Sequence[Curve]) -> list[float] | None:
    """Each candidate's latest training loss as an accuracy, by least squares over all epochs.

    None where the losses cannot be used: one is missing, or lower losses did not go with higher
    accuracies.
    """
    if any(len(curve) < len(accuracies[0]) or not all(map(isfinite, curve)) for curve in losses):
        return None
    logs = [[-log(max(loss, _SMALLEST_LOSS)) for loss in curve] for curve in losses]
    xs = [x for curve in logs for x in curve]
    ys = [y for curve in accuracies for y in curve]
    x_mean, y_mean = average(xs), average(ys)
    variance = fsum((x - x_mean) ** 2 for x in xs)
    covariance = fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    if variance == 0 or covariance <= 0:
        return None
    slope = covariance / variance
    return [y_mean + slope * (curve[-1] - x_mean) for curve in logs]


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("average", "average of {epoch} epochs", average, lambda epochs, _: epochs**-0.5),
        Rule("last", "accuracy of epoch {epoch}", lambda curve: curve[-1]),
        Rule("best", "best accuracy of {epoch} epochs", max, lambda *_: _BEST),
        Halving("halving", "best accuracy of {epoch} epochs", max, lambda *_: _BEST),
        Race(
            "race",
            "best accuracy and training loss of {epoch} epochs",
            level,
            lambda _, losses: _BEST if losses else 1.0,
        ),
    )
}
RECOMMENDED = "race"


PARAMETERS = tuple(dict.fromkeys(name for rule in RULES.values() for name in rule.parameters))
"""Names of the settings that rules depend on: fields of `SearchConfig`, and flags."""


def find_rule(name: str) -> Rule:
    """The rule of a name, or the recommended one for ``recommended``; UserError for other names."""
    rule = RULES.get(RECOMMENDED if name == "recommended" else name)
    if rule is None:
        raise UserError(f"no rule {name!r}: use {', '.join(RULES)} or recommended")
    return rule


def check_parameter(rule: str, name: str) -> None:
    """UserError where a setting has no effect under a rule."""
    if name not in find_rule(rule).parameters:
        raise UserError(f"{name} has no effect under the rule {rule}: leave it out")


def parameter_help(name: str) -> str:
    """The default of a setting under each rule that depends on it, in a sentence for users."""
    rules_of_default: dict[str, list[str]] = {}
    for rule in RULES.values():
        if name in rule.parameters:
            rules_of_default.setdefault(rule.parameters[name], []).append(rule.name)
    defaults = "; ".join(
        f"{default} for rule {' or '.join(names)}" for default, names in rules_of_default.items()
    )
    return f"Default: {defaults}."
