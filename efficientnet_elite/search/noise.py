"""The noise of a score: what trainings of one network with several seeds show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import variance

from efficientnet_elite.search.elimination import Elimination, Losses, Scores
from efficientnet_elite.search.schedule import Schedule


@dataclass(frozen=True)
class Repeat:
    """A further training of a candidate: a repeat with another seed, or the final training.

    A repeat measures noise, up to the first elimination, or is a further training of a finalist
    (`tournament.standing`), on the same images or on another fold. It cannot win. The final
    training is that of a champion, as long as `Schedule.final_epochs` says. Epochs and failures are
    recorded under the own name of each.

    Attributes:
      name: a name that no candidate has.
      candidate: the candidate that is trained again.
      seed: added to the seed of the search; 0 for the final training.
      fold: number of the fold that validates it, see `ImageData.in_fold`; 0 is the validation part.
    """

    name: str
    candidate: str
    seed: int
    fold: int = 0

    @classmethod
    def of(cls, candidate: str, seed: int, fold: int = 0) -> Repeat:
        """The training of a candidate with a seed, on a fold if that is not 0."""
        suffix = f"fold{fold}" if fold else f"seed{seed}"
        return cls(f"{candidate}-{suffix}", candidate, seed, fold)

    @classmethod
    def final(cls, candidate: str) -> Repeat:
        """The final training of a candidate, should it be a champion."""
        return cls(f"{candidate}-final", candidate, 0)


@dataclass(frozen=True)
class Noise:
    """The noise of a score as far as repeats have measured it.

    Attributes:
      waiting: whether a repeat has not reached the first elimination yet. No candidate is
        eliminated before all repeats have reached it.
      deviation: standard deviation of the rule's score between seeds at the first elimination,
        pooled over the networks; None where nothing could be measured.
    """

    waiting: bool
    deviation: float | None


def finalist_trainings(candidates: Iterable[str], schedule: Schedule) -> list[Repeat]:
    """The further trainings of each candidate, should it be a finalist; none without those."""
    first = schedule.finalist_seed
    if first is None:
        return []
    # One training with another seed; or one for each fold, each of these with another seed, too.
    folds = range(1, schedule.folds) if schedule.folds > 1 else [0]
    return [
        Repeat.of(candidate, first + place, fold)
        for candidate in candidates
        for place, fold in enumerate(folds)
    ]


def further_trainings(candidates: Iterable[str], schedule: Schedule) -> list[Repeat]:
    """What each candidate may be trained for besides its own training; noise aside.

    These are further trainings as a finalist, and the final training as a champion.
    """
    candidates = list(candidates)
    final = map(Repeat.final, candidates) if schedule.final_epochs else ()
    return [*finalist_trainings(candidates, schedule), *final]


def trainings_by_candidate(repeats: Sequence[Repeat]) -> dict[str, list[str]]:
    """Candidate with repeats to the names of its trainings: itself, then its repeats by seed."""
    trainings: dict[str, list[str]] = {}
    for repeat in sorted(repeats, key=lambda repeat: repeat.seed):
        trainings.setdefault(repeat.candidate, [repeat.candidate]).append(repeat.name)
    return trainings


def scores_by_seed(
    names: Sequence[str], scores: Scores, losses: Losses, schedule: Schedule
) -> dict[str, float]:
    """The rule's scores of one network's trainings at the first elimination; absent before it.

    The trainings are scored among themselves, also by a rule that compares training losses.

    Args:
      names: names of the trainings.
      scores, losses, schedule: see `tournament.standing`.
    """
    epoch = schedule.elimination_epoch(1)
    complete = [name for name in names if len(scores.get(name, ())) >= epoch]
    rule = schedule.judge
    return dict(Elimination(rule, 1, epoch, names, complete, scores, losses, {}).ranking())


def pooled_noise(
    trainings: Iterable[Sequence[str]],
    scores: Scores,
    losses: Losses,
    schedule: Schedule,
    failed: Mapping[str, str],
) -> Noise:
    """The noise at the first elimination, from trainings of the same networks with other seeds.

    It is used for all eliminations. Later ones take place at lower learning rates, where the noise
    is the same or lower.

    Args:
      trainings: names of the trainings of each network; those that have failed do not count.
      scores, losses, schedule: see `tournament.standing`.
      failed: training to the reason of its failure.
    """
    squares, degrees_of_freedom = 0.0, 0
    for names in trainings:
        by_seed = scores_by_seed(names, scores, losses, schedule)
        if any(name not in by_seed and name not in failed for name in names):
            return Noise(True, None)
        if len(by_seed) > 1:
            squares += variance(by_seed.values()) * (len(by_seed) - 1)
            degrees_of_freedom += len(by_seed) - 1
    return Noise(False, (squares / degrees_of_freedom) ** 0.5 if degrees_of_freedom else None)


def noise_of(
    repeats: Sequence[Repeat],
    scores: Scores,
    losses: Losses,
    schedule: Schedule,
    failed: Mapping[str, str],
) -> Noise | None:
    """The noise from the repeats of a search, see `pooled_noise`; None if it has no repeats."""
    if not repeats:
        return None
    return pooled_noise(trainings_by_candidate(repeats).values(), scores, losses, schedule, failed)
