"""Pretrained weights from .keras, .h5 and .npz files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import h5py
import keras
import numpy as np
import pytest

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained import sources
from efficientnet_elite.networks.pretrained.files import read
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.training.checkpoint import Checkpoint
from tests.support.keras_networks import (
    from_model,
    outputs,
    pixels,
    random_application,
    randomise,
    save_as_published,
)

IMAGES = pixels(64)


@pytest.fixture(scope="module")
def mobilenet():
    return random_application("mobilenetv1-0.25", 64)


@pytest.fixture(scope="module")
def features():
    return random_application("mobilenetv1-0.25", 64, include_top=False)


@pytest.fixture(scope="module")
def ours():
    spec = spec_by_name("elite9-relu6", classes=3).resized((64, 64, 3))
    return randomise(build(spec))


def check(weights: PretrainedWeights, model: keras.Model, top: bool = True) -> None:
    """The weights are those that the model itself gives."""
    want = from_model(model)
    assert weights.arrays.keys() == want.arrays.keys()
    for name, array in want.arrays.items():
        if top or not name.startswith("predictions"):
            np.testing.assert_array_equal(weights.arrays[name], array)
    assert (weights.scale, weights.offset) == (want.scale, want.offset)


@pytest.mark.parametrize("ending", ["keras", "weights.h5", "h5"])
def test_models_of_keras_in_every_format(mobilenet, tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    (mobilenet.save_weights if ending == "weights.h5" else mobilenet.save)(path)
    weights = sources.load_source(str(path))
    check(weights, mobilenet)
    assert (weights.name, weights.origin, weights.licence) == ("mine", str(path), "unknown")
    # Files with weights only do not know the input size: it is the published one.
    assert weights.spec.resolution == (224 if ending == "weights.h5" else 64)


@pytest.mark.parametrize("ending", ["keras", "weights.h5", "h5"])
def test_a_network_inside_another_model(features, tmp_path, ending):
    layers = keras.layers
    outer = keras.Sequential(
        [keras.Input((64, 64, 3)), features, layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )
    path = tmp_path / f"transfer.{ending}"
    (outer.save_weights if ending == "weights.h5" else outer.save)(path)
    if ending == "weights.h5":
        with pytest.raises(UserError, match="with another layer, dense"):
            read(path)  # a file with weights only does not say where that layer stands
    else:
        check(read(path), features, top=False)


@pytest.mark.slow
def test_published_files_are_recognised_by_their_names(mobilenet, features, tmp_path):
    """Whatever their layers are called: Keras assigns the weights by their order."""
    path = tmp_path / "mobilenet_2_5_128_tf_no_top.h5"
    renamed = keras.models.clone_model(features, clone_function=_renamed)
    renamed.set_weights(features.get_weights())
    save_as_published(renamed, path)
    weights = read(path)
    assert weights.spec.input_shape == (128, 128, 3)
    check(weights, features, top=False)
    other = path.rename(tmp_path / "other.h5")
    with pytest.raises(UserError, match=r"put its name before the path, as in efficientnet-b0:"):
        read(other)
    check(sources.load_source(f"mobilenetv1-0.25:{other}"), features, top=False)
    with pytest.raises(UserError, match="does not hold the weights of elite9"):
        sources.load_source(f"elite9:{other}")


@pytest.mark.slow
def test_a_file_of_another_network_than_the_user_says(features, tmp_path):
    save_as_published(features, tmp_path / "other.h5")
    with pytest.raises(UserError, match=r"does not fit mobilenetv1-0\.5"):
        read(tmp_path / "other.h5", "mobilenetv1-0.5")


def _renamed(layer: keras.Layer) -> keras.Layer:
    config = layer.get_config()
    return type(layer).from_config({**config, "name": f"old_{layer.name}"})


@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_networks_of_ours(ours, tmp_path, ending):
    path = tmp_path / f"champion.{ending}"
    if ending == "keras":
        ours.save(path)
        weights = sources.load_source(str(path))
    else:
        ours.save_weights(path)
        with pytest.raises(UserError, match="does not say which network"):
            read(path)
        weights = sources.load_source(f"elite9-relu6:{path}")
    assert weights.spec.name == "elite9-relu6"
    assert weights.spec.classes == 3
    assert (weights.scale, weights.offset) == ((1 / 128,) * 3, (-1.0,) * 3)
    for variable in ours.weights:
        if "seed" not in variable.path:
            np.testing.assert_array_equal(weights.arrays[variable.path], variable)


def test_our_checkpoints(ours, tmp_path):
    spec = spec_by_name("elite9-relu6", classes=3).resized((64, 64, 3))
    state = [np.asarray(variable) for variable in ours.variables]
    average = [array for array in state if array.dtype == np.float32]
    trained = [array + 1 if array.dtype == np.float32 else array for array in state]
    parts = {"weights": trained, "average": average, "optimizer": []}
    Checkpoint(spec.to_json(), [], parts).save(tmp_path / "elite9.npz")
    weights = sources.load_source(str(tmp_path / "elite9.npz"))
    assert weights.spec == spec
    np.testing.assert_allclose(outputs(weights, IMAGES), ours(IMAGES / 128 - 1), atol=1e-5)


def test_damaged_and_strange_files_are_refused(mobilenet, tmp_path):
    missing = tmp_path / "none.keras"
    with pytest.raises(UserError, match="does not exist"):
        read(missing)
    mobilenet.save(tmp_path / "a.keras")
    mobilenet.save_weights(tmp_path / "a.weights.h5")
    for name in ("a.keras", "a.weights.h5"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:10_000])
        with pytest.raises(UserError, match="cannot be read") as error:
            read(path)
        assert "\n" not in str(error.value)
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)], name="other")
    other.save(tmp_path / "other.keras")
    with pytest.raises(UserError, match="does not say which network"):
        read(tmp_path / "other.keras")


@pytest.mark.parametrize(
    "config", [[], {"config": None}, {"config": {"layers": [1]}}, {"config": {"layers": None}}]
)
def test_strange_descriptions_of_models_are_refused(tmp_path, config):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", hdf5(lambda file: file.create_group("layers")))
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "a.keras")


def _huge(file: h5py.File) -> None:
    variables = file.create_group("layers/a/vars")
    variables.attrs["name"] = "stem_conv"
    variables.create_dataset("0", (10**6, 10**8), np.float32, chunks=(1000, 1000))


@pytest.mark.parametrize(
    "fill",
    [
        _huge,
        lambda file: file.create_dataset("layers", data=np.zeros(3)),
        lambda file: file.attrs.create("layer_names", 5),
    ],
)
def test_strange_hdf5_files_are_refused(tmp_path, fill):
    (tmp_path / "a.h5").write_bytes(hdf5(fill))
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "a.h5")


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    """The content of an HDF5 file that a function fills."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def test_damaged_checkpoints_are_not_to_be_deleted(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged or is no file of this project: copy it again"):
        sources.load_source(str(tmp_path / "a.npz"))
