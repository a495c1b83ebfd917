"""The preprocessing that docs/data.md shows is that of the evaluation, to the byte."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, InputSize

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


@pytest.fixture(scope="module")
def preprocess():
    (code,) = re.findall(r"^```python\n(import numpy.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 20
    names = {}
    exec(code, names)
    return names["preprocess"]


@pytest.mark.parametrize("size", [16, 33, "24x40", "31x17"])
@pytest.mark.parametrize("cache_gb", [2.0, 0.0])
def test_the_function_of_the_document_gives_the_evaluation(tmp_path, preprocess, size, cache_gb):
    rng = np.random.default_rng(0)
    for i in range(24):
        shape = (*rng.integers(20, 90, 2), 3)
        exif = Image.Exif()
        exif[0x0112] = 1 + i % 8
        path = tmp_path / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path, exif=exif)
    data = data_lib.load(
        DataConfig(f"folder:{tmp_path}", cache_gb=cache_gb), max_side=24, progress=False
    )
    batches = data_lib.eval_batches(data, "test", resolution=size, batch_size=8, base_resolution=32)
    images = np.concatenate([images for images, _ in batches.as_numpy_iterator()])
    got = {np.round(image * 128).astype(np.int8).tobytes() for image in images}
    fraction = data.pipeline.crop_fraction(size, 32)
    expected = {
        preprocess(path, *InputSize.of(size), fraction).tobytes()
        for path in tmp_path.rglob("*.jpg")
    }
    assert len(got) == data.sizes["test"] and got <= expected
