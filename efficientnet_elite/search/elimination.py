"""One elimination: the ranking of a group and which candidates go on. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, sqrt

from efficientnet_elite.search.decisions import Decision
from efficientnet_elite.search.rules import Rule, survivors_of
from efficientnet_elite.training.outcome import Int8Result

Scores = Mapping[str, Sequence[float]]  # candidate -> validation accuracy of epoch 1, 2, ...
Losses = Mapping[str, Sequence[float]]  # candidate -> training loss of epoch 1, 2, ...


@dataclass(frozen=True)
class Elimination:
    """The end of a round: the candidates left in the group are ranked, and the worst leave.

    Attributes:
      rule: the rule that scores the candidates.
      round: number of the round, from 1.
      epoch: the epoch after which the elimination takes place; nothing later is looked at.
      members: all candidates of the group, the one to prefer in a tie first.
      racing: names of the candidates that are ranked. All have been trained for ``epoch`` epochs.
      scores: validation accuracies by epoch.
      losses: training losses by epoch; None where none are recorded.
      int8: int8 results of the racing candidates after ``epoch``; empty where int8 does not count.
      further: candidate to the names of its further trainings, for all racing candidates or for
        none. A score is then the mean of all trainings of the candidate.
    """

    rule: Rule
    round: int
    epoch: int
    members: Sequence[str]
    racing: Sequence[str]
    scores: Scores
    losses: Losses | None
    int8: Mapping[str, Int8Result]
    further: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def ranking(self) -> list[tuple[str, float]]:
        """Candidates and their scores, the best first.

        A tie goes to the higher accuracy in the latest epoch, then to the one to prefer.
        """
        if not self.racing:
            return []
        scores = self.rule.scores(self._accuracies(), self._losses())
        of_training = dict(zip(self._trainings, scores, strict=True))
        ranking = [
            (name, self._with_int8(name, fsum(of_training[t] for t in ts) / len(ts)))
            for name, ts in self._trainings_of.items()
        ]
        latest = {
            name: self._with_int8(name, fsum(self.scores[t][self.epoch - 1] for t in ts) / len(ts))
            for name, ts in self._trainings_of.items()
        }
        order = {name: position for position, name in enumerate(self.members)}
        return sorted(ranking, key=lambda pair: (-pair[1], -latest[pair[0]], order[pair[0]]))

    def noise(self, measured: float | None = None) -> float:
        """The noise of a score, which is smaller where it is the mean of several trainings.

        Args:
          measured: noise of one training, from repeats; None where it is estimated from how much
            the curves fluctuate.
        """
        if measured is None:
            if len(self.racing) < 2:
                return 0.0
            measured = self.rule.noise(self._accuracies(), losses=self.losses is not None)
        return measured / sqrt(self._trainings_each)

    def decide(
        self,
        ranking: Sequence[tuple[str, float]],
        keep: int,
        noise: float,
        *,
        halted: bool = False,
    ) -> list[Decision]:
        """One decision for each candidate, the best first.

        Args:
          ranking: of `ranking`.
          keep: how many go on.
          noise: standard deviation of a score between seeds.
          halted: whether the time of the group is up.
        """
        # Scores are compared across the middle of the ranking, where plain halving would divide
        # it, also where the rule lets one candidate more go on.
        border = min(keep, survivors_of(len(ranking)))
        decisions = []
        for rank, (name, score) in enumerate(ranking, start=1):
            gap = None
            if border < len(ranking):
                gap = abs(score - ranking[border if rank <= border else border - 1][1])
            result = self.int8.get(name)
            without_int8 = result is not None and result.int8_accuracy is None
            decisions.append(
                Decision(
                    round=self.round,
                    epoch=self.epoch,
                    candidate=name,
                    score=score,
                    rank=rank,
                    survives=rank <= keep,
                    # A tie is too close to call whatever the noise.
                    close=gap is not None and bool(gap < noise or gap == 0),
                    rule=self.rule.name,
                    ranked=len(ranking),
                    survivors=keep,
                    gap=gap,
                    noise=noise,
                    int8_change=None if result is None or without_int8 else result.change,
                    int8_fault=result.fault if result is not None and without_int8 else None,
                    halted=halted,
                    trainings=self._trainings_each if self.further else None,
                )
            )
        return decisions

    def is_ready(self) -> bool:
        """Whether the candidates have learned enough to be compared, see `Rule.is_ready`."""
        return self.rule.is_ready(self._losses())

    @property
    def _trainings_of(self) -> dict[str, tuple[str, ...]]:
        """Candidate to the names of the trainings that it is judged by."""
        return {name: (name, *self.further.get(name, ())) for name in self.racing}

    @property
    def _trainings_each(self) -> int:
        """Number of trainings that a candidate is judged by."""
        return 1 + max((len(names) for names in self.further.values()), default=0)

    @property
    def _trainings(self) -> list[str]:
        return [training for names in self._trainings_of.values() for training in names]

    def _losses(self) -> list[Sequence[float]] | None:
        if self.losses is None:
            return None
        return [self.losses.get(name, ())[: self.epoch] for name in self._trainings]

    def _accuracies(self) -> list[Sequence[float]]:
        return [self.scores[name][: self.epoch] for name in self._trainings]

    def _with_int8(self, name: str, score: float) -> float:
        """The score, plus the change by int8 where that counts.

        Rounded, so that the last bit of a sum decides no tie.
        """
        result = self.int8.get(name)
        return round(score if result is None else score + result.change, 12)
