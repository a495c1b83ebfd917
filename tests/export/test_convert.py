"""Conversions and refusals, on networks of a few layers."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import formats, inspect
from efficientnet_elite.export import layers as layer_errors
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.runtimes import runtime
from tests.support.exporting import LABELS, contents, dead_branch, digits, export, tiny


@pytest.mark.parametrize(("low", "high"), [(-1, 127 / 128), (-0.25, 0.5), (0, 0)])
def test_input_scale_does_not_depend_on_the_calibration_images(low, high):
    images = np.random.default_rng(0).uniform(low, high, (4, 16, 16, 3)).astype(np.float32)
    before = images.copy()
    (image,) = inspect.read(convert.to_tflite(tiny(), calibration=images)).inputs
    assert (image.scales, image.zero_points) == ((1 / 128,), (0,))
    np.testing.assert_array_equal(images, before)


def test_conversion_is_silent_and_repeatable(capfd):
    model = tiny()
    images = digits(16)[0][:8]
    first = convert.to_tflite_pair(model, images)
    assert capfd.readouterr() == ("", "")
    assert first[0] == convert.to_tflite(model, calibration=None)
    assert first[1] == convert.to_tflite(model, calibration=images)


@pytest.mark.slow
def test_static_batch_gives_the_same_operators():
    dynamic = tiny()
    static = keras.models.clone_model(dynamic, input_tensors=keras.Input((16, 16, 3), batch_size=1))
    static.set_weights(dynamic.get_weights())
    found = [inspect.operators(convert.to_tflite(m, calibration=None)) for m in (dynamic, static)]
    assert found[0] == found[1]


def test_what_xnnpack_refuses_does_not_load():
    model = convert.to_tflite(tiny(dead_branch), calibration=digits(16)[0][:20])
    with pytest.raises(UserError, match=r"LiteRT with XNNPACK cannot load the model: .*XNNPACK"):
        runtime.Runner(model)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x1c\0\0\0TFL3" + bytes(200)])
def test_garbage_does_not_load(tmp_path, content):
    path = tmp_path / "garbage.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot load the model"):
        runtime.Runner(path)


def test_a_float_file_unlike_keras_is_refused(tmp_path, monkeypatch):
    other = convert.to_tflite(tiny(seed=1), calibration=None)
    monkeypatch.setattr(convert, "to_tflite_formats", lambda *_: [other])
    with pytest.raises(UserError, match="float32 file's logits differ from Keras' by up to"):
        export(tiny(), tmp_path)
    assert not contents(tmp_path)


def test_noise_shows_at_the_layer_that_makes_it(tmp_path):
    """A scale that is far too coarse for a branch shows where the branch begins."""

    def outlier(x):
        # One channel a thousand times greater than the others takes the whole int8 range.
        gains = np.ones(8, np.float32)
        gains[0] = 1000
        kernel = keras.initializers.Constant(np.diag(gains)[None, None])
        return layers.Conv2D(8, 1, kernel_initializer=kernel, name="outlier", use_bias=False)(x)

    def rescued(x):
        gains = np.ones(8, np.float32)
        gains[0] = 0
        kernel = keras.initializers.Constant(np.diag(gains)[None, None])
        return layers.Conv2D(8, 1, kernel_initializer=kernel, name="rescued", use_bias=False)(
            outlier(x)
        )

    images = digits(16)[0][:16]
    pair = convert.to_tflite_pair(tiny(rescued), images)
    assert layer_errors.worst(layer_errors.errors(*pair, images), 1)[0].layer == "rescued"


@pytest.mark.slow
def test_other_formats_and_interfaces(tmp_path):
    asked = formats.parse(formats.WEIGHTS, formats.INTERFACES)
    names = ["dynamic", "float16", "int16x8", "int8.float32", "int8.uint8"]
    assert [form.name for form in asked] == names
    made = export(tiny(), tmp_path, formats=asked)
    sidecar = json.loads(made.sidecar_path.read_text())
    assert set(sidecar["files"]) == {"float32", "int8", *names}
    images, classes = digits(16)
    images, classes = images[1400:1592], classes[1400:1592]
    reference = runtime.run(made.float_path, images)
    for name, entry in sidecar["files"].items():
        path = tmp_path / "tiny" / entry["file"]
        assert path.name == f"tiny.{name}.tflite"
        logits = runtime.run(path, images)
        assert entry["accuracy"] == (logits.argmax(-1) == classes).mean()
        assert np.abs(logits - reference).max() < 0.1 * np.ptp(reference)
    assert sidecar["files"]["int8"]["bytes"] < sidecar["files"]["float32"]["bytes"]

    def interface(name: str) -> set[str]:
        found = inspect.read((tmp_path / f"tiny/tiny.{name}.tflite").read_bytes())
        return {tensor.type for tensor in (*found.inputs, *found.outputs)}

    expected = {"int8.uint8": {"UINT8"}, "int8": {"INT8"}}
    for name in sidecar["files"]:
        assert interface(name) == expected.get(name, {"FLOAT32"})
    (image,) = inspect.read((tmp_path / "tiny/tiny.int8.uint8.tflite").read_bytes()).inputs
    assert (image.scales, image.zero_points) == ((1 / 128,), (128,))  # the pixel itself


@pytest.mark.slow
def test_the_method_of_calibration_holds_for_all_quantized_files(tmp_path):
    forms = (formats.Format("int8", "uint8"), formats.Format("int16x8"))
    made = {
        method: export(tiny(), tmp_path / method, formats=forms, method=method)
        for method in ("minmax", "percentile")
    }
    for name in ("int8", "int8.uint8", "int16x8"):
        files = {
            inspect.read((tmp_path / method / f"tiny/tiny.{name}.tflite").read_bytes()).tensors
            for method in made
        }
        assert len(files) == 2, name


def test_an_unknown_format_is_refused():
    for wrong in ((["int4"], ["int8"]), (["int8"], ["int16"])):
        with pytest.raises(UserError, match="there is no format 'int"):
            formats.parse(*wrong)
    assert formats.parse(["float32", "int8"], ["int8"]) == ()


def test_diverged_weights_are_refused(tmp_path):
    model = tiny()
    model.layers[-1].bias.assign(np.full(10, np.nan))
    with pytest.raises(UserError, match="not finite numbers: its training diverged"):
        export(model, tmp_path)


def test_a_test_part_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no test images"):
        export(tiny(), tmp_path, test_batches=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../tiny"}, "cannot name files"),
        ({"name": ".."}, "cannot name files"),
        ({"labels": LABELS[:9]}, "9 labels for 10 logits"),
        ({"calibration_images": np.zeros((0, 16, 16, 3))}, "do not fit"),
        ({"calibration_images": np.zeros((4, 8, 8, 3))}, "do not fit"),
        ({"calibration_images": np.full((4, 16, 16, 3), 200.0)}, "expected pixel / 128 - 1"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export(tiny(), tmp_path, **options)


def test_mixed_precision_is_refused():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, dtype="mixed_bfloat16", name="stem")(image)
    model = keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(UserError, match="layer stem computes in bfloat16, not in float32"):
        convert.to_tflite(model, calibration=None)


@pytest.mark.slow
def test_a_write_that_fails_keeps_the_older_files(tmp_path, monkeypatch):
    export(tiny(), tmp_path)
    before = contents(tmp_path)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "json" in path.name:
            write(path, content[:10])
            raise OSError("No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        export(tiny(), tmp_path)
    assert contents(tmp_path) == before


def test_files_give_probabilities_where_asked():
    model = convert.with_output(tiny(), "softmax")
    images = digits(16)[0][:20]
    in_float, int8 = convert.to_tflite_pair(model, images)
    logits = np.asarray(tiny_logits(model, images))
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(runtime.run(in_float, images), expected, atol=1e-6)
    np.testing.assert_allclose(runtime.run(int8, images), expected, atol=0.05)
    contents = inspect.read(int8)
    inspect.check_pixel_classifier(contents, 10)
    assert inspect.ends_in_softmax(contents)
    (output,) = contents.outputs
    assert (output.scales, output.zero_points) == ((1 / 256,), (-128,))


def tiny_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What goes into a model's softmax."""
    return keras.Model(model.inputs[0], model.layers[-1].input)(images)
