"""The study that fits instructions: what it finds in counts that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from efficientnet_elite.benchmarks.studies import instructions as study
from efficientnet_elite.device.instructions import Call
from efficientnet_elite.errors import UserError

TRUTH = {
    "nn_add": {"call": 90.0, "rows": 30.0, "values": 79.0},
    "nn_table": {"call": 20.0, "values": 6.0},
}


def network(name: str, kind: str, seed: int, kernels=("nn_add", "nn_table")) -> study.Counted:
    random = np.random.default_rng(seed)
    layers = []
    for kernel in kernels:
        for _ in range(6):
            counts = {loop: float(random.integers(5, 5000)) for loop in TRUTH[kernel]} | {"call": 1}
            count = sum(n * TRUTH[kernel][loop] for loop, n in counts.items())
            layers.append((Call(kernel, counts), round(count)))
    total = sum(count for _, count in layers)
    return study.Counted(
        name, 32, 1000 + seed, kind, tuple(c for c, _ in layers), tuple(layers), total
    )


def test_a_fit_finds_what_a_turn_takes():
    fit = study.fitted([network("a", "a", 1), network("b", "b", 2)])
    assert fit.keys() == TRUTH.keys()
    for kernel, loops in TRUTH.items():
        for loop in loops.keys() - {"call"}:
            assert fit[kernel][loop] == pytest.approx(loops[loop], rel=0.01)


def test_a_network_is_judged_by_a_fit_without_its_kind():
    alone = network("b", "b", 2, kernels=("nn_table",))
    others = [network("a", "a", 1), network("a2", "a", 3)]
    networks = [*others, alone]
    values = study.held_out(networks)
    # Nothing else has the kernel nn_add, so that there is no number for those that have it.
    assert values[:2] == [None, None]
    assert values[2] == pytest.approx(alone.instructions, rel=0.01)
    wrong = study.Counted("b", 32, 1000, "b", alone.calls, alone.layers, 2 * alone.instructions)
    assert study.held_out([*others, wrong])[2] == values[2]
    text = study.summary([*others, wrong], study.fitted([*others, wrong]))
    assert "held out: 1 estimates, mean error 50." in text and "worst -50." in text


def test_a_fit_to_whole_networks():
    """Where layers are not counted, networks with other shares of kernels tell them apart."""
    layers = [network(str(seed), "a", seed) for seed in range(8)]
    wholes = [replace(one, layers=()) for one in layers]
    fit = study.fitted(wholes)
    for kernel, loops in TRUTH.items():
        for loop in loops.keys() - {"call"}:
            assert fit[kernel][loop] == pytest.approx(loops[loop], rel=0.1)
    assert study.estimated(wholes[0], fit) == pytest.approx(wholes[0].instructions, rel=0.01)


def test_layers_are_paired_where_it_is_clear_which_is_which():
    calls = [Call(kernel, {"call": 1}) for kernel in ("nn_conv", "nn_mul", "nn_mul", "nn_table")]
    steps = [("nn_conv", 100), ("nn_mul", 20), ("nn_table", 30)]
    assert study.paired(calls, steps) == [(calls[0], 100), (calls[3], 30)]
    with pytest.raises(UserError, match="other layers than predicted"):
        study.paired(calls, steps[::-1])


def test_networks_are_named_with_their_pixels(tmp_path):
    with pytest.raises(UserError, match="write NAME@PIXELS"):
        study.counted("elite9", tmp_path)
    names = study.default_networks("m4")
    assert len(names) == len(set(names)) > 45
    fewer = study.default_networks("m55")
    assert set(fewer) | set(study._NOT_ON_M55) == set(names)
    assert len({study._kind(name) for name in fewer}) > 12


def test_kinds_of_families():
    kinds = {"elite9": "efficientnet", "condensenext-cifar": "condensenet", "hf3": "efficientnet",
             "lraspp-mobilenetv3-small": "mobilenetv3", "espnetv2-seg": "espnet",
             "ecamobilenetv2": "mobilenetv2", "shufflenet-g8": "shufflenet"}  # fmt: skip
    assert {name: study._kind(name) for name in kinds} == kinds
