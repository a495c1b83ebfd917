"""`.keras` files from elsewhere: exported like champions where sound, one clear line where not."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, from_keras, inspect, keras_file
from efficientnet_elite.export.packages import packages
from tests.support import tiny_tflite

MARK = "the file's code has run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The trained network behind ImageNet's normalisation, with softmax, as users save theirs."""
    keras.utils.set_random_seed(0)
    image = keras.Input((tiny_tflite.SIDE, tiny_tflite.SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Normalization(mean=[0.5, 0.45, 0.4], variance=[0.25, 0.2, 0.3])(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = keras.activations.silu(layers.BatchNormalization()(x))
    x = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(image, x)
    pixels, classes = tiny_tflite.digits()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pixels[:800].astype(np.float32), classes[:800], epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("keras") / "net.keras"
    model.save(path)
    return path


def config(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def forged(source: Path, target: Path, config: object = None, **members: bytes) -> Path:
    """A copy of a file with another configuration, or with other or more members."""
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            content = members.pop(name, None) or old.read(name)
            if name == "config.json" and config is not None:
                content = config if isinstance(config, bytes) else json.dumps(config).encode()
            new.writestr(name, content)
        for name, content in members.items():
            new.writestr(name, content)
    return target


def with_layer(source: Path, target: Path, **changes: object) -> Path:
    """A copy whose third layer is another."""
    changed = config(source)
    changed["config"]["layers"][2] |= changes
    return forged(source, target, changed)


def one_line(error: UserError) -> bool:
    return "\n" not in str(error) and len(str(error)) < 500


def test_a_sound_file_passes(saved):
    assert keras_file.check(saved) == (32, 32, 3)


def test_a_lambda_is_refused_by_name_and_never_run(tmp_path):
    image = keras.Input((32, 32, 3))
    x = layers.Lambda(lambda x: print(MARK) or x, name="evil", output_shape=(32, 32, 3))(image)
    model = keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    path = tmp_path / "evil.keras"
    model.save(path)
    with pytest.raises(UserError, match=r"layer 'evil' is a Lambda, which holds code") as caught:
        keras_file.check(path)
    assert one_line(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"module": "os", "class_name": "system"},
        {"module": "keras.utils", "class_name": "get_file"},
        {"module": "kerasx.layers", "class_name": "Conv2D"},
        {"module": "keras.activations", "class_name": "function", "config": "relu"},
        {"module": None, "class_name": "Conv2D", "registered_name": "mine>Conv2D"},
        {"module": "os", "registered_name": {}},
    ],
)
def test_what_is_not_keras_own_layer_is_refused(saved, tmp_path, changes):
    path = with_layer(saved, tmp_path / "net.keras", **changes)
    with pytest.raises(UserError, match="not one of Keras' own layers") as caught:
        keras_file.check(path)
    assert one_line(caught.value)


@pytest.mark.parametrize("name", ["../../evil.py", "/etc/evil", "assets/vocabulary.txt"])
def test_members_that_no_classifier_has_are_refused(saved, tmp_path, name):
    path = forged(saved, tmp_path / "net.keras", **{name: b"x"})
    with pytest.raises(UserError, match=f"holds '{name}'"):
        keras_file.check(path)


@pytest.mark.parametrize("size", [0, 10, 1000, -1000, -10])
def test_a_truncated_file_is_refused(saved, tmp_path, size):
    path = tmp_path / "net.keras"
    path.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(UserError, match=r"damaged or not a \.keras file"):
        keras_file.check(path)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"{", b"\xff\xfe", b"[]", b"7", b'{"a": 1}', b"null"]
)
def test_a_forged_configuration_is_refused(saved, tmp_path, content):
    path = forged(saved, tmp_path / "net.keras", content)
    with pytest.raises(UserError) as caught:
        keras_file.check(path)
    assert one_line(caught.value)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(tmp_path, content, zipped):
    path = tmp_path / "random.keras"
    if zipped:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for name in ("config.json", "metadata.json", "model.weights.h5"):
                archive.writestr(name, content)
        content = sink.getvalue()
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        keras_file.check(path)
    assert one_line(caught.value)


@pytest.mark.parametrize("kind", ["deflated", "encrypted", "pipe"])
def test_what_cannot_be_unpacked_is_refused(saved, tmp_path, kind):
    path = forged(saved, tmp_path / "net.keras")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("config.json")
    start = info.header_offset + 30 + len(info.filename)
    if kind == "deflated":
        content[start : start + 12] = b"\xff" * 12
        path.write_bytes(content)
    elif kind == "encrypted":
        for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            for found in re.finditer(re.escape(signature), bytes(content)):
                content[found.start() + place] |= 1
        path.write_bytes(content)
    else:
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(
        UserError, match=r"damaged or not a \.keras file|is not a regular file"
    ) as caught:
        keras_file.check(path)
    assert one_line(caught.value)


def test_an_input_without_settings_is_refused(saved, tmp_path):
    changed = config(saved)
    del changed["config"]["layers"][0]["config"]
    with pytest.raises(UserError, match="the shape of its input is None"):
        keras_file.check(forged(saved, tmp_path / "net.keras", changed))


def test_what_is_too_large_is_refused(saved, tmp_path, monkeypatch):
    bomb = forged(saved, tmp_path / "bomb.keras", **{"model.weights.h5": bytes(3_000_000)})
    monkeypatch.setattr(files, "MAX_BYTES", 2_000_000)
    with pytest.raises(UserError, match="unpacks to more than"):
        keras_file.check(bomb)
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="is larger than"):
        keras_file.check(saved)
    with pytest.raises(UserError, match="is missing"):
        keras_file.check(tmp_path / "none.keras")


@pytest.mark.parametrize("shape", [None, [None, 32, 30, 2], [None, None, None, 3], [None, 10]])
def test_an_input_that_is_no_image_is_refused(saved, tmp_path, shape):
    changed = config(saved)
    changed["config"]["layers"][0]["config"]["batch_shape"] = shape
    with pytest.raises(UserError, match="build the network for images of one size"):
        keras_file.check(forged(saved, tmp_path / "net.keras", changed))


def request(tmp_path, **options) -> from_keras.Request:
    labels = tuple(tiny_tflite.LABELS)
    return from_keras.Request(name="net", out_dir=str(tmp_path), labels=labels, **options)


@pytest.mark.slow
def test_what_passes_the_check_and_breaks_keras_costs_one_line(saved, tmp_path):
    """A dense layer of a hundred thousand million weights: the child's memory is limited."""
    changed = config(saved)
    changed["config"]["layers"][-1]["config"]["units"] = 10**9
    path = forged(saved, tmp_path / "huge.keras", changed)
    with pytest.raises(UserError) as caught:
        from_keras.export_file(path, request(tmp_path), None)
    assert one_line(caught.value)
    assert not (tmp_path / "net").exists()


@pytest.mark.slow
def test_floats_need_no_data_set(saved, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{label}\n" for label in tiny_tflite.LABELS))
    command = ["export", f"--model={saved}", f"--out={tmp_path / 'out'}", f"--labels={labels}"]
    assert cli.main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "int8 needs a representative data set" in error
    assert cli.main([*command, "--formats=float32,float16", "--output=softmax"]) == 0
    folder = tmp_path / "out" / "net"
    assert "constant channel" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {
        *("net.float32.tflite", "net.float16.tflite", "net.json", "labels.txt", "MODEL_CARD.md"),
    }
    sidecar = json.loads((folder / "net.json").read_text())
    assert sidecar["output"]["meaning"] == "probabilities"
    found = inspect.read((folder / "net.float32.tflite").read_bytes())
    assert inspect.ends_in_softmax(found)


@pytest.mark.slow
def test_a_file_is_exported_like_a_champion(saved, tmp_path, capsys):
    command = ["export", f"--model={saved}", "--dataset=digits", f"--out={tmp_path}"]
    assert cli.main([*command, "--calibration=percentile", "--io=int8,uint8"]) == 0
    header, line, how = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "champion"
    assert line.startswith("net")
    assert how == "normalisation: constant channel"
    folder = tmp_path / "net"
    sidecar = json.loads((folder / "net.json").read_text())
    assert set(sidecar["files"]) == {"float32", "int8", "int8.uint8"}
    assert sidecar["verification"]["keras_accuracy"] > 0.6
    assert sidecar["details"]["normalisation"]["max_difference"] < 1e-4
    assert sidecar["details"]["calibration"]["method"] == "percentile"
    assert len(sidecar["details"]["calibration"]["indices"]) == 200
    content = (folder / "net.int8.tflite").read_bytes()
    inspect.check_pixel_classifier(inspect.read(content), 10)
    if packages.ethos_u.available():
        package = packages.of_file(folder / "net.int8.tflite", "ethos-u")
        assert package.cycles > 1000
        assert (package.folder / "net.vela.tflite").stat().st_size == package.model_bytes


@pytest.mark.slow
def test_fine_tuning_learns_from_the_calibration_images(saved, tmp_path):
    pixels, classes = tiny_tflite.digits()
    validation, test = slice(800, 1000), slice(1000, 1200)
    images = from_keras.Images(
        pixels[:200], pixels[validation], classes[validation], pixels[test], classes[test]
    )
    asked = request(tmp_path, remedies=("qat",), max_accuracy_drop=-200.0)
    with pytest.raises(UserError, match=r"plain \d+\.\d+%, qat \d+\.\d+% \(\+\d"):
        from_keras.export_file(saved, asked, images)


@pytest.mark.slow
def test_a_network_that_does_not_normalise_must_say_what_it_takes(tmp_path):
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    path = tmp_path / "plain.keras"
    keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x))).save(path)
    with pytest.raises(UserError, match="say with --input which values it expects"):
        from_keras.export_file(path, request(tmp_path), None)
    sidecar = from_keras.export_file(path, request(tmp_path, takes="0..1"), None)
    assert sidecar["details"]["normalisation"]["absorbed"] == "padding value"


KERAS2 = Path(__file__).parents[1] / "support/keras2"  # written by tf_keras 2.21, with its outputs


@pytest.mark.parametrize("name", ["sequential.keras", "functional.keras", "functional.h5"])
def test_files_of_keras_2_give_what_they_gave_there(name):
    assert keras_file.check(KERAS2 / name) == (32, 32, 3)
    model = keras_file.load(KERAS2 / name)
    with np.load(KERAS2 / "answers.npz") as answers:
        expected = answers["seq" if name.startswith("seq") else "fun"]
        found = np.asarray(model(answers["x"]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_h5_file_is_checked_before_keras_reads_it(tmp_path):
    image = keras.Input((16, 16, 1))
    x = layers.Lambda(lambda x: x / 255, name="evil")(image)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    model.save(tmp_path / "evil.h5")
    with pytest.raises(UserError, match="layer 'evil' is a Lambda, which holds code"):
        keras_file.check(tmp_path / "evil.h5")
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(UserError, match="is no Keras model: it holds weights alone"):
        keras_file.check(tmp_path / "only.weights.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(UserError, match="is no Keras model") as caught:
        keras_file.check(tmp_path / "text.h5")
    assert one_line(caught.value)
    with pytest.raises(UserError, match=r"is a folder without saved_model.pb"):
        keras_file.check(tmp_path)


@pytest.mark.slow  # int8 of both, in a process of its own
@pytest.mark.parametrize("kind", ["grey", "binary"])
def test_grey_networks_and_single_sigmoids_are_exported(tmp_path, kind, capsys):
    """The exported files have its channels and two logits; their answers are those of Keras."""
    channels, classes = (1, 10) if kind == "grey" else (3, 2)
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, channels))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(image))
    x = layers.Flatten()(x)
    if kind == "grey":
        x = layers.Dense(10, activation="softmax")(x)
    else:
        x = layers.Dense(1, activation="sigmoid")(x)
    path = tmp_path / "own.h5"
    keras.Model(image, x).save(path)
    labels = tuple(map(str, range(classes)))
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (30, 16, 16, channels), np.uint8)
    truth = random.integers(0, classes, 30)
    images = from_keras.Images(pixels, pixels[:0], truth[:0], pixels, truth)
    asked = from_keras.Request(name="own", out_dir=str(tmp_path), labels=labels)
    sidecar = from_keras.export_file(path, asked, images)
    assert sidecar["verification"]["agreement"] > 0.8
    contents = inspect.read((tmp_path / "own/own.int8.tflite").read_bytes())
    inspect.check_pixel_classifier(contents, classes)
