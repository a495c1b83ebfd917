"""Networks whose input is not square: names, pools, crops, and a training up to C code."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import efficientnet_elite as ee
from efficientnet_elite import cli
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, InputSize, SearchConfig, checked_size
from efficientnet_elite.data import geometry
from efficientnet_elite.device import costs, metric_table
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import classifier, inspect, measure
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.runtimes import runtime, tflm
from efficientnet_elite.job import config_file, settings
from efficientnet_elite.job.training import network_spec
from efficientnet_elite.networks import factories
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.selection import select
from efficientnet_elite.search.candidates import pool_members
from efficientnet_elite.training import start
from efficientnet_elite.training.distillation import Distillation
from efficientnet_elite.training.mixing import mixed
from tests.support import c_programs, tflm_runs
from tests.support.c_programs import needs_compiler
from tests.support.tiny_pretrained import SMALLER, SOURCE

NETWORK, SIZE = "elite-w4d4r1-relu6-nose", InputSize(24, 40)
SIDES = st.integers(8, 400)

# -- sizes and settings ----------------------------------------------------------------------------


@given(st.builds(InputSize, SIDES, SIDES))
def test_a_size_is_read_from_what_it_is_written_as(size):
    assert InputSize.of(size.plain) == InputSize.of(str(size)) == InputSize.of(size) == size
    assert isinstance(size.plain, int) == size.is_square


@pytest.mark.parametrize("text", ["", "x", "96x", "96x128x3", "96 x 128", "-8x8", "7", "8x7"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(UserError, match=r"^input_size="):
        checked_size(text, "input_size")


def asked(**options: object) -> int | str:
    return settings.search_config(options, SearchConfig()).base_resolution


def test_a_size_and_a_resolution_are_one_setting():
    for square in (96, "96", "96x96", (96, 96), np.int64(96)):
        assert asked(input_size=square) == asked(base_resolution=square) == 96
        assert asked(input_size=square, base_resolution=96) == 96
    assert asked(input_size=(24, 40)) == asked(base_resolution="24x40") == "24x40"
    message = "base_resolution and input_size are different sizes, .*: give one of them"
    for options in ({"base_resolution": 96, "input_size": "96x128"}, {"input_size": 64}):
        with pytest.raises(UserError, match=message):
            asked(**{"base_resolution": 96, **options})
    for wrong in (True, 96.0, (1, 2, 3), None.__class__):
        with pytest.raises(UserError, match="input_size"):
            asked(input_size=wrong)


def test_a_network_by_name_is_built_for_one_size(monkeypatch):
    monkeypatch.setattr(factories, "build", lambda spec: spec.size)
    for square in (32, "32", (32, 32)):
        assert ee.build("elite9", base_resolution=square, input_size="32x32") == (32, 32)
    with pytest.raises(UserError, match="are different sizes, 32 and 24x32: give one of them"):
        ee.build("elite9", base_resolution=32, input_size=(24, 32))


def test_files_and_records_hold_sizes(tmp_path):
    config = SearchConfig(base_resolution="24x40")
    assert config.base_size == SIZE
    assert SearchConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    path = tmp_path / "mine.toml"
    path.write_text(config_file.as_toml(config), encoding="utf-8")
    assert config_file.read(path) == config
    path.write_text('input_size = "24x40"\n', encoding="utf-8")
    with pytest.raises(UserError, match="did you mean base_resolution"):
        config_file.read(path)


# -- networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["elite", "hf", "mobilenetv2", "tinynet", "lraspp"])
@pytest.mark.parametrize("base", ["96x128", "160x120", "50x150"])
def test_sides_scale_together(pool, base):
    height, width = InputSize.of(base)
    squares = {c.name: c for c in pool_members(pool, base_resolution=min(height, width))}
    members = pool_members(pool, base_resolution=base)
    step = 8 if pool == "lraspp" else 1
    assert len(members) > 3
    for member in members:
        name, dash, size = member.name.rpartition("-")
        assert dash and size == str(member.spec.size)
        # Weights do not depend on the size, and the shorter side is that of the square network.
        square = squares[name].spec
        assert member.spec.blocks == square.blocks and member.spec.params == square.params
        shorter = min(member.spec.size)
        assert shorter == square.size.height
        exact = shorter * max(height, width) / min(height, width)
        assert abs(max(member.spec.size) - exact) <= step / 2
        assert (member.spec.size.height < member.spec.size.width) == (height < width)


def test_names_tell_sizes_that_are_not_square():
    assert [c.name for c in pool_members("elite", base_resolution="96x96")] == [
        c.name for c in pool_members("elite", base_resolution=96)
    ]
    spec = spec_by_name("ELite9-relu6-nose-24x40")
    assert spec.input_shape == (24, 40, 3) and spec.name == "elite9-relu6-nose-24x40"
    assert spec == spec_by_name("elite9-relu6-nose", base_resolution="24x40")
    assert spec == network_spec("elite9-relu6-nose@24x40", 96, classes=1000)
    assert network_spec("elite9@24x24", 96) == network_spec("elite9@24", 96)
    for wrong in ("elite9@24x", "elite9@24x4", "elite9@"):
        with pytest.raises(UserError, match="NETWORK@PIXELS"):
            network_spec(wrong, 96)
    with pytest.raises(UserError, match="at least 8"):
        spec_by_name("elite9-24x4")


def test_counts_are_those_of_the_network_that_is_built():
    spec = spec_by_name("elite9-24x40", classes=3)
    turned = spec_by_name("elite9-40x24", classes=3)
    assert build(spec).count_params() == spec.params
    assert build(spec).output_shape == (None, 3)
    assert spec.macs == turned.macs  # all strides and kernels are square
    between = [spec_by_name("elite9", classes=3, base_resolution=side).macs for side in (24, 40)]
    assert between[0] < spec.macs < between[1]
    assert costs.of(spec, "arena_bytes") > 0 and costs.of(spec, "cortex_m4_instructions") > 0


def test_a_measured_file_is_found_by_its_name(tmp_path):
    spec = spec_by_name("elite9-24x40", classes=3)
    table = tmp_path / "board.csv"
    file = measure.int8_path(spec, tmp_path).name
    table.write_text(f"model,input,median_ms\n{file},1x24x40x3 int8,2.5\n", encoding="utf-8")
    assert metric_table.latencies(table, [spec]) == {spec.name: 2.5}


def test_pools_of_users_stay_square(tmp_path, monkeypatch):
    (tmp_path / "narrow_pool.py").write_text(
        "import keras\n"
        "def models(side, classes):\n"
        "    layers = keras.layers\n"
        "    return {'one': lambda: keras.Sequential([keras.Input((side, side, 3)),"
        " layers.GlobalAveragePooling2D(), layers.Dense(classes)])}\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="take square images, not 24x40: give the input"):
        pool_members("narrow_pool:models", base_resolution="24x40")


# -- crops -----------------------------------------------------------------------------------------


@given(SIDES, SIDES, st.builds(InputSize, SIDES, SIDES), st.floats(0.1, 1))
@example(480, 640, InputSize(96, 128), 1.0)
def test_the_evaluation_crop_has_the_shape_of_the_input(rows, columns, size, fraction):
    top, left, height, width = geometry.center_box((rows, columns), fraction, size)
    assert math.isclose(width / height, size.width / size.height)
    assert math.isclose(max(height / rows, width / columns), fraction)  # it fills one direction
    assert math.isclose(2 * top + height, rows) and math.isclose(2 * left + width, columns)


@given(SIDES, SIDES, st.floats(0.1, 1))
def test_the_crop_of_a_square_input_is_that_of_earlier_versions(rows, columns, fraction):
    side = min(rows, columns) * fraction
    expected = (rows - side) / 2, (columns - side) / 2, side, side
    assert geometry.center_box((rows, columns), fraction, 96) == expected


@given(st.builds(InputSize, SIDES, SIDES), st.lists(st.floats(0, 0.999), min_size=4, max_size=4))
def test_training_crops_are_distorted_evenly(size, draws):
    config = geometry.PipelineConfig(min_area=0.01)
    _, _, height, width = geometry.random_box((900, 900), config, draws, size)
    distortion = (width / height) / (size.width / size.height)
    assert 3 / 4 - 1e-9 <= distortion <= 4 / 3 + 1e-9


def test_cutmix_cuts_in_both_directions():
    images = (
        np.ones((8, *SIZE, 3), np.float32) * np.arange(8, dtype=np.float32)[:, None, None, None]
    )
    labels = np.arange(8, dtype=np.int32)
    step = tf.constant(3, tf.int64)
    cut, shares = mixed("cutmix", tf.constant(images), tf.constant(labels), 8, seed=1, step=step)
    own = cut.numpy()[..., 0] == labels[:, None, None]
    assert own.shape == (8, *SIZE)
    np.testing.assert_allclose(own.mean((1, 2)), np.diag(shares.numpy()), atol=1e-6)
    lost = ~own[own.all((1, 2)) == 0]
    assert len(lost)
    for each in lost:  # a rectangle
        assert each.sum() == each.any(1).sum() * each.any(0).sum()


# -- from images to C code -------------------------------------------------------------------------


def photos(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(36):
        pixels = rng.integers(0, 100, (*[(60, 100), (90, 70), (48, 80)][i % 3], 3), np.uint8)
        pixels[..., i % 2] += 100
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A work directory with a training at 24 x 40 pixels, and its export."""
    folder = tmp_path_factory.mktemp("narrow")
    options = {"pretrained": "none", "epochs": 1, "batch_size": 8, "progress": False}
    dataset = f"folder:{photos(folder / 'photos')}"
    (done,) = ee.train(
        NETWORK, workdir=folder / "run", dataset=dataset, input_size=SIZE, export=True, **options
    )
    assert done.resolution == "24x40"
    # The same call with the size under its other name continues, and changes nothing.
    again = ee.train(
        NETWORK, workdir=folder / "run", dataset=dataset, base_resolution="24x40", **options
    )
    assert again == (done,)
    return folder


def model_of(folder: Path) -> Path:
    (model,) = folder.glob("run/export/*/*.int8.tflite")
    return model


@pytest.mark.slow
@needs_compiler
def test_litert_tflm_and_the_c_code_agree_to_the_byte(trained, tmp_path):
    if not tflm.available():
        pytest.skip("pip install --pre tflite-micro")
    model = model_of(trained).read_bytes()
    contents = inspect.read(model)
    assert inspect.image_shape(contents) == (*SIZE, 3)
    seen = classifier.load(model_of(trained))
    files = sorted(trained.glob("photos/*/*.png"))
    images = np.stack([seen.seen(file.read_bytes()) for file in files[:6]])
    images = images.astype(np.float32) / 128 - 1
    (image,), (output,) = runtime.interfaces(contents)
    library = c_programs.Library(model, tmp_path)
    expected = tflm_runs.run(model, images, tflm.MAX_ARENA_BYTES)
    assert np.ptp(expected) > 0
    reference = runtime.Runner(model, kernels=runtime.REFERENCE_KERNELS).run(images)
    np.testing.assert_array_equal(reference, expected)
    for pixels, logits in zip(runtime.quantize_images(images, image), expected, strict=True):
        mine = library.run(pixels).reshape(output.shape[1:])
        np.testing.assert_array_equal(runtime.dequantize_outputs(mine, output), logits)


@pytest.mark.slow
def test_a_training_is_exported_shown_and_packed(trained, tmp_path, capsys):
    model = model_of(trained)
    sidecar = json.loads(model.parent.joinpath(f"{model.parent.name}.json").read_text("utf-8"))
    assert sidecar["input"]["shape"] == [1, *SIZE, 3]
    assert "images of 24 x 40 pixels" in (model.parent / "MODEL_CARD.md").read_text("utf-8")
    assert "24x40" in (trained / "run/report.html").read_text("utf-8")
    file = next(trained.glob("photos/a/*.png"))
    assert cli.main(["predict", str(model), str(file)]) == 0
    assert cli.main(["evaluate", str(model), f"--dataset=folder:{trained}/photos"]) == 0
    assert "24x40" in capsys.readouterr().out
    for target in ("c", "web"):
        packages.of_file(model, target, out_dir=tmp_path / target)
    described = json.loads((tmp_path / "web/model.json").read_text("utf-8"))
    assert (described["height"], described["width"]) == SIZE and "side" not in described
    if shutil.which("gcc"):
        program = tmp_path / "selftest"
        sources = sorted(str(path) for path in tmp_path.glob("c/**/*.c"))
        flags = [f"-I{folder}" for folder in {Path(path).parent for path in sources}]
        subprocess.run(["gcc", "-std=c99", *flags, *sources, "-o", program, "-lm"], check=True)
        assert b"PASS" in subprocess.run([program], capture_output=True, check=True).stdout


@pytest.mark.slow
def test_a_network_starts_and_learns_from_a_larger_one():
    digits = data_lib.load(DataConfig(), max_side=24, progress=False)
    spec = SMALLER.resized((*SIZE, 3))
    selection = select(SOURCE, spec)
    model = build(spec)
    options = {"base_resolution": SIZE, "seed": 0}
    start.begin(model, selection, digits, **options)
    distillation = Distillation(model, selection, "both", digits, **options)
    batches, _ = data_lib.train_batches(digits, resolution=SIZE, batch_size=8, seed=0)
    images, _ = next(iter(batches))
    assert images.shape == (8, *SIZE, 3)
    outputs = distillation.outputs(images, training=False)
    targets = distillation.targets(images)
    assert [x.shape for x in outputs] == [x.shape for x in targets]
    assert outputs[1].shape[1:3] == (SIZE.height // 2, SIZE.width // 2)
    assert all(np.isfinite(x).all() for x in (*outputs, *targets))
