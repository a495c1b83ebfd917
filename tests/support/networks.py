"""Untrained networks that behave as trained ones do, in Keras and as int8 files."""

from __future__ import annotations

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.spec import ArchSpec

# Others have the same kinds of blocks in other numbers.
KINDS_OF_FAMILIES = [
    name
    for name in FAMILIES
    if name
    not in (
        *("condensenet-g8", "elite-small", "mobilenetv4-conv-medium", "shufflenet-g2"),
        *("shufflenet-g4", "shufflenet-g8", "squeezenet-1.0"),
    )
]


def noise(spec: ArchSpec) -> np.ndarray:
    """Eight images."""
    return np.random.default_rng(0).uniform(-1, 0.99, (8, *spec.input_shape)).astype(np.float32)


def normalise(model: keras.Model, images: np.ndarray) -> None:
    """Sets the moving statistics of batch normalisation to those of the images."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


def int8_correlation(model: keras.Model, images: np.ndarray) -> float:
    """Of the int8 file's outputs with the model's; fails where a tensor of the file is float."""
    interpreter = Interpreter(model_content=to_tflite(model, calibration=images))
    interpreter.allocate_tensors()
    kinds = {detail["dtype"] for detail in interpreter.get_tensor_details()}
    assert kinds <= {np.int8, np.int32}
    pixels = np.floor(images * 128)
    outputs = []
    for image in pixels:
        source, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        interpreter.set_tensor(source["index"], image[None].astype(np.int8))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(output["index"])[0].astype(np.float32))
    expected = np.asarray(model(pixels / 128))
    return float(np.corrcoef(np.ravel(outputs), expected.ravel())[0, 1])
