"""An Android package: a .tflite file that carries its own metadata, and Kotlin to start from.

The metadata is a flatbuffer of its own (TensorFlow's ``metadata_schema.fbs``, identifier M001): it
lies in the model as the buffer named ``TFLITE_METADATA`` and tells Android Studio and MediaPipe
Tasks how to normalise the image and what the classes are called. The labels themselves are a zip
archive appended to the file, which readers of the flatbuffer do not see.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect

from . import android_sources as sources

METADATA = "TFLITE_METADATA"
LABELS = "labels.txt"
# Of the schema: members of the unions, of enumerations, and the version that knows all we use.
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1
_RGB, _TENSOR_AXIS_LABELS = 1, 2
_PARSER_VERSION = "1.0.0"
# The input is (pixel - MEAN) / DEVIATION.
MEAN = DEVIATION = 128.0


def write(
    model: bytes,
    *,
    name: str,
    labels: Sequence[str],
    out_dir: Path,
    crop_fraction: float = 1.0,
) -> int:
    """Writes the package; files of the same names are replaced.

    Args:
      model: content of a .tflite file whose input is the pixel (uint8) or pixel / 128 - 1 (float32)
        and whose output are logits of the same type, of the image or of each of its pixels.
      name: of the network, and of the file.
      labels: names of the classes, in the order of the logits.
      out_dir: gets ``NAME.tflite``, ``labels.txt``, two Kotlin files and a README.
      crop_fraction: share of an image's shorter side that the network was tested on.

    Returns:
      Size of the .tflite file in bytes.

    Raises:
      UserError: the model is of another kind.
    """
    content = with_metadata(model, name=name, labels=labels)
    contents = inspect.read(model)
    side = inspect.image_side(contents)
    values = {
        "name": name,
        "side": side,
        "classes": len(labels),
        "bytes": len(content),
        "crop": f"{crop_fraction:.1%}",
    }
    texts = sources.SEGMENTER if inspect.gives_masks(contents) else sources.CLASSIFIER
    written = {path: Template(text).substitute(values).encode() for path, text in texts.items()}
    written[LABELS] = _lines(labels)
    written[f"{name}.tflite"] = content
    files.write({Path(out_dir, path): text for path, text in written.items()})
    return len(content)


def with_metadata(model: bytes, *, name: str, labels: Sequence[str]) -> bytes:
    """The same network in a file that says what goes in and what comes out; see `write`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    contents = inspect.read(model)
    inspect.image_side(contents)
    (image,), (logits,) = contents.inputs, contents.outputs
    if {image.type, logits.type} not in ({"UINT8"}, {"FLOAT32"}):
        raise UserError(
            f"the model takes {image.type} and gives {logits.type}: MediaPipe wants uint8 or "
            "float32 for both; export it with --io=uint8"
        )
    if image.type == "UINT8" and (image.scales, image.zero_points) != ((1 / 128,), (128,)):
        raise UserError("the model's uint8 input is not the pixel: export it with --io=uint8")
    inspect.check_labels(contents, len(labels))

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    tree.metadata = tree.metadata or []
    entry = next((entry for entry in tree.metadata if entry.name == METADATA.encode()), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = METADATA, len(tree.buffers)
        tree.metadata.append(entry)
        tree.buffers.append(schema.BufferT())
    tree.buffers[entry.buffer].data = np.frombuffer(_metadata(name, contents), np.uint8)
    tree.buffers = [_Aligned(buffer.data) for buffer in tree.buffers]
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), b"TFL3")
    archive = io.BytesIO(bytes(builder.Output()))
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "a") as zipped:
        # A fixed date: the same model gives the same bytes.
        zipped.writestr(zipfile.ZipInfo(LABELS), _lines(labels))
    return archive.getvalue()


class _Aligned:
    """A buffer of the model that is written at a multiple of 16, as the schema demands."""

    def __init__(self, data: Any):
        self.data = b"" if data is None else np.asarray(data, np.uint8).tobytes()

    def Pack(self, builder: Any) -> int:
        """Called by the schema's classes for the offset of what it has written."""
        from ai_edge_litert import schema_py_generated as schema

        if self.data:
            builder.StartVector(1, len(self.data), 16)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if self.data:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def _metadata(name: str, contents: inspect.Contents) -> bytes:
    import flatbuffers

    (image,) = contents.inputs
    masks = inspect.gives_masks(contents)
    kind = "Segmentation network" if masks else "Image classifier"
    builder = flatbuffers.Builder(1024)

    def text(value: str) -> int:
        return builder.CreateString(value)

    def table(slots: int, offsets: Mapping[int, int], numbers: Mapping[int, int] = {}) -> int:
        """A table of so many slots: offsets of what it refers to, and one-byte numbers."""
        builder.StartObject(slots)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, number in numbers.items():
            builder.PrependUint8Slot(slot, number, 0)
        return builder.EndObject()

    def tables(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def floats(value: float) -> int:
        return builder.CreateNumpyVector(np.array([value], np.float32))

    highest = 255.0 if image.type == "UINT8" else (255 - MEAN) / DEVIATION
    lowest = 0.0 if image.type == "UINT8" else -MEAN / DEVIATION
    content = table(3, {1: table(2, {}, {0: _RGB})}, {0: _IMAGE_PROPERTIES})
    options = table(2, {0: floats(MEAN), 1: floats(DEVIATION)})
    unit = table(2, {1: options}, {0: _NORMALIZATION})
    statistics = table(2, {0: floats(highest), 1: floats(lowest)})
    taken = table(
        7,
        {
            0: text("image"),
            1: text("The image, RGB, in the input's size."),
            3: content,
            4: tables(unit),
            5: statistics,
        },
    )
    names = table(
        5,
        {0: text(LABELS), 1: text("Names of the classes, a line each.")},
        {2: _TENSOR_AXIS_LABELS},
    )
    feature = table(3, {1: table(0, {})}, {0: 1})
    logits = "A logit a class for each pixel." if masks else "A logit a class."
    given = table(
        7,
        {0: text("logits"), 1: text(logits), 3: feature, 6: tables(names)},
    )
    graph = table(10, {2: tables(taken), 3: tables(given)})
    root = table(
        8,
        {
            0: text(name),
            1: text(f"{kind} made with efficientnet-elite."),
            3: tables(graph),
            7: text(_PARSER_VERSION),
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _lines(labels: Sequence[str]) -> bytes:
    return "".join(f"{label}\n" for label in labels).encode()
