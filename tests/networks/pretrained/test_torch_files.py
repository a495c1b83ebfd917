"""PyTorch's files are read without PyTorch, and without running code in them."""

from __future__ import annotations

import json
import re
import struct
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.pretrained.torch_files import read_torch
from tests.support.torch_format import (
    ORDERED_DICT,
    REBUILD,
    Call,
    Named,
    Storage,
    as_legacy,
    as_zip,
    legacy_around,
    opcodes,
    pickled,
    state_dict,
    tensor,
    zip_around,
)

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.weight": np.float32([0.5, -1.5]),
    "bn.running_mean": np.float64([0.1, 1e-9]),
    "bn.half": np.float16([1.5, -3]),
    "bn.num_batches_tracked": np.array(7),
}
FORMATS = {"zip": as_zip, "legacy": as_legacy}
each_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)


def read(tmp_path, content: bytes, name: str = "net.pth") -> dict[str, np.ndarray]:
    path = tmp_path / name
    path.write_bytes(content)
    return read_torch(path)


def assert_same(arrays) -> None:
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        expected = array.astype(np.float32) if array.dtype.kind == "f" else array
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


@each_format
def test_a_state_dict(tmp_path, write):
    assert_same(read(tmp_path, write(state_dict(ARRAYS), ARRAYS)))


@each_format
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_among_other_things(tmp_path, write, key):
    best = np.array(0.5, np.float32)
    value = {"epoch": 3, "best": tensor("best", best), key: state_dict(ARRAYS), "args": None}
    assert_same(read(tmp_path, write(value, {**ARRAYS, "best": best})))


def test_the_prefix_of_parallel_training_is_left_out(tmp_path):
    value = {f"module.{name}": each for name, each in state_dict(ARRAYS).items()}
    assert_same(read(tmp_path, as_zip(value, ARRAYS)))


@each_format
def test_parameters(tmp_path, write):
    parameter = Call(
        Named("torch._utils", "_rebuild_parameter"), (tensor("x", ARRAYS["bn.weight"]), True)
    )
    ordered = Call(ORDERED_DICT, ([("x", parameter)],))
    (array,) = read(tmp_path, write(ordered, {"x": ARRAYS["bn.weight"]})).values()
    np.testing.assert_array_equal(array, ARRAYS["bn.weight"])


@pytest.mark.parametrize("around", [zip_around, legacy_around])
def test_the_attributes_of_a_state_dict_are_ignored(tmp_path, around):
    ordered = Call(ORDERED_DICT, (list(state_dict(ARRAYS).items()),))
    attributes = {"_metadata": {"": {"version": 1}}}
    content = pickled(ordered)[:-1] + opcodes(attributes) + b"b."
    assert_same(read(tmp_path, around(content, ARRAYS)))


@each_format
def test_views_of_a_shared_storage(tmp_path, write):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    value = {
        "columns": tensor("x", x, 1, (2, 4), (1, 6)),
        "repeated": tensor("x", x, 5, (2, 2), (0, 0)),
        "none": tensor("x", x, 24, (0, 3), (3, 1)),
        "all": tensor("x", x),
        "number": tensor("x", x, 23, (), ()),
        "one": tensor("x", x, 3, (1,), (2**62,)),
    }
    arrays = read(tmp_path, write(value, {"x": x}))
    np.testing.assert_array_equal(arrays["columns"], x[:, 1:3].T)
    np.testing.assert_array_equal(arrays["repeated"], [[5, 5], [5, 5]])
    assert arrays["none"].shape == (0, 3)
    np.testing.assert_array_equal(arrays["all"], x)
    assert arrays["number"] == 23 and arrays["number"].shape == ()
    assert arrays["one"].tolist() == [3]


@each_format
def test_bfloat16(tmp_path, write):
    x = np.float32([1, -2.5, 3e38, 0])
    halves = (x.view(np.uint32) >> 16).astype(np.uint16)
    value = {"x": Call(REBUILD, (Storage("x", "BFloat16Storage", 4), 0, (4,), (1,)))}
    (array,) = read(tmp_path, write(value, {"x": halves})).values()
    np.testing.assert_allclose(array, x, rtol=2**-8)
    assert array.dtype == np.float32


@each_format
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Call(Named("os", "system"), ("false",)), "os.system"),
        (Call(Named("builtins", "eval"), ("1",)), "builtins.eval"),
        ({"x": Call(Named("torch.nn.modules.linear", "Linear"), ())}, "torch.nn.modules.linear"),
        (Call(Named("torch", "FloatStorage"), ()), "a call of torch.FloatStorage"),
        ({(1, 2): 3}, "a key of the type tuple"),
    ],
)
def test_what_could_run_code_is_refused_by_name(tmp_path, write, value, named):
    with pytest.raises(UserError, match=re.escape(named)):
        read(tmp_path, write(value, {}))


@pytest.mark.parametrize(
    ("operations", "named"),
    [
        (b"(S'a'\nios\nsystem\n.", "pickle operation"),
        (b"\x82\x01.", "the pickle operation EXT1"),
        (b"cos\nsystem\n)\x81.", "os.system"),
        (b"ccollections\nOrderedDict\n)\x81.", "the pickle operation NEWOBJ"),
        (b"ccollections\nOrderedDict\n}b.", "the attributes of an object"),
        (b"]K\x01\x86X\x01\x00\x00\x00x\x93.", "a name that is no text"),
    ],
)
def test_other_operations_are_refused(tmp_path, operations, named):
    with pytest.raises(UserError, match=named):
        read(tmp_path, legacy_around(b"\x80\x02" + operations, {}))


@each_format
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (25,), (1,)),
        (1, (24,), (1,)),
        (0, (2, 24), (1, 1)),
        (0, (2,), (2**62,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (23, (2,), (-1,)),
        (0, (2,), ()),
        (0, (2,), ("1",)),
        (0, (2**62, 2**62, 0), (1, 1, 1)),
        (0, (1,) * 100, (1,) * 100),
        (0, (10**6, 10**6), (0, 0)),
        ("0", (2,), (1,)),
        (0, None, None),
        (2**70, (2,), (1,)),
    ],
)
def test_tensors_that_reach_beyond_their_storage(tmp_path, write, offset, shape, strides):
    x = np.arange(24, dtype=np.float32)
    call = Call(REBUILD, (Storage("x", "FloatStorage", 24), offset, shape, strides))
    with pytest.raises(UserError, match=r"is damaged .*: copy or download it again"):
        read(tmp_path, write({"x": call}, {"x": x}))


@each_format
@pytest.mark.parametrize("count", [25, 23, 2**40, -1, "24"])
def test_storages_of_another_size_than_announced(tmp_path, write, count):
    x = np.arange(24, dtype=np.float32)
    call = Call(REBUILD, (Storage("x", "FloatStorage", count), 0, (2,), (1,)))
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path, write({"x": call}, {"x": x}))


def test_a_storage_that_announces_more_than_there_is(tmp_path):
    call = Call(REBUILD, (Storage("x", "FloatStorage", 2**40), 0, (2,), (1,)))
    content = as_legacy({"x": call}, {}).removesuffix(pickled([]))
    with pytest.raises(UserError, match="ends too early"):
        read(tmp_path, content + pickled(["x"]) + struct.pack("<q", 2**40))


def test_storages_whose_names_are_no_texts(tmp_path):
    content = as_legacy({}, {}).removesuffix(pickled([]))
    with pytest.raises(UserError, match="a storage without a name"):
        read(tmp_path, content + pickled([("x", "x")]) + struct.pack("<q", 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PyTorch file"),
        (b"hello, this is no file of weights", "is no PyTorch file"),
        (pickled({"a": 1}), "is no PyTorch file"),
        (b"\x80", "is no PyTorch file"),
        (as_zip(3, {}), "contains no tensors by name"),
        (
            as_legacy([tensor("x", np.ones(2, np.float32))], {"x": np.ones(2, np.float32)}),
            "no tensors by name",
        ),
        (as_zip(state_dict(ARRAYS), ARRAYS)[:-30], "is damaged"),
        (as_legacy(state_dict(ARRAYS), ARRAYS)[:-3], "is damaged"),
        (as_zip(state_dict(ARRAYS), ARRAYS, byteorder="big"), "big-endian"),
        (as_legacy(state_dict(ARRAYS), ARRAYS, {"little_endian": False}), "big-endian"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth cannot be read: No such file"):
        read_torch(tmp_path / "none.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_torch(tmp_path)


def safetensors_file(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def bfloat16_entry(first: int, last: int) -> dict:
    return {"dtype": "BF16", "shape": [2], "data_offsets": [first, last]}


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors", reason="the extra timm is not installed")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    header = {
        "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "half": bfloat16_entry(24, 28),
        "__metadata__": {"format": "pt"},
    }
    content = safetensors_file(header, x.tobytes() + b"\x80\x3f\x00\xc0")
    arrays = read(tmp_path, content, "net.safetensors")
    np.testing.assert_array_equal(arrays["x"], x)
    assert arrays["half"].tolist() == [1, -2]
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path, content[:-1], "net.safetensors")
    eighths = safetensors_file({"x": {**bfloat16_entry(0, 2), "dtype": "F8_E4M3"}}, b"ab")
    with pytest.raises(UserError, match="numbers of the type F8_E4M3"):
        read(tmp_path, eighths, "net.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_safetensors_whose_first_byte_is_that_of_a_pickle(tmp_path, suffix):
    pytest.importorskip("safetensors", reason="the extra timm is not installed")
    header = {"x": bfloat16_entry(0, 4)}
    spaces = 128 - len(safetensors_file(header, b"")) + 8  # the header's length becomes 0x80
    text = json.dumps(header).encode() + b" " * spaces
    content = struct.pack("<Q", len(text)) + text + b"\x80\x3f\x00\xc0"
    assert content[0] == 0x80
    assert read(tmp_path, content, f"net{suffix}")["x"].tolist() == [1, -2]


def test_safetensors_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"pip install 'efficientnet-elite\[timm\]'"):
        read(tmp_path, safetensors_file({}, b""), "net.safetensors")


CONTENTS = {
    "zip": as_zip(state_dict(ARRAYS), ARRAYS),
    "legacy": as_legacy({"epoch": 1, "state_dict": state_dict(ARRAYS)}, ARRAYS),
    "safetensors": safetensors_file({"x": bfloat16_entry(0, 4)}, b"\x80\x3f\x00\xc0"),
}
PICKLE = pickled(state_dict(ARRAYS))


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """A content with some bytes changed, inserted or left out, and perhaps its end."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        removed = draw(st.integers(0, 9))
        changed[place : place + removed] = draw(st.binary(max_size=9))
    return bytes(changed[: draw(st.one_of(st.none(), st.integers(0, len(content))))])


def assert_read_or_refused(path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        arrays = read_torch(path)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "net.pth"


@pytest.mark.parametrize("name", CONTENTS)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_one_line(path, name, data):
    if name == "safetensors":
        pytest.importorskip("safetensors", reason="the extra timm is not installed")
    assert_read_or_refused(path, data.draw(damaged(CONTENTS[name])))


@pytest.mark.parametrize("around", [zip_around, legacy_around])
@given(content=damaged(PICKLE))
@example(content=b"\x80\x02}(\x8c\x01ar\xff\xff\xff\xff.")  # a great index of the memo
@example(content=b"\x80\x02\x8e" + b"\x7f" * 8 + b"a.")  # bytes of a great length
@example(content=b"\x80\x02ca b\n\x1b[31m\n.")  # a name that would colour the terminal
def test_damaged_pickles_are_read_or_refused_in_one_line(path, around, content):
    assert_read_or_refused(path, around(content, ARRAYS))
