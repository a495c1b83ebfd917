"""Patches of networks that are not files yet; tests/export/test_patches.py has those of files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from efficientnet_elite.config import Limits
from efficientnet_elite.device import costs, limits, memory, patch_choice, patches
from efficientnet_elite.device.lowering import lower
from efficientnet_elite.networks.names import spec_by_name


def spec(name: str, side: int):
    network = spec_by_name(name, classes=10, base_resolution=224).resized((side, side, 3))
    return replace(network, name=f"{name}-{side}")


def test_a_limit_with_patches_allows_larger_images():
    small, large = (spec("elite9-relu6-nose", side) for side in (96, 224))
    kb = costs.of(large, "patched_arena_bytes") / 1000
    assert costs.of(large, "arena_bytes") > 1.5 * 1000 * kb
    assert limits.excluded([small, large], Limits(patched_arena_kb=kb)) == {}
    assert list(limits.excluded([small, large], Limits(arena_kb=kb))) == [large.name]
    plan = patch_choice.smallest(lower(large.graph), [(4, 4)], patch_choice.MOST_OVERHEAD)
    assert plan is not None and plan.overhead <= patch_choice.MOST_OVERHEAD
    assert memory.arena_bytes(plan.program) >= 1000 * kb


def test_squeeze_and_excite_in_the_first_block_leaves_nothing_to_save():
    network = spec("efficientnet-b0", 64)
    assert costs.of(network, "patched_arena_bytes") == costs.of(network, "arena_bytes")


@pytest.mark.parametrize("name", ["elite9-nose", "mobilenetv2", "squeezenet-1.1"])
def test_macs_are_those_of_the_network(name):
    network = spec(name, 64)
    assert patches.macs(lower(network.graph)) == network.macs
