"""The paper's comparison: printed figures, counted ones, and nothing invented between them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from PIL import Image

from efficientnet_elite.networks.names import MEMBERS, spec_by_name
from efficientnet_elite.report import table5 as drawing
from efficientnet_elite.report import table5_rows
from efficientnet_elite.report.table5_rows import ROWS, Comparison, Row
from tests.support.command import elite

COMPARISONS = {comparison.row.title: comparison for comparison in table5_rows.compare()}


def row(params: str, macs: str) -> Row:
    return Row("some network", params, macs, 70.0)


def test_all_rows_of_the_paper_are_there():
    assert len(ROWS) == len(COMPARISONS) == 42
    assert sum(row.own for row in ROWS) == 16
    accuracies = {row.network: row.top1 for row in ROWS if row.own}
    assert accuracies == {name: member.paper_top1 for name, member in MEMBERS.items()}


def test_only_networks_that_are_not_here_have_no_count():
    """Their architectures were never public."""
    uncounted = [title for title, c in COMPARISONS.items() if c.params is None]
    assert uncounted == ["Mnas-small", "GreedyNAS (latency)", "GreedyNAS (Flops)"]
    for title in uncounted:
        comparison = COMPARISONS[title]
        assert comparison.macs is None
        assert comparison.difference == ""
        assert comparison.row.note


@pytest.mark.parametrize("title", COMPARISONS)
def test_every_difference_is_explained_and_no_agreement_is(title):
    comparison = COMPARISONS[title]
    assert bool(comparison.row.note) == (comparison.difference != "none")


def test_the_papers_own_rows_agree_but_for_one_slip():
    differing = [c.row.title for c in COMPARISONS.values() if c.row.own and c.difference != "none"]
    assert differing == ["eLite4"]
    assert COMPARISONS["eLite4"].macs_difference is None


def test_cited_networks_are_counted_as_their_papers_do():
    """MobileNet's 4.24 M are its trainable weights; with moving statistics it has 4.25 M."""
    spec = spec_by_name("mobilenetv1")
    assert (table5_rows.trainable_params(spec), spec.params) == (4231976, 4253864)
    assert COMPARISONS["MobileNet"].params == 4231976
    assert COMPARISONS["eLite9"].params == spec_by_name("elite9").params


@pytest.mark.parametrize(
    ("printed", "counted", "difference"),
    [
        ("1.9", 1_950_000, "none"),  # cut
        ("2.0", 1_910_000, "none"),  # rounded up
        ("1.9", 2_000_001, "params +5.3 %"),
        ("2", 1_000_000, "params -50.0 %"),
        ("42", 42_999_999, "none"),
    ],
)
def test_agreement_is_within_one_unit_of_the_last_printed_digit(printed, counted, difference):
    assert Comparison(row(printed, "1"), counted, 1_000_000).difference == difference


def test_both_differences_are_named():
    comparison = Comparison(row("1.0", "10.0"), 2_000_000, 5_000_000)
    assert comparison.difference == "params +100.0 %, MACs -50.0 %"


def test_figures_are_whole_and_the_same_each_time(tmp_path):
    comparisons = [COMPARISONS[title] for title in ("eLite0", "eLite9", "Mnas-small", "NASNet-A")]
    first, second = (drawing.write_figures(tmp_path / name, comparisons) for name in ("a", "b"))
    assert [path.name for path in first] == [
        f"table5-figure{number}.{kind}" for number in (1, 7) for kind in ("png", "svg")
    ]
    for path, other in zip(first, second, strict=True):
        assert path.read_bytes() == other.read_bytes()
        if path.suffix == ".png":
            assert Image.open(path).size > (1000, 600)
        else:
            text = " ".join(ElementTree.parse(path).getroot().itertext())
            for shown in (*(c.row.title for c in comparisons), "paper, not measured here"):
                assert shown in text


def test_figures_show_counts_and_print_only_where_there_are_none():
    nasnet, small = COMPARISONS["NASNet-A"], COMPARISONS["Mnas-small"]
    assert drawing.macs(nasnet) == nasnet.macs / 1e6 != float(nasnet.row.macs)
    assert (drawing.params(small), drawing.macs(small)) == (1.9, 65.1)
    other = replace(nasnet, params=1_000_000)
    assert drawing.params(other) == 1.0


@pytest.mark.slow
def test_the_command_prints_every_row_in_every_format(tmp_path):
    table = elite("table5")
    assert table.returncode == 0, table.stderr
    rows = list(csv.DictReader(io.StringIO(elite("table5", "--format=csv").stdout)))
    assert [entry["network"] for entry in rows] == [row.title for row in ROWS]
    counted = {entry["network"]: entry["counted_macs"] for entry in rows}
    assert counted["NASNet-A"] == "563638816"
    assert counted["Mnas-small"] == ""
    folder = tmp_path / "docs"
    markdown = elite("table5", "--format=markdown", f"--figures={folder}").stdout
    assert len(list(folder.iterdir())) == 4
    for name in COMPARISONS:
        assert f"\n{name}  " in table.stdout
        assert f"\n| {name} | " in markdown
    for note in {row.note for row in ROWS if row.note}:
        assert note in table.stdout
        assert note in markdown
    assert "](table5-figure7.svg)" in markdown
