"""Crops, resizing, training batches, evaluation batches and the representative data set."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import sources
from efficientnet_elite.data.assembly import pipeline_for
from efficientnet_elite.data.geometry import (
    PipelineConfig,
    base_side,
    center_box,
    crop_and_resize,
    random_box,
)
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.recipes import PRESETS


@pytest.fixture(scope="module")
def digits():
    return data_lib.load(DataConfig(), progress=False)


def collect(batches):
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


# --- geometry


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    min_area=st.floats(0.01, 1.0),
    draws=st.lists(st.floats(0, 0.9990234375, width=32), min_size=4, max_size=4),
)
def test_training_crops_stay_inside_and_keep_their_aspect(height, width, min_area, draws):
    box = random_box((height, width), PipelineConfig(min_area=min_area, max_aspect=4 / 3), draws)
    top, left, h, w = box
    tolerance = 1e-3 * max(height, width)
    assert top >= -tolerance and top + h <= height + tolerance
    assert left >= -tolerance and left + w <= width + tolerance
    assert 3 / 4 - 1e-3 <= w / h <= 4 / 3 + 1e-3
    assert h * w <= height * width * (1 + 1e-3)
    expected = (min_area + (1 - min_area) * draws[0]) * height * width
    touches_border = h >= height - tolerance or w >= width - tolerance
    assert touches_border or h * w == pytest.approx(expected, rel=1e-3)


def test_evaluation_crop_is_the_papers_at_224_and_scales_with_the_base():
    paper = PipelineConfig()
    for r in (224, 203, 172, 132):
        assert paper.crop_fraction(r, 224) == pytest.approx(r / (r + 32))
    assert paper.crop_fraction(64, 64) == pytest.approx(0.875)
    assert paper.crop_fraction(32, 64) == pytest.approx(paper.crop_fraction(112, 224))
    assert PipelineConfig(center_crop=False).crop_fraction(32, 32) == 1
    for side in (57, 96):
        for base in range(8, 513):
            assert base_side(side, paper.crop_fraction(side, base)) == base
    assert center_box((100, 60), 0.5) == (35, 15, 30, 30)


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    draws=st.lists(st.floats(0, 0.9990234375), min_size=4, max_size=4),
    resolution=st.integers(1, 64),
)
def test_resampling_is_pillows_of_the_whole_image(height, width, draws, resolution):
    """A client without TensorFlow can therefore feed a network the same pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image, bicubic = Image.fromarray(pixels), Image.Resampling.BICUBIC
    for box in (
        random_box((height, width), PipelineConfig(min_area=0.02), draws),
        center_box((height, width), 0.01 + draws[0] * 0.99),
    ):
        top, left, h, w = max(0, box[0]), max(0, box[1]), *box[2:]
        right, lower = min(left + w, width), min(top + h, height)
        got = np.asarray(crop_and_resize(pixels, box, resolution)).astype(int)
        columns = image.resize((width, resolution), bicubic, box=(0, top, width, lower))
        by_passes = columns.resize(
            (resolution, resolution), bicubic, box=(left, 0, right, resolution)
        )
        assert np.array_equal(got, by_passes)


def test_resampling_is_close_to_a_single_call_of_any_pillow():
    photograph = Image.effect_noise((40, 30), 90).resize((200, 300), Image.Resampling.BICUBIC)
    image = photograph.convert("RGB")
    box = center_box((300, 200), 0.875)
    top, left, h, w = box
    at_once = image.resize((96, 96), Image.Resampling.BICUBIC, (left, top, left + w, top + h))
    difference = np.abs(
        np.asarray(crop_and_resize(np.asarray(image), box, 96)).astype(int) - np.asarray(at_once)
    )
    assert difference.max() <= 2 and difference.mean() < 0.5


def test_normalisation_is_exact_for_every_pixel_value():
    pixels = np.arange(256, dtype=np.uint8)
    values = data_lib.normalise(tf.constant(pixels)).numpy()
    assert values.dtype == np.float32
    int8 = pixels.astype(int) - 128
    assert np.array_equal(values, int8.astype(np.float32) * np.float32(1 / 128))
    assert values[128] == 0


# --- training stream


SETTINGS = {"resolution": 16, "batch_size": 100}


def test_a_stream_from_a_later_epoch_equals_the_rest_of_the_whole_stream(digits):
    whole, steps = data_lib.train_batches(digits, seed=5, **SETTINGS)
    rest, _ = data_lib.train_batches(digits, seed=5, first_epoch=2, **SETTINGS)
    assert steps == digits.sizes["train"] // 100
    tail_images, tail_labels = collect(whole.skip(2 * steps).take(steps + 3))
    images, labels = collect(rest.take(steps + 3))
    assert np.array_equal(images, tail_images) and np.array_equal(labels, tail_labels)
    later, _ = data_lib.train_batches(digits, seed=5, first_epoch=2, first_step=5, **SETTINGS)
    images, labels = collect(later.take(steps - 2))
    assert np.array_equal(images, tail_images[500:]) and np.array_equal(labels, tail_labels[500:])


def test_the_stream_depends_on_its_seed_and_on_nothing_else(digits):
    first, _ = data_lib.train_batches(digits, seed=5, **SETTINGS)
    tf.random.set_seed(99)
    again, _ = data_lib.train_batches(digits, seed=5, **SETTINGS)
    other, _ = data_lib.train_batches(digits, seed=6, **SETTINGS)
    a, b, c = (collect(batches.take(3)) for batches in (first, again, other))
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    assert not np.array_equal(a[1], c[1])


def test_an_epoch_takes_every_image_once_and_the_next_in_another_order(digits):
    # A crop of the whole digit at its own resolution is the digit itself, so it can be identified.
    data = replace(digits, pipeline=PipelineConfig(flip=False, min_area=1.0, max_aspect=1.0))
    size = digits.sizes["train"]
    batches, steps = data_lib.train_batches(data, resolution=8, batch_size=size, seed=0)
    assert steps == 1
    epochs = [images.numpy() for images, _ in batches.take(2)]
    fixed, _ = collect(
        data_lib.eval_batches(
            replace(digits, pipeline=PipelineConfig(center_crop=False)),
            "train",
            resolution=8,
            batch_size=200,
            base_resolution=8,
        )
    )
    ordered = [sorted(image.tobytes() for image in images) for images in (*epochs, fixed)]
    assert ordered[0] == ordered[1] == ordered[2]
    assert not np.array_equal(epochs[0], epochs[1])


def test_half_of_the_images_are_mirrored_if_the_pipeline_flips(digits):
    whole = PipelineConfig(flip=True, min_area=1.0, max_aspect=1.0)
    settings = {"resolution": 8, "batch_size": 1000, "seed": 3}
    mirrored, _ = data_lib.train_batches(replace(digits, pipeline=whole), **settings)
    plain, _ = data_lib.train_batches(
        replace(digits, pipeline=replace(whole, flip=False)), **settings
    )
    a, b = next(iter(mirrored))[0].numpy(), next(iter(plain))[0].numpy()
    same = (a == b).all(axis=(1, 2, 3))
    turned = (a == b[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.all(same | turned)
    assert 400 < turned.sum() < 600
    assert not digits.pipeline.flip  # a mirrored digit is not a digit


def test_batch_larger_than_the_training_part(digits):
    with pytest.raises(UserError, match=r"batch size 5000 is larger than the training part"):
        data_lib.train_batches(digits, resolution=8, batch_size=5000, seed=0)


# --- evaluation and calibration


def test_evaluation_shows_every_image_once_in_fixed_order(digits):
    arguments = {"resolution": 12, "batch_size": 64, "base_resolution": 12}
    sizes = [len(labels) for _, labels in data_lib.eval_batches(digits, "test", **arguments)]
    assert sizes == [64, 64, 64, 64, 64, 39] and sum(sizes) == digits.sizes["test"]
    a, b = (collect(data_lib.eval_batches(digits, "test", **arguments)) for _ in range(2))
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    assert a[0].dtype == np.float32 and a[1].dtype == np.int32


def test_digits_are_scikit_learns_in_grey(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    images, labels = zip(
        *(
            collect(
                data_lib.eval_batches(digits, part, resolution=8, batch_size=500, base_resolution=8)
            )
            for part in ("train", "validation", "test")
        ),
        strict=True,
    )
    pixels = np.round((np.concatenate(images) + 1) * 128).astype(np.uint8)
    expected = np.round(source.images * 255 / 16).astype(np.uint8)
    assert sorted(p.tobytes() for p in pixels[..., 0]) == sorted(p.tobytes() for p in expected)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert np.array_equal(np.bincount(np.concatenate(labels)), np.bincount(source.target))
    assert digits.labels == tuple("0123456789") and digits.num_classes == 10


def test_digits_are_the_same_without_their_file(digits, monkeypatch):
    """scikit-learn is imported if its file is not where it usually is."""
    monkeypatch.setattr(sources, "find_spec", lambda package: None)
    imported = data_lib.load(DataConfig(), progress=False)
    assert imported.fingerprint == digits.fingerprint
    arguments = {"resolution": 8, "batch_size": 500, "base_resolution": 8}
    for part in digits.parts:
        images, labels = collect(data_lib.eval_batches(digits, part, **arguments))
        again, same_labels = collect(data_lib.eval_batches(imported, part, **arguments))
        assert np.array_equal(images, again) and np.array_equal(labels, same_labels)
        assert (images.dtype, labels.dtype) == (again.dtype, same_labels.dtype)


def test_calibration_images_are_training_images_of_all_classes(digits):
    arguments = {"resolution": 8, "base_resolution": 8}
    images, indices = data_lib.calibration_images(digits, count=40, seed=1, **arguments)
    assert images.shape == (40, 8, 8, 3) and images.dtype == np.float32
    assert len(set(indices)) == 40
    train, labels = collect(data_lib.eval_batches(digits, "train", batch_size=500, **arguments))
    label_of = {image.tobytes(): label for image, label in zip(train, labels, strict=True)}
    assert np.bincount([label_of[image.tobytes()] for image in images]).tolist() == [4] * 10
    again, _ = data_lib.calibration_images(digits, count=40, seed=1, **arguments)
    other, _ = data_lib.calibration_images(digits, count=40, seed=2, **arguments)
    assert np.array_equal(images, again) and not np.array_equal(images, other)


# --- rendered


def test_rendered_images_have_the_labels_of_their_renderer():
    from efficientnet_elite.data.rendered.scene import RenderedConfig, label_names, render

    text = "classes=3,images=24,size=40,seed=7"
    data = data_lib.load(DataConfig(dataset=f"rendered:{text}"), progress=False)
    scene = RenderedConfig.parse(text)
    assert data.labels == tuple(label_names(scene))
    assert sum(data.sizes.values()) == 24
    keys = [int(k) for k, _ in data.parts["test"].keys().as_numpy_iterator()]
    labels = [
        int(label[0])
        for _, label in data_lib.eval_batches(
            data, "test", resolution=16, batch_size=1, base_resolution=16
        )
    ]
    assert labels == [render(scene, key)[1] for key in keys]


def test_rendered_with_a_wrong_setting():
    with pytest.raises(UserError):
        data_lib.load(DataConfig(dataset="rendered:colour=1"), progress=False)


def test_the_quick_preset_crops_less_than_the_papers_350_epochs():
    photos = PipelineConfig()
    min_areas = {name: pipeline_for(make().data, photos).min_area for name, make in PRESETS.items()}
    assert min_areas == {"quick": 0.5, "auto": 0.2, "paper": 0.08}


# --- speed


CONCURRENT = """
import threading, time
import tensorflow as tf
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig

tf.config.experimental.enable_op_determinism()
data = data_lib.load(DataConfig(), progress=False)
lock, running, most = threading.Lock(), 0, 0

def change(image, rng):
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    time.sleep(0.002)  # releases the interpreter's lock, as Pillow does
    with lock:
        running -= 1
    return image

batches, _ = data_lib.train_batches(data, resolution=8, batch_size=50, seed=0, change=change)
for _ in batches.take(4):
    pass
print(most)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_crops_are_computed_at_the_same_time_where_operations_are_deterministic():
    """A stateful function in the map would make tf.data compute them one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", CONCURRENT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 1


def test_a_change_of_single_images_is_repeatable_and_continues_exactly(digits):
    def noise(image, rng):
        pixels = np.asarray(image)
        return Image.fromarray(pixels ^ rng.integers(0, 256, pixels.shape, np.uint8))

    whole, steps = data_lib.train_batches(digits, seed=1, change=noise, **SETTINGS)
    rest, _ = data_lib.train_batches(digits, seed=1, change=noise, first_epoch=1, **SETTINGS)
    plain, _ = data_lib.train_batches(digits, seed=1, **SETTINGS)
    a, b = collect(whole.skip(steps).take(2)), collect(rest.take(2))
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    assert len({image.tobytes() for image in a[0]}) == 200
    assert not np.array_equal(collect(plain.skip(steps).take(2))[0], a[0])
