"""Reads weights from PyTorch's files without PyTorch, and without executing code in them.

Three formats are known: the zip archives that ``torch.save`` writes since PyTorch 1.6, the files
that it wrote before, and ``.safetensors``. A ``.pth`` file is a pickle with the numbers beside it;
the pickle is interpreted by `pickles`.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained import pickles

Array = NDArray[Any]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of a file of the old format
_LEGACY_PROTOCOL = 1001
_ZIP_MAGIC = b"PK\x03\x04"

# NumPy's type of each storage, little-endian as in the files. bfloat16 is read as its 16 bits.
_BFLOAT16 = "bfloat16"
_TYPES = {
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.DoubleStorage": "<f8",
    "torch.BFloat16Storage": _BFLOAT16,
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_SAFETENSORS_TYPES = {
    "F32": "<f4",
    "F16": "<f2",
    "F64": "<f8",
    "BF16": _BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}

# Under these names a training program stores the state dict beside its optimizer, epoch, ...
_STATE_DICTS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."  # of all names in a model that was trained on several GPUs

# Weights that two layers share are stored once and read twice. A file whose tensors have many more
# numbers than it has bytes is made to fill the memory.
_MOST_SHARED = 4


class _NotTorch(Exception):
    """The file has none of the formats."""


@dataclass(frozen=True)
class _Storage:
    """Numbers that lie beside a pickle: their key, their type and how many they are."""

    key: str
    type: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: offset, shape and strides, all in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: str | Path) -> dict[str, Array]:
    """The state dict in a PyTorch file: each tensor's name and values.

    Floating-point numbers of any precision are returned as float32, integers as they are. Where a
    file holds more than a state dict, the state dict is found by its usual names.

    Args:
      path: of a ``.pth`` or ``.pt`` file or the like, or a ``.safetensors`` file.

    Raises:
      UserError: there is no such file, it is damaged or none of PyTorch's, or it contains something
        other than tensors and plain values, which would have to be executed.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            arrays = _reader(path, file)(path, file)
    except _NotTorch:
        raise UserError(f"{path} is no PyTorch file: use a .pth or a .safetensors file") from None
    except pickles.RefusedError as refused:
        raise UserError(
            f"{path} contains {refused}, but only plain tensors are read, because anything else "
            "could run code: in PyTorch, save model.state_dict() alone"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except _DAMAGES as error:
        raise UserError(
            f"{path} is damaged ({pickles.one_line(str(error))}): copy or download it again"
        ) from None
    if not arrays:
        raise UserError(f"{path} contains no tensors by name: save model.state_dict() in it")
    return arrays


# What reading a damaged file may raise.
_DAMAGES = (
    pickles.DamagedError,
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
)


def _reader(path: Path, file: IO[bytes]) -> Callable[[Path, IO[bytes]], dict[str, Array]]:
    """The function that reads the file's format."""
    start = file.read(9)
    file.seek(0)
    if start.startswith(_ZIP_MAGIC):
        return _read_zip
    # Before the pickles: the first byte is one of the header's length here, and may be any.
    if path.suffix == ".safetensors" or start[8:] == b"{":
        return _read_safetensors
    if start.startswith(b"\x80"):
        return _read_legacy
    raise _NotTorch


def _read_zip(path: Path, file: IO[bytes]) -> dict[str, Array]:
    """Reads an archive of today's ``torch.save``."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickle = next((name for name in members if name.endswith("/data.pkl")), None)
        if pickle is None:
            raise _NotTorch
        folder = pickle.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise pickles.RefusedError("a TorchScript program")

        def content(name: str) -> bytes:
            if members[folder + name].compress_type != zipfile.ZIP_STORED:
                raise ValueError("a compressed part")  # PyTorch compresses nothing
            return archive.read(members[folder + name])

        if f"{folder}byteorder" in members and content("byteorder") != b"little":
            raise pickles.RefusedError("numbers in big-endian order")
        value = pickles.load(io.BytesIO(content("data.pkl")), _NAMES, _persistent)
        return _materialized(value, path, lambda storage: content(f"data/{storage.key}"))


def _read_legacy(path: Path, file: IO[bytes]) -> dict[str, Array]:
    """Reads a file as PyTorch wrote it before 1.6: four pickles and the storages after them."""
    try:
        magic = pickles.load(file, {})
    except (pickles.RefusedError, pickles.DamagedError):
        raise _NotTorch from None
    if magic != _LEGACY_MAGIC:
        raise _NotTorch
    if pickles.load(file, {}) != _LEGACY_PROTOCOL:
        raise pickles.RefusedError("an unknown version of the format")
    if not pickles.load(file, {})["little_endian"]:
        raise pickles.RefusedError("numbers in big-endian order")
    storages: dict[str, _Storage] = {}

    def persistent(identifier: Any) -> _Storage:
        storage = _persistent(identifier)
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError("a storage with two sizes")
        return storage

    value = pickles.load(file, _NAMES, persistent)
    contents = {}
    size = path.stat().st_size
    for key in pickles.load(file, {}):
        if not isinstance(key, str):  # the hash of a nested tuple may take for ever
            raise ValueError("a storage without a name")
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise ValueError("a storage of another size than announced")
        length = count * _item_size(storages[key].type)
        if length > size - file.tell():  # asking for so much would reserve the memory first
            raise ValueError("a storage that ends too early")
        contents[key] = file.read(length)
    return _materialized(value, path, lambda storage: contents[storage.key])


def _persistent(identifier: Any) -> _Storage:
    """The storage that a persistent identifier stands for."""
    kind, storage_type, key, _, count, *view = identifier
    if kind != "storage" or not isinstance(key, str):
        raise ValueError("a persistent identifier that is no storage")
    if any(part is not None for part in view):
        raise pickles.RefusedError("a view of a storage, as PyTorch wrote before 0.4")
    if not isinstance(storage_type, pickles.Name) or not isinstance(storage_type.meaning, str):
        raise ValueError("a storage without a type")
    (count,) = _sizes((count,))
    return _Storage(key, storage_type.meaning, count)


def _sizes(values: Any) -> tuple[int, ...]:
    """A tuple of numbers of elements; ValueError for anything else."""
    if not isinstance(values, tuple | list):
        raise ValueError("a tensor without a shape")
    for value in values:
        if not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError("a size that is no number of elements")
    return tuple(values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """What PyTorch's functions that rebuild a tensor mean."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    (offset,) = _sizes((offset,))
    return _Tensor(storage, offset, _sizes(shape), _sizes(strides))


def _parameter(tensor: Any, *_: Any) -> _Tensor:
    """What PyTorch's functions that make a parameter of a tensor mean."""
    if not isinstance(tensor, _Tensor):
        raise ValueError("a parameter without a tensor")
    return tensor


# What a pickle of PyTorch may name; anything else is refused.
_NAMES: dict[str, Any] = {
    "collections.OrderedDict": pickles.ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _sizes,
    **_TYPES,
}


def _materialized(value: Any, path: Path, content: Callable[[_Storage], bytes]) -> dict[str, Array]:
    """The arrays of a state dict, or of the one that a dictionary contains.

    Args:
      value: what the pickle holds.
      path: of the file.
      content: gives the bytes of a storage.
    """
    tensors = _tensors(value)
    if sum(prod(tensor.shape) for tensor in tensors.values()) > (
        _MOST_SHARED * path.stat().st_size
    ):
        raise ValueError("more numbers than the file has room for")
    storages = {tensor.storage for tensor in tensors.values()}
    numbers = {storage: _numbers(content(storage), storage) for storage in storages}
    return {name: _view(numbers[tensor.storage], tensor) for name, tensor in tensors.items()}


def _tensors(value: Any) -> dict[str, _Tensor]:
    """The state dict in a value, without what is not a tensor."""
    if not isinstance(value, dict):
        return {}
    for name in _STATE_DICTS:
        if isinstance(value.get(name), dict):
            inner = _tensors_of(value[name])
            if inner:
                return inner
    return _tensors_of(value)


def _tensors_of(values: Mapping[Any, Any]) -> dict[str, _Tensor]:
    tensors = {
        name: value
        for name, value in values.items()
        if isinstance(name, str) and isinstance(value, _Tensor)
    }
    if tensors and all(name.startswith(_PARALLEL_PREFIX) for name in tensors):
        return {name.removeprefix(_PARALLEL_PREFIX): value for name, value in tensors.items()}
    return tensors


def _item_size(type_name: str) -> int:
    return 2 if type_name == _BFLOAT16 else np.dtype(type_name).itemsize


def _numbers(content: bytes, storage: _Storage) -> Array:
    """The numbers of a storage, in one dimension; ValueError if their number is another."""
    if len(content) != storage.count * _item_size(storage.type):
        raise ValueError("a storage that ends too early")
    return _decoded(content, storage.type)


def _decoded(content: bytes, type_name: str) -> Array:
    """Bytes as numbers: those of any floating-point type as float32, others as they are."""
    if type_name == _BFLOAT16:  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view(np.float32)
    numbers = np.frombuffer(content, type_name)
    return numbers.astype(np.float32) if numbers.dtype.kind == "f" else numbers


def _view(numbers: Array, tensor: _Tensor) -> Array:
    """A tensor as an array of its own; ValueError if it reaches beyond its storage."""
    if len(tensor.shape) != len(tensor.strides):
        raise ValueError("a tensor with more sizes than strides")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset + reach >= len(numbers):
        raise ValueError("a tensor that reaches beyond its storage")
    # A dimension of one element may have any stride, even one that does not fit an address.
    steps = [
        0 if size == 1 else step * numbers.itemsize
        for size, step in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return as_strided(numbers[tensor.offset :], tensor.shape, steps).copy()


def _read_safetensors(path: Path, file: IO[bytes]) -> dict[str, Array]:
    """Reads a ``.safetensors`` file with the package of that name."""
    try:
        import safetensors
    except ImportError:
        raise UserError(
            f"{path} needs the package safetensors: pip install 'efficientnet-elite[timm]'"
        ) from None
    try:
        entries = safetensors.deserialize(file.read())
    except safetensors.SafetensorError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    arrays = {}
    for name, entry in sorted(entries, key=lambda each: each[0]):
        if entry["dtype"] not in _SAFETENSORS_TYPES:
            raise pickles.RefusedError(f"numbers of the type {entry['dtype']}")
        numbers = _decoded(bytes(entry["data"]), _SAFETENSORS_TYPES[entry["dtype"]])
        arrays[name] = numbers.reshape(entry["shape"])
    return arrays
