"""Writes files in the formats of ``torch.save``, without PyTorch."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}


@dataclass(frozen=True)
class Named:
    """A class or function by its module and name."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call of something named."""

    function: Named
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Storage:
    """A persistent identifier of a storage."""

    key: str
    type: str
    count: int


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")
ORDERED_DICT = Named("collections", "OrderedDict")


def opcodes(value: Any) -> bytes:
    """The operations of a pickle that push a value."""
    if isinstance(value, Named):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return opcodes(value.function) + opcodes(value.arguments) + b"R"
    if isinstance(value, Storage):
        named = Named("torch", value.type)
        return opcodes(("storage", named, value.key, "cpu", value.count)) + b"Q"
    if isinstance(value, dict):
        entries = b"".join(opcodes(key) + opcodes(each) for key, each in value.items())
        return b"}(" + entries + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(opcodes, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]  # without the protocol and the stop


def pickled(value: Any) -> bytes:
    """The pickle of a value, of protocol 2."""
    return b"\x80\x02" + opcodes(value) + b"."


def tensor(
    key: str, array: np.ndarray, offset: int = 0, shape: Any = None, strides: Any = None
) -> Call:
    """A tensor of a storage that holds an array; by default all of it."""
    steps = tuple(step // array.itemsize for step in array.strides)
    storage = Storage(key, STORAGES[array.dtype.name], array.size)
    view = (array.shape if shape is None else shape, steps if strides is None else strides)
    return Call(REBUILD, (storage, offset, *view, False, Call(ORDERED_DICT, ())))


def state_dict(arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
    """A tensor for each array, with storages of the same names."""
    return {name: tensor(name, array) for name, array in arrays.items()}


def as_zip(value: Any, storages: Mapping[str, np.ndarray], byteorder: str = "little") -> bytes:
    """A file in the format of PyTorch 1.6 and later."""
    return zip_around(pickled(value), storages, byteorder)


def zip_around(
    pickle_: bytes, storages: Mapping[str, np.ndarray], byteorder: str = "little"
) -> bytes:
    """The same for the bytes of a pickle, which may be damaged."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", pickle_)
        archive.writestr("net/byteorder", byteorder)
        for key, array in storages.items():
            archive.writestr(f"net/data/{key}", array.tobytes())
        archive.writestr("net/version", "3\n")
    return file.getvalue()


def as_legacy(value: Any, storages: Mapping[str, np.ndarray], system: Any = SYSTEM) -> bytes:
    """A file in the format before PyTorch 1.6."""
    return legacy_around(pickled(value), storages, system)


def legacy_around(
    pickle_: bytes, storages: Mapping[str, np.ndarray], system: Any = SYSTEM
) -> bytes:
    """The same for the bytes of a pickle, which may be damaged."""
    head = map(pickled, (LEGACY_MAGIC, 1001, system))
    contents = (struct.pack("<q", a.size) + a.tobytes() for a in storages.values())
    return b"".join([*head, pickle_, pickled(list(storages)), *contents])
