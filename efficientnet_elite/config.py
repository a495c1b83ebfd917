"""Frozen settings. Command-line flags become these at once; nothing below reads a flag.

This module must not import TensorFlow or Keras, nor read the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from efficientnet_elite.errors import UserError


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are split.

    Attributes:
      dataset: ``digits``, ``folder:PATH``, ``tfds:NAME``, ``rendered[:key=value,...]`` or, for
        segmentation, ``rendered_masks[:key=value,...]``.
      validation_fraction: share of the training part split off for eliminations, where the source
        brings no validation part of its own.
      test_fraction: share of all images held out for the reported accuracy, where the source
        brings no test part of its own.
      seed: of the splits (and of nothing else).
      data_dir: where TFDS looks for prepared data sets (None: its own default).
      cache_gb: images are decoded once, and evaluation parts resized once, up to this many
        gigabytes of pixels; all processes share them. A larger set is decoded anew each epoch.
      flip: mirror half of the training images; never where left and right tell classes apart.
        This and the next two: None for what suits the source.
      center_crop: evaluate on the paper's centre crop; False where subjects fill the frame.
      min_area: smallest share of an image's area that a training crop covers.
      augment: name of a further augmentation of `data.choices.AUGMENTATIONS`; None: crop and flip.
    """

    dataset: str = "digits"
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0
    data_dir: str | None = None
    cache_gb: float = 2.0
    flip: bool | None = None
    center_crop: bool | None = None
    min_area: float | None = None
    augment: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """The recipe, section 5.1 of arXiv 2009.07409 by default (paper.md, section 5).

    Attributes:
      epochs: full length; the learning rate is scheduled over it, whatever the rounds.
      batch_size: images a step.
      learning_rate: after warm-up.
      warmup_epochs: linear from 0.
      schedule: ``exponential`` (times ``decay_rate`` each ``decay_epochs``) or ``cosine`` (to 0).
      decay_rate, decay_epochs: of the exponential schedule.
      rho, momentum, epsilon: of RMSProp in TensorFlow's form (epsilon inside the root).
      weight_decay: L2 on all weights but those of batch normalisation.
      ema: decay of the averaged weights that are evaluated and exported. Step t uses
        min(ema, (1 + t) / (10 + t)), so that short trainings have an average too.
      label_smoothing: share of the target spread over all classes.
      batch_norm_momentum: of the moving statistics. The default needs some hundreds of steps; short
        trainings on small sets want 0.9.
      drop_rates: factor of the network's own rates of dropout and stochastic depth; 0 for short
        trainings, which end before there is anything to regularise.
    """

    epochs: int = 350
    batch_size: int = 100
    learning_rate: float = 0.00625
    warmup_epochs: float = 5.0
    schedule: str = "exponential"
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    rho: float = 0.9
    momentum: float = 0.9
    epsilon: float = 1e-3
    weight_decay: float = 1e-5
    ema: float = 0.9999
    label_smoothing: float = 0.1
    batch_norm_momentum: float = 0.99
    drop_rates: float = 1.0

    def __post_init__(self) -> None:
        if not all(isfinite(v) for v in vars(self).values() if isinstance(v, float)):
            raise UserError("settings of the training must be finite numbers")
        positive = ("epochs", "batch_size", "learning_rate", "decay_rate", "decay_epochs")
        for name in positive:
            if getattr(self, name) <= 0:
                raise UserError(f"{name}={getattr(self, name)}: must be above 0")
        if self.schedule not in ("exponential", "cosine"):
            raise UserError(f"schedule={self.schedule!r}: use exponential or cosine")
        if not 0 <= self.drop_rates <= 1:
            raise UserError(f"drop_rates={self.drop_rates}: must be from 0 to 1")
        if self.warmup_epochs < 0:
            raise UserError(f"warmup_epochs={self.warmup_epochs}: must not be negative")


@dataclass(frozen=True)
class Limits:
    """What the device allows; candidates beyond are never trained. None: no limit.

    Thousands are of 1000 (kB, not KiB). See `costs` for what each bounds.

    Attributes:
      params_m, macs_m: millions of parameters and multiply-accumulates.
      peak_kb: int8 activations that live at once.
      size_kb: the int8 file (flash).
      arena_kb: TFLM's arena (RAM), estimated; ``tflm_arena_kb`` the same, measured.
      latency_ms: milliseconds an image.
      ethos_u_cycles_m: millions of cycles on an Ethos-U55-128.
      others: limits by name (`Metric.limit`) for metrics that were added to `device.costs.METRICS`.
    """

    params_m: float | None = None
    macs_m: float | None = None
    peak_kb: float | None = None
    size_kb: float | None = None
    arena_kb: float | None = None
    tflm_arena_kb: float | None = None
    latency_ms: float | None = None
    ethos_u_cycles_m: float | None = None
    others: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, value in self.by_name().items():
            if value is not None and not (isfinite(value) and value > 0):
                raise UserError(f"max_{name}={value}: must be a number above 0")

    @classmethod
    def of(cls, values: Mapping[str, float | None]) -> Limits:
        """Limits by their names, those of added metrics too; None: no limit."""
        names = {field.name for field in fields(cls)} - {"others"}
        own = {name: value for name, value in values.items() if name in names}
        others = {n: v for n, v in values.items() if n not in names and v is not None}
        return cls(**own, others=others or None)

    def by_name(self) -> dict[str, float | None]:
        """All limits by name, the names of added metrics last."""
        values = dict(vars(self))
        return values | (values.pop("others") or {})


@dataclass(frozen=True)
class SearchConfig:
    """A Network Candidate Search. Each preset opens with its command, run time and result.

    Attributes:
      pool: families of the candidates, see `pools.candidates`.
      groups: number of cost groups (None: the paper's, ten or five a resolution).
      group_by: metrics whose z-scores are added for grouping.
      group_method: ``width`` (equal intervals of the z-score sum) or ``count`` (equally many);
        None: the former for one family, the latter for several.
      round_epochs: epochs between two eliminations of a group (e in the paper); None: the rule's
        default, see `Rule.parameters`.
      first_elimination: epoch of a group's first elimination, under rules that have this parameter;
        None: what the rule makes of ``round_epochs``.
      rule: of elimination, a name in `rules.RULES`.
      select: ``float`` or ``int8``: what accuracy makes the last cuts of a group, those among
        `tournament.FINALISTS` or fewer.
      base_resolution: input side in pixels at resolution coefficient 1.
      max_candidates: train only this many of the pool, spread over the groups (None: all).
      seeds: a candidate of each group is trained with so many seeds up to the first cut, to measure
        the noise of scores; 1: it is estimated from the curves instead.
      budget_epochs: epochs that all candidates together may be trained for; rounds are shortened
        and candidates left out to keep it (docs/budget.md). None: no such limit.
      budget_hours: the same in time, planned from this machine's pace and kept by the clock.
      threads: of the CPU that train one candidate. Scores depend on it to the last bits, and so it
        is a setting of the search; how many candidates are trained at once is not.
      seed: of the choice of candidates, initial weights, data order and calibration.
      limits: what a candidate may cost.
      metric_table: latencies of a device, as ``elite benchmark --json`` writes them; None: those of
        this machine. Read when the search starts.
      data: images and their splits.
      train: the recipe.
    """

    pool: str = "elite"
    groups: int | None = None
    group_by: tuple[str, ...] = ("params", "macs")
    group_method: str | None = None
    round_epochs: int | None = None
    first_elimination: int | None = None
    rule: str = "race"
    select: str = "float"
    base_resolution: int = 224
    max_candidates: int | None = None
    seeds: int = 1
    budget_epochs: int | None = None
    budget_hours: float | None = None
    threads: int = 1
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    metric_table: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("round_epochs", "first_elimination"):
            epochs = getattr(self, name)
            if epochs is not None and not 1 <= epochs <= self.train.epochs:
                raise UserError(f"{name}={epochs}: must be from 1 to epochs={self.train.epochs}")
        if self.base_resolution < 8:
            raise UserError(f"base_resolution={self.base_resolution}: must be at least 8 pixels")
        if self.max_candidates is not None and self.max_candidates < 1:
            raise UserError(f"max_candidates={self.max_candidates}: must be at least 1")
        if self.seeds < 1:
            raise UserError(f"seeds={self.seeds}: must be at least 1")
        if self.budget_epochs is not None and self.budget_hours is not None:
            raise UserError("budget_epochs and budget_hours: use one of them")
        for name in ("budget_epochs", "budget_hours"):
            budget = getattr(self, name)
            if budget is not None and not (isfinite(budget) and budget > 0):
                raise UserError(f"{name}={budget}: must be a number above 0")
        if self.select not in SELECT:
            raise UserError(f"select={self.select!r}: use {' or '.join(SELECT)}")
        if self.threads < 1:
            raise UserError(f"threads={self.threads}: must be at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchConfig:
        """The config that `dataclasses.asdict` gave."""
        data, train = DataConfig(**values["data"]), TrainConfig(**values["train"])
        group_by = tuple(values["group_by"])  # JSON has made a list of it
        limits = Limits(**values.get("limits", {}))
        made = {"data": data, "train": train, "group_by": group_by, "limits": limits}
        return cls(**{**values, **made})


@dataclass(frozen=True)
class EngineConfig:
    """Where a search trains. Its results do not depend on it.

    Attributes:
      name: ``local`` or ``ray``.
      workers: candidates trained at once, each in a process of its own. None: one a CPU of a Ray
        cluster; locally one, in the search's own process.
      ray_address: of the cluster; None for one on this machine.
    """

    name: str = "local"
    workers: int | None = None
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise UserError(f"engine={self.name!r}: use {' or '.join(ENGINES)}")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers={self.workers}: must be at least 1")
        if self.ray_address is not None and self.name != "ray":
            raise UserError("ray_address is for engine=ray")

    @property
    def in_process(self) -> bool:
        """Whether candidates are trained in the search's own process."""
        return self.name == "local" and self.workers is None


ENGINES = ("local", "ray")
SELECT = ("float", "int8")
CALIBRATION_IMAGES = 200  # training images in the representative data set, by default


def _quick() -> SearchConfig:
    """Nine candidates in three groups on the embedded digits.

    ``elite search --config=quick --workdir=runs/digits``: 4 min 46 s on two cores (AMD EPYC,
    TensorFlow 2.21), of which training 2 min 58 s (68 epochs), graph building 59 s, export 19 s.
    Champions: 98.6, 99.4, 98.6 % int8 test accuracy (float 98.9, 99.4, 98.6) on 359 images.
    """
    return SearchConfig(
        groups=3,
        round_epochs=2,
        first_elimination=3,
        base_resolution=32,
        max_candidates=9,
        data=DataConfig(dataset="digits", min_area=0.5),  # the paper's 0.08 is for 350 epochs
        train=TrainConfig(
            epochs=10,
            batch_size=32,
            learning_rate=0.0015,
            warmup_epochs=1.0,
            schedule="cosine",
            ema=0.99,
            batch_norm_momentum=0.9,
            drop_rates=0.0,
        ),
    )


def _paper() -> SearchConfig:
    """The paper's search: the whole eLite pool on ImageNet, 350 epochs, rounds of ten.

    ``elite search --config=paper --data_dir=DIR --workdir=runs/imagenet``: not run by us. The paper
    reports 80 to 150 GPU hours a group (Table 5) and 65.5 to 76.9 % top-1 for the champions; its
    augmentation policy is not part of this project yet.
    """
    return SearchConfig(
        rule="average", data=DataConfig(dataset="tfds:imagenet2012", validation_fraction=0.02)
    )


PRESETS = {"quick": _quick, "paper": _paper}
