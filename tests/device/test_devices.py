"""Boards and phones, and what `--device` sets."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import pytest

from efficientnet_elite.device.devices import DEVICES, RAM_SHARE, TFLM_KB
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import device_choice, request
from efficientnet_elite.search.candidates import select
from tests.support.command import elite

NANO = "arduino-nano-33-ble"


def test_every_device_has_sound_figures():
    assert len(DEVICES) >= 25
    for device in DEVICES.values():
        assert re.fullmatch(r"[a-z0-9.-]+", device.name)
        assert 16 <= device.clock_mhz <= 5000 and device.ram_kib >= 64
        assert re.match("https://", device.source)
        limits = device.limits()
        assert bool(limits) == device.is_microcontroller
        assert all(value > 0 for value in limits.values())


def test_a_quarter_is_left_for_the_application():
    limits = DEVICES[NANO].limits()
    assert limits["max_arena_kb"] == int(RAM_SHARE * 256 * 1.024)
    assert 0 <= 0.75 * 1024 * 1.024 - (limits["max_size_kb"] + TFLM_KB) < 1


def test_a_device_sets_limits_and_a_pool():
    config = request.search_request({"device": NANO}, "quick").config
    assert config.limits.arena_kb == 196 and config.limits.size_kb == 641
    smaller = "elite-relu6-nose,elite-small-relu6-nose"
    assert config.pool == smaller  # eLite's smallest network has 780 kB
    large = request.search_request({"device": NANO, "max_size_kb": 900}, "quick").config
    assert large.pool == request.search_request({"device": "rp2350"}, "quick").config.pool
    assert large.pool == "elite-relu6-nose"
    trained = request.training_request({"device": NANO}, "auto")
    assert trained.config.limits == config.limits and "limits.arena_kb" in trained.given
    phone = request.search_request({"device": "pixel-8"}, "quick").config
    assert phone.limits.arena_kb is None and phone.pool == "elite"


def test_what_the_user_says_stays(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('base = "quick"\npool = "elite"\n[limits]\nsize_kb = 300.0\n')
    asked = request.search_request({"device": NANO, "max_arena_kb": 99.0}, file)
    limits = asked.config.limits
    assert (limits.arena_kb, limits.size_kb, asked.config.pool) == (99, 300, "elite")


@pytest.mark.parametrize("name", [n for n, d in DEVICES.items() if d.is_microcontroller])
def test_a_device_has_networks_that_fit(name):
    config = request.search_request({"device": name}, "quick").config
    asked = {"base_resolution": 96, "classes": 10, "limits": config.limits}
    assert select(config.pool, **asked).candidates


def test_a_line_says_which_limits_bind():
    message = request.search_request({"device": "stm32f411"}, "quick").message
    found = dict(re.findall(r"--max_(\w+)_kb=\d+ excludes (\d+) of", message))
    assert found.keys() == {"size", "arena"}
    assert int(found["size"]) > 0  # 248 kB are too few for the largest networks of the pool
    assert "limits no network" in request.search_request({"device": "pixel-8"}, "quick").message
    assert request.search_request({}, "quick").message is None


def test_a_cortex_m_is_grouped_by_its_instructions(tmp_path):
    def groups(**options):
        return request.search_request(options, "quick").config.group_by

    counted = ("params", "cortex_m4_instructions")
    assert groups(device=NANO) == groups(device="stm32h743") == groups(latency_target="m4")
    assert groups(device=NANO) == counted
    with_vectors = ("params", "cortex_m55_instructions")
    assert groups(device="alif-e3") == groups(latency_target="m55") == with_vectors
    # No estimate: without the DSP extension, of other makers.
    for name in ("rp2040", "esp32-s3", "raspberry-pi-5"):
        assert groups(device=name) == ("params", "macs")
    assert groups(device=NANO, group_by="macs") == ("macs",)
    file = tmp_path / "settings.toml"
    file.write_text('base = "quick"\ngroup_by = ["params"]\n')
    asked = request.search_request({"device": NANO, "latency_target": "m4"}, file)
    assert asked.config.group_by == ("params",)
    # Measured latencies say more than an estimate.
    table = {"metric_table": "nano.json"}
    assert groups(device=NANO, **table) == ("params", "macs")
    assert groups(latency_target="table", **table) == ("params", "latency_ms")
    assert groups(latency_target="a76") == ("params", "cortex_a76_instructions")


def test_x86_is_measured_on_such_a_machine(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    asked = request.search_request({"latency_target": "x86", "max_latency_ms": 3}, "quick")
    assert asked.config.group_by == ("params", "latency_ms")
    assert asked.config.limits.latency_ms == 3
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UserError, match="which is aarch64: leave it"):
        request.search_request({"latency_target": "x86"}, "quick")


def test_milliseconds_become_instructions_where_a_core_is_known():
    asked = request.search_request({"device": NANO, "max_latency_ms": 700}, "quick")
    limits = asked.config.limits
    assert limits.latency_ms is None and "limits.latency_ms" not in asked.given
    assert limits.cortex_m4_instructions_m == pytest.approx(700 * 64 / 1.4 / 1000)
    assert re.search(r"--max_cortex_m4_instructions_m=32 excludes \d+ of 128", asked.message)
    assert "groups by parameters and Cortex-M4 instructions; networks in C" in asked.message
    assert "about 46 M instructions a second, an estimate" in asked.message
    trained = request.training_request({"device": NANO, "max_latency_ms": 700}, "auto")
    assert trained.config.limits.cortex_m4_instructions_m == limits.cortex_m4_instructions_m
    here = request.search_request({"device": "esp32", "max_latency_ms": 700}, "quick")
    assert here.config.limits.latency_ms == 700  # measured here, as before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency_target": "a55"}, "latency_target=a55: there is no estimate.*m4.*a76.*table"),
        ({"latency_target": "x86", "metric_table": "a.csv"}, "use --latency_target=table"),
        ({"latency_target": "a76", "max_latency_ms": 9}, "use --max_cortex_a76_instructions_m"),
        ({"latency_target": "table"}, "latency_target=table needs --metric_table=FILE"),
        ({"latency_target": "m4", "max_latency_ms": 9}, "there is no --device: use --max_cortex"),
        ({"device": "stm32h743", "max_latency_ms": 9}, "stm32h743 has a Cortex-M7: use --max_cort"),
        ({"device": "alif-e3", "max_latency_ms": 9}, "M55: use --max_cortex_m55_instructions_m"),
        (
            {"device": NANO, "max_latency_ms": 9, "max_cortex_m4_instructions_m": 9},
            "both limit instructions, use one of them",
        ),
        ({"device": NANO, "max_latency_ms": "9"}, "max_latency_ms='9': must be a number"),
    ],
)
def test_targets_and_limits_that_do_not_go_together(options, message):
    with pytest.raises(UserError, match=message):
        request.search_request(options, "quick")


def test_milliseconds_of_a_file_of_settings_are_of_this_machine(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('base = "quick"\n[limits]\nlatency_ms = 5.0\n')
    with pytest.raises(UserError, match="replace it by cortex_m4_instructions_m"):
        request.search_request({"device": NANO}, file)


def test_models_show_estimated_milliseconds():
    command = ("models", "--pool=mobilenetv2", "--base_resolution=64", "--classes=5")
    done = elite(*command, "--device=rp2350", "--max_latency_ms=200", "--format=json")
    rows = json.loads(done.stdout)
    excluded = [row for row in rows if "instructions" in (row["excluded"] or "")]
    assert 0 < len(excluded) < len(rows)
    for row in rows:
        milliseconds = row["cortex_m4_instructions"] / (150 / 1.4) / 1000
        assert row["estimated_ms"] == pytest.approx(milliseconds)
        assert (row in excluded) == (milliseconds > 200)
    assert "estimated time" in elite(*command, "--device=rp2350").stdout.splitlines()[0]
    assert "estimated" not in elite(*command, "--device=rp2040").stdout
    done = elite(*command, "--latency_target=esp32")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "--metric_table" in done.stderr


def test_an_unknown_device_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match=f"did you mean {NANO}.*elite devices"):
        device_choice.expanded({"device": "arduino-nano-33"}, request.search_request({}).config)


def test_the_command_lists_devices():
    rows = json.loads(elite("devices", "--format=json").stdout)
    assert [row["name"] for row in rows] == list(DEVICES)
    (row,) = json.loads(elite("devices", NANO, "--format=json").stdout)
    assert (row["max_arena_kb"], row["ram_kib"]) == (196, 256)
    assert elite("devices", "nano").returncode == 1


def test_the_page_has_every_device():
    page = (Path(__file__).parents[2] / "docs/devices.md").read_text()
    for device in DEVICES.values():
        flash = "-" if device.flash_kib is None else f"{device.flash_kib:,}"
        row = f"| {device.name} | {device.core}, {device.clock_mhz} MHz | {flash} | "
        assert row + f"{device.ram_kib:,} | {device.description} |" in page
        assert f"- {device.name}: <{device.source}>" in page
