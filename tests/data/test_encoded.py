"""Pictures that are decoded when a crop is asked for, and colour profiles."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from efficientnet_elite.data.decode import UnreadableImage, decode
from efficientnet_elite.data.encoded import EncodedPicture
from efficientnet_elite.data.geometry import crop_and_resize


def smooth(width=300, height=200):
    """An image without symmetry, in which neighbouring pixels are alike."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / width, y * 255 / height, 127 + 100 * np.sin(x / 25) * np.cos(y / 40)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encoded(image, form="JPEG", orientation=1, **options):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


BOXES = [(0.0, 0.0, 100.0, 120.0), (31.25, 20.5, 150.5, 110.75), (3.0, 5.0, 20.0, 24.0)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resolution", [16, 90])
def test_a_quick_crop_looks_like_the_exact_one(orientation, resolution):
    content = encoded(smooth(), orientation=orientation, quality=95)
    pixels = decode(content)
    quick, exact = (EncodedPicture(content, quick) for quick in (True, False))
    assert quick.size == exact.size == pixels.shape[:2]
    rest = (*(side - 60.0 for side in quick.size), 60.0, 60.0)  # up to the last pixel
    for box in (*BOXES, rest):
        expected = crop_and_resize(pixels, box, resolution)
        assert exact.crop(box, resolution).tobytes() == expected.tobytes()
        difference = np.asarray(quick.crop(box, resolution)).astype(int) - np.asarray(expected)
        assert np.abs(difference).mean() < 3


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("WEBP", "RGB")]
)
def test_other_formats(form, mode):
    content = encoded(smooth().convert(mode), form)
    pixels = decode(content)
    crop = EncodedPicture(content, quick=True).crop(BOXES[1], 50)
    difference = np.asarray(crop).astype(int) - np.asarray(crop_and_resize(pixels, BOXES[1], 50))
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("quick", [True, False])
def test_a_damaged_image_is_unreadable(quick):
    with pytest.raises(UnreadableImage):
        EncodedPicture(b"no image", quick)
    picture = EncodedPicture(encoded(smooth())[:3000], quick)
    with pytest.raises(UnreadableImage, match="truncated"):
        picture.crop((0.0, 0.0, 200.0, 300.0), 50)


# --- colour profiles


def exchanged_profile():
    """sRGB with red and blue exchanged, under another name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red], profile[blue] = ord("b"), ord("r")
    return bytes(profile).replace(b"sRGB", b"odd!").replace("sRGB".encode("utf-16-be"), b"_o_d_d_!")


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("quick", [True, False])
def test_colour_profiles_are_applied(form, quick):
    image = Image.new("RGB", (40, 40), (200, 60, 30))
    content = encoded(image, form, icc_profile=exchanged_profile())
    assert np.abs(decode(content)[20, 20].astype(int) - (30, 60, 200)).max() <= 3
    crop = EncodedPicture(content, quick).crop((0.0, 0.0, 40.0, 40.0), 8)
    assert np.abs(np.asarray(crop)[4, 4].astype(int) - (30, 60, 200)).max() <= 3


def test_srgb_and_damaged_profiles_change_nothing():
    plain = decode(encoded(smooth()))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", exchanged_profile()[:200]):
        assert np.array_equal(decode(encoded(smooth(), icc_profile=profile)), plain)


def test_transparency_survives_a_profile():
    image = Image.new("RGBA", (9, 9), (200, 60, 30, 0))
    content = encoded(image, "PNG", icc_profile=exchanged_profile())
    assert decode(content)[4, 4].tolist() == [255, 255, 255]
