"""Export: a real model, the real converter, the real runtime."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import champion, formats, inspect
from efficientnet_elite.export import layers as layer_errors
from efficientnet_elite.export.int8.choices import CALIBRATION_METHODS
from efficientnet_elite.export.runtimes import runtime
from efficientnet_elite.networks.build import build
from tests.support.exporting import (
    DETAILS,
    LABELS,
    SPEC,
    contents,
    dead_branch,
    digits,
    export,
    operation,
    tiny,
)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """A short network of the family's blocks, trained on the digits for some seconds."""
    keras.utils.set_random_seed(0)
    images, classes = digits()
    model = build(SPEC)
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


def test_the_sidecar_names_the_method_of_calibration(exported):
    sidecar = json.loads(exported.sidecar_path.read_text())
    assert sidecar["calibration_method"] in CALIBRATION_METHODS  # `auto` is none of them


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
    layer_types = [type(layer) for layer in build(SPEC).layers]
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
    in_int8 = {
        "input": {"type": "int8", "scale": 1 / 128, "zero_point": 0},
        "output": {
            "type": "int8",
            "scale": logits.scales[0],
            "zero_point": logits.zero_points[0],
        },
    }
    for kind, path in (("float32", exported.float_path), ("int8", exported.int8_path)):
        content = path.read_bytes()
        assert sidecar["files"][kind] == {
            "file": path.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "accuracy": exported.float_accuracy if kind == "float32" else exported.int8_accuracy,
            "input": {"type": "float32"},
            "output": {"type": "float32"},
            **(in_int8 if kind == "int8" else {}),
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


def test_an_export_leaves_no_files_of_an_earlier_one(tmp_path):
    asked = formats.parse(["float16"], ["uint8"])
    folder = export(tiny(), tmp_path, formats=asked).sidecar_path.parent
    (folder / "android").mkdir()
    assert len(list(folder.glob("*.tflite"))) == 4
    (folder / "tiny.mine.tflite").touch()
    sidecar = json.loads((folder / "tiny.json").read_text())
    assert sidecar["files"]["int8.uint8"]["input"] == {
        "type": "uint8",
        "scale": 1 / 128,
        "zero_point": 128,
    }
    export(tiny(), tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        *("tiny.float32.tflite", "tiny.int8.tflite", "tiny.json", "labels.txt"),
        *("tiny.mine.tflite", "android"),
    }


def test_a_sigmoid_is_told(tmp_path):
    image = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image))
    model = keras.Model(image, layers.Dense(10, activation="sigmoid")(x))
    exported = export(model, tmp_path)
    assert "sigmoid" in json.loads(exported.sidecar_path.read_text())["output"]["meaning"]


def test_signature_names_the_input_and_the_output(exported):
    for path in (exported.float_path, exported.int8_path):
        signatures = Interpreter(str(path)).get_signature_list()
        assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (operation("sin"), r"int8 throughout: tensor '.*Sin', computed by SIN, is FLOAT32"),
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


def test_an_accuracy_drop_beyond_the_limit_fails_and_says_where_it_comes_from(exported, tmp_path):
    drop = 100 * (exported.keras_accuracy - exported.int8_accuracy)
    results = vars(exported)
    found = [layer_errors.LayerError("stem_bn", "CONV_2D", 3.0, 0.5)]
    champion._check_accuracy(results, None, found, None)
    champion._check_accuracy(results, drop, found, None)
    with pytest.raises(UserError, match=r"int8 costs .* points .* from stem_bn \(CONV_2D\)"):
        champion._check_accuracy(results, drop - 0.1, found, None)
    with pytest.raises(UserError, match=r"^export of tiny failed: int8 costs"):
        export(tiny(), tmp_path, max_accuracy_drop=-100.0)
    assert not contents(tmp_path)
