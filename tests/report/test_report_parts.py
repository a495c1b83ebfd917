"""The report's parts: the Pareto front, intervals, recommendations, markup, labels, SVG."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_elite.report import artefacts, figures, pareto, results
from efficientnet_elite.report.labels import Label, place
from efficientnet_elite.report.markup import Html, tag
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.summary import summarize
from efficientnet_elite.text import data_set_name
from tests.support.reports import benchmark, champion, row, search, sidecar


def test_front_by_hand():
    accuracies = [0.9, 0.8, 0.8, 0.7, 0.95]
    costs = [(3.0,), (1.0,), (2.0,), (1.0,), (9.0,)]
    assert pareto.front(accuracies, costs) == [True, True, False, False, True]
    assert pareto.front([0.5, 0.5], [(1.0,), (1.0,)]) == [True, True]
    # A second cost brings a model back.
    assert pareto.front([0.9, 0.8], [(1.0, 2.0), (2.0, 1.0)]) == [True, True]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9
    )
)
def test_front_of_any_points(points):
    on = pareto.front([p[0] for p in points], [p[1:] for p in points])
    assert any(on)
    for point, kept in zip(points, on, strict=True):
        beaten = any(
            q[0] >= point[0] and q[1] <= point[1] and q[2] <= point[2] and q != point
            for q in points
        )
        assert kept != beaten


def test_interval_by_hand():
    # Wilson's interval of 9 successes in 10 trials: 0.596 to 0.982.
    low, high = pareto.interval(0.9, 10)
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    assert pareto.interval(1.0, 50)[1] == pytest.approx(1.0)
    assert pareto.interval(0.0, 50)[0] == pytest.approx(0.0)


def test_choices():
    found = [
        champion("big", 0.950, 3000, 3.0),
        champion("near", 0.941, 2000, 4.0),
        champion("middle", 0.930, 1500, 2.5),
        champion("small", 0.800, 1000, 2.0),
        champion("beaten", 0.700, 4000, 5.0, on_front=False),
    ]
    assert [(title, export.name) for title, export in results.choices(found)] == [
        ("Recommended", "near"),
        ("Most accurate", "big"),
        ("Smallest, fastest", "small"),
        ("In between", "middle"),
    ]
    assert results.choices([]) == []


def test_the_test_part_recommends_nobody():
    found = [
        champion("validated", 0.90, 3000, validation=0.99),
        champion("lucky", 0.99, 1000, validation=0.90),
    ]
    assert results.choices(found)[0][1].name == "validated"


def test_recommended_by_int8_where_all_were_measured_in_it():
    found = [
        champion("robust", 0.9, 3000, validation=0.90, int8=0.90),
        champion("fragile", 0.9, 1000, validation=0.95, int8=0.70),
    ]
    assert results.validated(found) == ("int8", [0.90, 0.70])
    assert results.choices(found)[0][1].name == "robust"
    mixed = [found[0], champion("fragile", 0.9, 1000, validation=0.95)]
    assert results.validated(mixed) == ("float32", [0.90, 0.95])
    assert results.choices(mixed)[0][1].name == "fragile"


def test_latency_counts_only_where_all_have_it(tmp_path):
    first, second = search(tmp_path)
    sidecar(tmp_path, first, 0.9, 2000)
    sidecar(tmp_path, second, 0.9, 1000)

    def on_front():
        with Ledger(tmp_path) as ledger:
            summary = summarize(ledger)
        found = artefacts.read(tmp_path, [first, second])
        return [c.on_front for c in results.champions(summary, found, {})]

    benchmark(tmp_path, row(first, 2000, 1.0))
    assert on_front() == [False, True]
    benchmark(tmp_path, row(first, 2000, 1.0), row(second, 1000, 2.0))
    assert on_front() == [True, True]


@given(st.text(), st.text())
def test_markup_escapes(text, value):
    parser = HTMLParser(convert_charrefs=True)
    found = []
    parser.handle_data = found.append
    parser.handle_starttag = lambda name, attributes: found.append((name, attributes))
    parser.feed(tag("p", text, None, title=value, lang=None))
    parser.close()
    clean = lambda s: re.sub(r"\s|\x00", "", s)  # noqa: E731
    assert found[0][0] == "p"
    assert [(k, clean(v)) for k, v in found[0][1]] == [("title", clean(value))]
    assert clean("".join(found[1:])) == clean(text)


def test_html_is_not_escaped_twice():
    assert tag("p", tag("b", "a & b"), Html("<i>x</i>")) == "<p><b>a &amp; b</b><i>x</i></p>"


@settings(deadline=None, max_examples=40)  # each draws a figure
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), min_size=2, max_size=6))
def test_labels_do_not_cover_each_other(points):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(4, 3))
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0.1, 0.1, 0.85, 0.85))
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 100)
    labels = [Label(x, y, f"elite{i}", "#000000") for i, (x, y) in enumerate(points)]
    place(ax, labels, [np.array(sorted(points))], line_color="#888888")
    canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without connecting lines
    assert len(boxes) == len(points)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


def test_scatter_and_curves_are_well_formed(tmp_path):
    search(tmp_path, groups=1, size=9, epochs=60)
    with Ledger(tmp_path) as ledger:
        summary, scores = summarize(ledger), ledger.scores()
    axis = figures.shared_axis(summary.groups, scores)
    assert axis.logarithmic  # four rounds in 60 epochs
    drawn = figures.curves(summary.groups[0], scores, axis)
    texts = [e.text for e in ElementTree.fromstring(drawn.svg).iter("text")]
    assert summary.groups[0].champion in texts
    assert "epoch (logarithmic)" in texts
    assert "60" in texts
    points = [
        figures.Point("a", 1.0, 0.5, (0.4, 0.6), True),
        figures.Point("b", 100.0, 0.4, None, False),
    ]
    root = ElementTree.fromstring(figures.scatter("x", "title", "cost, ms", points).svg)
    assert {"a", "b", "cost, ms"} <= {e.text for e in root.iter("text")}
    assert root.attrib["role"] == "img"


def test_svg_ids_and_colours():
    source = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        b' viewBox="0 0 1 1" width="9"><metadata>m</metadata><style>*{}</style>'
        b'<g id="a" style="fill: #123456; clip-path: url(#b)"/><use xlink:href="#a"/></svg>'
    )
    found = figures.inline(source, prefix="p", title='"x"', colors={"#123456": "var(--ink)"})
    assert found == (
        '<svg viewBox="0 0 1 1" role="img" aria-label="&quot;x&quot;">'
        '<g id="p-a" style="fill: var(--ink); clip-path: url(#p-b)"></g>'
        '<use href="#p-a"></use></svg>'
    )


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("folder:/home/me/flowers", "flowers"),
        ("folder:C:\\photos\\flowers", "flowers"),
        ("folder:/", "folder:/"),
        ("tfds:imagenet_v2/matched", "tfds:imagenet_v2/matched"),
        ("digits", "digits"),
    ],
)
def test_names_of_data_sets(dataset, name):
    assert data_set_name(dataset) == name
