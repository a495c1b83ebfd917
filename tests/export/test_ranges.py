"""What ranges leave out, and which method is chosen, on files that LiteRT converts and runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from efficientnet_elite.export import inspect, layers
from efficientnet_elite.export.int8 import calibration, flat, post_training, quantizer
from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.export.runtimes.runtime import Runner

KERNELS = "builtin kernels"  # those that methods are compared with
FUNCTIONS = {
    "swish": keras.activations.silu,
    "hard_swish": keras.activations.hard_silu,
    "sigmoid": keras.activations.sigmoid,
    "relu6": keras.activations.relu6,
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).uniform(-1, 0.99, (60, 8, 8, 3)).astype(np.float32)


def network(function: str, *, again: bool = False) -> keras.Model:
    """A network whose activation reads values down to about -60, and another layer if `again`."""
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 3))
    wide = keras.layers.Conv2D(16, 1, name="wide")(image)
    x = keras.layers.Activation(FUNCTIONS[function], name="function")(wide)
    if again:
        x = keras.layers.Concatenate()([x, keras.layers.Conv2D(2, 1, name="again")(wide)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(5, name="logits")(x))
    kernel = random.normal(size=(1, 1, 3, 16))
    model.get_layer("wide").set_weights([kernel, np.where(np.arange(16) < 8, -60, 0)])
    return model


def ranges_of(model: keras.Model, images: np.ndarray) -> tuple[bytes, dict[str, tuple]]:
    """The float file, and the ranges of its activations by minimum and maximum."""
    content = to_tflite(model, calibration=None)
    found, _ = calibration.observe(content, images, ["minmax"])
    return content, found["minmax"]


@pytest.mark.parametrize("function", ["swish", "hard_swish", "sigmoid"])
def test_ranges_leave_out_what_rounds_to_the_same_output(function, images):
    _, found = ranges_of(network(function), images)
    (wide,) = (ends for name, ends in found.items() if layers.layer_of(name) == "wide")
    assert -8 < wide[0] < -2.9
    assert 0 < wide[1] < 8
    outputs = np.asarray(FUNCTIONS[function](np.linspace(-60, 0, 1000, dtype=np.float32)))
    at_the_end = float(FUNCTIONS[function](np.float32(wide[0])))
    low, high = min(outputs.min(), 0), 1 if function == "sigmoid" else wide[1]
    step = (high - low) / 255
    left_out = outputs[np.linspace(-60, 0, 1000) < wide[0]]
    assert np.abs(left_out - at_the_end).max() < 0.51 * step


def test_other_ranges_are_those_of_all_values(images):
    for model in (network("relu6"), network("swish", again=True)):
        content, found = ranges_of(model, images)
        observed: dict[str, list[float]] = {}
        for activations in layers.activations(content, images):
            for name, value in activations.items():
                observed.setdefault(name, []).append(float(value.min()))
        for name, (least, _) in found.items():
            assert least == min(observed.get(name, [-1.0]))
    assert min(least for least, _ in found.values()) < -50  # two layers read the wide one


def test_what_is_left_out_makes_int8_more_accurate(images):
    model = network("swish")
    content = to_tflite(model, calibration=None)
    found, _ = calibration.observe(content, images, ["minmax"])
    wide = next(name for name in found["minmax"] if layers.layer_of(name) == "wide")
    expected = Runner(content).run(images)

    def error(ranges: dict) -> float:
        file = post_training.quantize_file(
            post_training.with_ranges(content, ranges), quantizer.INT8
        )
        return float(np.square(Runner(file).run(images) - expected).mean())

    assert error(found["minmax"]) < 0.5 * error({**found["minmax"], wide: (-63.0, 4.0)})


def test_ranges_beyond_all_that_matters_stay_ranges():
    content = to_tflite(network("swish"), calibration=None)
    contents = inspect.read(content)
    names = [tensor.name for tensor in contents.tensors]
    for ends in ((-90.0, -50.0), (-2.0, 9.0), (5.0, 7.0)):
        for low, high in flat.clipped(contents, dict.fromkeys(names, ends)).values():
            assert low <= high
            assert (low, high) == ends or high - low < 10


def test_steps_do_not_become_so_fine_that_xnnpack_gives_up(images):
    """Gates of networks with random weights can read values of a million."""
    model = network("sigmoid")
    kernel, bias = model.get_layer("wide").get_weights()
    model.get_layer("wide").set_weights([1e6 * kernel, bias])
    content, found = ranges_of(model, images)
    (wide,) = (ends for name, ends in found.items() if layers.layer_of(name) == "wide")
    assert wide[0] < -1e5 and wide[1] > 1e5
    file = post_training.quantize_file(post_training.with_ranges(content, found), quantizer.INT8)
    assert np.isfinite(Runner(file).run(images)).all()


def test_the_method_with_the_nearest_outputs_is_taken(images):
    outlier = images.copy()
    outlier[7, 3, 3] = 0.99
    for model, seen in ((network("swish"), images), (network("relu6"), outlier)):
        calibrated = quantizer.calibrate(model, seen)
        expected = Runner(calibrated.content, kernels=KERNELS).run(seen)
        errors = {}
        for method, ranges in calibrated.ranges_by_method.items():
            file = quantizer.quantize(calibrated.plain, ranges=ranges)
            outputs = Runner(file, kernels=KERNELS).run(seen)
            shifted = outputs - expected - (outputs - expected).mean(-1, keepdims=True)
            errors[method] = np.square(shifted).mean()
        assert calibrated.method == min(errors, key=errors.get)
