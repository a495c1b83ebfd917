"""Sources by name, imported weights, files, and the normal form on disk."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained import imported, sources, weights
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from tests.support.random_weights import random_arrays
from tests.support.tiny_training import SPEC
from tests.support.torch_format import as_zip, state_dict

WEIGHTS = PretrainedWeights(
    name="tiny",
    spec=SPEC,
    arrays=random_arrays(SPEC),
    scale=(1 / 128, 1 / 127, 1.0),
    offset=(-1.0, -0.5, 0.25),
    licence="MIT",
    sha256="ab" * 32,
    origin="here",
)


def assert_equal(one: PretrainedWeights, other: PretrainedWeights) -> None:
    assert replace(one, arrays={}) == replace(other, arrays={})
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert other.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(array, other.arrays[name])


def add(monkeypatch, *entries: sources.Source) -> None:
    monkeypatch.setattr(sources, "SOURCES", registry.table(*entries))


def source(name: str, present: bool) -> sources.Source:
    return sources.Source(
        name, "a test", "MIT", "all", lambda: present, lambda: replace(WEIGHTS, name=name)
    )


def test_the_normal_form_on_disk(tmp_path):
    path = tmp_path / "folder" / "tiny.npz"
    weights.save(WEIGHTS, path)
    assert_equal(weights.load(path), WEIGHTS)
    assert weights.load_about(path) == replace(WEIGHTS, arrays={})
    assert [each.name for each in path.parent.iterdir()] == ["tiny.npz"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        weights.save(WEIGHTS, tmp_path / "file" / "tiny.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "tiny.npz"
    weights.save(WEIGHTS, path)
    return path


@given(data=st.data())
def test_damaged_files_are_read_or_refused(saved, data):
    content = bytearray(saved.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    path = saved.with_name("damaged.npz")
    path.write_bytes(bytes(content[:length]))
    for read in (weights.load, weights.load_about):
        try:
            read(path)
        except UserError as error:
            assert str(error).isprintable()


def test_other_files_are_no_weights(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("other.npz", "array.npy"):
        assert not weights.is_normal_form(tmp_path / name)
        with pytest.raises(UserError, match="holds no pretrained weights"):
            weights.load(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        weights.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    "changed",
    [
        {"arrays": {}},
        {"arrays": {name: array[..., :1] for name, array in WEIGHTS.arrays.items()}},
        {"arrays": {**WEIGHTS.arrays, "stem_conv/more": np.ones(1, np.float32)}},
        {"scale": (1.0, 1.0, float("nan"))},
    ],
)
def test_arrays_that_do_not_fit_their_network(tmp_path, changed):
    weights.save(replace(WEIGHTS, **changed), tmp_path / "other.npz")
    with pytest.raises(UserError, match="is damaged"):
        weights.load(tmp_path / "other.npz")


def test_numbers_that_are_not_finite(tmp_path):
    arrays = {name: array * np.nan for name, array in WEIGHTS.arrays.items()}
    weights.save(replace(WEIGHTS, arrays=arrays), tmp_path / "nan.npz")
    with pytest.raises(UserError, match=r"not finite, in stem_conv/kernel: use another file"):
        sources.load_source(str(tmp_path / "nan.npz"))


@pytest.mark.parametrize("path", ["x" * 5000 + ".npz", "~nobody-of-this-name/x.npz"])
def test_paths_that_cannot_exist(path):
    with pytest.raises(UserError, match=r"^.{100} cannot be read: |~nobody.* cannot be read: "):
        sources.load_source(path)


def test_an_alias_is_the_first_that_is_present(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "ALIASES", {"best": ("b", "a")})
    for b_present, chosen in ((True, "b"), (False, "a")):
        add(monkeypatch, source("a", True), source("b", b_present))
        assert sources.load_source("best").name == chosen
        assert sources.available() == ["a", "b"][: 1 + b_present]


def test_importing_a_file_once(tmp_path):
    folder = tmp_path / "imported"
    file = tmp_path / "tiny.npz"
    weights.save(WEIGHTS, file)
    assert_equal(sources.load_source(str(file), folder), WEIGHTS)
    path = sources.import_file(file, "mine-2", folder)
    assert path == folder / "mine-2.npz"
    (folder / "no name \udcff.npz").write_bytes(b"")  # of somebody else, and cannot be printed
    assert imported.names(folder) == ["mine-2"]
    assert_equal(sources.load_source("mine-2", folder), replace(WEIGHTS, name="mine-2"))
    (entry,) = sources.imported_sources(folder).values()
    assert entry.description == "tiny, imported from here"
    assert entry.licence == "MIT" and sources.is_present(entry)
    with pytest.raises(UserError, match=r"'mine-2' already: remove .*mine-2\.npz, or choose"):
        sources.import_file(file, "mine-2", folder)
    path.write_bytes(path.read_bytes()[:-30])
    (entry,) = sources.imported_sources(folder).values()
    assert "is damaged" in entry.description and not sources.is_present(entry)
    with pytest.raises(UserError, match="is damaged"):
        sources.load_source("mine-2", folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lite0", "has a meaning of its own"),
        ("lite", "has a meaning of its own"),
        ("none", "has a meaning of its own"),
        ("x.npz", "would be taken for a file"),
        ("a/b", "would be taken for a file"),
        ("", "is no name"),
        ("-x", "is no name"),
        ("a b", "is no name"),
        ("..", "is no name"),
        ("x" * 101, "is no name"),
        ("NONE", "has a meaning of its own"),
    ],
)
def test_names_that_are_refused(tmp_path, name, message):
    weights.save(WEIGHTS, tmp_path / "tiny.npz")
    with pytest.raises(UserError, match=message):
        sources.import_file(tmp_path / "tiny.npz", name, tmp_path / "imported")


def test_unknown_sources(tmp_path):
    with pytest.raises(UserError, match=r"no pretrained weights 'x': choose from lite0.*, lite, "):
        sources.load_source("x", tmp_path)
    with pytest.raises(UserError, match=r"there is no file .*none\.pth"):
        sources.load_source(str(tmp_path / "none.pth"), tmp_path)
    (tmp_path / "net.txt").write_text("")
    with pytest.raises(UserError, match=r"are read from files that end in \.pth"):
        sources.load_source(str(tmp_path / "net.txt"), tmp_path)


def test_a_torch_file_goes_to_the_reader_of_torch_names(tmp_path, monkeypatch):
    module = ModuleType("timm")
    seen = {}

    def read(arrays, name, description):
        assert description == {"licence": "MIT"}
        seen.update(arrays)
        return replace(WEIGHTS, name=name, sha256="", origin="timm net")

    module.read, module.describe = read, lambda path: {"licence": "MIT"}
    monkeypatch.setitem(sys.modules, f"{sources.__package__}.timm", module)
    path = tmp_path / "net.pth"
    arrays = {"conv.weight": np.float32([1, 2])}
    path.write_bytes(as_zip(state_dict(arrays), arrays))
    loaded = sources.load_source(str(path))
    assert (loaded.name, loaded.origin) == ("net", f"{path} (timm net)")
    assert loaded.sha256 == weights.sha256_of(path)
    np.testing.assert_array_equal(seen["conv.weight"], [1, 2])

    def refuse(*_):
        raise UserError("an unknown network")

    module.read = refuse
    with pytest.raises(UserError, match=r"net\.pth: an unknown network"):
        sources.load_source(str(path))


def test_all_sources_say_what_users_need_to_know():
    for entry in sources.SOURCES.values():
        assert entry.description and entry.licence and entry.starts and entry.install
