"""The study of ranks, on rows whose correlations are known."""

from __future__ import annotations

import json

import pytest

from efficientnet_elite.benchmarks.studies import ranks
from efficientnet_elite.errors import UserError


def row(network, start, curve, further, seed=0):
    return {"network": network, "start": start, "seed": seed, "curve": curve,
            "test_top1": 0.5, "further_top1": further}  # fmt: skip


def rows():
    """From a, the order at a quarter is the reverse of that at the end; b is in order throughout,
    with the two seeds of network 3 averaged."""
    made = []
    for k in range(4):
        made.append(row(f"n{k}", "a", [0.9 - 0.1 * k, 0.8 - 0.1 * k, 0.1 * k, 0.1 * k], 0.1 * k))
        made.append(row(f"n{k}", "b", [0.1 * k] * 4, 0.1 * k))
    made[-1]["further_top1"] = 0.0
    return [*made, row("n3", "b", [0.3] * 4, 0.9, seed=1), row("other", "a", [0.1] * 4, 0.1)]


def test_correlations_and_the_place_of_the_best():
    heads, table = ranks.cells(rows())
    assert heads[2] == "10% of epochs" and heads[-1] == "as from a"
    (_, count, tenth, quarter, _, end, same), b = table
    assert (count, tenth, quarter, end, same) == ("4", "-1.00 / 4", "-1.00 / 4", "1.00 / 1", "1.00")
    assert b[2:] == ["1.00 / 1"] * 4 + ["1.00"]


def test_the_test_part_where_further_images_are_missing():
    given = rows()
    given[0]["further_top1"] = None
    for number, entry in enumerate(given):
        entry["test_top1"] = -number
    assert ranks.cells(given)[1][0][5] == "-1.00 / 4"


def test_wrong_files(tmp_path):
    path = tmp_path / "rows.json"
    for content, message in (
        ([], "at least three networks"),
        ([{"network": "a", "start": "b"}] * 3, "at least three networks"),
        ([row(f"n{k}", "a", None, 0.1) for k in range(3)], "cannot be read as rows .* with curves"),
        ("x", "cannot be read as rows"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            ranks.main([str(path)])
