"""The rendered data set: reproducible, balanced, valid JPEGs, and no shortcut to the label."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientnet_elite.benchmarks.studies.rendered_study import shortcut_accuracy
from efficientnet_elite.data.rendered.kinds import draw_kinds
from efficientnet_elite.data.rendered.scene import RenderedConfig, label_names, render
from efficientnet_elite.errors import UserError

_HASH = """
import hashlib
from efficientnet_elite.data.rendered.scene import RenderedConfig, render
config = RenderedConfig.parse("classes=7,images=100,size=48,seed=3")
print(hashlib.sha256(b"".join(render(config, i)[0] for i in range(12))).hexdigest())
"""


def _open(config: RenderedConfig, index: int) -> Image.Image:
    return Image.open(io.BytesIO(render(config, index)[0]))


def test_parse() -> None:
    assert RenderedConfig.parse("") == RenderedConfig()
    parsed = RenderedConfig.parse("classes=20, images=4000,size=96,seed=1")
    assert parsed == RenderedConfig(classes=20, images=4000, size=96, seed=1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour=3", "unknown key 'colour'"),
        ("classes", "classes='' is not an integer"),
        ("classes=many", "classes='many' is not an integer"),
        ("classes=1", "classes=1 is outside 2 to 1000"),
        ("size=8", "size=8 is outside"),
        ("seed=-1", "seed=-1 is outside"),
        ("classes=20,images=19", "at least one image for each class"),
        ("seed=1,seed=2", "seed is given twice"),
    ],
)
def test_parse_refuses(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        RenderedConfig.parse(text)
    assert "\n" not in str(caught.value)


def test_same_bytes_in_another_process_and_order() -> None:
    config = RenderedConfig.parse("classes=7,images=100,size=48,seed=3")
    backwards = [render(config, i)[0] for i in reversed(range(12))]
    here = hashlib.sha256(b"".join(reversed(backwards))).hexdigest()
    command = [sys.executable, "-c", _HASH]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert there == here


def test_images_differ_by_index_and_seed_but_not_by_their_number() -> None:
    config = RenderedConfig(size=48, images=100)
    more = RenderedConfig(size=48, images=200)
    other = RenderedConfig(size=48, images=100, seed=1)
    images = [render(config, i)[0] for i in range(20)]
    assert len(set(images)) == 20
    assert images == [render(more, i)[0] for i in range(20)]
    assert not set(images) & {render(other, i)[0] for i in range(20)}
    assert label_names(config) != label_names(other)


@settings(max_examples=25, deadline=None)
@given(
    classes=st.integers(2, 1000),
    size=st.integers(32, 160),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_configuration_renders(classes: int, size: int, seed: int, data: st.DataObject) -> None:
    config = RenderedConfig(classes=classes, images=5000, size=size, seed=seed)
    index = data.draw(st.integers(0, 4999))
    jpeg, label = render(config, index)
    assert label == index % classes
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert 0.84 * size - 1 <= max(image.size) <= 1.16 * size + 1
    assert 0.7 <= min(image.size) / max(image.size) <= 1
    assert np.asarray(image).std() > 5  # not a blank image


def test_index_out_of_range() -> None:
    config = RenderedConfig(images=10)
    for index in (-1, 10):
        with pytest.raises(IndexError):
            render(config, index)


def test_sizes_and_aspects_vary() -> None:
    sizes = {_open(RenderedConfig(size=64), i).size for i in range(40)}
    assert len(sizes) > 30
    assert any(w > h for w, h in sizes) and any(w < h for w, h in sizes)


@pytest.mark.parametrize("classes", [2, 7, 10, 1000])
def test_classes_come_in_pairs_that_differ_in_one_attribute(classes: int) -> None:
    names = label_names(RenderedConfig(classes=classes, images=1000))
    assert len(set(names)) == classes
    kinds = draw_kinds(classes, 0)
    for first, second in zip(kinds[0::2], kinds[1::2], strict=False):
        different = [key for key in vars(first) if getattr(first, key) != getattr(second, key)]
        assert len(different) == 1


@pytest.mark.slow
def test_no_class_stands_out_in_a_thumbnail_or_histogram() -> None:
    """A linear classifier on colours, layout and size stays far below what networks reach."""
    assert shortcut_accuracy("images=1600,size=64", train_share=0.5) < 0.25  # chance: 0.10
