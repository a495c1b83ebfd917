"""Methods of calibration, on a real network and its real converter."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_tflite

from efficientnet_elite.export import calibration, convert, inspect, layers, quantizer, runtime

IMAGES = 40


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return tiny_tflite.normalised(tiny_tflite.digits()[0][:IMAGES])


@pytest.fixture(scope="module")
def calibrated(images) -> quantizer.Calibrated:
    return quantizer.calibrate(tiny_tflite.model(), images)


@pytest.fixture(scope="module")
def values(calibrated, images) -> dict[str, np.ndarray]:
    """Activations of all images, by name: (N, values)."""
    contents = inspect.read(calibrated.content)
    tracer = layers.Tracer(calibrated.content)
    found: dict[str, list[np.ndarray]] = {}
    for image in images:
        tracer.run(image)
        for index, tensor in enumerate(contents.tensors):
            if tensor.producer and tensor.name in calibrated.ranges:
                found.setdefault(tensor.name, []).append(tracer.tensor(index).ravel())
    return {name: np.stack(each) for name, each in found.items()}


def test_minmax_is_what_the_converter_measures(calibrated, images, values):
    ranges = calibration.ranges(calibrated, images, "minmax")
    assert ranges == calibrated.ranges
    (logits,) = inspect.read(calibrated.content).outputs
    low, high = ranges[logits.name]
    assert (low, high) == pytest.approx((values[logits.name].min(), values[logits.name].max()))
    pixels = tiny_tflite.normalised(tiny_tflite.digits()[0][1400:1420])
    ordinary = convert.to_tflite(tiny_tflite.model(), calibration=images)
    imposed = quantizer.quantize(calibrated, ranges=ranges)
    np.testing.assert_array_equal(runtime.run(imposed, pixels), runtime.run(ordinary, pixels))


def test_moving_average_smooths_each_images_extremes(calibrated, images, values):
    ranges = calibration.ranges(calibrated, images, "moving_average")
    for name, value in values.items():
        low, high = value[0].min(), value[0].max()
        for image in value[1:]:
            low = 0.9 * low + 0.1 * image.min()
            high = 0.9 * high + 0.1 * image.max()
        assert ranges[name] == pytest.approx((low, high), rel=1e-5, abs=1e-6)


def test_percentile_leaves_out_the_rarest_values(calibrated, images, values):
    ranges = calibration.ranges(calibrated, images, "percentile")
    for name, value in values.items():
        low, high = ranges[name]
        step = np.ptp(value) / 4095
        share, rounding = 1e-4, 1e-9
        # No more than that is left out, and a range any narrower would leave out more.
        assert (value < low - step).mean() <= share + rounding
        assert (value > high + step).mean() <= share + rounding
        assert (value < low + 2 * step).mean() >= share - rounding
        assert (value > high - 2 * step).mean() >= share - rounding


@pytest.mark.parametrize("method", calibration.METHODS)
def test_the_input_stays_the_pixel(calibrated, images, method):
    ranges = calibration.ranges(calibrated, images, method)
    content = quantizer.quantize(calibrated, ranges=ranges)
    inspect.check_pixel_classifier(inspect.read(content), 10)


def test_an_outlier_widens_minmax_alone(calibrated, images):
    """One value in ten thousand a thousand times the others': the histogram cuts it off."""
    counts = np.zeros(4096, np.int64)
    counts[:41] = 250
    counts[-1] = 1
    assert calibration._cut(counts, (0.0, 100.0))[1] == pytest.approx(40 / 4095 * 100)
    counts[-1] = 0
    counts[4000] = 250
    assert calibration._cut(counts, (0.0, 100.0))[1] == pytest.approx(4000 / 4095 * 100)


def test_an_unknown_method_is_refused(calibrated, images):
    with pytest.raises(ValueError, match="no method of calibration: minmax, moving_average"):
        calibration.ranges(calibrated, images, "octav")
