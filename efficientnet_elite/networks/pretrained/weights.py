"""The one form that pretrained weights have, whatever file or package they were read from."""

from __future__ import annotations

import hashlib
import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite import machine
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.pretrained.variables import variables
from efficientnet_elite.networks.spec import ArchSpec

Channels = tuple[float, float, float]


EPSILON = ops.BatchNorm().epsilon
"""Of batch normalisation in all networks of this project."""


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights of a whole network, in the terms of this project.

    Attributes:
      name: by which users choose them, such as ``lite0``.
      spec: the network that they belong to, with its classes and the input size that it was trained
        at. It can be `resized`: no array depends on the input size.
      arrays: for each variable of the Keras model that `build` makes of the spec, its value as
        float32. The names are the paths of the variables, such as ``block2a_expand_conv/kernel``.
      scale, offset: input of the network for a pixel p from 0..255, by channel (red, green, blue):
        ``p * scale + offset``.
      licence: SPDX identifier of the weights' licence, such as ``Apache-2.0``; ``unknown`` if the
        file does not say.
      sha256: of the file that they were read from, as 64 hexadecimal digits.
      origin: package, address or path that they were read from, for people.
      deviation: in what the outputs of the network differ from those of the source's own
        implementation, as half a sentence for people; empty if they are the same.
    """

    name: str
    spec: ArchSpec
    arrays: Mapping[str, NDArray[np.float32]]
    scale: Channels
    offset: Channels
    licence: str
    sha256: str
    origin: str
    deviation: str = ""

    def for_network(self, spec: ArchSpec) -> PretrainedWeights:
        """The weights that a network starts from: these; a `WeightsFolder` has several."""
        return self


# The array of a file that says that it holds weights in the normal form, and what beside arrays.
HEADER = "pretrained"
_VERSION = 1
_VARIABLE = "variable/"  # precedes the path of each variable
_TEXTS = tuple(
    field.name
    for field in fields(PretrainedWeights)
    if field.name not in ("spec", "arrays", "scale", "offset")
)


def save(weights: PretrainedWeights, path: Path) -> None:
    """Writes weights to an ``.npz`` file, atomically.

    Raises:
      UserError: the file cannot be written, for example because the disk is full.
    """
    header = {
        "version": _VERSION,
        "spec": weights.spec.to_json(),
        "scale": weights.scale,
        "offset": weights.offset,
        **{name: getattr(weights, name) for name in _TEXTS},
    }
    arrays = {f"{_VARIABLE}{name}": array for name, array in weights.arrays.items()}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **{HEADER: np.array(json.dumps(header)), **arrays})  # type: ignore[arg-type]
        machine.replace_durably(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def load(path: Path) -> PretrainedWeights:
    """Reads the weights that `save` has written.

    Raises:
      UserError: there is no such file, it is damaged, or it holds something else.
    """
    with _content(path) as content:
        about = _about(content)
        arrays = {
            name.removeprefix(_VARIABLE): content[name].astype(np.float32, copy=False)
            for name in content.files
            if name.startswith(_VARIABLE)
        }
        expected = {
            path: s for shapes in variables(about.spec).values() for path, s in shapes.items()
        }
        if {path: array.shape for path, array in arrays.items()} != expected:
            raise ValueError("arrays of another network")
        return replace(about, arrays=arrays)


def load_about(path: Path) -> PretrainedWeights:
    """Reads everything but the arrays, of which there are then none; errors as those of `load`."""
    with _content(path) as content:
        return _about(content)


def is_normal_form(path: Path) -> bool:
    """Whether an ``.npz`` file holds weights in the normal form; False if it cannot be read."""
    try:
        with _content(path) as content:
            return HEADER in content.files
    except UserError:
        return False


@contextmanager
def _content(path: Path) -> Iterator[Any]:
    """The arrays of an ``.npz`` file, read when asked for; UserError if they cannot be."""
    try:
        with np.load(path, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("no .npz file")
            yield content
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except DAMAGES as error:
        raise UserError(
            f"{path} is damaged or holds no pretrained weights: import it again"
        ) from error


DAMAGES = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,  # both by NumPy, of a header that is no Python literal
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy may raise where an ``.npz`` file is damaged, besides `OSError`."""


def _about(content: Any) -> PretrainedWeights:
    header = json.loads(content[HEADER].item())
    if header["version"] != _VERSION:
        raise ValueError("another version of the form")
    texts = {name: header[name] for name in _TEXTS if name in header}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("an entry that is no text")
    return PretrainedWeights(
        spec=ArchSpec.from_json(header["spec"]),
        arrays={},
        scale=_channels(header["scale"]),
        offset=_channels(header["offset"]),
        **texts,
    )


def _channels(values: Any) -> Channels:
    red, green, blue = map(float, values)
    if not np.isfinite((red, green, blue)).all():
        raise ValueError("an input range that is not finite")
    return red, green, blue


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_arrays(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """SHA-256 of arrays with their names: the same wherever and whenever they are written."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()


def with_our_epsilon(
    gamma: NDArray[np.float32], variance: NDArray[np.float32], epsilon: float
) -> NDArray[np.float32]:
    """The gamma that gives, with our epsilon, what ``gamma`` gives with another epsilon.

    gamma / sqrt(variance + epsilon) keeps its value.
    """
    if epsilon == EPSILON:
        return gamma
    wide = variance.astype(np.float64)
    return (gamma * np.sqrt((wide + EPSILON) / (wide + epsilon))).astype(np.float32)
