"""Bias correction, on real int8 files."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from efficientnet_elite.export import inspect
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.int8 import bias_correction, convert, quantizer
from efficientnet_elite.export.int8.ranges import CalibratedNetwork
from efficientnet_elite.export.runtimes.runtime import Runner
from tests.support import tiny_tflite


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return tiny_tflite.normalised(tiny_tflite.digits()[0][:60])


@pytest.fixture(scope="module")
def calibrated(images) -> CalibratedNetwork:
    """Without the inputs of the layers, so that nothing but the last bias is corrected."""
    network = quantizer.calibrate(tiny_tflite.model(), images)
    assert network.observed is not None
    return replace(network, observed=replace(network.observed, inputs={}))


def shift(content: bytes, calibrated: CalibratedNetwork, images) -> np.ndarray:
    """By how much the mean logits of a file differ from those in float32."""
    float_logits = Runner(calibrated.content).run(images)
    return (Runner(content).run(images) - float_logits).mean(axis=0)


@pytest.mark.parametrize("form", [Format("int8", "float32"), INT8])
def test_the_mean_logits_are_those_of_float32(form, calibrated, images):
    plain = quantizer.quantize(calibrated.plain, form=form)
    before = np.abs(shift(plain, calibrated, images))
    after = np.abs(shift(quantizer.quantize(calibrated, form=form), calibrated, images))
    assert after.max() < before.max() / 2
    # The steps of the bias are far finer than those of the logits, which are rounded an image.
    assert after.max() < 0.25 * inspect.output_step(inspect.read(quantizer.quantize(calibrated)))


def test_int16x8_is_corrected_too(calibrated, images):
    form = Format("int16x8")
    expected = bias_correction.Reference(images, calibrated.observed.logits.mean_logits + 1)
    observed = replace(calibrated.observed, logits=expected)
    content = quantizer.quantize(replace(calibrated, observed=observed), form=form)
    np.testing.assert_allclose(shift(content, calibrated, images), 1, atol=0.01)


def test_only_the_last_bias_changes(calibrated):
    plain, corrected = (inspect.read(quantizer.quantize(c)) for c in (calibrated.plain, calibrated))
    assert plain.tensors == corrected.tensors
    assert plain.steps == corrected.steps
    sizes = [len(quantizer.quantize(c)) for c in (calibrated.plain, calibrated)]
    assert abs(sizes[1] - sizes[0]) < 200


def test_a_shift_that_int8_did_not_cause_is_taken_away_too(calibrated, images):
    """The reference decides: with a mean moved by one, every logit of the file moves by one."""
    moved = bias_correction.Reference(images, calibrated.observed.logits.mean_logits + 1)
    plain = quantizer.quantize(calibrated.plain, form=Format("int8", "float32"))
    content = bias_correction.corrected(plain, moved)
    np.testing.assert_allclose(shift(content, calibrated, images), 1, atol=0.15)


def test_a_softmax_behind_the_classifier_does_not_hide_the_logits(calibrated, images):
    soft = convert.with_output(tiny_tflite.model(), "softmax")
    expected = quantizer.calibrate(soft, images).observed.logits
    assert expected is not None
    np.testing.assert_allclose(
        expected.mean_logits, calibrated.observed.logits.mean_logits, rtol=1e-4, atol=1e-4
    )


def test_a_network_without_a_fully_connected_end_stays_as_it_is(images):
    image = keras.Input(images.shape[1:])
    maps = keras.layers.Conv2D(4, 3, strides=4)(image)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(maps))
    calibrated = quantizer.calibrate(model, images)
    assert calibrated.observed.logits is None
    assert quantizer.quantize(calibrated) == convert.to_tflite(model, calibration=images)


def test_a_classifier_in_float_stays_as_it_is(calibrated):
    last = calibrated.operators[-1]
    files = [quantizer.quantize(c, keep_float=[last]) for c in (calibrated, calibrated.plain)]
    assert files[0] == files[1]
