"""Data sets as people have them: wrapped folders, parts by other names, tables, arrays, names."""

import io
import os
import socket

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import folder, listing, sides
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.arguments import data_set
from tests.support.photos import encoded, load, make_folder, photo


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def found(root, **settings):
    """Part and class of each file."""
    examples, classes = folder.scan(root, **settings)
    return {e.name: (e.part, classes[e.label]) for e in examples}


@pytest.mark.parametrize(
    "names",
    [
        ["dataset/cat/1.jpg", "dataset/dog/2.jpg"],
        ["a/b/cat/1.jpg", "a/b/dog/2.jpg", "a/readme.txt", "__MACOSX/a/._b"],
        ["train/cat/1.jpg", "train/dog/2.jpg"],
        ["seg_train/seg_train/cat/1.jpg", "seg_train/seg_train/dog/2.jpg"],
        ["pets/train/cat/1.jpg", "pets/train/dog/2.jpg", "lost+found/x"],
        ["cat/1.jpg", "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.png", "dog/2.jpg", "__MACOSX/._cat"],
    ],
)
def test_levels_that_hold_one_folder_and_folders_of_systems_are_passed(tmp_path, names):
    wanted = {name: name.split("/")[-2] for name in names if name[-5:] in ("1.jpg", "2.jpg")}
    assert found(touch(tmp_path, *names)) == {k: ("train", v) for k, v in wanted.items()}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Train Images", "Test Images"),
    ],
)
def test_parts_by_other_names(tmp_path, train, test):
    names = [f"{part}/{name}/1.jpg" for part in (train, test) for name in ("cat", "dog")]
    parts = {part for part, _ in found(touch(tmp_path, *names)).values()}
    assert parts == {"train", "test"}


def test_a_part_with_a_single_class_is_not_passed_over(tmp_path):
    names = ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/day/1.jpg", "val/cat/night/2.jpg"]
    assert found(touch(tmp_path, *names))["val/cat/night/2.jpg"] == ("validation", "cat")


def test_what_is_ambiguous_is_named(tmp_path):
    touch(tmp_path / "a", "one/cat/1.jpg", "one/dog/1.jpg", "two/cat/1.jpg", "two/dog/1.jpg")
    with pytest.raises(UserError, match=r"one, two of .* contain the same folders"):
        folder.scan(tmp_path / "a")
    touch(tmp_path / "b", "seg_train/cat/1.jpg", "seg_pred/1.jpg", "seg_test/cat/1.jpg")
    with pytest.raises(UserError, match=r"mixes part folders .* with other folders \(seg_pred\)"):
        folder.scan(tmp_path / "b")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["images/1.jpg", "labels/1.txt", "data.yaml"], r"object detection \(labels beside images"),
        (["images/train/1.jpg", "images/val/2.jpg", "labels/train/1.txt", "labels/val/2.txt"],
         r"object detection \(labels beside images"),
        (["train/images/1.jpg", "train/labels/1.txt", "valid/images/2.jpg", "valid/labels/2.txt"],
         r"(train|valid) looks like .* object detection \(labels beside images"),
        (["v/2012/JPEGImages/1.jpg", "v/2012/Annotations/1.xml", "v/2012/ImageSets/Main/a.txt"],
         r"object detection \(Annotations beside JPEGImages"),
        (["annotations/a.json", "train/1.jpg", "val/2.jpg"], r"\(annotations beside train\)"),
        (["annotations/a.json", "train2017/1.jpg", "val2017/2.jpg"], r"annotations holds .json"),
        (["ds/a/1.jpg", "ds/boxes/1.jpg.json"], r"boxes holds .json files and no images"),
        (["images/1.jpg", "masks/1.png"], r"segmentation \(masks beside images\): a"),
    ],
)  # fmt: skip
def test_boxes_and_masks_are_no_classes(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        folder.scan(tmp_path)


def test_classes_called_like_boxes_or_masks(tmp_path):
    """Faces with and without a mask; photographs of labels; a text among images."""
    touch(tmp_path, "mask/1.jpg", "no_mask/1.jpg", "labels/1.jpg", "labels/notes.txt")
    assert {name for _, name in found(tmp_path).values()} == {"mask", "no_mask", "labels"}


def test_pipes_and_sockets_hold_nothing_up(tmp_path, monkeypatch):
    make_folder(tmp_path)
    os.mkfifo(tmp_path / "cat" / "pipe")
    server = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    server.bind("dog/socket")
    server.close()
    assert {image.path: image.reason for image in load(tmp_path).skipped} == dict.fromkeys(
        ("cat/pipe", "dog/socket"), "not a regular file"
    )
    assert sides.of_data_set(DataConfig(dataset=f"folder:{tmp_path}")) is not None


# --- labels


def test_names_of_files_say_the_class(tmp_path):
    touch(
        tmp_path, "training/cat.1.jpg", "training/dog.2.jpg", "testing/cat.3.jpg", "training/x.md"
    )
    examples, classes = folder.scan(tmp_path, r"^([a-z]+)\.\d")
    assert classes == ("cat", "dog")
    assert {(e.name, e.part, e.label, bool(e.fault)) for e in examples} == {
        ("training/cat.1.jpg", "train", 0, False),
        ("training/dog.2.jpg", "train", 1, False),
        ("testing/cat.3.jpg", "test", 0, False),
        ("training/x.md", "train", 0, True),
    }
    with pytest.raises(UserError, match=r"label_regex=\(q\) matches no file name in .* such as"):
        folder.scan(tmp_path, "(q)")


def test_a_flat_folder_is_loaded_by_its_names(tmp_path):
    for i in range(12):
        photo(seed=i).save(tmp_path / f"{'ab'[i % 2]}_{i}.jpg")
    (tmp_path / "notes.txt").write_text("")
    data = load(tmp_path, label_regex="^([ab])_")
    assert data.labels == ("a", "b") and sum(data.sizes.values()) == 12
    assert [(image.path, image.reason) for image in data.skipped] == [
        ("notes.txt", "label_regex finds no class in its name")
    ]


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_file_of_labels_gives_the_order(tmp_path, start, end):
    root = make_folder(tmp_path / "pets", classes=("cat", "dog", "emu"))
    labels = tmp_path / "labels.txt"
    labels.write_text(f"{start}emu\ncat \ndog{end}", "utf-8")
    images = listing.of_data_set(DataConfig(dataset=f"folder:{root}", labels=str(labels)))
    assert images.class_names == ("emu", "cat", "dog")
    assert {images.class_names[e.label] for e in images.examples if e.name[:3] == "dog"} == {"dog"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("cat", "does not name the class 'dog'"),
        ("cat\ndog\nemu", "names the class 'emu', which has no images"),
        ("cat\ndog\ncat", "names the class 'cat' twice"),
    ],
)
def test_a_file_of_other_labels_is_refused(tmp_path, lines, message):
    root = touch(tmp_path / "pets", "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "labels.txt").write_text(lines)
    config = DataConfig(dataset=f"folder:{root}", labels=str(tmp_path / "labels.txt"))
    with pytest.raises(UserError, match=message):
        listing.of_data_set(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_regex": "("}, "label_regex=.*not a regular expression"),
        ({"group_by_name": "p[0-9]"}, "group_by_name=.*into parentheses"),
        ({"labels": "labels.txt"}, "labels is for images in files, not for digits"),
        ({"dataset": "csv:x.csv", "label_regex": "(a)"}, "label_regex is for folders"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(UserError, match=message):
        data_lib.load(DataConfig(**settings), progress=False)


# --- tables and arrays


def listed(path, **settings):
    images = listing.of_data_set(DataConfig(dataset=data_set(str(path)), **settings))
    return images, [(e.name, images.class_names[e.label], e.part) for e in images.examples]


@pytest.mark.parametrize(
    "head", ["", "label,part,path\n", "\ufeffPath,Label,Part\n", "filename,class,split\n"]
)
def test_a_table_of_images(tmp_path, head):
    rows = [("a/1.jpg", "cat", "train"), ("/b/2 x.jpg", "dog, big", "val"), ("3.jpg", "cat", "")]
    order = ["label", "part", "path"] if head.startswith("label") else None
    text = head
    for row in rows:
        cells = dict(zip(("path", "label", "part"), row, strict=True))
        cells = [cells[name] for name in order] if order else list(row)
        text += ",".join(f'"{cell}"' for cell in cells) + "\n"
    path = tmp_path / "table.csv"
    path.write_text(text + "\n", "utf-8")
    images, found = listed(path)
    assert found == [
        ("a/1.jpg", "cat", "train"), ("/b/2 x.jpg", "dog, big", "validation"),
        ("3.jpg", "cat", "train"),
    ]  # fmt: skip
    assert images.root == tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no image"),
        ("1.jpg\n", "line 1 of .* has no path and label"),
        ("1.jpg,cat\n,dog\n", "line 2"),
        ("1.jpg,cat,later\n", "part 'later' is none of train, val, test"),
    ],
)
def test_a_table_with_a_fault(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        listed(tmp_path / "t.csv")


def test_a_table_is_loaded_as_its_folder_is(tmp_path):
    root = make_folder(tmp_path)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    rows = [f"{name},{name[:3]}" for name in [*names, "cat/gone.jpg"]]
    (root / "labels.csv").write_text("\n".join(rows))
    data = data_lib.load(DataConfig(dataset=f"csv:{root / 'labels.csv'}"), progress=False)
    (root / "labels.csv").unlink()
    assert [image.path for image in data.skipped] == ["cat/gone.jpg"]
    assert data.fingerprint == load(root).fingerprint


@pytest.mark.parametrize("labels", [np.arange(24) % 3 + 5, np.array([*"abc"] * 8)])
@pytest.mark.parametrize("shape", [(24, 8, 9), (24, 8, 9, 1), (24, 8, 9, 3)])
def test_arrays(tmp_path, labels, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels, unrelated=np.ones(3))
    config = DataConfig(dataset=data_set(str(path)))
    data = data_lib.load(config, progress=False)
    assert data.labels == tuple(map(str, np.unique(labels)))
    part = data.parts["train"]
    for number, label in part.keys():  # noqa: SIM118
        pixels = part.picture(number.numpy(), True).pixels
        assert np.array_equal(pixels, images[number].reshape(8, 9, -1))
        assert data.labels[label] == str(labels[number])
    assert sides.of_data_set(config) == 8


def test_arrays_of_parts(tmp_path):
    arrays = {}
    for part, count in (("train", 8), ("val", 4), ("test", 6)):
        arrays[f"{part}_images"] = np.zeros((count, 5, 5), np.uint8)
        arrays[f"{part}_labels"] = np.arange(count)[:, np.newaxis] % 2
    np.savez(tmp_path / "set.npz", **arrays)
    data = data_lib.load(DataConfig(dataset=f"npz:{tmp_path / 'set.npz'}"), progress=False)
    assert data.sizes == {"train": 8, "validation": 4, "test": 6}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, "has the arrays x: name them images and labels"),
        ({"images": np.zeros((2, 4, 4))}, "images are float64"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "labels are float64"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.arange(3)}, "for each of 2 images"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(UserError, match=message):
        listed(tmp_path / "set.npz")


def test_objects_in_arrays_are_not_unpickled(tmp_path):
    content = io.BytesIO()
    np.savez(content, images=np.array([{}], object), labels=np.arange(1))
    (tmp_path / "set.npz").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="cannot be read"):
        listed(tmp_path / "set.npz")


# --- what stays together


def together(data, *names):
    """The parts that images are in."""
    return {part for part, members in data.names.items() if {*members} & {*names}}


def test_near_duplicates_stay_in_one_part_and_by_wish_do_not(tmp_path):
    """Eight frames of each of nine videos in both classes, and other images."""
    for label, name in enumerate(("cat", "dog")):
        for video in range(9):
            still = photo(60, 90, seed=100 * label + video)
            for frame in range(8):
                path = tmp_path / name / f"v{video}_{frame}.jpg"
                path.parent.mkdir(exist_ok=True)
                still.crop((frame // 3, 0, 88, 58)).save(path, quality=60 + 4 * frame)
    data = load(tmp_path)
    videos = [
        [f"{name}/v{video}_{frame}.jpg" for frame in range(8)]
        for name in ("cat", "dog")
        for video in range(9)
    ]
    assert all(len(together(data, *video)) == 1 for video in videos)
    assert load(tmp_path, max_side=32).fingerprint == data.fingerprint
    apart = load(tmp_path, group_duplicates=False)
    assert sum(len(together(apart, *video)) == 3 for video in videos) > 5
    named = load(tmp_path, group_duplicates=False, group_by_name=r"^(v\d)_")
    for video in range(9):  # those of one name in both classes, too
        assert len(together(named, *videos[video], *videos[9 + video])) == 1


def test_a_class_of_images_that_are_all_alike_is_split_nevertheless(tmp_path, capsys):
    make_folder(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        photo(90 + int(path.stem), 90).save(path)
    data_lib.load(DataConfig(dataset=f"folder:{tmp_path}"))
    assert "images of cat look so much alike" in capsys.readouterr().err
    make_folder(tmp_path / "few", images=2)  # which is another matter
    with pytest.raises(UserError, match="too few different training images"):
        data_lib.load(DataConfig(dataset=f"folder:{tmp_path / 'few'}"))
    assert "look so much alike" not in capsys.readouterr().err


def test_names_that_tell_no_group_are_counted(tmp_path, capsys):
    root = make_folder(tmp_path)
    (root / "cat" / "x.jpg").write_bytes(encoded(photo(seed=77)))
    data_lib.load(DataConfig(dataset=f"folder:{root}", group_by_name="([0-9])"))
    assert "1 of 21 names do not match group_by_name, such as cat/x.jpg" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"group_by_name=\(q\) matches no image"):
        load(root, group_by_name="(q)")


def test_images_without_contrast_are_not_alike(tmp_path):
    for name, level in (("dark", 10), ("light", 200)):
        for i in range(4):
            path = tmp_path / name / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (20 + i, 20), (level + i,) * 3).save(path)
    assert load(tmp_path).sizes == {"train": 4, "validation": 2, "test": 2}
