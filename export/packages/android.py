"""Writes Android packages: a .tflite file with TFLite metadata, and Kotlin classes that use it.

The metadata is a separate flatbuffer (TensorFlow's ``metadata_schema.fbs``, identifier M001), which
the model stores in the buffer named ``TFLITE_METADATA``. Android Studio and MediaPipe Tasks read
from it how to normalise the image and which file holds the labels. That file, ``labels.txt``, is in
a zip archive at the end of the .tflite file; readers of the flatbuffer ignore the archive.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect, rewrite
from efficientnet_elite.export.confidence import UNKNOWN, Confidence
from efficientnet_elite.export.pixel_rule import ELITE, PixelRule, check_takes_pixels

from . import android_sources as sources
from . import labels as labels_file

METADATA = "TFLITE_METADATA"
# Values from metadata_schema.fbs: members of its unions ContentProperties and ProcessUnitOptions,
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES, _NORMALIZATION = 2, 1, 1
# members of its enumerations ColorSpaceType and AssociatedFileType,
_RGB, _GREYSCALE, _TENSOR_AXIS_LABELS = 1, 2, 2
# and the lowest schema version that has all fields that are used here.
_PARSER_VERSION = "1.0.0"


def write_android_package(
    model: bytes,
    *,
    name: str,
    labels: Sequence[str],
    out_dir: Path,
    crop_fraction: float = 1.0,
    rule: PixelRule = ELITE,
    confidence: Confidence | None = None,
) -> int:
    """Writes an Android package: ``NAME.tflite``, ``labels.txt``, two Kotlin files and a README.

    The file of a classifier gives calibrated probabilities, see `rewrite.with_probabilities`, so
    that scores mean the same in every app. The Kotlin class for MediaPipe is left out where the
    rule differs between channels, and for grey images.

    Args:
      model: content of a .tflite file. Its input (1, side, side, 3 or 1) is the pixel (uint8) or
        what `rule` makes of it (float32). Its output is uint8 or float32 and holds logits or
        probabilities: (1, classes), or (1, side, side, classes) for a segmentation network.
      name: name of the network; the .tflite file gets this name as well.
      labels: names of the classes, in the order of the logits.
      out_dir: folder of the package. Existing files of the same names are replaced.
      crop_fraction: side of the centre crop that the network was tested on, as a fraction (0..1)
        of the image's shorter side. The README states it.
      rule: which numbers the network takes for pixels.
      confidence: how a classifier's probabilities are made, and when an answer is unknown; None for
        the softmax of the logits, and an answer always.

    Returns:
      Size of the .tflite file in bytes, metadata included.

    Raises:
      UserError: the model has another input or output, or another number of classes.
    """
    confidence = confidence or Confidence()
    contents = inspect.read(model)
    side, _, channels = inspect.image_shape(contents)
    masks = inspect.gives_masks(contents)
    _check_types(contents)
    if not masks:
        model = rewrite.with_probabilities(model, confidence.temperature)
    content = with_metadata(model, name=name, labels=labels, rule=rule)
    values = {
        "name": name,
        "mean": _floats(rule.mean[:channels]),
        "deviation": _floats(rule.deviation[:channels]),
        "channels": channels,
        "value": sources.VALUES[channels],
        "threshold": _floats([confidence.threshold]),
        "unknown": UNKNOWN,
        "side": side,
        "classes": len(labels),
        "bytes": len(content),
        "crop": f"{crop_fraction:.1%}",
    }
    texts = sources.SEGMENTER if masks else sources.CLASSIFIER
    contents_by_path = {
        path: Template(text).substitute(values).encode()
        for path, text in texts.items()
        # MediaPipe cannot normalise each channel by numbers of its own, and takes colours only.
        if (rule.uniform and channels == 3) or not path.startswith("MediaPipe")
    }
    contents_by_path[labels_file.FILE_NAME] = labels_file.file_content(labels)
    contents_by_path[f"{name}.tflite"] = content
    files.replace_all({Path(out_dir, path): data for path, data in contents_by_path.items()})
    return len(content)


def _floats(values: Sequence[float]) -> str:
    """Kotlin literals of floats, separated by commas."""
    return ", ".join(f"{np.float32(value)!s}f" for value in values)


def with_metadata(
    model: bytes, *, name: str, labels: Sequence[str], rule: PixelRule = ELITE
) -> bytes:
    """Returns the .tflite file with metadata that describes its input, output and labels.

    Metadata that the file already has is replaced: give its normalisation as the `rule`. The
    network itself stays the same.

    Args:
      model: content of a .tflite file, as for `write_android_package`.
      name: name of the network.
      labels: names of the classes, in the order of the logits.
      rule: which numbers the network takes for pixels.

    Raises:
      UserError: the model has another input or output, or another number of classes.
    """
    from ai_edge_litert import schema_py_generated as schema

    contents = inspect.read(model)
    inspect.image_side(contents)
    _check_types(contents)
    (image,) = contents.inputs
    if image.type == "UINT8":
        check_takes_pixels(image, rule)
    inspect.check_labels(contents, len(labels))

    tree = rewrite.tree_of(model)
    tree.metadata = tree.metadata or []
    entry = next((entry for entry in tree.metadata if entry.name == METADATA.encode()), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = METADATA, len(tree.buffers)
        tree.metadata.append(entry)
        tree.buffers.append(schema.BufferT())
    tree.buffers[entry.buffer].data = np.frombuffer(_metadata(name, contents, rule), np.uint8)
    archive = io.BytesIO(rewrite.packed(tree))
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "a") as zipped:
        # ZipInfo has a fixed date, so that the same model always gives the same bytes.
        entry_name = zipfile.ZipInfo(labels_file.FILE_NAME)
        zipped.writestr(entry_name, labels_file.file_content(labels))
    return archive.getvalue()


def _check_types(contents: inspect.Contents) -> None:
    """UserError unless MediaPipe takes the types of a network's image and outputs."""
    (image,), (logits,) = contents.inputs, contents.outputs
    if not {image.type, logits.type} <= {"UINT8", "FLOAT32"}:
        raise UserError(
            f"the model takes {image.type} and gives {logits.type}: MediaPipe needs uint8 or "
            "float32 for both; export it with --io=uint8"
        )


def _metadata(name: str, contents: inspect.Contents, rule: PixelRule) -> bytes:
    """Builds the metadata flatbuffer; the numbers are field indices of metadata_schema.fbs."""
    import flatbuffers

    (image,) = contents.inputs
    masks = inspect.gives_masks(contents)
    kind = "Segmentation network" if masks else "Image classifier"
    builder = flatbuffers.Builder(1024)

    def text(value: str) -> int:
        return builder.CreateString(value)

    def table(slots: int, offsets: Mapping[int, int], numbers: Mapping[int, int] = {}) -> int:
        """Writes a table with `slots` fields and returns its offset.

        Args:
          slots: number of fields that the schema gives this table.
          offsets: field index to the offset of a string, vector or table written before.
          numbers: field index to a value of one byte (an enumeration's or union's member).
        """
        builder.StartObject(slots)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, number in numbers.items():
            builder.PrependUint8Slot(slot, number, 0)
        return builder.EndObject()

    def table_vector(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def float_vector(values: Sequence[float] | np.ndarray) -> int:
        # One number stands for all channels.
        values = values[:1] if len(set(values)) == 1 else values
        return builder.CreateNumpyVector(np.array(values, np.float32))

    pixels = np.array([[0.0], [255.0]])
    if image.type != "UINT8":
        pixels = (pixels - rule.mean) / rule.deviation
    lowest, highest = pixels
    colours = {1: _GREYSCALE, 3: _RGB}[image.shape[-1]]
    content = table(3, {1: table(2, {}, {0: colours})}, {0: _IMAGE_PROPERTIES})
    options = table(2, {0: float_vector(rule.mean), 1: float_vector(rule.deviation)})
    normalization = table(2, {1: options}, {0: _NORMALIZATION})
    statistics = table(2, {0: float_vector(highest), 1: float_vector(lowest)})
    input_tensor = table(
        7,
        {
            0: text("image"),
            1: text(
                f"{'Grey' if image.shape[-1] == 1 else 'RGB'} image, resized to the input's size."
            ),
            3: content,
            4: table_vector(normalization),
            5: statistics,
        },
    )
    label_file = table(
        5,
        {0: text(labels_file.FILE_NAME), 1: text("Names of the classes, one per line.")},
        {2: _TENSOR_AXIS_LABELS},
    )
    feature = table(3, {1: table(0, {})}, {0: _FEATURE_PROPERTIES})
    name_of_output, one = (
        ("probabilities", "probability")
        if inspect.gives_probabilities(contents)
        else ("logits", "logit")
    )
    outputs = f"One {one} per class{' for each pixel' if masks else ''}."
    output_tensor = table(
        7,
        {0: text(name_of_output), 1: text(outputs), 3: feature, 6: table_vector(label_file)},
    )
    graph = table(10, {2: table_vector(input_tensor), 3: table_vector(output_tensor)})
    root = table(
        8,
        {
            0: text(name),
            1: text(f"{kind} made with efficientnet-elite."),
            3: table_vector(graph),
            7: text(_PARSER_VERSION),
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())
