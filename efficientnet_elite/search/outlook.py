"""What a tournament has ahead of it: rounds, candidates, epochs.

Pure functions. This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from math import inf
from statistics import fmean

from efficientnet_elite.search import rules
from efficientnet_elite.search.rules import survivors_of
from efficientnet_elite.search.tournament import Schedule, Standing


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


def replicas_left(
    done: Mapping[str, int], schedule: Schedule, *, failed: Container[str], halted: bool
) -> dict[str, int]:
    """Replica to its epochs still to be trained; absent where there are none.

    Args:
      done: every training that measures the noise of a score to its epochs on record.
      schedule: of the search.
      failed: those whose training cannot go on.
      halted: whether time is up anywhere: nobody waits for replicas then.
    """
    until = 0 if halted else schedule.cut(1)
    return {n: until - past for n, past in done.items() if past < until and n not in failed}


def left(
    table: Standing,
    done: Mapping[str, int],
    costs: Mapping[str, float | None],
    schedule: Schedule,
    again: Mapping[str, int] = {},
) -> tuple[int, float | None]:
    """Epochs still to be trained in a group, and their cost.

    The jobs of the current round are known; who goes on after it is not, so later rounds cost what
    the racing members cost on average.

    Args:
      table: the group's standing.
      done: member to its epochs on record.
      costs: member to the cost of an epoch, in any unit; None where it is not known.
      schedule: of the search.
      again: member to the epochs that its replicas are still to be trained for.

    Returns:
      Epochs, failures aside, and their cost: None where that of somebody involved is not known.
    """
    missing = Counter(again)
    missing.update({job.candidate: job.until_epoch - done[job.candidate] for job in table.jobs})
    racing = table.champion is None and not table.finished
    number = 1 + max((decision.round for decision in table.decisions), default=0)
    later = outlook(survivors_of(len(table.survivors)), number, schedule) if racing else 0
    epochs = missing.total() + later
    if not epochs:  # maybe int8 is to be measured still
        return 0, 0.0
    involved = {*missing, *table.survivors}
    known = {name: cost for name in involved if (cost := costs[name]) is not None}
    if len(known) < len(involved):
        return epochs, None
    now = sum(known[name] * number for name, number in missing.items())
    return epochs, now + (later * fmean(known[n] for n in table.survivors) if later else 0.0)
