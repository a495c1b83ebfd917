"""Export: real models, the real converter, the real runtime."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from sklearn.datasets import load_digits

from efficientnet_elite import models
from efficientnet_elite.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import champion, convert, formats, inspect, runtime
from efficientnet_elite.export import layers as layer_errors
from efficientnet_elite.spec import ArchSpec

LABELS = [f"digit {value}" for value in range(10)]
DETAILS = {"spec": {"name": "short"}, "training": {"seed": 3, "epochs": [1, 2]}, "note": None}


def digits(side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits as RGB images in a network's input range, and their classes."""
    data = load_digits()
    pixels = np.rint(np.kron(data.images, np.ones((1, side // 8, side // 8))) * 255 / 16)
    return (pixels[..., None].repeat(3, -1) / 128 - 1).astype(np.float32), data.target


SPEC = ArchSpec(
    "short",
    (32, 32, 3),
    (
        ConvBlock("stem", 16, kernel=3, stride=2),
        MBConv("first", filters=16, expanded=None, kernel=3, stride=1, squeeze=4, drop_path=0.0),
        MBConv("second", filters=24, expanded=64, kernel=5, stride=2, squeeze=4, drop_path=0.0),
        MBConv("third", filters=24, expanded=96, kernel=3, stride=1, squeeze=6, drop_path=0.1),
        ConvBlock("top", 96),
        Classifier("predictions", 10, 0.1),
    ),
)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """A short network of the family's blocks, trained on the digits for some seconds."""
    keras.utils.set_random_seed(0)
    images, classes = digits()
    model = models.build(SPEC)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.8  # the training is too short for 0.99
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(images[:1400], classes[:1400], batch_size=50, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def out_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("champions")


@pytest.fixture(scope="module")
def exported(trained, out_dir) -> champion.Exported:
    return export(trained, out_dir, name="short")


def export(model: keras.Model, out_dir: Path, name: str = "tiny", **options) -> champion.Exported:
    images, classes = digits(model.input_shape[1])
    given = {
        "labels": LABELS,
        "calibration": images[:100],
        "test_batches": [(images[i : i + 64], classes[i : i + 64]) for i in (1400, 1464, 1528)],
        "details": DETAILS,
    }
    return champion.export_model(model, name=name, out_dir=out_dir, **{**given, **options})


def tiny(middle=None) -> keras.Model:
    """A 16-pixel network with `middle` (a function of a Keras tensor) between two layers."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = middle(x) if middle else x
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def operation(name: str):
    return layers.Lambda(getattr(keras.ops, name))


def dead_branch(x):
    """A ReLU that never opens, which makes XNNPACK refuse the model."""
    convolution = layers.Conv2D(
        4, 1, activation="relu", bias_initializer=keras.initializers.Constant(-100)
    )
    return layers.Concatenate()([x, layers.Conv2D(4, 1)(convolution(x))])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_agree_with_keras_on_the_test_part(trained, exported):
    images, classes = digits()
    images, classes = images[1400:1592], classes[1400:1592]
    reference = np.asarray(trained(images, training=False))
    in_float = runtime.run(exported.float_path, images)
    in_int8 = runtime.run(exported.int8_path, images, threads=2)

    assert exported.test_images == len(images)
    assert exported.max_difference == np.abs(in_float - reference).max()
    assert exported.max_difference <= 1e-4 * np.ptp(reference)
    assert exported.keras_accuracy == (reference.argmax(-1) == classes).mean() > 0.8
    assert exported.float_accuracy == (in_float.argmax(-1) == classes).mean()
    assert exported.int8_accuracy == (in_int8.argmax(-1) == classes).mean()
    assert exported.int8_accuracy > exported.float_accuracy - 0.05
    assert exported.agreement == (in_int8.argmax(-1) == in_float.argmax(-1)).mean()


def test_int8_file_is_int8_throughout(exported):
    found = inspect.read(exported.int8_path.read_bytes())
    (image,), (logits,) = found.inputs, found.outputs
    assert (image.type, image.shape) == ("INT8", (1, 32, 32, 3))
    assert (image.scales, image.zero_points) == ((1 / 128,), (0,))
    assert (logits.type, logits.shape) == ("INT8", (1, 10))
    assert {tensor.type for tensor in found.tensors} == {"INT8", "INT32"}
    assert exported.int8_bytes < exported.float_bytes


def test_operators_are_those_of_the_architecture(exported):
    float_operators, int8_operators = (
        inspect.operators(path.read_bytes()) for path in (exported.float_path, exported.int8_path)
    )
    assert float_operators == int8_operators
    # None of SHAPE, STRIDED_SLICE, PACK (dynamic batch), QUANTIZE or DEQUANTIZE.
    names = "ADD CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED LOGISTIC MEAN MUL"
    assert set(int8_operators) == set(names.split())
    layer_types = [type(layer) for layer in models.build(SPEC).layers]
    assert int8_operators["CONV_2D"] == layer_types.count(layers.Conv2D)
    assert int8_operators["DEPTHWISE_CONV_2D"] == layer_types.count(layers.DepthwiseConv2D)


def test_int8_input_is_pixel_minus_128(exported):
    """Every pixel value, given to the bare interpreter as pixel - 128."""
    pixels = np.random.default_rng(0).permutation(np.arange(3 * 1024) % 256).reshape(1, 32, 32, 3)
    interpreter = Interpreter(str(exported.int8_path))
    interpreter.allocate_tensors()
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(image["index"], (pixels - 128).astype(np.int8))
    interpreter.invoke()
    scale, zero_point = logits["quantization"]
    bare = (interpreter.get_tensor(logits["index"]) - np.float32(zero_point)) * np.float32(scale)
    through_floats = runtime.run(exported.int8_path, (pixels / 128 - 1).astype(np.float32))
    np.testing.assert_array_equal(bare, through_floats)


@pytest.mark.parametrize(("low", "high"), [(-1, 127 / 128), (-0.25, 0.5), (0, 0)])
def test_input_scale_does_not_depend_on_the_calibration_images(low, high):
    images = np.random.default_rng(0).uniform(low, high, (4, 16, 16, 3)).astype(np.float32)
    before = images.copy()
    (image,) = inspect.read(convert.to_tflite(tiny(), calibration=images)).inputs
    assert (image.scales, image.zero_points) == ((1 / 128,), (0,))
    np.testing.assert_array_equal(images, before)


def test_labels_and_sidecar(exported):
    assert exported.labels_path.read_text() == "\n".join(LABELS) + "\n"
    sidecar = json.loads(exported.sidecar_path.read_text())
    assert sidecar["details"] == DETAILS
    assert sidecar["labels"] == LABELS
    assert sidecar["input"]["shape"] == [1, 32, 32, 3]
    assert sidecar["input"]["int8_scale"] * 128 == 1
    assert sidecar["input"]["int8_zero_point"] == 0
    (logits,) = inspect.read(exported.int8_path.read_bytes()).outputs
    assert sidecar["output"]["int8_scale"] == logits.scales[0]
    assert sidecar["output"]["int8_zero_point"] == logits.zero_points[0]
    for kind, path in (("float32", exported.float_path), ("int8", exported.int8_path)):
        content = path.read_bytes()
        assert sidecar["files"][kind] == {
            "file": path.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "accuracy": exported.float_accuracy if kind == "float32" else exported.int8_accuracy,
        }
        assert sidecar["operators"][kind] == inspect.operators(content)
    for key in ("keras_accuracy", "float_accuracy", "int8_accuracy", "max_difference"):
        assert sidecar["verification"][key] == getattr(exported, key)
    assert sidecar["versions"]["keras"] == keras.__version__


def test_folder_holds_the_four_files_and_nothing_else(exported):
    paths = {
        exported.float_path,
        exported.int8_path,
        exported.labels_path,
        exported.sidecar_path,
    }
    assert set(exported.sidecar_path.parent.iterdir()) == paths


def test_signature_names_the_input_and_the_output(exported):
    for path in (exported.float_path, exported.int8_path):
        signatures = Interpreter(str(path)).get_signature_list()
        assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}


def test_conversion_is_silent_and_repeatable(capfd):
    model = tiny()
    images = digits(16)[0][:8]
    first = convert.to_tflite_pair(model, images)
    assert capfd.readouterr() == ("", "")
    assert first[0] == convert.to_tflite(model, calibration=None)
    assert first[1] == convert.to_tflite(model, calibration=images)


def test_static_batch_gives_the_same_operators():
    dynamic = tiny()
    static = keras.models.clone_model(dynamic, input_tensors=keras.Input((16, 16, 3), batch_size=1))
    static.set_weights(dynamic.get_weights())
    found = [inspect.operators(convert.to_tflite(m, calibration=None)) for m in (dynamic, static)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (operation("sin"), r"int8 throughout: tensor '.*Sin', made by SIN, is FLOAT32"),
        (operation("erf"), r"TFLite cannot express the model: 'tf\.Erf' op is neither"),
        (dead_branch, r"tensor '.*Relu.*' has the degenerate scale 7\.8e-09"),
    ],
)
def test_failed_export_says_why_and_writes_nothing(exported, out_dir, middle, message):
    before = contents(out_dir)
    assert before
    with pytest.raises(UserError, match=rf"^export of bad failed: .*{message}") as caught:
        export(tiny(middle), out_dir, name="bad")
    assert "\n" not in str(caught.value)
    assert contents(out_dir) == before
    assert not (out_dir / "bad").exists()


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
    other = convert.to_tflite_pair(tiny(), digits(16)[0][:8])
    monkeypatch.setattr(convert, "to_tflite_formats", lambda *_: other)
    with pytest.raises(UserError, match="float32 file's logits differ from Keras' by up to"):
        export(tiny(), tmp_path)
    assert not contents(tmp_path)


def test_an_int8_input_that_is_not_the_pixel_is_refused(exported):
    found = inspect.read(exported.int8_path.read_bytes())
    (image,) = found.inputs
    inspect.check_pixel_classifier(found, 10)
    for wrong in ({"scales": (1 / 127,)}, {"zero_points": (1,)}):
        with pytest.raises(UserError, match="instead of 1/128 and 0"):
            inspect.check_pixel_classifier(replace(found, inputs=(replace(image, **wrong),)), 10)


def test_layers_errors_are_those_of_the_two_files(exported):
    images = digits()[0][: champion.LAYER_IMAGES]
    float_model, int8_model = exported.float_path.read_bytes(), exported.int8_path.read_bytes()
    found = layer_errors.errors(float_model, int8_model, images)
    assert [e.operator for e in found] == [s.operator for s in inspect.read(int8_model).steps]
    assert found[0].layer == "stem_bn"
    assert json.loads(exported.sidecar_path.read_text())["int8_layers"] == [vars(e) for e in found]

    outputs = [
        runtime.Runner(model, kernels="builtin kernels").run(images)
        for model in (float_model, int8_model)
    ]
    noise = np.square(outputs[1] - outputs[0]).sum() / np.square(outputs[0]).sum()
    assert found[-1].snr_db == pytest.approx(-10 * np.log10(noise), abs=0.01)
    assert found[-1].layer == "output"
    noisiest = layer_errors.worst(found, 3)
    assert noisiest[0].added_noise == max(e.added_noise for e in found) > 0


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


def test_an_unknown_format_is_refused():
    for wrong in ((["int4"], ["int8"]), (["int8"], ["int16"])):
        with pytest.raises(UserError, match="there is no format 'int"):
            formats.parse(*wrong)
    assert formats.parse(["float32", "int8"], ["int8"]) == ()


def test_an_accuracy_drop_beyond_the_limit_fails_and_says_where_it_comes_from(exported, tmp_path):
    drop = 100 * (exported.keras_accuracy - exported.int8_accuracy)
    results = vars(exported)
    found = [layer_errors.LayerError("stem_bn", "CONV_2D", 3.0, 0.5)]
    champion._check_accuracy(results, None, found)
    champion._check_accuracy(results, drop, found)
    with pytest.raises(UserError, match=r"int8 costs .* points .* from stem_bn \(CONV_2D\)"):
        champion._check_accuracy(results, drop - 0.1, found)
    with pytest.raises(UserError, match=r"^export of tiny failed: int8 costs"):
        export(tiny(), tmp_path, max_accuracy_drop=-100.0)
    assert not contents(tmp_path)


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
        ({"calibration": np.zeros((0, 16, 16, 3))}, "do not fit"),
        ({"calibration": np.zeros((4, 8, 8, 3))}, "do not fit"),
        ({"calibration": np.full((4, 16, 16, 3), 200.0)}, "expected pixel / 128 - 1"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export(tiny(), tmp_path, **options)


def test_mixed_precision_is_refused():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, dtype="mixed_bfloat16", name="stem")(image)
    model = keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="layer stem does not compute in float32"):
        convert.to_tflite(model, calibration=None)


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
