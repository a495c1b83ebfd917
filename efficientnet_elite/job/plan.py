"""What `--config=auto` chooses, and why. Pure functions of what is known before a training.

`automatic` gathers the facts and applies the choices; a setting that the user gives is never
replaced. docs/auto.md has the table of choices for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from efficientnet_elite import registry
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.job.recipes import FINE_TUNING_STEPS, FROM_SCRATCH_STEPS
from efficientnet_elite.search.budget import TrainingCost, forecast
from efficientnet_elite.search.rules import find_rule
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.text import duration

# -- the choices -----------------------------------------------------------------------------------

LARGEST_SIDE, SMALLEST_SIDE, _MULTIPLE = 96, 32, 8  # pixels
_SMALLER_SIDES = (80, 64, 48, 32)


def base_resolution(side: int | None, fitting: Callable[[int], int], enough: int) -> int:
    """Input side in pixels: the largest at which enough networks are within the limits.

    Args:
      side: median of the images' shorter sides in pixels; None where it is not known.
      fitting: takes an input side to the number of networks that are within the limits.
      enough: number of networks that suffices. Where no side has so many, the one with the most is
        taken.
    """
    largest = LARGEST_SIDE
    if side is not None:
        largest = max(SMALLEST_SIDE, min(LARGEST_SIDE, side // _MULTIPLE * _MULTIPLE))
    sides = [largest, *(smaller for smaller in _SMALLER_SIDES if smaller < largest)]
    counts = {}
    for each in sides:
        counts[each] = fitting(each)
        if counts[each] >= enough:
            return each
    return max(counts, key=lambda each: counts[each])


_LARGEST_BATCH, _SMALLEST_BATCH, _FEWEST_STEPS_PER_EPOCH = 32, 4, 4


def batch_size(images: int) -> int:
    """Images in a training step, a power of two.

    Args:
      images: number of training images.
    """
    size = _LARGEST_BATCH
    while size > _SMALLEST_BATCH and images < size * _FEWEST_STEPS_PER_EPOCH:
        size //= 2
    return size


# Steps count where images are few; where they are many, each should be seen several times.
_FEWEST_EPOCHS_FROM_SCRATCH, _FEWEST_EPOCHS_PRETRAINED = 30, 10


def steps(images: int, batch: int, *, pretrained: bool) -> int:
    """Steps of a whole training.

    Args:
      images: number of training images.
      batch: images in a step.
      pretrained: whether networks start from pretrained weights.
    """
    if pretrained:
        return max(FINE_TUNING_STEPS, _FEWEST_EPOCHS_PRETRAINED * (images // batch))
    return max(FROM_SCRATCH_STEPS, _FEWEST_EPOCHS_FROM_SCRATCH * (images // batch))


_GIGABYTES_PER_WORKER, _MOST_WORKERS = 2.0, 8
_CANDIDATES_PER_WORKER = 3  # with fewer, starting a process may take longer than it saves


def workers(cores: int, gigabytes: float, gpus: int, candidates: int | None = None) -> int | None:
    """Worker processes of a search; None for training in its own process.

    Args:
      cores: that this process may use.
      gigabytes: memory of the machine.
      gpus: number of GPUs.
      candidates: most candidates of the search; None where there is no such limit.
    """
    most = min(cores, int(gigabytes / _GIGABYTES_PER_WORKER), _MOST_WORKERS)
    if candidates is not None:
        most = min(most, candidates // _CANDIDATES_PER_WORKER)
    return None if gpus or most < 2 else most


DEFAULT_SIZES_KB = {True: 4000.0, False: 2000.0}
"""Whether networks start from pretrained weights, to the default limit on the int8 file in kB
where a single network is trained."""


def network(costs: Mapping[str, tuple[float, ...]]) -> str:
    """The largest network.

    Args:
      costs: name of each network that is within the limits to its costs, the most important first.
    """
    return max(costs, key=lambda name: costs[name])


_RACES = ((3, 4), (3, 3), (2, 4), (2, 3), (1, 4), (1, 3), (1, 2), (1, 1))
"""Numbers of cost groups and of candidates in each, the best race first."""


def races(groups: int | None = None, candidates: int | None = None) -> list[tuple[int, int]]:
    """The races that are considered, the best first: cost groups and candidates in each.

    Args:
      groups: the number of groups that the user gave; None for any.
      candidates: the number of all candidates that the user gave; None for any.
    """
    numbers = {groups: None} if groups else dict.fromkeys(number for number, _ in _RACES)
    if candidates:
        return [(number, -(-candidates // number)) for number in numbers]
    if groups:
        return [(groups, each) for each in (4, 3, 2, 1)]
    return list(_RACES)


@dataclass(frozen=True)
class Race:
    """How many candidates a search trains.

    Attributes:
      groups: number of cost groups.
      candidates: number of candidates in all groups.
      epochs: of a whole training; fewer than asked for where not even one fits the budget.
    """

    groups: int
    candidates: int
    epochs: int


def race(
    groups_of: Mapping[int, Sequence[Sequence[TrainingCost]]],
    schedule: Schedule,
    budget: float,
    *,
    considered: Sequence[tuple[int, int]] = _RACES,
    workers: int = 1,
    seeds: int = 1,
) -> Race:
    """The first race that keeps a budget however close its eliminations turn out.

    Which candidates take part is not known yet, so the costliest of each group are assumed.

    Args:
      groups_of: number of groups, of all that are considered, to the costs, in seconds, of the
        candidates in each group.
      schedule: of the search; its rounds may still be shortened.
      budget: in seconds; infinite for none.
      considered: see `races`.
      workers: number of workers.
      seeds: see `budget.forecast`.
    """
    shortest = min(schedule.round_epochs, find_rule(schedule.rule).shortest_round)
    schedule = replace(schedule, round_epochs=shortest)
    for groups, each in considered:
        costs = [_costliest(members, each) for members in groups_of[groups]]
        if forecast(costs, schedule, workers=workers, seeds=seeds).most <= budget:
            return Race(groups, sum(map(len, costs)), schedule.epochs)
    groups, _ = considered[-1]
    alone = [_costliest(members, 1)[0] for members in groups_of[groups]]
    once, epoch = sum(cost.once for cost in alone), sum(cost.epoch for cost in alone)
    return Race(groups, len(alone), max(1, min(schedule.epochs, int((budget - once) / epoch))))


def _costliest(costs: Sequence[TrainingCost], count: int) -> list[TrainingCost]:
    return sorted(costs, key=lambda cost: cost.epoch, reverse=True)[:count]


# -- why -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """Something that is chosen, for users.

    Attributes:
      name: what is chosen, and the heading of its line where the plan is printed.
      flags: that change it.
      description: what is chosen.
      reason: why.
    """

    name: str
    flags: tuple[str, ...]
    description: str
    reason: str

    @property
    def hint(self) -> str:
        """The flags, as the end of a line."""
        return f"({', '.join(f'--{flag}' for flag in self.flags)})"


CHOICES = registry.table(
    Choice(
        "input",
        ("input_size", "channels"),
        "96 px, or what the images have, in multiples of 8 from 32; less where limits ask for it; "
        "one channel where all images are grey",
        "more pixels than the images have cost time and memory and show nothing; at 96 px the "
        "activations of the largest network take 460 kB",
    ),
    Choice(
        "networks",
        ("pool", "groups", "max_candidates"),
        "elite-relu6-nose: three groups of four candidates, fewer where the budget asks for it",
        "EfficientNet-Lite0 and its smaller forms: published weights start all of them, and ReLU6 "
        "without squeeze-excite loses least in int8",
    ),
    Choice(
        "network",
        ("max_size_kb",),
        "without a search, the network with most multiply-accumulates whose int8 file has at most "
        "4,000 kB (from random weights 2,000 kB)",
        "with the same start, larger networks were more accurate",
    ),
    Choice(
        "training",
        ("pretrained", "epochs", "batch_size", "learning_rate"),
        "from pretrained weights 900 steps and at least 10 epochs, from random weights 1,200 "
        "steps and at least 30 epochs, of 32 images (fewer where the set is smaller than 128)",
        "the number of steps decides, not that of epochs: it is what short trainings lacked most",
    ),
    Choice(
        "time",
        ("budget_minutes", "workers"),
        "30 minutes, one worker a core",
        "three groups of four candidates need less on two cores; the rest is reserve",
    ),
)


# -- what is printed -------------------------------------------------------------------------------


def lines(
    config: SearchConfig, *, images: int, classes: int, networks: str, last: tuple[str, str]
) -> list[str]:
    """The plan, in a line for each choice.

    Args:
      config: the settings, complete.
      images: number of training images.
      classes: number of classes.
      networks: what is trained, with the flags that change it.
      last: name and text of the last line: the time of a search, the folder of a training.
    """
    train = config.train
    start = train.pretrained if train.is_pretrained else "random weights"
    grey = ", grey" if config.data.input_channels == 1 else ""
    augment = f", augmentation {config.data.augment}" if config.data.augment else ""
    per_epoch = max(1, images // train.batch_size)
    number = f"{train.epochs} {'epoch' if train.epochs == 1 else 'epochs'}"
    words = [
        ("data", f"{images:,} training images of {classes} classes (--dataset)"),
        ("input", f"{config.base_resolution} px{grey} {CHOICES['input'].hint}"),
        ("networks", networks),
        (
            "training",
            f"from {start}, {number} ({train.epochs * per_epoch:,} steps of {train.batch_size} "
            f"images), {train.optimizer} {train.learning_rate:g}{augment} "
            f"{CHOICES['training'].hint}",
        ),
        last,
    ]
    return [f"{name + ':':10}{text}" for name, text in words]


GREY = "all images are grey: networks take one channel (--channels=3 for colours)"
"""The line about it where there is no plan."""


def networks_of_search(config: SearchConfig) -> str:
    """The line on the candidates of a search."""
    groups = f"{config.groups} {'group' if config.groups == 1 else 'groups'}"
    number = "all" if config.max_candidates is None else f"up to {config.max_candidates}"
    return f"{number} of {config.pool} in {groups} {CHOICES['networks'].hint}"


def time_of_search(config: SearchConfig, workers: int | None) -> tuple[str, str]:
    """The line on the time of a search, as `lines` takes it."""
    most = (
        "no limit"
        if config.budget_hours is None
        else f"at most {duration(3600 * config.budget_hours)}"
    )
    trained = f"{workers} workers" if workers else "one network at a time"
    return "time", f"{most}, {trained} {CHOICES['time'].hint}"
