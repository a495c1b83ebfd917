"""int8 TFLite files of networks that were never trained: for size, memory and latency.

None of the three depends on what the weights are, with two exceptions. No two tensors may be equal
(the converter would store them once): whatever starts as zeros or ones gets a little noise. And
activations must not grow from layer to layer until XNNPACK refuses their scales: batch
normalisation gets the statistics of an image.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from efficientnet_elite.export.convert import to_tflite
from efficientnet_elite.export.post_training import INPUT_RANGE
from efficientnet_elite.spec import ArchSpec
from efficientnet_elite.workdir import write_bytes

_CALIBRATION_IMAGES = 2


def int8_bytes(spec: ArchSpec, seed: int = 0) -> bytes:
    """The content of an untrained network's int8 file, calibrated on noise.

    UserError where the converter cannot convert it.
    """
    import keras

    from efficientnet_elite import models

    random = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    model = models.build(spec, batch_size=1, seed=seed)
    low, high = INPUT_RANGE
    shape = (_CALIBRATION_IMAGES, *spec.input_shape)
    images = random.uniform(low, high, shape).astype(np.float32)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images[:1], training=True)
    # After that: where a map is a single pixel its variance is zero.
    for variable in model.weights:
        if len(variable.shape) == 1:  # biases, and all of batch normalisation
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(value + random.uniform(0.05, 0.2, value.shape))
    content = to_tflite(model, calibration=images)
    keras.backend.clear_session()
    return content


def int8_path(spec: ArchSpec, folder: Path) -> Path:
    """Where `int8_file` writes.

    The name says which network (``elite9``) for people and which spec for the tool: another input
    size or number of classes is another file.
    """
    digest = zlib.crc32(spec.to_json().encode())
    return folder / f"{spec.name}-{spec.resolution}px-{digest:08x}.int8.tflite"


def int8_file(spec: ArchSpec, folder: Path, seed: int = 0) -> Path:
    """Path of an untrained network's int8 file in a folder, written there where it is missing."""
    path = int8_path(spec, folder)
    if not path.is_file():
        write_bytes(path, int8_bytes(spec, seed))
    return path
