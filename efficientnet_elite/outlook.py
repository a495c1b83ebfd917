"""What a tournament has ahead of it: rounds, candidates, epochs.

Pure functions. This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from efficientnet_elite import rules
from efficientnet_elite.tournament import Schedule


def stages(
    size: int,
    schedule: Schedule,
    *,
    number: int = 0,
    losses: bool = True,
    close: bool = False,
    measured: bool = False,
) -> Iterator[tuple[int, int]]:
    """What a group has ahead of it, failures aside: (candidates, epochs each is trained) in turn.

    Args:
      size: candidates in the race.
      schedule: of the search.
      number: the latest round that has been decided, 0 before the first.
      losses: whether train losses are recorded.
      close: as if every cut were too close to call, from the epoch on in which noise can be seen at
        all; else as if none were. More candidates than with it never go on.
      measured: whether the noise is measured, and so seen in the first epoch already.
    """
    rule, began = rules.find(schedule.rule), size
    trained = schedule.cut(number, losses=losses) if number else 0
    while size > 1 and trained < schedule.epochs:
        number += 1
        epoch = schedule.cut(number, losses=losses)
        yield size, epoch - trained
        wave = [float(past % 2) for past in range(epoch)]  # the worst of noises
        seen = measured or rule.error([wave], losses=losses) > 0
        error = inf if close and seen else 0.0
        size = rule.keep([0.0] * size, error, number, began, losses=losses)
        trained = epoch
    if size and trained < schedule.epochs:
        yield 1, schedule.epochs - trained


def forecast(sizes: Sequence[int], schedule: Schedule, *, losses: bool = True) -> int:
    """Epochs that groups of these sizes will be trained for at least, failures aside.

    Which is as if no cut were too close to call; `budget` has the range.
    """
    return sum(outlook(size, 0, schedule, losses=losses) for size in sizes)


def outlook(size: int, number: int, schedule: Schedule, *, losses: bool = True) -> int:
    """Epochs still to be trained by ``size`` candidates that round ``number`` has left in the race.

    See `forecast`; before the first round the number is 0.
    """
    ahead = stages(size, schedule, number=number, losses=losses)
    return sum(candidates * length for candidates, length in ahead)
