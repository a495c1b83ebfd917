"""Boards and phones, and what `--device` sets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from efficientnet_elite.device.devices import DEVICES, RAM_SHARE, TFLM_KB
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import device_choice, request
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
    assert config.pool == "elite-relu6-nose"
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


def test_a_line_says_which_limits_bind():
    message = request.search_request({"device": "stm32f411"}, "quick").message
    found = dict(re.findall(r"--max_(\w+)_kb=\d+ excludes (\d+) of", message))
    assert found.keys() == {"size", "arena"}
    assert int(found["size"]) > 0  # 248 kB are too few for the largest networks of the pool
    assert "limits no network" in request.search_request({"device": "pixel-8"}, "quick").message
    assert request.search_request({}, "quick").message is None


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
