"""`elite data`: tables, files and the page."""

import csv
import io
import json
import re

import pytest

from efficientnet_elite import cli
from tests.support.photos import make_folder, photo


@pytest.fixture
def root(tmp_path):
    root = make_folder(tmp_path / "pets", parts=("train", "test"), images=4)  # the same in both
    (root / "train" / "cat" / "<b>.jpg").write_bytes(b"no image")
    for i in range(9):
        photo(30, 40, seed=500 + i).save(root / "train" / "dog" / f"more{i}.jpg")
    return root


def run(capsys, *arguments):
    status = cli.main(["data", *map(str, arguments)])
    written = capsys.readouterr()
    return status, written.out, written.err


def test_the_table_and_the_json_file(root, tmp_path, capsys):
    status, out, err = run(capsys, root, f"--json={tmp_path / 'data.json'}")
    assert status == 0 and "looking at images: 100%" in err
    assert re.search(r"cat +4 +4\ndog +13 +4\nall +17 +8\n", out)
    assert "shorter sides: 30 to 33 px" in out and "dog has 17 images and cat 8" not in out
    assert "unreadable: 1 image (cannot be read; left out), such as\n  train/cat/<b>.jpg" in out
    assert "across parts: 16 images" in out
    written = json.loads((tmp_path / "data.json").read_text())
    assert written["readable"] == 25 and written["images"] == 26
    assert written["classes"][1] == {"class": "dog", "train": 13, "test": 4}
    assert written["findings"][0]["detail"] == "not an image"
    assert all(group["across_parts"] for group in written["groups"])
    text = json.dumps(written, indent=2) + "\n"
    assert run(capsys, root, "--format=json")[1] == run(capsys, "--json", root)[1] == text


def test_a_row_for_each_image(root, capsys):
    rows = [*csv.DictReader(io.StringIO(run(capsys, root, "--format=csv")[1]))]
    assert [row["finding"] for row in rows] == ["unreadable"] + ["copies"] * 16
    assert {row["detail"] for row in rows[1:]} == {"several parts"}


def test_nothing_is_found(tmp_path, capsys):
    assert "nothing is suspicious" in run(capsys, make_folder(tmp_path))[1]
    assert run(capsys, tmp_path, "--format=csv")[1] == "finding,group,image,class,part,detail\n"


def test_classes_that_no_network_can_learn_are_named(tmp_path, capsys):
    root = make_folder(tmp_path / "pets", images=3)
    for number in range(1, 3):
        (root / "cat" / f"{number}.jpg").unlink()
    out = run(capsys, root)[1]
    assert "too few training images of cat: at least 3 are needed of each class" in out
    assert "dog has 3 images and cat 1: look at" in out and "nothing else is suspicious" in out
    flat = make_folder(tmp_path / "flat", classes=("images",))
    assert "name the classes by a table (csv:FILE)" in run(capsys, flat)[1]
    (remark,) = json.loads(run(capsys, flat, "--format=json")[1])["remarks"]
    assert remark.startswith("there is a single class (images), and a classifier needs two")


def test_the_page_holds_everything_and_loads_nothing(root, tmp_path, capsys):
    path = tmp_path / "data.html"
    assert run(capsys, root, f"--html={path}", "--sheet=6", "--base_resolution=32")[0] == 0
    page = path.read_text()
    assert "train/cat/&lt;b&gt;.jpg" in page and "<b>.jpg" not in page
    assert "What training sees" in page and "Training images at 32 px" in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 16 + 6 + 14 and all(s.startswith("data:image/jpeg") for s in sources)
    assert "://" not in page
    run(capsys, root, f"--html={path}", "--sheet=0")
    assert "What training sees" not in path.read_text()


def test_wrong_use_is_one_line(root, capsys):
    for arguments, message in (
        ([], "name a folder of photographs"),
        (["digits"], "cannot be listed"),
        ([root, "more"], "unexpected argument 'more'"),
    ):
        status, _, err = run(capsys, *arguments)
        assert status == 1 and message in err and err.count("\n") == 1
