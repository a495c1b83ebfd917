"""Where pretrained weights come from: a table of sources, files, and what the user has imported.

Nothing is downloaded unless the user names a source that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained import imports, lite
from efficientnet_elite.networks.pretrained.torch_files import read_torch
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights, sha256_of

_PRETRAINED = __package__


@dataclass(frozen=True)
class Source:
    """A source of pretrained weights, chosen as ``--pretrained=NAME``.

    Attributes:
      name, description: see `registry.Entry`.
      licence: SPDX identifier of the weights' licence; ``unknown`` where nothing says it.
      starts: which networks it can start, in words.
      present: function that says whether the weights can be loaded without a download; or its name
        as ``module:function``.
      load: function that gives the `PretrainedWeights`, or raises a `UserError`; or its name.
      install: how the user makes the weights present, such as a command to type.
    """

    name: str
    description: str
    licence: str
    starts: str
    present: Callable[[], bool] | str
    load: Callable[[], PretrainedWeights] | str
    install: str = ""


def _lite(number: int, side: int) -> Source:
    return Source(
        name=f"lite{number}",
        description=f"EfficientNet-Lite{number}, trained on ImageNet at {side} pixels",
        licence="Apache-2.0",
        starts="networks derived from EfficientNet-B0, best with ReLU6 and without squeeze-excite",
        present=partial(lite.present, number),
        load=partial(lite.load, number),
        install=lite.install_hint(number),
    )


SOURCES: dict[str, Source] = registry.table(_lite(0, 224), _lite(1, 240), _lite(2, 260))

# Names that stand for the first source of a list that is present.
ALIASES = {"lite": ("lite2", "lite1", "lite0")}

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_KERAS_SUFFIXES = (".keras", ".h5", ".npz")
FILE_SUFFIXES = (*_TORCH_SUFFIXES, *_KERAS_SUFFIXES)


def is_present(source: Source) -> bool:
    """Whether a source's weights can be loaded without a download."""
    return bool(registry.resolve(source.present)())


def available() -> list[str]:
    """Names of the sources of the table that can be loaded without a download."""
    return [name for name, source in SOURCES.items() if is_present(source)]


def load_source(name_or_path: str, folder: Path | None = None) -> PretrainedWeights:
    """The weights of a source, of a name that the user has imported, or of a file.

    Args:
      name_or_path: a name of `SOURCES` or `ALIASES`, a name given to ``elite weights --import``, or
        the path of a file.
      folder: of the imported weights; by default `imports.default_folder`.

    Raises:
      UserError: there is no such source or file, it is not installed, or it cannot be read.
    """
    name = _resolved_alias(name_or_path)
    if name in SOURCES:
        weights: PretrainedWeights = registry.resolve(SOURCES[name].load)()
        return weights
    if _is_path(name_or_path):
        return load_file(Path(name_or_path).expanduser())
    if name_or_path in imports.names(folder):
        return imports.load(name_or_path, folder)
    known = ", ".join([*SOURCES, *ALIASES, *imports.names(folder)])
    raise UserError(
        f"there are no pretrained weights {name_or_path!r}: choose from {known}, or name a file "
        f"that ends in {', '.join(FILE_SUFFIXES)}"
    )


def _resolved_alias(name: str) -> str:
    """The first source that an alias stands for and that is present, or else the last one."""
    choices = ALIASES.get(name, (name,))
    return next(
        (choice for choice in choices if choice in SOURCES and is_present(SOURCES[choice])),
        choices[-1],
    )


def _is_path(text: str) -> bool:
    return text.lower().endswith(FILE_SUFFIXES) or "/" in text


def load_file(path: Path) -> PretrainedWeights:
    """The weights of a file, whatever its format.

    Raises:
      UserError: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix in _TORCH_SUFFIXES:
        weights = registry.resolve(f"{_PRETRAINED}.timm:read")(read_torch(path), path.stem)
        return replace(weights, sha256=sha256_of(path), origin=str(path))
    if suffix in _KERAS_SUFFIXES:
        read: Callable[[Path], Any] = registry.resolve(f"{_PRETRAINED}.files:read")
        return read(path)
    raise UserError(f"{path}: weights are read from files that end in {', '.join(FILE_SUFFIXES)}")
