"""Names and labels of any kind: the generated C compiles, and labels come out as they went in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientnet_elite.data import listing
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import beside, inspect
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.packages import labels as labels_file
from efficientnet_elite.export.packages import names, packages
from efficientnet_elite.export.packages.c import package, sources

FOREIGN = Path(__file__).parents[1] / "support/foreign"
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["*/ int x; /*", "a\\\nb", '"; system("x"); "', "??/", "$name ${x}", "日本", "..", "\ud800"]
)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_names_hold_nothing_but_letters_and_digits(name):
    assert names.plain(name) == names.plain(names.plain(name))
    assert set(names.plain(name)) <= {*map(chr, range(48, 58)), *map(chr, range(65, 91)),
                                      *map(chr, range(97, 123)), *"._@+-"}  # fmt: skip
    assert names.plain(name)[0] not in ".-"
    assert names.identifier(name).isidentifier() and names.identifier(name).isascii()


def test_usual_names_stay_and_others_do_not_collide():
    for name in ("elite9-relu6", "mobilenetv1-0.25@16-seed0", "a_b+features"):
        assert names.plain(name) == name
    assert names.identifier("elite9-relu6") == "net_elite9_relu6"
    others = ["日本", "中国", "", "a" * 100, "a" * 101]
    assert len({names.plain(name) for name in others}) == len(others)
    assert max(len(names.plain(name)) for name in others) < 100


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@settings(max_examples=20, deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=2, max_size=2))
@example('x */ int y; /* \\\n"$net"', ["\ud800\n", "??/\\"])
def test_c_with_any_name_and_labels_compiles(tmp_path_factory, name, labels):
    folder = tmp_path_factory.mktemp("c")
    content = (FOREIGN / "int8_01.tflite").read_bytes()
    told = {"labels": labels, "crop_fraction": 1.0, "are_probabilities": False}
    told["confidence"] = Confidence()
    for file, text in sources.files(package.compiled(content), name, "0", told).items():
        (folder / file).write_text(text)
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
               "-I", str(package.KERNELS), *(p.name for p in folder.glob("*.c"))]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_line_n_of_labels_is_class_n(labels):
    lines = labels_file.file_content(labels).decode().split("\n")
    assert len(lines) == len(labels) + 1 and lines[-1] == ""


def test_a_package_of_a_file_of_an_odd_name(tmp_path):
    model = tmp_path / 'a "$b" *\n日本.tflite'
    model.write_bytes((FOREIGN / "uint8_11.tflite").read_bytes())
    (tmp_path / "labels.txt").write_bytes("\ufeffdark\nbright\n\n".encode())
    made = packages.of_file(model, "android")
    name = names.plain(beside.network_name(model))
    sources, net = made.folder / "network/src/main", names.identifier(name)
    assert (sources / f"assets/{net}/{name}.tflite").is_file()
    assert f'FILE = "{net}/{name}.tflite"' in (sources / "kotlin/Network.kt").read_text()
    assert listing.read_labels(sources / f"assets/{net}/labels.txt") == ["dark", "bright"]
    (tmp_path / "labels.txt").write_text("dark\n\nbright\n")
    with pytest.raises(UserError, match="has a blank line between others"):
        packages.of_file(model, "android")


@pytest.mark.parametrize(
    "sidecar",
    ["[" * 100_000, '{"details": []}', '{"details": {"crop_fraction": Infinity}}', "\udcff",
     '{"details": {"crop_fraction": null}}', '{"int8_remedies": {"float_layers": 3}}',
     '{"files": 3}', '{"details": {"crop_fraction": "x"}}'],
)  # fmt: skip
def test_a_damaged_sidecar_costs_one_line(tmp_path, sidecar):
    model = tmp_path / "net.tflite"
    model.write_bytes((FOREIGN / "uint8_11.tflite").read_bytes())
    (tmp_path / "net.json").write_bytes(sidecar.encode("utf-8", "surrogateescape"))
    (tmp_path / "labels.txt").write_text("dark\nbright\n")
    with pytest.raises(UserError, match="damaged: export the model again") as caught:
        packages.of_file(model, "android")
    assert "\n" not in str(caught.value)
    assert inspect.read(model.read_bytes()).operators
