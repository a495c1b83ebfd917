"""Vela on a real int8 file."""

from __future__ import annotations

import json

import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import ethos_u
from efficientnet_elite.export.runtimes import verify
from tests.support import tiny_tflite

pytest.importorskip("ethosu", reason="pip install ethos-u-vela")
FLOAT, INT8 = 0, 1


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ethos_u")
    path = folder / "net.int8.tflite"
    path.write_bytes(tiny_tflite.pair()[INT8])
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in tiny_tflite.LABELS))
    return path


def test_the_package_holds_the_compiled_model_and_its_report(path, capsys):
    assert cli.main(["export", f"--model={path}", "--target=ethos-u"]) == 0
    folder = path.parent / "ethos-u"
    assert {each.name for each in folder.iterdir()} == {
        "net.vela.tflite",
        "vela.json",
        "labels.txt",
    }
    report = json.loads((folder / "vela.json").read_text())
    assert report["accelerator"] == "ethos-u55-128"
    assert report["cycles"] == ethos_u.estimate_cycles(path.read_bytes()) > 1000
    assert 0 < report["utilisation"] < 1
    assert report["sram_bytes"] >= 32 * 32 * 3
    assert report["cpu_operators"] == {}
    assert (report["operator_share"], report["mac_share"], report["cpu_layers"]) == (1, 1, [])
    assert report["milliseconds"] == pytest.approx(report["cycles"] / report["megahertz"] / 1e3)
    assert report["memory_mode"] == "Shared_Sram" and report["flash_bytes"] > report["dram_bytes"]
    assert set(inspect.operators((folder / "net.vela.tflite").read_bytes())) == {"ethos-u"}
    assert "M cycles" in capsys.readouterr().out


def test_a_larger_accelerator_takes_fewer_cycles():
    model = tiny_tflite.pair()[INT8]
    small, large = (ethos_u.compile_model(model, f"ethos-u55-{macs}")[1] for macs in (32, 256))
    assert small.macs == large.macs
    assert small.cycles > large.cycles


@pytest.mark.parametrize(
    ("kind", "accelerator", "message"),
    [
        (FLOAT, "ethos-u55-128", "int8 throughout"),
        (INT8, "ethos-u1", "there is no accelerator 'ethos-u1': choose from ethos-u55-32"),
    ],
)
def test_what_cannot_be_compiled_costs_one_line(tmp_path, kind, accelerator, message):
    with pytest.raises(UserError, match=message) as caught:
        ethos_u.write_ethos_u_package(
            tiny_tflite.pair()[kind],
            name="net",
            labels=tiny_tflite.LABELS,
            out_dir=tmp_path,
            accelerator=accelerator,
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_vela_has_a_row_of_its_own(monkeypatch):
    float_model, int8_model = tiny_tflite.pair()
    row = verify.compile_for_npu(int8_model)
    assert row.passed
    assert row.cycles > 1000
    assert row.memory_bytes > 0
    assert verify.compile_for_npu(float_model).skipped.startswith("it compiles INT8 models")
    monkeypatch.setattr(ethos_u, "available", lambda: False)
    assert verify.compile_for_npu(int8_model).skipped == "not installed: pip install ethos-u-vela"
