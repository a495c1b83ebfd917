"""Class folders with real files of every kind, readable and damaged."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data.decode import UnreadableImage, decode
from efficientnet_elite.errors import UserError
from tests.support.photos import encoded, load, make_folder, photo

# --- decoding


def test_jpeg_and_png_keep_their_pixels():
    image = photo()
    assert np.array_equal(decode(encoded(image, "PNG")), np.asarray(image))
    assert np.array_equal(decode(encoded(image, "WEBP", lossless=True)), np.asarray(image))
    difference = decode(encoded(image, quality=95)).astype(int) - np.asarray(image)
    assert np.abs(difference).max() < 12


def test_grey_becomes_three_equal_channels():
    grey = photo().convert("L")
    pixels = decode(encoded(grey, "PNG"))
    assert all(np.array_equal(pixels[..., c], np.asarray(grey)) for c in range(3))


def test_sixteen_bit_grey_is_scaled_not_cut_off():
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    pixels = decode(encoded(Image.fromarray(values), "PNG"))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_laid_over_white():
    red = np.zeros((1, 3, 4), np.uint8)
    red[..., 0] = 200
    red[0, :, 3] = [255, 0, 51]
    pixels = decode(encoded(Image.fromarray(red), "PNG"))
    assert pixels[0].tolist() == [[200, 0, 0], [255, 255, 255], [244, 204, 204]]


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    pixels = decode(encoded(image, "PNG", transparency=1))
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_cmyk_jpeg():
    pixels = decode(encoded(photo().convert("CMYK"), quality=95)).astype(int)
    assert np.abs(pixels - np.asarray(photo())).mean() < 4


def test_exif_orientation_is_applied():
    image = photo(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    pixels = decode(encoded(image, "PNG", exif=exif))
    assert np.array_equal(pixels, np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_images_are_shrunk_by_their_shorter_side(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = photo(300, 450)
    shape = (64, 96) if orientation == 1 else (96, 64)
    pixels = decode(encoded(image, quality=95, exif=exif), max_side=64)
    assert pixels.shape == (*shape, 3)
    upright = image if orientation == 1 else image.rotate(-90, expand=True)
    expected = np.asarray(upright.resize(shape[::-1], Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(pixels - expected).mean() < 3
    assert decode(encoded(image), max_side=300).shape == (300, 450, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"just words", "not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC: convert it to JPEG"),
        (b"\0\0\0\x18ftypisom" + bytes(60), "not an image"),
        (encoded(photo())[:800], "truncated"),
        (encoded(photo(), "PNG")[:600], "truncated|cut|incomplete"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "unsupported pixel format"),
    ],
)
def test_damaged_content_is_explained(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(content)


# --- folders


def test_unreadable_files_are_listed_and_the_rest_is_loaded(tmp_path):
    root = make_folder(tmp_path)
    (root / "cat" / "cut.jpg").write_bytes(encoded(photo())[:800])
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "dog" / "deeper").mkdir()
    (root / "dog" / "deeper" / "notes.jpg").write_text("no image at all")
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "dog" / ".DS_Store").write_text("ignored")
    (root / "dog" / "Thumbs.db").write_text("ignored")
    # The name says JPEG but the content is a valid PNG, which can be read.
    (root / "dog" / "deeper" / "mislabelled.jpg").write_bytes(encoded(photo(), "PNG"))

    data = load(root)
    reasons = {image.path: image.reason for image in data.skipped}
    assert set(reasons) == {"cat/cut.jpg", "cat/empty.png", "dog/deeper/notes.jpg", "dog/gone.jpg"}
    assert "truncated" in reasons["cat/cut.jpg"]
    assert reasons["cat/empty.png"] == "empty file"
    assert reasons["dog/deeper/notes.jpg"] == "not an image"
    assert reasons["dog/gone.jpg"] == "No such file or directory"
    assert sum(data.sizes.values()) == 21
    assert data.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "provided"),
    [
        (("train", "val", "test"), {"validation", "test"}),
        (("Train", "VALID"), {"validation"}),
        (("TRAIN", "Test"), {"test"}),
        (("train",), set()),
        (("train", "validation"), {"validation"}),
        (("Training", "Testing"), {"test"}),
        (("training", "TEST"), {"test"}),
        (("trn", "tst"), {"test"}),
    ],
)
def test_part_folders_in_any_case(tmp_path, names, provided):
    data = load(make_folder(tmp_path, parts=names))
    assert data.labels == ("cat", "dog")
    expected = {"train": 20, "validation": 4, "test": 4}
    for part in ("validation", "test"):
        if part in provided:
            expected[part] = 20
    if "test" not in provided:
        expected["train"] -= 4
    if "validation" not in provided:
        held_out = 2 * round(0.2 * expected["train"] / 2)
        expected["validation"], expected["train"] = held_out, expected["train"] - held_out
    assert data.sizes == expected


def test_a_class_may_be_called_test(tmp_path):
    assert load(make_folder(tmp_path, classes=("cat", "test"))).labels == ("cat", "test")


def test_parts_with_unknown_names_are_not_taken_for_classes(tmp_path):
    make_folder(tmp_path, parts=("learn", "judge"))
    with pytest.raises(UserError, match=r"learn of .* contain the same folders \(cat, dog\)"):
        load(tmp_path)
    # The message says what to do if they are classes.
    (tmp_path / "train").mkdir()
    for name in ("learn", "judge"):
        (tmp_path / name).rename(tmp_path / "train" / name)
    assert load(tmp_path).labels == ("judge", "learn")


def test_a_class_may_have_a_subfolder_of_its_own(tmp_path):
    """In Tiny ImageNet each class folder holds a folder called images."""
    for name in ("cat", "dog"):
        make_folder(tmp_path / name, classes=("images",))
    assert load(tmp_path).labels == ("cat", "dog")


def test_links_to_folders_are_followed_once_and_never_upwards(tmp_path):
    root = make_folder(tmp_path / "pets")
    make_folder(tmp_path / "more", classes=("kittens",), images=3)
    for name in ("a", "b"):
        (root / "cat" / name).symlink_to(tmp_path / "more" / "kittens")
    (tmp_path / "more" / "kittens" / "again").symlink_to(tmp_path / "more")
    (root / "cat" / "loop").symlink_to(root)
    (root / "dog" / "self").symlink_to("self")
    data = load(root)
    assert sum(data.sizes.values()) == 10 + 3 + 10
    assert [image.path for image in data.skipped] == ["dog/self"]


def with_copies(root):
    """Ten images a class, each twice."""
    make_folder(root)
    for path in list(root.rglob("*.jpg")):
        path.with_name(f"{path.stem} copy.jpg").write_bytes(path.read_bytes())
    return root


def test_copies_stay_in_one_part(tmp_path, capsys):
    root = with_copies(tmp_path)
    data = data_lib.load(DataConfig(dataset=f"folder:{root}"))
    assert data.sizes == {"train": 24, "validation": 8, "test": 8}
    seen = {
        name: {part.picture(number.numpy(), False).pixels.tobytes() for number, _ in part.keys()}  # noqa: SIM118
        for name, part in data.parts.items()
    }
    assert sum(map(len, seen.values())) == len(set.union(*seen.values())) == 20
    assert "copies" not in capsys.readouterr().err


def test_copies_between_parts_are_counted_in_one_line(tmp_path, capsys):
    make_folder(tmp_path, parts=("train", "val", "test"))  # the same in all three
    photo(seed=999).save(tmp_path / "test" / "cat" / "new.jpg")
    name = f"folder:{tmp_path}"
    for _ in range(2):  # the first time decoded, then from the cache
        data_lib.load(DataConfig(dataset=name), cache_dir=tmp_path.with_suffix(".cache"))
        lines = [line for line in capsys.readouterr().err.splitlines() if "copies" in line]
        assert lines == [
            f"{name}: 20 of 20 validation images and 20 of 21 test images are exact copies of "
            "images in other parts, so accuracies on them come out too high: remove the copies "
            "from one of the parts"
        ]


def test_accented_letters_in_either_unicode_form_name_one_class(tmp_path):
    make_folder(tmp_path / "train", classes=("caf\u00e9", "bar"))
    make_folder(tmp_path / "test", classes=("cafe\u0301", "bar"))
    data = load(tmp_path)
    assert data.labels == ("bar", "caf\u00e9") and data.sizes["test"] == 20


def test_file_names_that_are_not_utf8(tmp_path):
    """Names of files that can be read, and of files that the report has to list."""
    make_folder(tmp_path)
    for name, content in ((b"\xff.jpg", photo()), (b"\xfe\n.jpg", None)):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "cat") + b"/" + name))
        path.write_bytes(b"" if content is None else encoded(content))
    data = load(tmp_path)
    assert sum(data.sizes.values()) == 21
    (skipped,) = data.skipped
    assert (skipped.path, skipped.reason) == (r"cat/\udcfe\n.jpg", "empty file")


def test_batches_are_alike_with_and_without_cache(tmp_path):
    root = make_folder(tmp_path)
    (root / "cat" / "0.jpg").write_bytes(b"")
    cached, uncached = load(root, max_side=24), load(root, max_side=24, cache_gb=0)
    assert cached.fingerprint == uncached.fingerprint and cached.skipped == uncached.skipped
    settings = {"resolution": 16, "batch_size": 4}
    train = [data_lib.train_batches(data, seed=1, **settings)[0] for data in (cached, uncached)]
    for a, b in zip(*(stream.take(5) for stream in train), strict=True):
        assert np.abs(a[0] - b[0]).mean() < 0.05  # the uncached ones are not shrunk before
        assert np.array_equal(a[1], b[1])
    test = [
        data_lib.eval_batches(data, "test", base_resolution=16, **settings)
        for data in (cached, uncached)
    ]
    for a, b in zip(*test, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_fingerprint_notices_exchanged_images_and_other_splits(tmp_path):
    root = make_folder(tmp_path)
    before = load(root).fingerprint
    assert load(root).fingerprint == before
    assert load(root, max_side=8).fingerprint == before
    assert load(root, seed=1).fingerprint != before
    photo(90, 90).save(root / "cat" / "3.jpg")
    assert load(root).fingerprint != before


def test_fingerprint_notices_images_of_the_same_size(tmp_path):
    fingerprints_and_sizes = set()
    for level in (10, 20):
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir(exist_ok=True)
            for i in range(6):
                image = Image.new("RGB", (8, 8), (level, i, len(name)))
                image.save(tmp_path / name / f"{i}.bmp")
        size = (tmp_path / "cat" / "0.bmp").stat().st_size
        fingerprints_and_sizes.add((load(tmp_path).fingerprint, size))
    assert len(fingerprints_and_sizes) == 2
    assert len({size for _, size in fingerprints_and_sizes}) == 1


def test_the_fingerprint_of_the_digits_does_not_change():
    """Work directories recognise their data set by it."""
    assert data_lib.load(DataConfig(), progress=False).fingerprint == (
        "0294626a486a63523955c06a557e74623823e65a72bfd54c228c6edffec0c8cd"
    )


def test_labels_belong_to_their_images(tmp_path):
    for name, level in (("dark", 20), ("grey", 120), ("light", 220)):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.new("RGB", (20 + i, 30), (level,) * 3).save(tmp_path / name / f"{i}.png")
    data = load(tmp_path)
    batches, _ = data_lib.train_batches(data, resolution=8, batch_size=6, seed=0)
    for images, labels in batches.take(4):
        levels = tf.gather([20, 120, 220], labels).numpy()
        assert np.array_equal(images.numpy()[:, 4, 4, 0], levels.astype(np.float32) / 128 - 1)


# --- what stops a run before training


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is not a folder"):
        load(tmp_path / "file")


def test_no_class_folders(tmp_path):
    photo().save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="has no class folders"):
        load(tmp_path)


def test_single_class(tmp_path):
    with pytest.raises(UserError, match=r"single class \(cat\)"):
        load(make_folder(tmp_path, classes=("cat",)))


def test_empty_class(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "emu").mkdir()
    with pytest.raises(UserError, match=r"class folder .*emu is empty"):
        load(tmp_path)


def test_class_without_readable_images(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="class 'emu' has no readable training image"):
        load(tmp_path)


def test_class_too_small(tmp_path):
    with pytest.raises(UserError, match="class 'cat' has too few different training images"):
        load(make_folder(tmp_path, images=2))


def test_a_part_without_readable_images(tmp_path):
    """It is an error, rather than silently replaced by a split of the training images."""
    make_folder(tmp_path, parts=("train", "val", "test"))
    for path in (tmp_path / "val").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no image of its validation part is readable"):
        load(tmp_path)


def test_a_class_of_copies_is_too_small(tmp_path):
    make_folder(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(encoded(photo()))
    with pytest.raises(UserError, match=r"class 'cat' has too few different .* \(1\)"):
        load(tmp_path)


def test_contradictory_part_folders(tmp_path):
    for case, (folders, message) in enumerate(
        [
            (("train/a", "test/a", "extras/a"), r"mixes part folders \(test, train\)"),
            (("train/a", "extras/a"), r"mixes part folders \(train\) with other folders \(extras"),
            (("val/a", "test/a"), "but no train folder"),
            (("train/a", "val/a", "valid/a"), r"two validation folders \(val, valid\)"),
            (("train/a", "test"), "test has images but no class folders: give each"),
        ]
    ):
        root = tmp_path / str(case)
        for folder in folders:
            (root / folder).mkdir(parents=True)
            (root / folder / "x.png").write_bytes(encoded(photo(), "PNG"))
        with pytest.raises(UserError, match=message):
            load(root)


def test_class_missing_from_training(tmp_path):
    make_folder(tmp_path, parts=("train", "test"))
    (tmp_path / "test" / "emu").mkdir()
    with pytest.raises(UserError, match=r"class 'emu' of .*test has no folder in .*train"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["cifar", "folder:", "folder", "tfds:", "digits:8"])
def test_unknown_data_set(name):
    with pytest.raises(UserError, match="unknown data set"):
        data_lib.load(DataConfig(dataset=name), progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": 0.0}, "validation must lie between 0 and 1, got 0"),
        ({"test_fraction": 1.0}, "test_fraction must lie between 0 and 1"),
        ({"min_area": 0.0}, "min_area must be above 0"),
        ({"cache_gb": -1.0}, "cache_gb must be 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        data_lib.load(DataConfig(**settings), progress=False)


def test_every_message_is_one_line(tmp_path):
    (tmp_path / "emu").mkdir()
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_is_opened_once_while_decoding(tmp_path):
    """Its pixels and the digest of its bytes come from one read."""
    root = make_folder(tmp_path)
    files = {str(path) for path in root.rglob("*") if path.is_file()}
    opened: list[str] = []
    listening = True
    # Whether all images are grey is not asked: the first one with colours would be opened twice.

    def hook(event: str, arguments: tuple) -> None:  # stays for the life of the process
        if listening and event == "open" and str(arguments[0]) in files:
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    load(root, channels="3")
    listening = False
    assert sorted(opened) == sorted(files)
