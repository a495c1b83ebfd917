"""Crops, resizing, training batches, evaluation batches and the representative data set."""

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
from efficientnet_elite.data.geometry import PipelineConfig, center_box, crop_and_resize, random_box
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
    box = random_box(
        tf.constant([height, width, 3]),
        PipelineConfig(min_area=min_area, max_aspect=4 / 3),
        tf.constant(draws, tf.float32),
    ).numpy()
    top, left, h, w = box.astype(float)
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
    assert center_box(tf.constant([100, 60, 3]), 0.5).numpy().tolist() == [35, 15, 30, 30]


@pytest.mark.parametrize(
    ("box", "resolution"),
    [((0, 0, 90, 70), 40), ((10.5, 3.25, 50.25, 60.5), 32), ((20, 30, 8, 9), 48)],
)
def test_resampling_is_pillows_bicubic(box, resolution):
    """A client without TensorFlow can therefore feed a network the same pixels."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 18, 3), np.uint8))
    image = noise.resize((70, 90), Image.Resampling.BICUBIC)
    top, left, height, width = box
    expected = image.resize(
        (resolution, resolution),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
    )
    pixels = crop_and_resize(
        tf.constant(np.asarray(image)), tf.constant(box, tf.float32), resolution
    )
    assert pixels.dtype == tf.uint8
    difference = np.abs(pixels.numpy().astype(int) - np.asarray(expected))
    # Pillow works in integers and rounds once more, between its two passes.
    assert difference.max() <= 2 and difference.mean() < 0.5


def test_resampling_clips_overshoot_instead_of_wrapping():
    edge = np.zeros((4, 4, 3), np.uint8)
    edge[:, 2:] = 255
    pixels = crop_and_resize(tf.constant(edge), tf.constant([0.0, 0, 4, 4]), 32).numpy()
    assert np.all(np.diff(pixels[0, 8:24, 0].astype(int)) >= 0)
    assert pixels[0, 0, 0] == 0 and pixels[0, -1, 0] == 255


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


def test_further_augmentation_gets_whole_uint8_batches_and_a_seed(digits):
    seeds = []

    def invert(images, seed):
        assert images.dtype == tf.uint8 and images.shape == (100, 16, 16, 3)
        tf.py_function(lambda s: seeds.append(tuple(s.numpy())), [seed], [])
        return 255 - images

    plain, _ = data_lib.train_batches(digits, seed=1, **SETTINGS)
    inverted, _ = data_lib.train_batches(digits, seed=1, augment=invert, **SETTINGS)
    a, b = collect(plain.take(2))[0], collect(inverted.take(2))[0]
    assert np.array_equal(a + b, np.full_like(a, -1 / 128))
    assert len(set(seeds)) == len(seeds) >= 2


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
    keys = [int(k) for k in data.parts["test"].keys().as_numpy_iterator()]
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
    assert min_areas == {"quick": 0.5, "paper": 0.08}
