"""One cut of a group's tournament: who ranks where, who goes on, and why, in words.

Pure functions of what was recorded. This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efficientnet_elite.search.rules import Rule, survivors_of
from efficientnet_elite.training.outcome import Int8Result

Scores = Mapping[str, Sequence[float]]  # candidate -> validation accuracy of epoch 1, 2, ...
Losses = Mapping[str, Sequence[float]]  # candidate -> train loss of epoch 1, 2, ...


@dataclass(frozen=True)
class Decision:
    """What a round decided about one candidate.

    Attributes:
      round: from 1.
      epoch: after which it was decided.
      candidate: its name.
      score: the rule's, of everything up to ``epoch``; NaN where training failed.
      rank: in the group's round, from 1.
      survives: whether it goes on.
      reason: in words.
      close: too close to call: what separates the candidate from the other side of the cut is
        below the noise of a score, or nothing separates them.
    """

    round: int
    epoch: int
    candidate: str
    score: float
    rank: int
    survives: bool
    reason: str
    close: bool = False


@dataclass(frozen=True)
class Cut:
    """The end of a round.

    Attributes:
      rule: that scores.
      round: its number, from 1.
      epoch: after which it is; nothing later is looked at.
      members: of the group, the one to prefer in a tie first.
      racing: who takes part. All have come to ``epoch``.
      scores: validation accuracies by epoch.
      losses: train losses by epoch; None where none are recorded.
      int8: the racing candidates' results after ``epoch``; empty where they do not count.
    """

    rule: Rule
    round: int
    epoch: int
    members: Sequence[str]
    racing: Sequence[str]
    scores: Scores
    losses: Losses | None
    int8: Mapping[str, Int8Result]

    def ranked(self) -> list[tuple[str, float]]:
        """Candidates and their scores, the best first.

        A tie goes to the higher accuracy in the latest epoch, then to the one to prefer.
        """
        if not self.racing:
            return []
        told = None
        if self.losses is not None:
            told = [self.losses.get(name, ())[: self.epoch] for name in self.racing]
        values = self.rule.scores(self._seen(), told)
        found = [
            (name, self._final(name, value))
            for name, value in zip(self.racing, values, strict=True)
        ]
        latest = {n: self._final(n, self.scores[n][self.epoch - 1]) for n in self.racing}
        order = {name: position for position, name in enumerate(self.members)}
        return sorted(found, key=lambda pair: (-pair[1], -latest[pair[0]], order[pair[0]]))

    def error(self) -> float:
        """The noise of a score, estimated from the curves' own fluctuation."""
        if len(self.racing) < 2:
            return 0.0
        return self.rule.error(self._seen(), losses=self.losses is not None)

    def decide(
        self, ranked: Sequence[tuple[str, float]], keep: int, error: float
    ) -> list[Decision]:
        """One decision a candidate, the best first: the first ``keep`` go on."""
        # The gap in question is the one at plain halving's cut, also where one below it stays.
        border = min(keep, survivors_of(len(ranked)))
        found = []
        for rank, (name, score) in enumerate(ranked, start=1):
            reason = (
                f"{self.rule.words.format(epoch=self.epoch)}{_note(self.int8.get(name))} ranks "
                f"{rank} of {len(ranked)}, {keep} {'goes' if keep == 1 else 'go'} on"
            )
            close = False
            if border < len(ranked):
                apart = abs(score - ranked[border if rank <= border else border - 1][1])
                close = bool(apart < error or apart == 0)  # a tie decides nothing, noise or not
                if close:
                    told = f"{apart:.2g} apart, noise {error:.2g}" if error else "a tie"
                    reason += f"; too close to call: {told}"
            found.append(
                Decision(self.round, self.epoch, name, score, rank, rank <= keep, reason, close)
            )
        return found

    def _seen(self) -> list[Sequence[float]]:
        return [self.scores[name][: self.epoch] for name in self.racing]

    def _final(self, name: str, score: float) -> float:
        """A score, in int8 where that counts; rounded: no tie is decided by a sum's last bit."""
        result = self.int8.get(name)
        return round(score if result is None else score + result.change, 12)


def _note(result: Int8Result | None) -> str:
    if result is None:
        return ""
    if result.int8_accuracy is None:
        return f", without an int8 form ({result.fault}),"
    return f", with int8 at {100 * result.change:+.2f} points,"
