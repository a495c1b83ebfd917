"""Where pretrained weights come from: a table of sources, files, and what the user has imported.

Nothing is downloaded unless the user names a source that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained import imported, keras_networks, lite
from efficientnet_elite.networks.pretrained.folders import WeightsFolder
from efficientnet_elite.networks.pretrained.keras_networks import KERAS_NETWORKS, KerasNetwork
from efficientnet_elite.networks.pretrained.torch_files import read_torch
from efficientnet_elite.networks.pretrained.weights import (
    PretrainedWeights,
    is_normal_form,
    load_about,
    sha256_of,
)
from efficientnet_elite.networks.pretrained.weights import load as load_normal_form

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
      deviation: see `PretrainedWeights`.
    """

    name: str
    description: str
    licence: str
    starts: str
    present: Callable[[], bool] | str
    load: Callable[[], PretrainedWeights] | str
    install: str = ""
    deviation: str = ""


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


def _keras(name: str, network: KerasNetwork, starts: str) -> Source:
    side = network.spec.resolution
    return Source(
        name=name,
        description=f"{network.label} of keras.applications, trained on ImageNet at {side} pixels",
        licence="Apache-2.0",
        starts=starts,
        present=partial(keras_networks.is_cached, network.name),
        load=partial(keras_networks.load, network.name),
        install=f"--pretrained={name} downloads {network.address}",
    )


IMAGENET = "imagenet"
"""Stands for the network of `keras.applications` that the trained families are made from, see
`imagenet_source`. Where no families are known, these are the families made from EfficientNet-B0."""

# Families that are scaled-down forms of EfficientNet-B0. All other families have a published
# network of their own name, or none.
_LIKE_B0 = ("elite", "elite-small", "hf", "efficientnet", "tinynet")
_B0 = "efficientnet-b0"


def _of_keras() -> Iterator[Source]:
    yield _keras(IMAGENET, KERAS_NETWORKS[_B0], "networks derived from it")
    for network in KERAS_NETWORKS.values():
        if network.address is not None:
            yield _keras(network.name, network, f"networks derived from {network.name}")


SOURCES: dict[str, Source] = registry.table(
    _lite(0, 224), _lite(1, 240), _lite(2, 260), *_of_keras()
)

# Names that stand for the first source of a list that is present.
ALIASES = {"lite": ("lite0", "lite1", "lite2")}
RESERVED = ("auto", "none")  # values of --pretrained that are no sources

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_KERAS_SUFFIXES = (".keras", ".h5", ".npz")
FILE_SUFFIXES = (*_TORCH_SUFFIXES, *_KERAS_SUFFIXES)


def is_present(source: Source) -> bool:
    """Whether a source's weights can be loaded without a download."""
    return bool(registry.resolve(source.present)())


def available() -> list[str]:
    """Names of the sources of the table that can be loaded without a download."""
    return [name for name, source in SOURCES.items() if is_present(source)]


def published_networks(families: Iterable[str]) -> set[str]:
    """Names of the published networks that families are made from; some may be no sources."""
    return {_B0 if family in _LIKE_B0 else family for family in families}


def imagenet_source(families: Iterable[str]) -> str:
    """The source that ``imagenet`` stands for; UserError where there is none or not only one."""
    families = list(dict.fromkeys(families))
    published = published_networks(families)
    if len(published) == 1 and (name := published.pop()) in SOURCES:
        return name
    raise UserError(
        f"pretrained={IMAGENET}: there is no single ImageNet network for {', '.join(families)}: "
        "name a source (`elite weights` lists them)"
    )


def load_source(name_or_path: str, folder: Path | None = None) -> PretrainedWeights | WeightsFolder:
    """The weights of a source, of a name that the user has imported, or of a file.

    Args:
      name_or_path: a name of `SOURCES` or `ALIASES`, a name given to ``elite weights --import``,
        the path of a file or of a folder that ``elite pretrain`` made, or ``NETWORK:PATH`` for a
        file that does not say of which network it is.
      folder: of the imported weights; by default `imported.default_folder`.

    Raises:
      UserError: there is no such source or file, it is not installed, or it cannot be read.
    """
    name = _resolved_alias(name_or_path)
    if name in SOURCES:
        weights: PretrainedWeights = registry.resolve(SOURCES[name].load)()
        return weights
    if _is_folder(name_or_path):
        return WeightsFolder.read(Path(name_or_path).expanduser(), load_source)
    network, _, path = name_or_path.partition(":")
    if path and not _is_path(network):
        return load_file(Path(path), network)
    if _is_path(name_or_path):
        return load_file(Path(name_or_path))
    of_the_user = imported_sources(folder)
    if name_or_path in of_the_user:
        return load_normal_form(imported.path_of(name_or_path, folder))
    known = ", ".join([*SOURCES, *ALIASES, *of_the_user])
    raise UserError(
        f"there are no pretrained weights {name_or_path!r}: choose from {known}, name a file "
        f"that ends in {', '.join(FILE_SUFFIXES)}, or a folder as in ./NAME"
    )


def imported_sources(folder: Path | None = None) -> dict[str, Source]:
    """A source for each name that the user has imported.

    Args:
      folder: of the imported weights; by default `imported.default_folder`.
    """
    return registry.table(*(_imported(name, folder) for name in imported.names(folder)))


def _imported(name: str, folder: Path | None) -> Source:
    path = imported.path_of(name, folder)
    load = partial(load_normal_form, path)
    try:
        about = load_about(path)
    except UserError as error:
        return Source(name, str(error), "unknown", "nothing", lambda: False, load)
    description = f"{about.spec.name}, imported from {about.origin}"
    starts = f"networks that are built like {about.spec.name}"
    return Source(
        name, description, about.licence, starts, lambda: True, load, deviation=about.deviation
    )


def import_file(path: Path, name: str, folder: Path | None = None) -> Path:
    """Converts a file to the normal form once, so that `load_source` finds it by a name.

    Args:
      path: of the file.
      name: for the weights.
      folder: where the result is stored; by default `imported.default_folder`.

    Returns:
      the file that was written.

    Raises:
      UserError: the file cannot be read, or the name is taken or looks like a file's.
    """
    if name.lower() in (*SOURCES, *ALIASES, *RESERVED):
        raise UserError(f"{name!r} has a meaning of its own: choose another name")
    if _is_path(name):
        raise UserError(f"{name!r} would be taken for a file: choose a name without an ending")
    return imported.save(replace(load_file(path), name=name), folder)


def _resolved_alias(name: str) -> str:
    """The first source that an alias stands for and that is present, or else the last one."""
    choices = ALIASES.get(name, (name,))
    return next(
        (choice for choice in choices if choice in SOURCES and is_present(SOURCES[choice])),
        choices[-1],
    )


def _is_folder(text: str) -> bool:
    try:
        return "/" in text and Path(text).expanduser().is_dir()
    except (OSError, RuntimeError):  # `load_file` says why
        return False


def _is_path(text: str) -> bool:
    return text.lower().endswith(FILE_SUFFIXES) or "/" in text


def load_file(path: Path, network: str | None = None) -> PretrainedWeights:
    """The weights of a file, whatever its format.

    Args:
      path: of the file; ``~`` stands for the user's home.
      network: name of the network that it belongs to, for files that do not say it.

    Raises:
      UserError: there is no such file, it cannot be read, or it holds numbers that are not finite.
    """
    try:
        path = path.expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, or the home of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{str(path)[:100]} cannot be read: {reason}") from None
    if not is_file:
        raise UserError(f"there is no file {path}")
    weights = _read(path, network)
    for name, array in weights.arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"{path} holds numbers that are not finite, in {name}: use another file"
            )
    return weights


def _read(path: Path, network: str | None) -> PretrainedWeights:
    suffix = path.suffix.lower()
    if suffix == ".npz" and is_normal_form(path):
        return load_normal_form(path)
    if suffix in _TORCH_SUFFIXES:
        timm = import_module(f"{_PRETRAINED}.timm")
        arrays = read_torch(path)
        try:
            weights = timm.read(arrays, network or path.stem, timm.describe(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        return replace(weights, sha256=sha256_of(path), origin=f"{path} ({weights.origin})")
    if suffix in _KERAS_SUFFIXES:
        read: Callable[..., Any] = registry.resolve(f"{_PRETRAINED}.files:read")
        return read(path, network)
    raise UserError(f"{path}: weights are read from files that end in {', '.join(FILE_SUFFIXES)}")
