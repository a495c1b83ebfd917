"""Published weights of keras.applications in Keras' cache, downloads that fail, the factories."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

import efficientnet_elite
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained import keras_applications, keras_networks, sources
from efficientnet_elite.networks.pretrained.keras_applications import load_imagenet
from efficientnet_elite.networks.pretrained.keras_networks import KERAS_NETWORKS
from efficientnet_elite.networks.pretrained.weights import sha256_of
from tests.support.keras_networks import check_same, outputs, pixels, randomise, save_as_published

MEAN, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = pixels(224)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of Keras, and no server."""

    def no_server(name, origin, **options):
        path = tmp_path / "models" / name
        if not path.is_file():
            raise Exception(f"URL fetch failure on {origin}: None -- Name not known")
        return str(path)

    monkeypatch.setattr(file_utils, "get_file", no_server)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def b0(tmp_path_factory):
    """EfficientNet-B0 with random weights, as a file like the published one, and its outputs."""
    model = randomise(keras.applications.EfficientNetB0(weights=None))
    normalisation = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    for variable, value in zip(normalisation.weights, (MEAN, DEVIATIONS), strict=False):
        variable.assign(np.reshape(value, variable.shape))
    path = tmp_path_factory.mktemp("b0") / "efficientnetb0.h5"
    save_as_published(model, path)
    return path


def test_b0_from_the_cache_with_its_preprocessing(cache, b0):
    assert not sources.is_present(sources.SOURCES["imagenet"])
    cache.mkdir()
    (cache / b0.name).write_bytes(b0.read_bytes())
    assert sources.is_present(sources.SOURCES["imagenet"])
    assert "efficientnet-b0" in sources.available()
    weights = sources.load_source("imagenet")
    np.testing.assert_allclose(weights.scale, 1 / 255 / np.array(DEVIATIONS), rtol=1e-5)
    np.testing.assert_allclose(weights.offset, -np.array(MEAN) / DEVIATIONS, rtol=1e-5)
    assert (weights.name, weights.licence) == ("efficientnet-b0", "Apache-2.0")
    assert weights.sha256 == sha256_of(b0)
    theirs = keras.applications.EfficientNetB0(weights="imagenet", classifier_activation=None)
    check_same(weights, IMAGES, np.asarray(theirs(IMAGES)))
    # The same file by its path, recognised by its layers; Keras itself loses a layer here.
    by_path = sources.load_source(str(b0))
    assert (by_path.scale, by_path.offset, by_path.spec) == (
        pytest.approx(weights.scale), pytest.approx(weights.offset), weights.spec)  # fmt: skip
    assert all(np.array_equal(by_path.arrays[k], v) for k, v in weights.arrays.items())


@pytest.fixture
def published(b0, monkeypatch):
    weights = sources.load_source(str(b0))
    monkeypatch.setattr(keras_applications, "load_imagenet", {"efficientnet-b0": weights}.get)
    return weights


def test_the_factory_with_imagenets_weights(published):
    """The input range is folded into the stem, which is exact but for the border."""
    model = efficientnet_elite.ELite0(
        weights="imagenet", input_shape=(64, 64, 3), classifier_activation=None
    )
    images = IMAGES[:, :64, :64]
    want = outputs(replace(published, spec=published.spec.resized((64, 64, 3))), images)
    assert np.corrcoef(np.ravel(model(images)), want.ravel())[0, 1] > 0.99


@pytest.mark.slow
def test_the_factory_with_imagenets_weights_in_grey(published):
    options = {"weights": "imagenet", "include_top": False, "pooling": "avg"}
    grey = efficientnet_elite.ELite0(input_shape=(64, 64, 1), **options)
    colour = efficientnet_elite.ELite0(input_shape=(64, 64, 3), **options)
    image = IMAGES[:, :64, :64, :1]
    np.testing.assert_allclose(grey(image), colour(image.repeat(3, -1)), rtol=1e-3, atol=1e-4)


def test_imagenet_is_refused_where_there_is_none(cache):
    with pytest.raises(UserError, match="no weights of ELite9 are published, only of ELite0"):
        efficientnet_elite.ELite9(weights="imagenet")
    with pytest.raises(UserError, match="has 1000 classes, not 5"):
        efficientnet_elite.ELite0(weights="imagenet", classes=5)
    with pytest.raises(
        UserError, match=r"no weights of mobilenetv3-large-0\.5 have been published"
    ):
        load_imagenet("mobilenetv3-large-0.5")


FAST = ("mobilenetv1-0.25", "mobilenetv3-small-minimalistic")
SLOW = tuple(n.name for n in KERAS_NETWORKS.values() if n.address and n.name not in FAST)


def check_failed_download(name, cache):
    network = KERAS_NETWORKS[name]
    with pytest.raises(UserError) as error:
        sources.load_source(name)
    text = str(error.value)
    assert "\n" not in text
    # Keras itself asked for this address, and looks for this file.
    assert f"URL fetch failure on {network.address}" in text
    assert text.endswith(f"download {network.address} elsewhere and save it as "
                         f"{cache / network.file}")  # fmt: skip
    keras.backend.clear_session()


@pytest.mark.parametrize("name", FAST)
def test_a_failed_download_says_how_to_place_the_file(name, cache):
    check_failed_download(name, cache)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_failed_download_says_how_to_place_more_files(name, cache):
    check_failed_download(name, cache)


def test_a_file_placed_by_hand_is_used(cache):
    model = randomise(keras.applications.MobileNet((224, 224, 3), alpha=0.25, weights=None))
    save_as_published(model, cache / KERAS_NETWORKS["mobilenetv1-0.25"].file)
    weights = sources.load_source("mobilenetv1-0.25")
    want = np.log(np.asarray(model(IMAGES / 127.5 - 1)))
    got = outputs(weights, IMAGES, classifier_activation="softmax")
    np.testing.assert_allclose(np.log(got), want, atol=1e-4)


@pytest.mark.parametrize("home", [None, "{}/given"])
def test_the_cache_is_keras_own(tmp_path, monkeypatch, home):
    """Keras' module of settings asks the environment when it is imported: it is run again."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("KERAS_HOME", home.format(tmp_path))
    own = runpy.run_path(keras.src.backend.config.__file__)["keras_home"]()
    assert keras_networks.cache_folder() == Path(own) / "models"


def test_a_cache_that_may_not_be_read_has_nothing(monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(keras_networks.Path, "is_file", refuse)
    assert not keras_networks.is_cached("efficientnet-b0")
