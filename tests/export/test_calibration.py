"""Methods of calibration, on a real network and its real converter."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from efficientnet_elite.export import formats, inspect, layers
from efficientnet_elite.export.int8 import calibration, convert, quantizer, remedies
from efficientnet_elite.export.int8.ranges import CalibratedNetwork
from tests.support import tiny_tflite

IMAGES = 40


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return tiny_tflite.normalised(tiny_tflite.digits()[0][:IMAGES])


@pytest.fixture(scope="module")
def calibrated(images) -> CalibratedNetwork:
    return quantizer.calibrate(tiny_tflite.model(), images)


@pytest.fixture(scope="module")
def values(calibrated, images) -> dict[str, np.ndarray]:
    """Activations of all images but what swish and sigmoid read (`test_ranges`): (N, values)."""
    contents = calibrated.contents
    cut = {contents.tensors[s.inputs[0]].name for s in contents.steps if s.operator == "LOGISTIC"}
    found: dict[str, list[np.ndarray]] = {}
    for activations in layers.activations(calibrated.content, images):
        for name, value in activations.items():
            if name in cut:
                continue
            found.setdefault(name, []).append(value.ravel())
    return {name: np.stack(each) for name, each in found.items()}


def test_the_converter_makes_the_file_of_the_method_that_suits(calibrated, images):
    (image,) = calibrated.contents.inputs
    assert calibrated.ranges[image.name] == (-1, 127 / 128)
    ordinary = convert.to_tflite(tiny_tflite.model(), calibration=images)
    assert quantizer.quantize(calibrated) == ordinary


def test_the_remedy_tries_the_other_methods(calibrated):
    plain = remedies.Quantization(tiny_tflite.model(), calibrated)
    trials = dict(remedies.calibration_trials(plain, None))
    others = [name for name in calibration.METHODS if name != calibrated.method]
    assert list(trials) == [f"calibration: {name}" for name in others]
    for name in others:
        ranges = calibrated.ranges_by_method[name]
        assert trials[f"calibration: {name}"].file() == quantizer.quantize(
            calibrated, ranges=ranges
        )


def test_minmax_is_of_the_values_themselves():
    """Where LiteRT sums in place, over a branch, the branch keeps the range of its own values."""
    image = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(4, 1, name="first")(image)
    second = keras.layers.Conv2D(4, 1, name="second")(first)
    total = keras.layers.Add(name="sum")([first, second])
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(total)))
    # The sum is ten times as wide as the branch.
    kernels = np.random.default_rng(0).normal(size=(2, 1, 1, 3, 4))
    model.get_layer("first").set_weights([10 * kernels[0], np.zeros(4)])
    model.get_layer("second").set_weights([np.diag([0.1, -0.1, 0.1, 0.1])[None, None], np.ones(4)])
    images = np.random.default_rng(1).uniform(-1, 0.99, (5, 8, 8, 3)).astype(np.float32)
    network = quantizer.calibrate(model, images, "minmax", others=False)
    assert network.methods == ["minmax"]  # the others, which take longer, were not wanted
    ranges = network.ranges
    for name in ("first", "second", "sum"):
        layer = keras.Model(image, model.get_layer(name).output)
        expected = np.asarray(layer(images))
        (both,) = (both for tensor, both in ranges.items() if layers.layer_of(tensor) == name)
        assert both == pytest.approx((expected.min(), expected.max()), rel=1e-5)


def test_moving_average_smooths_each_images_extremes(calibrated, images, values):
    ranges = calibrated.ranges_by_method["moving_average"]
    for name, value in values.items():
        low, high = value[0].min(), value[0].max()
        for image in value[1:]:
            low = 0.9 * low + 0.1 * image.min()
            high = 0.9 * high + 0.1 * image.max()
        assert ranges[name] == pytest.approx((low, high), rel=1e-5, abs=1e-6)


def test_percentile_leaves_out_the_rarest_values(calibrated, images, values):
    ranges = calibrated.ranges_by_method["percentile"]
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
    ranges = calibrated.ranges_by_method[method]
    content = quantizer.quantize(calibrated, ranges=ranges)
    inspect.check_pixel_classifier(inspect.read(content), 10)


@pytest.mark.parametrize("interface", formats.INTERFACES)
def test_every_interface_is_the_one_asked_for(calibrated, interface):
    content = quantizer.quantize(calibrated, form=formats.Format("int8", interface))
    found = inspect.read(content)
    assert {t.type for t in (*found.inputs, *found.outputs)} == {interface.upper()}


def test_int16x8_takes_ranges_too(calibrated, images):
    """Of 16 bit the scale is the range's greater end over the greatest integer."""
    form = formats.Format("int16x8")
    (ordinary,) = convert.to_tflite_formats(tiny_tflite.model(), images, (form,))
    assert quantizer.quantize(calibrated, form=form) == ordinary
    ranges = calibrated.ranges_by_method["percentile"]
    content = quantizer.quantize(calibrated, ranges=ranges, form=form)
    scales = {
        tensor.name: tensor.scales[0]
        for tensor in inspect.read(content).tensors
        if tensor.producer == "CONV_2D"
    }
    assert len(scales) >= 4
    for name, scale in scales.items():
        assert scale == pytest.approx(max(np.abs(ranges[name])) / 32767, rel=1e-5)


def test_an_outlier_widens_minmax_alone():
    """One value in ten thousand, far beyond the others: percentiles leave it out."""
    bins = np.repeat(np.arange(41), 250)
    assert percentile_range([*bins, 4095])[1] == pytest.approx(40 / 4095 * 100)
    assert percentile_range([*bins, *[4000] * 250])[1] == pytest.approx(4000 / 4095 * 100)


def percentile_range(bins) -> tuple[float, float]:
    """Of the values of one image, given in 4095ths of 100; the extremes are 0 and 100."""
    collector = calibration.Percentile(1)
    collector.add((np.array(bins) * 100 / 4095).astype(np.float32), (0.0, 100.0))
    return collector.range()


def test_one_pass_gives_what_a_histogram_of_all_values_gives(calibrated, values):
    """The definition of the method, for every activation of a network, to the last bit."""
    for name, value in values.items():
        low, high = float(value.min()), float(value.max())
        steps = (value.ravel() - low) * (4095 / max(high - low, 1e-30))
        below = np.cumsum(np.bincount(np.rint(steps).astype(int), minlength=4096)) / value.size
        share = 1 - calibration.PERCENTILE / 100
        first, last = np.searchsorted(below, [share, 1 - share])
        step = (high - low) / 4095
        expected = low + int(first) * step, low + min(int(last), 4095) * step
        assert calibrated.ranges_by_method["percentile"][name] == expected


def test_an_unknown_method_is_refused(calibrated, images):
    with pytest.raises(ValueError, match="'octav': choose from minmax, moving_average"):
        calibration.observe(calibrated.content, images, ["octav"])
