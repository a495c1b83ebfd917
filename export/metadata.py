"""Reads TFLite metadata, which tools for Android put into a `.tflite` file."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from typing import Any

from efficientnet_elite.errors import UserError

_NORMALIZATION = 1  # the member of the union ProcessUnitOptions
# Field indices of metadata_schema.fbs.
_SUBGRAPHS, _INPUTS, _UNITS, _KIND, _OPTIONS, _MEAN, _DEVIATION = 3, 2, 4, 0, 1, 0, 1


def normalisation(model: bytes) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation that a file's metadata give for its input, if they do.

    The network takes (pixel - mean) / deviation. Each list has one number, or one for each channel.

    Raises:
      UserError: the metadata are damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(model)
    try:
        for index in range(root.MetadataLength()):
            entry = root.Metadata(index)
            if entry.Name() == b"TFLITE_METADATA":
                return _normalisation(root.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    except Exception as error:  # wrong offsets can raise almost anything
        raise UserError(
            "the file's metadata are damaged: say with --input what it takes"
        ) from error
    return None


def labels(model: bytes) -> list[str] | None:
    """The names of the classes in the file that metadata attach to a model, if there are any."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith(".txt")]
            if not names or names[0].file_size > 1 << 20:
                return None
            return archive.read(names[0]).decode("utf-8").splitlines()
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError):
        return None


def _normalisation(content: bytes) -> tuple[list[float], list[float]] | None:
    from flatbuffers import encode, number_types, packer
    from flatbuffers.table import Table

    start = encode.Get(packer.uoffset, content, 0)
    for subgraph in _tables(Table(content, start), _SUBGRAPHS):
        for image in _tables(subgraph, _INPUTS):
            for unit in _tables(image, _UNITS):
                offset = unit.Offset(4 + 2 * _KIND)
                if not offset or unit.Get(number_types.Uint8Flags, unit.Pos + offset) != (
                    _NORMALIZATION
                ):
                    continue
                options = Table(content, 0)
                unit.Union(options, unit.Offset(4 + 2 * _OPTIONS))
                mean, deviation = _floats(options, _MEAN), _floats(options, _DEVIATION)
                if {len(mean), len(deviation)} <= {1, 3} and all(map(_is_usual, deviation)):
                    return mean, deviation
    return None


def _is_usual(deviation: float) -> bool:
    return 0 < deviation < math.inf


def _tables(table: Any, slot: int) -> Iterator[Any]:
    """The tables in a field that holds a vector of them."""
    from flatbuffers.table import Table

    if offset := table.Offset(4 + 2 * slot):
        first = table.Vector(offset)
        for index in range(table.VectorLen(offset)):
            yield Table(table.Bytes, table.Indirect(first + 4 * index))


def _floats(table: Any, slot: int) -> list[float]:
    from flatbuffers import number_types

    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return []
    return table.GetVectorAsNumpy(number_types.Float32Flags, offset).tolist()
