"""SavedModel folders of TensorFlow, from an unknown source: checked as data, then one Keras layer.

A SavedModel is a graph of TensorFlow's operations with variables beside it. `check` passes graphs
that consist of operations on tensors alone: none that reads files, runs Python or draws random
numbers. `load` makes the graph of its signature a layer of a Keras model, which then goes the way
of any `.keras` file. The graph is opaque there: its normalisation is not found and stays operators,
and remedies that change layers have nothing to change.

`load` runs in a process of its own (`runtimes.isolated`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientnet_elite.errors import UserError

from . import files
from .inspect import MAX_SIDE

if TYPE_CHECKING:
    import keras

GRAPH = "saved_model.pb"
_SIGNATURE = "serving_default"
# Operations on tensors, which TFLite has as well or folds away.
_TENSORS = frozenset(
    """
    Abs Add AddN AddV2 ArgMax AvgPool BatchMatMul BatchMatMulV2 BatchToSpaceND BiasAdd BroadcastTo
    Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput DepthToSpace
    DepthwiseConv2dNative Div DivNoNan Einsum Elu Equal Erf Erfc Exp ExpandDims Fill Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherV2 Greater GreaterEqual
    Identity IdentityN LeakyRelu Less LessEqual Log LogSoftmax MatMul Max MaxPool Maximum Mean Min
    Minimum MirrorPad Mul Neg OnesLike Pack Pad PadV2 Placeholder Pow Prod Range Rank RealDiv Relu
    Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Round Rsqrt Select SelectV2 Selu Shape
    Sigmoid Size Slice Softmax Softplus SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square
    SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Tanh Tile Transpose Unpack ZerosLike
    """.split()  # noqa: SIM905  (a list of a hundred lines says no more)
)
_CALLS = frozenset({"NoOp", "PartitionedCall", "StatefulPartitionedCall"})
# What a SavedModel consists of besides: variables, functions, and how variables are stored. None of
# it is left in the function that runs.
_FRAME = frozenset(
    """
    AssignVariableOp DisableCopyOnRead MergeV2Checkpoints ReadVariableOp RestoreV2 SaveV2
    ShardedFilename StaticRegexFullMatch StringJoin VarHandleOp VarIsInitializedOp
    """.split()  # noqa: SIM905
)


def check(path: Path) -> tuple[int, ...]:
    """Checks a SavedModel without running anything from it.

    Args:
      path: path of the folder.

    Returns:
      The shape of its input, (height, width, channels).

    Raises:
      UserError: the folder is no SavedModel, is damaged, has no image classifier as its signature,
        or has operations that are not on tensors alone.
    """
    if not (path / GRAPH).is_file():
        raise UserError(f"{path} is a folder without {GRAPH}: give a file, or a SavedModel folder")
    files.check_model_file(path / GRAPH)
    for part in (path / "variables").glob("*"):
        files.check_model_file(part)
    try:
        return _described((path / GRAPH).read_bytes())
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 over the graph and the variables, with the names of the files."""
    found = hashlib.sha256()
    for part in sorted([path / GRAPH, *(path / "variables").glob("*")]):
        found.update(f"{part.name} {part.stat().st_size}\n".encode())
        found.update(part.read_bytes())
    return found.hexdigest()


def load(path: Path) -> keras.Model:
    """A Keras model of one layer, the graph of a folder that has passed `check`.

    It takes what the signature takes. A softmax at the end of the graph is left out, and so is a
    sigmoid of a single value: the model gives logits. A single value ends in a Dense layer, like
    that of a `.keras` file. Call it in a process of its own.

    Raises:
      UserError: TensorFlow cannot load the folder; the message has the first line of its own.
    """
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        loaded = tf.saved_model.load(str(path))  # holds the variables
        frozen = convert_variables_to_constants_v2(loaded.signatures[_SIGNATURE])
        if foreign := _operations(frozen.graph.as_graph_def()) - _TENSORS - _CALLS:
            raise UserError(f"the signature runs the operation {min(foreign)}")
        image, logits = frozen.inputs[0], _logits(frozen.outputs[0])
        function = tf.compat.v1.wrap_function(
            lambda: tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name=""), []
        ).prune(image.name, logits.name)
    except Exception as error:  # a forged graph can cause any error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"TensorFlow cannot load it: {lines[0][:300]}") from error

    class SavedGraph(keras.layers.Layer):
        """The graph, for any number of images."""

        def call(self, images: Any) -> Any:
            if image.shape[0] is None or images.shape[0] == 1:
                return function(images)
            return tf.concat([function(images[i : i + 1]) for i in range(len(images))], 0)

        def compute_output_spec(self, images: Any) -> Any:
            return keras.KerasTensor((None, *logits.shape[1:]), "float32")

    images = keras.Input(tuple(image.shape[1:]), name="image")
    outputs = SavedGraph(name="graph")(images)
    if outputs.shape[1:] == (1,):
        outputs = keras.layers.Dense(1, kernel_initializer="ones", name="value")(outputs)
    return keras.Model(images, outputs, name="saved_model")


def _logits(tensor: Any) -> Any:
    """The logits of a graph's output; the output itself where it does not end in probabilities."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    single = tensor.shape[1:] == (1,)
    return tensor.op.inputs[0] if tensor.op.type == ("Sigmoid" if single else "Softmax") else tensor


def _described(content: bytes) -> tuple[int, ...]:
    """The shape of the input of a graph file, which is parsed as data; UserError as `check`."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    description = saved_model_pb2.SavedModel()
    try:
        description.ParseFromString(content)
    except DecodeError as error:
        raise UserError(f"{GRAPH} is damaged: save or copy the model again") from error
    graphs = [graph for graph in description.meta_graphs if "serve" in graph.meta_info_def.tags]
    if len(graphs) != 1:
        raise UserError(f"it has {len(graphs)} graphs for inference instead of one: save it anew")
    (graph,) = graphs
    if not graph.HasField("object_graph_def"):  # loading it would run what it names
        raise UserError("it was saved by TensorFlow 1: load it in Python and save it anew")
    if foreign := _operations(graph.graph_def) - _TENSORS - _CALLS - _FRAME:
        raise UserError(
            f"it has the operation {min(foreign)}, which is none that computes a network's layers: "
            "save the network without it, such as without reading and decoding of files"
        )
    if _SIGNATURE not in graph.signature_def:
        raise UserError(f"it has no signature {_SIGNATURE}: save it with one")
    signature = graph.signature_def[_SIGNATURE]
    inputs, outputs = list(signature.inputs.values()), list(signature.outputs.values())
    if (len(inputs), len(outputs)) != (1, 1):
        raise UserError(
            f"its signature has {len(inputs)} inputs and {len(outputs)} outputs: expected one "
            "image and one vector of logits or probabilities"
        )
    return _image_shape(inputs[0])


def _operations(graph: Any) -> set[str]:
    """The operations of a graph and its functions, without calls of these functions by name."""
    functions = graph.library.function
    used = {node.op for node in graph.node}
    used |= {node.op for function in functions for node in function.node_def}
    return used - {function.signature.name for function in functions}


def _image_shape(info: Any) -> tuple[int, ...]:
    """(height, width, channels) of a signature's input; UserError if it is no image."""
    from tensorflow.core.framework import types_pb2

    shape: list[int | None] = [
        None if side.size < 0 else side.size for side in info.tensor_shape.dim
    ]
    kind = types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower()
    _, height, width, channels = shape if len(shape) == 4 else (None, 0, None, None)
    batch = shape[0] if shape else 0
    fits = channels in (1, 3) and batch in (None, 1) and kind == "float"
    if not (height and width and channels and fits and max(height, width) <= MAX_SIDE):
        raise UserError(
            f"its input is {kind} {shape} instead of float (batch, height, width, 3) or (batch, "
            "height, width, 1): save it for images of one size"
        )
    return height, width, channels
