"""Writes TFLite metadata into `.tflite` files, for Android Studio and MediaPipe Tasks.

The metadata is a separate flatbuffer (TensorFlow's ``metadata_schema.fbs``, identifier M001), which
the model stores in the buffer named ``TFLITE_METADATA``. Android Studio and MediaPipe Tasks read
from it how to normalise the image and which file holds the labels. That file, ``labels.txt``, is in
a zip archive at the end of the .tflite file; readers of the flatbuffer ignore the archive.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, rewrite
from efficientnet_elite.export.pixel_rule import ELITE, PixelRule, check_takes_pixels

from . import labels as labels_file

METADATA = "TFLITE_METADATA"
# Values from metadata_schema.fbs: members of its unions ContentProperties and ProcessUnitOptions,
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES, _NORMALIZATION = 2, 1, 1
# members of its enumerations ColorSpaceType and AssociatedFileType,
_RGB, _GREYSCALE, _TENSOR_AXIS_LABELS = 1, 2, 2
# and the lowest schema version that has all fields that are used here.
_PARSER_VERSION = "1.0.0"


def with_metadata(
    model: bytes, *, name: str, labels: Sequence[str], rule: PixelRule = ELITE
) -> bytes:
    """Returns the .tflite file with metadata that describes its input, output and labels.

    Metadata that the file already has is replaced: give its normalisation as the `rule`. The
    network itself stays the same.

    Args:
      model: content of a .tflite file, as for `android.write_android_package`.
      name: name of the network.
      labels: names of the classes, in the order of the logits.
      rule: which numbers the network takes for pixels.

    Raises:
      UserError: the model has another input or output, or another number of classes.
    """
    from ai_edge_litert import schema_py_generated as schema

    contents = inspect.read(model)
    inspect.image_shape(contents)
    check_types(contents)
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


def check_types(contents: inspect.Contents) -> None:
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
