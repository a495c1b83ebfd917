"""Frozen settings. Command-line flags become these at once; nothing below reads a flag.

Each field is described once, in its metadata. Help texts, configuration files, the page
docs/configuration.md and the classes' own documentation are made from that description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from math import isfinite
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import check, documented, setting

ENGINES = ("local", "ray")
SELECT = ("float", "int8")
SCHEDULES = ("exponential", "cosine")
OPTIMIZERS = ("rmsprop", "adamw")
DISTILLATIONS = ("none", "features", "logits", "both")
GROUPING_METHODS = ("width", "count")
# Values of TrainConfig.pretrained that name no weights; AUTO lets the job choose.
AUTO, NONE = "auto", "none"
CALIBRATION_IMAGES = 200  # training images in the representative data set, by default


@documented
@dataclass(frozen=True)
class DataConfig:
    """Which images a search uses, and how they are split into parts."""

    dataset: str = setting("digits", "Data set that is used to train, validate and test.")
    validation_fraction: float = setting(
        0.2,
        "Share of the training images, 0..1, that is split off to validate candidates if the data "
        "set has no validation part.",
    )
    test_fraction: float = setting(
        0.2,
        "Share of all images, 0..1, that is held out to measure test accuracy if the data set has "
        "no test part.",
    )
    seed: int = setting(
        0,
        "Random seed of the split into parts. The flag --seed sets both this seed and that of the "
        "search.",
        at_least=0,
    )
    data_dir: str | None = setting(
        None,
        "Folder in which TensorFlow Datasets keeps its prepared data sets. By default its usual "
        "one, ~/tensorflow_datasets.",
    )
    cache_gb: float = setting(
        2.0,
        "Most gigabytes of decoded images that may be stored in the work directory, so that each "
        "image is decoded only once. A larger data set is decoded again in each epoch.",
        at_most=1024.0,
    )
    flip: bool | None = setting(
        None,
        "Mirror half of the training images. Turn it off if classes differ in left and right. "
        "By default the data source decides.",
    )
    center_crop: bool | None = setting(
        None,
        "Evaluate on the paper's centre crop of each image instead of the whole image. Turn it off "
        "if the subject fills the frame. By default the data source decides.",
    )
    min_area: float | None = setting(
        None,
        "Smallest share of an image's area that a random training crop covers, 0..1; 0.08 in the "
        "paper. By default the data source decides.",
    )
    augment: str | None = setting(
        None,
        "Augmentation of training images that is added after crop and flip. By default there is "
        "none.",
    )

    unlabelled: str | None = setting(
        None,
        "Folder of more images like those of the data set, without labels. They are only used for "
        "distillation. By default there are none.",
    )

    def __post_init__(self) -> None:
        check(self)


@documented
@dataclass(frozen=True)
class TrainConfig:
    """The training recipe, by default that of section 5.1 of arXiv 2009.07409."""

    epochs: int = setting(
        350,
        "Epochs of a complete training, over which the learning rate is scheduled.",
        above=0,
    )
    batch_size: int = setting(100, "Number of images in a training step.", above=0)
    learning_rate: float = setting(
        0.00625, "Highest learning rate, reached at the end of the warm-up.", above=0
    )
    warmup_epochs: float = setting(
        5.0,
        "Number of epochs at the start in which the learning rate rises linearly from 0.",
        at_least=0,
    )
    schedule: str = setting(
        "exponential",
        "How the learning rate falls after warm-up: exponential multiplies it by decay_rate every "
        "decay_epochs, cosine lowers it to 0 at the last epoch.",
        choices=SCHEDULES,
    )
    decay_rate: float = setting(
        0.97,
        "Factor by which the exponential schedule multiplies the learning rate.",
        flag=False,
        above=0,
    )
    decay_epochs: float = setting(
        2.4,
        "Number of epochs after which the exponential schedule applies decay_rate once.",
        flag=False,
        above=0,
    )
    rho: float = setting(
        0.9,
        "Decay of RMSProp's moving average of squared gradients.",
        flag=False,
        at_least=0,
        at_most=1,
    )
    momentum: float = setting(0.9, "Momentum of RMSProp.", flag=False, at_least=0, at_most=1)
    epsilon: float = setting(
        1e-3,
        "Constant that is added to RMSProp's moving average of squared gradients, under the root.",
        flag=False,
        above=0,
    )
    weight_decay: float = setting(
        1e-5,
        "Factor of the L2 penalty on all weights except those of batch normalisation.",
        at_least=0,
    )
    ema: float = setting(
        0.9999,
        "Decay of the exponential moving average of the weights, which is what is evaluated and "
        "exported. Step t uses min(ema, (1 + t) / (10 + t)), which suits short trainings too.",
        at_least=0,
        at_most=1,
    )
    label_smoothing: float = setting(
        0.1,
        "Share of the training target, 0..1, that is spread evenly over all classes.",
        at_least=0,
        at_most=1,
    )
    batch_norm_momentum: float = setting(
        0.99,
        "Momentum of batch normalisation's moving statistics. The default needs some hundreds of "
        "steps; use 0.9 for short trainings on small data sets.",
        flag=False,
        at_least=0,
        at_most=1,
    )
    drop_rates: float = setting(
        1.0,
        "Factor, 0..1, of each network's rates of dropout and stochastic depth. Use 0 for short "
        "trainings, which do not overfit.",
        flag=False,
        at_least=0,
        at_most=1,
    )
    pretrained: str | None = setting(
        None,
        "Pretrained weights that networks start from: the name of a source (`elite weights` lists "
        "them), a file, imagenet for the published network of their family, or none for random "
        "weights. By default, or with auto, a source of exactly the same kind is used if one is "
        "on this machine. Pretrained weights change the defaults of the recipe "
        "(docs/transfer.md).",
    )
    optimizer: str = setting(
        "rmsprop",
        "Optimizer. rmsprop: that of the paper; adamw: Adam with decoupled weight decay, for short "
        "trainings from pretrained weights.",
        choices=OPTIMIZERS,
    )
    gradient_clip: float | None = setting(
        None,
        "Largest norm of all gradients together; larger ones are scaled down. By default there is "
        "no limit.",
        flag=False,
        above=0,
    )
    distill: str = setting(
        "none",
        "Distillation from the network that the pretrained weights belong to. features: its "
        "feature maps are matched; logits: its predictions, after a linear head was fitted to the "
        "classes of the data set; both; none.",
        choices=DISTILLATIONS,
    )
    distill_weight: float = setting(
        1.0,
        "Weight of the distillation loss at the start of training. It falls linearly to 0.",
        flag=False,
        at_least=0,
    )
    freeze_statistics: bool = setting(
        False,
        "Leave the statistics of batch normalisation that come from pretrained weights as they "
        "are, and normalise with them in training, too.",
        flag=False,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_pretrained(self) -> bool:
        """Whether networks start from pretrained weights; AUTO must have been decided before."""
        if self.pretrained == AUTO:
            raise ValueError("pretrained=auto has to be replaced by the name of a source")
        return self.pretrained not in (None, NONE)


@documented
@dataclass(frozen=True)
class Limits:
    """The most that a candidate may cost on the device; None sets no limit.

    Candidates that exceed a limit are excluded before training. Thousands are of 1000 (kB, not
    KiB). `device.costs.METRICS` describes the metric of each limit. ``others`` are limits, by name,
    on metrics that were added to that table.
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
        built_in = {name: value for name, value in values.items() if name in names}
        others = {n: v for n, v in values.items() if n not in names and v is not None}
        return cls(**built_in, others=others or None)

    def by_name(self) -> dict[str, float | None]:
        """All limits by name, the names of added metrics last."""
        values = dict(vars(self))
        return values | (values.pop("others") or {})


@documented
@dataclass(frozen=True)
class SearchConfig:
    """A Network Candidate Search. Each preset opens with its command, run time and result."""

    pool: str = setting("elite", "Candidates that the search chooses from.")
    groups: int | None = setting(
        None,
        "Number of cost groups; for HF, number at each resolution. By default the paper's number "
        "for its pools, and one group for about six candidates for other pools.",
        at_least=1,
    )
    group_by: tuple[str, ...] = setting(
        ("params", "macs"),
        "Cost metrics by which candidates are put into groups. Their z-scores are added.",
    )
    group_method: str | None = setting(
        None,
        "How the sums of z-scores are divided into groups. width: intervals of equal width, as in "
        "the paper, the default for one family; count: equal numbers of candidates, the default "
        "for several families.",
        choices=GROUPING_METHODS,
    )
    round_epochs: int | None = setting(
        None, "Number of epochs between two eliminations of a group.", at_least=1
    )
    first_elimination: int | None = setting(
        None, "Epoch after which a group has its first elimination.", at_least=1
    )
    rule: str = setting("race", "Rule by which candidates are scored and eliminated.")
    select: str = setting(
        "float",
        "Accuracy that decides the last eliminations of each group. float: of the float32 network; "
        "int8: of the quantized network, which takes additional time to measure.",
        choices=SELECT,
    )
    base_resolution: int = setting(
        224,
        "Side of the input image in pixels at resolution coefficient 1; 224 for ImageNet.",
    )
    max_candidates: int | None = setting(
        None,
        "Largest number of candidates that are trained, spread over the groups. By default all are "
        "trained.",
        at_least=1,
    )
    seeds: int = setting(
        1,
        "Train one candidate of each group with this many seeds up to the first elimination, to "
        "measure the noise of scores. With 1, the noise is estimated from the learning curves.",
        at_least=1,
    )
    budget_epochs: int | None = setting(
        None,
        "Most epochs that all candidates together may be trained for. To fit, rounds are shortened "
        "first and then candidates are left out; every group still gets a champion "
        "(docs/budget.md). By default there is no budget.",
        above=0,
    )
    budget_hours: float | None = setting(
        None,
        "Most hours that the search may take. The speed of this machine with --workers is "
        "measured first, and the search is planned as for budget_epochs. If it becomes slower, "
        "tournaments and then the training of champions end early. By default there is no "
        "budget.",
        above=0,
    )
    threads: int = setting(
        1,
        "Number of CPU threads that train one candidate. It changes scores in their last bits. "
        "With many cores, more --workers are faster than more threads.",
        at_least=1,
    )
    seed: int = setting(
        0,
        "Random seed of the choice of candidates, the initial weights, the order of images and the "
        "calibration. The flag --seed also sets the seed of the split into parts.",
        at_least=0,
    )
    limits: Limits = field(default_factory=Limits)
    metric_table: str | None = setting(
        None,
        "JSON file of latencies on a device, as `elite benchmark --json=FILE` or "
        "`python -m benchmarks` writes it. By default latency is measured on this machine.",
    )
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        check(self)
        if self.base_resolution < 8:
            raise UserError(f"base_resolution={self.base_resolution}: must be at least 8 pixels")
        if self.budget_epochs is not None and self.budget_hours is not None:
            raise UserError("budget_epochs and budget_hours: use one of them")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchConfig:
        """The config that `dataclasses.asdict` gave, in this version or an earlier one.

        A field that did not exist then gets its default. A field that no longer exists is left out;
        `unknown_fields` names those.
        """
        values = dict(values)
        for name, part in PARTS.items():
            values[name] = part(**_known(part, values.get(name, {})))
        values["group_by"] = tuple(values["group_by"])  # JSON makes a list of it
        return cls(**_known(cls, values))


# Field of `SearchConfig` to the class of the settings that it holds.
PARTS: Mapping[str, type] = {"limits": Limits, "data": DataConfig, "train": TrainConfig}


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose names are fields of a class."""
    names = {f.name for f in fields(cls)}
    return {name: value for name, value in values.items() if name in names}


def all_fields() -> Iterator[tuple[str, type, Field[Any]]]:
    """The dotted name of every field of a search, such as ``train.epochs``, its class and itself.

    The fields of `SearchConfig` come first, then those of its parts. Limits on metrics that were
    added to the table of metrics are not among them.
    """
    for f in fields(SearchConfig):
        if f.name not in PARTS:
            yield f.name, SearchConfig, f
    for part, cls in PARTS.items():
        for f in fields(cls):
            if f.name != "others":
                yield f"{part}.{f.name}", cls, f


def unknown_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names, with their values, that `SearchConfig.from_dict` leaves out."""
    known = {name for name, _, _ in all_fields()} | {"limits.others"}
    names = {name: value for name, value in values.items() if name not in PARTS}
    for part in PARTS:
        names |= {f"{part}.{name}": value for name, value in values.get(part, {}).items()}
    return {name: value for name, value in names.items() if name not in known}


@documented
@dataclass(frozen=True)
class EngineConfig:
    """Where a search trains its candidates. The results do not depend on it."""

    name: str = setting(
        "local",
        "Where candidates are trained. local: on this machine; ray: on a Ray cluster in which all "
        "nodes can reach --workdir.",
    )
    workers: int | None = setting(
        None,
        "Number of candidates that are trained at the same time, each in its own process. By "
        "default one, in the process of the search; on a Ray cluster one for each CPU.",
        at_least=1,
    )
    ray_address: str | None = setting(
        None,
        "Address of the Ray cluster, such as auto or HOST:6379. By default the cluster on this "
        "machine is used, or a new one is started.",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.name not in ENGINES:
            raise UserError(f"engine={self.name!r}: use {' or '.join(ENGINES)}")
        if self.ray_address is not None and self.name != "ray":
            raise UserError("ray_address is for engine=ray")

    @property
    def in_process(self) -> bool:
        """Whether candidates are trained in the search's own process."""
        return self.name == "local" and self.workers is None
