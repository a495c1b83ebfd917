"""What is read of files that say they are images, and what is refused before it costs anything."""

import os

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite.data.decode import UnreadableImage, decode, read_file
from tests.support.photos import encoded, load, make_folder, photo


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_not_black(fmt):
    values = np.array([[0, 16, 2048, 4095]], np.uint16)
    assert decode(encoded(Image.fromarray(values), fmt))[0, :, 0].tolist() == [0, 1, 128, 255]
    values[0, 0] = 4096  # one value that needs more bits, and it is an ordinary 16-bit image
    assert decode(encoded(Image.fromarray(values), fmt))[0, :, 0].tolist() == [16, 0, 8, 16]


def test_only_documented_formats_are_read():
    """Pillow would start Ghostscript for the first of them, whatever the file is called."""
    for fmt in ("EPS", "ICO", "PCX"):
        with pytest.raises(UnreadableImage, match="not an image"):
            decode(encoded(photo(), fmt))
    for fmt in ("AVIF", "GIF", "BMP", "JPEG2000", "PPM", "MPO"):
        assert decode(encoded(photo(), fmt)).shape == (40, 60, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_of_many_pixels_is_refused_before_they_are_decoded(monkeypatch):
    content = encoded(Image.new("1", (11_000, 11_000)), "PNG")
    assert len(content) < 20_000
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(UnreadableImage, match="11000 x 11000 pixels: shrink it"):
        decode(content, max_side=64)


def test_pipes_are_skipped_and_nothing_waits_for_them(tmp_path):
    root = make_folder(tmp_path)
    os.mkfifo(root / "cat" / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        read_file(root / "cat" / "pipe.jpg")
    assert [image.path for image in load(root).skipped] == ["cat/pipe.jpg"]
