"""Folders of pretrained weights: a file in the normal form for each network of a pool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod, sqrt
from pathlib import Path

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained.matching import is_same_network
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights, load, load_about
from efficientnet_elite.networks.spec import ArchSpec

RECORD = "pretrained.json"


@dataclass(frozen=True)
class Origin:
    """What the weights of a folder were made from, as its file ``pretrained.json`` says it.

    Attributes:
      source: name or path of the pretrained weights that were distilled.
      sha256, licence: of these.
      dataset: name of the images.
    """

    source: str
    sha256: str
    licence: str
    dataset: str

    @classmethod
    def read(cls, folder: Path) -> Origin:
        """The record of a folder.

        Raises:
          UserError: there is none, or it cannot be read.
        """
        path = folder / RECORD
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            texts = {name: values[name] for name in cls.__dataclass_fields__}
            if not all(isinstance(text, str) for text in texts.values()):
                raise ValueError("an entry that is no text")
        except FileNotFoundError:
            raise UserError(
                f"{folder} is no folder of pretrained weights: it has no {RECORD}, which "
                "`elite pretrain` writes"
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged: copy it again") from None
        return cls(**texts)

    def record(self) -> dict[str, str]:
        """As JSON can hold it."""
        return asdict(self)


def file_of(folder: Path, network: str) -> Path:
    """The file of a network's weights, whether or not there is one."""
    return folder / f"{network}.npz"


@dataclass(frozen=True)
class WeightsFolder:
    """Pretrained weights of several networks; see `PretrainedWeights` for the common attributes.

    Args:
      path: the folder.
      made_from: what its weights were made from.
      members: for each file's name without its ending, all but the arrays.
      load_source: loads the source for networks without a file.
    """

    path: Path
    made_from: Origin
    members: Mapping[str, PretrainedWeights]
    load_source: Callable[[str], PretrainedWeights | WeightsFolder]

    @classmethod
    def read(
        cls, path: Path, load_source: Callable[[str], PretrainedWeights | WeightsFolder]
    ) -> WeightsFolder:
        """Reads a folder; the arrays of a file are read when its network asks for them.

        Raises:
          UserError: it is no such folder, has no weights, or a file is damaged.
        """
        made_from = Origin.read(path)
        members = {file.stem: load_about(file) for file in sorted(path.glob("*.npz"))}
        if not members:
            raise UserError(f"{path} has no weights yet: continue `elite pretrain` there")
        return cls(path, made_from, members, load_source)

    @property
    def name(self) -> str:
        """The path of the folder, as users choose it."""
        return str(self.path)

    @property
    def licence(self) -> str:
        """Of the source."""
        return self.made_from.licence

    @property
    def origin(self) -> str:
        """How its weights were made, for people."""
        count = len(self.members)
        networks = "one network" if count == 1 else f"{count} networks"
        return f"{networks}, distilled from {self.made_from.source} on {self.made_from.dataset}"

    @property
    def deviation(self) -> str:
        """None: the files hold networks of this project."""
        return ""

    @cached_property
    def sha256(self) -> str:
        """Of the source's SHA-256, and the names and the SHA-256 of all files' weights."""
        lines = [f"{name} {about.sha256}" for name, about in sorted(self.members.items())]
        return hashlib.sha256("\n".join([self.made_from.sha256, *lines]).encode()).hexdigest()

    def for_network(self, spec: ArchSpec) -> PretrainedWeights:
        """The weights that a network starts from.

        They are those of its own file; without one, those of the same network at the nearest input
        size; and otherwise those of the source, from which channels are selected.

        Raises:
          UserError: there is no such file, and the source is not on this machine or has changed.
        """
        own = self.members.get(spec.name)
        if own is not None and is_same_network(own.spec, spec):
            return load(file_of(self.path, spec.name))
        distances = {
            name: abs(sqrt(prod(about.spec.size)) - sqrt(prod(spec.size)))
            for name, about in self.members.items()
            if is_same_network(about.spec, spec)
        }
        if distances:
            return load(file_of(self.path, min(distances, key=lambda name: distances[name])))
        made_from = self.made_from
        missing = f"{self.path} has no weights of {spec.name}"
        advice = "continue `elite pretrain` there, or choose other networks"
        try:
            source = self.load_source(made_from.source).for_network(spec)
        except UserError as error:
            raise UserError(f"{missing}, and those it was made from: {error}; {advice}") from None
        if source.sha256 != made_from.sha256:
            raise UserError(f"{missing}, and {made_from.source} has changed since: {advice}")
        return source
