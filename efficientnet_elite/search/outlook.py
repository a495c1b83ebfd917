"""What a tournament has still to train: rounds, candidates, epochs. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from math import inf
from statistics import fmean

from efficientnet_elite.search.rules import survivors_of
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.search.tournament import Standing


def stages(
    size: int,
    schedule: Schedule,
    *,
    number: int = 0,
    losses: bool = True,
    close: bool = False,
    measured: bool = False,
) -> Iterator[tuple[int, int]]:
    """The rounds that a group has still to train, as pairs (candidates, epochs of each of them).

    Failed trainings are not considered.

    Args:
      size: candidates that have not been eliminated.
      schedule: schedule of the search.
      number: number of the latest round that has been decided, 0 before the first.
      losses: whether training losses are recorded.
      close: True for a tournament in which every elimination is too close to call, starting with
        the first epoch in which noise can be estimated; False for one in which none is. With
        True, the most candidates go on.
      measured: whether the noise is measured by repeats and therefore known from the first epoch.
    """
    rule, first_size = schedule.judge, size
    trained = schedule.elimination_epoch(number, losses=losses) if number else 0
    while size > 1 and trained < schedule.epochs:
        number += 1
        epoch = schedule.elimination_epoch(number, losses=losses)
        yield size, epoch - trained
        noisiest = [float(past % 2) for past in range(epoch)]
        visible = measured or rule.noise([noisiest], losses=losses) > 0
        noise = inf if close and visible else 0.0
        size = rule.keep([0.0] * size, noise, number, first_size, losses=losses)
        trained = epoch
    if size and (last := schedule.final_epochs or schedule.epochs - trained):
        yield 1, last


def further_epochs(size: int, schedule: Schedule, *, measured: bool = False) -> int:
    """Most epochs of each further training of the two finalists of a group.

    That is up to the last elimination before the end of the training at which noise can be
    estimated; 0 where there are no further trainings.

    Args:
      size: number of candidates in the group.
      schedule, measured: see `stages`.
    """
    if schedule.finalist_seed is None or size < 2:
        return 0
    rule, until = schedule.judge, 0
    rounds = sum(
        1 for count, _ in stages(size, schedule, close=True, measured=measured) if count > 1
    )
    for number in range(1, rounds + 1):
        epoch = schedule.elimination_epoch(number)
        noisiest = [float(past % 2) for past in range(epoch)]
        if epoch < schedule.epochs and (measured or rule.noise([noisiest], losses=True) > 0):
            until = epoch
    return until


def least_epochs(sizes: Sequence[int], schedule: Schedule, *, losses: bool = True) -> int:
    """Least number of epochs for groups of these sizes, if no training fails.

    It is reached if no elimination is too close to call; `budget.forecast` gives the range.
    """
    return sum(least_epochs_left(size, 0, schedule, losses=losses) for size in sizes)


def least_epochs_left(size: int, number: int, schedule: Schedule, *, losses: bool = True) -> int:
    """Epochs still to be trained by the ``size`` candidates that round ``number`` has left.

    See `least_epochs`; before the first round the number is 0.
    """
    ahead = stages(size, schedule, number=number, losses=losses)
    return sum(candidates * length for candidates, length in ahead)


def repeat_epochs_left(
    done: Mapping[str, int], schedule: Schedule, *, failed: Container[str], halted: bool
) -> dict[str, int]:
    """Name of each repeat to its epochs still to be trained; repeats without any are left out.

    Args:
      done: every repeat, which measures the noise of a score, to its epochs on record.
      schedule: schedule of the search.
      failed: trainings that cannot go on.
      halted: whether the time of any group is up, after which no group waits for repeats.
    """
    until = 0 if halted else schedule.elimination_epoch(1)
    return {n: until - past for n, past in done.items() if past < until and n not in failed}


def group_left(
    standing: Standing,
    done: Mapping[str, int],
    costs: Mapping[str, float | None],
    schedule: Schedule,
    repeat_epochs: Mapping[str, int] = {},
) -> tuple[int, float | None]:
    """Epochs still to be trained in a group, and their cost.

    The needs of the current round are known. Which candidates go on after it is not known, so that
    later rounds are assumed to cost as much as the present candidates do on average.

    Args:
      standing: where the group stands.
      done: candidate, or further training of a finalist, to its epochs on record, if any.
      costs: candidate to the cost of an epoch, in any unit; None where it is not known.
      schedule: schedule of the search.
      repeat_epochs: candidate to the epochs that its repeats are still to be trained for.

    Returns:
      Epochs, if no training fails, and their cost; None if the cost of a candidate is not known.
    """
    missing = Counter(repeat_epochs)
    for need in standing.pending:
        missing[need.candidate] += need.until_epoch - done.get(need.training, 0)
    racing = standing.champion is None and not standing.finished
    later = 0
    if racing:
        survivors = survivors_of(len(standing.survivors))
        later = least_epochs_left(survivors, standing.next_round, schedule)
    epochs = missing.total() + later
    if not epochs:  # at most an int8 accuracy is still to be measured
        return 0, 0.0
    involved = {*missing, *standing.survivors}
    known = {name: cost for name in involved if (cost := costs[name]) is not None}
    if len(known) < len(involved):
        return epochs, None
    cost = sum(known[name] * number for name, number in missing.items())
    return epochs, cost + (later * fmean(known[n] for n in standing.survivors) if later else 0.0)
