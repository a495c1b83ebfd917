"""Settings of a search, and all settings by their dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from efficientnet_elite.config.data import CROSSFIT, FORMER_NAMES, DataConfig
from efficientnet_elite.config.input_size import InputSize, checked_size
from efficientnet_elite.config.limits import Limits
from efficientnet_elite.config.training import BEFORE, LAST, STAGES, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import check, documented, setting

SELECT = ("float", "int8")
GROUPING_METHODS = ("width", "count")
CALIBRATION_IMAGES = 200  # training images in the representative data set, by default


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
    base_resolution: int | str = setting(
        224,
        "Side of the input image in pixels at resolution coefficient 1; 224 for ImageNet. An input "
        "that is not square is HEIGHTxWIDTH, such as 96x128.",
    )
    max_candidates: int | None = setting(
        None,
        "Largest number of candidates that are trained, spread over the groups. By default all are "
        "trained.",
        at_least=1,
    )
    classifier_reads: str = setting(
        LAST,
        "What the classifiers of the networks read. last: the mean of the last feature map; "
        "stages: also those of the last feature map of each earlier stage, which is better on few "
        "images (docs/transfer.md).",
        flag=False,
        choices=(LAST, STAGES),
    )
    seeds: int = setting(
        1,
        "Train one candidate of each group with this many seeds up to the first elimination, to "
        "measure the noise of scores. With 1, the noise is estimated from the learning curves.",
        at_least=1,
    )
    finalist_seeds: int = setting(
        1,
        "With 2, the last two candidates of a group are trained with a second seed if they are too "
        "close to call, and ranked by the mean of both trainings (docs/rules.md). With 1, each is "
        "trained once.",
        at_least=1,
        at_most=2,
    )
    final_epochs: int = setting(
        0,
        "Train each champion once more after its tournament, from its own start, for so many "
        "epochs with learning rates for that length; the result is exported. More than epochs, or "
        "0 to export the training of the search (docs/rules.md).",
        at_least=0,
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
        "Most hours that the search may take. The speed of its workers is measured first, where "
        "they train, and the search is planned as for budget_epochs. If they become slower, "
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
        "JSON or CSV file of latencies on a device, as `elite boards` keeps one for each board and "
        "`elite benchmark` writes one. By default latency is measured on this machine.",
    )
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def base_size(self) -> InputSize:
        """Height and width of the input at resolution coefficient 1, see ``base_resolution``."""
        return InputSize.of(self.base_resolution)

    @property
    def reads_stages(self) -> bool:
        """Whether classifiers read all stages, see ``classifier_reads``."""
        return self.classifier_reads == STAGES

    def __post_init__(self) -> None:
        check(self)
        # The plain form, so that equal settings are equal and JSON and TOML hold what users write.
        size = checked_size(self.base_resolution, "base_resolution")
        object.__setattr__(self, "base_resolution", size.plain)
        if self.finalist_seeds > 1 and self.data.folds > 1:
            raise UserError(
                f"finalist_seeds={self.finalist_seeds} and validation={CROSSFIT}: use one of them; "
                "folds have other seeds, too"
            )
        if self.budget_epochs is not None and self.budget_hours is not None:
            raise UserError("budget_epochs and budget_hours: use one of them")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchConfig:
        """The config that `dataclasses.asdict` gave, in this version or an earlier one.

        A field that did not exist then gets its default. A field that no longer exists is left out;
        `unknown_fields` names those.
        """
        values = dict(values)
        # Before these settings existed parts were split without the one, all networks took colours,
        # and they were trained without the others; a search keeps its parts, networks and kernels.
        before = {"group_duplicates": False, "channels": "3"}
        values["data"] = before | _with_present_names(values.get("data", {}))
        values["train"] = {**BEFORE, **values.get("train", {})}
        for name, part in PARTS.items():
            values[name] = part(**_known(part, values.get(name, {})))
        values["group_by"] = tuple(values["group_by"])  # JSON makes a list of it
        return cls(**_known(cls, values))


# Field of `SearchConfig` to the class of the settings that it holds.
PARTS: Mapping[str, type] = {"limits": Limits, "data": DataConfig, "train": TrainConfig}


def _with_present_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of images as this version calls them."""
    return {FORMER_NAMES.get(name, name): value for name, value in data.items()}


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
    values = {**values, "data": _with_present_names(values.get("data", {}))}
    names = {name: value for name, value in values.items() if name not in PARTS}
    for part in PARTS:
        names |= {f"{part}.{name}": value for name, value in values.get(part, {}).items()}
    return {name: value for name, value in names.items() if name not in known}
