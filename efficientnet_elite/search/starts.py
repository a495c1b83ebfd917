"""What networks start from, in the records of a search or training: pretrained or random weights.

Which weights these are is decided before a search begins, and recorded: all workers use the same,
and a search that is continued never changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from efficientnet_elite.config import NONE, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained.folders import WeightsFolder
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.networks.pretrained.sources import SOURCES, load_source
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

META = "start"
"""Key of the ledger's settings that holds the record of a `Start`; null for random weights."""

RANDOM = "random weights"


Weights: TypeAlias = PretrainedWeights | WeightsFolder
"""What a search starts from: the weights of one network, or those of several in a folder."""


@dataclass(frozen=True)
class Start:
    """The pretrained weights that the networks of a search start from.

    Attributes:
      name, sha256, licence, origin, deviation: see `PretrainedWeights`. Records of earlier versions
        have no deviation.
      from_scratch: names of the networks that these weights do not fit. They start from random
        weights.
    """

    name: str
    sha256: str
    licence: str
    origin: str
    deviation: str = ""
    from_scratch: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Weights, from_scratch: Iterable[str] = ()) -> Start:
        """The record of weights that were read."""
        texts = {name: getattr(source, name) for name in _TEXTS}
        return cls(**texts, from_scratch=tuple(from_scratch))

    @classmethod
    def recorded(cls, record: Mapping[str, Any] | None) -> Start | None:
        """What `record` gave; None where networks start from random weights."""
        if record is None:
            return None
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        return cls(**known | {"from_scratch": tuple(record.get("from_scratch", ()))})

    def record(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"from_scratch": list(self.from_scratch)}

    def of_network(self, name: str) -> dict[str, Any] | None:
        """What one network started from, for its own records; None for random weights."""
        if name in self.from_scratch:
            return None
        return {key: value for key, value in asdict(self).items() if key != "from_scratch"}

    @property
    def text(self) -> str:
        """In words, such as ``lite0 (EfficientNet-Lite0, ...; Apache-2.0)``."""
        about = SOURCES[self.name].description if self.name in SOURCES else self.origin
        return f"{self.name} ({about}; {_licence(self.licence)})"


_TEXTS = tuple(field.name for field in fields(Start) if field.name != "from_scratch")


def _licence(name: str) -> str:
    return "licence unknown" if name == "unknown" else name


def start_of_search(meta: Mapping[str, Any]) -> Start | None:
    """What a search started from, from the settings in its ledger.

    Ledgers of versions before pretrained weights have no such entry.
    """
    return Start.recorded(meta.get(META))


def start_of_candidate(meta: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What a candidate started from, for its sidecar; None for random weights."""
    start = start_of_search(meta)
    return None if start is None else start.of_network(name)


def load_start(train: TrainConfig) -> Weights | None:
    """The weights that a recipe names; None for random weights.

    Raises:
      UserError: there is no source of this name, it is not on this machine, or cannot be read.
    """
    return load_source(train.pretrained) if train.pretrained and train.is_pretrained else None


def check_unchanged(source: Weights | None, recorded: Start | None, place: Path) -> None:
    """UserError where weights are not those that the networks in a work directory started from."""
    now, before = source and source.sha256, recorded and recorded.sha256
    if now == before:
        return
    if source is None or recorded is None:
        raise UserError(
            f"{place} holds networks that started from "
            f"{recorded.name if recorded else RANDOM}, not {source.name if source else RANDOM}: "
            "continue them with the same, or use another --workdir"
        )
    raise UserError(
        f"{place} holds networks that started from {recorded.name} with SHA-256 "
        f"{recorded.sha256[:12]}..., which now has {source.sha256[:12]}...: restore it, or use "
        "another --workdir"
    )


def refused(source: Weights, specs: Iterable[ArchSpec]) -> dict[str, str]:
    """Name to reason of the networks that cannot start from these weights.

    Raises:
      UserError: a folder has neither a network's weights nor the source that it was made from.
    """
    reasons = {}
    for spec in specs:
        weights = source.for_network(spec)
        try:
            select(weights, spec, "first")  # the quickest way
        except UserError:
            try:
                select(weights, spec)
            except UserError as error:
                reasons[spec.name] = str(error)
    return reasons


def announce(start: Start, networks: int, on_message: Callable[[str], None]) -> None:
    """Says in one line what networks start from, and in one which of them cannot.

    Args:
      start: the weights.
      networks: number of all networks.
      on_message: gets the lines.
    """
    left = len(start.from_scratch)
    if left < networks:
        on_message(f"starts from {start.text}: --pretrained={NONE} trains from random weights")
        if start.deviation:
            on_message(f"{start.name} computes not quite what its origin does: {start.deviation}")
    if left:
        examples = ", ".join(start.from_scratch[:3]) + (", ..." if left > 3 else "")
        disadvantage = ": they are at a disadvantage" if left < networks else ""
        on_message(
            f"{left} of {networks} networks cannot start from {start.name} ({examples}) and are "
            f"trained from random weights, with the recipe for pretrained ones{disadvantage}"
        )


def from_scratch(train: TrainConfig, data: ImageData) -> tuple[TrainConfig, ImageData]:
    """The recipe and the images of a network that starts from random weights, unlike others.

    It has no network to learn from, and so no use for images without labels.
    """
    return (
        replace(train, pretrained=NONE, distill="none"),
        replace(data, unlabelled=None),
    )
