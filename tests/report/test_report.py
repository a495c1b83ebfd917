"""The report: its page as a browser reads it, its figures, and a page where pieces are missing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from PIL import Image

from efficientnet_elite import report
from efficientnet_elite.errors import UserError
from efficientnet_elite.report import markup
from efficientnet_elite.search.ledger import Ledger
from tests.support.reports import HOSTILE, Page, benchmark, row, search, sidecar, unillustrated


def test_two_writers_of_a_file(tmp_path):
    """Such as the report at a search's end, and one that somebody asks for."""
    script = (
        "import sys; from pathlib import Path\n"
        "from efficientnet_elite.search.workdir import write_bytes\n"
        "for _ in range(300): write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    )
    path = tmp_path / "report.html"
    writers = [subprocess.Popen([sys.executable, "-c", script, path, mark]) for mark in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_search(tmp_path):
    first, second = search(tmp_path)
    sidecar(tmp_path, first, 0.925, 2_345_678)
    sidecar(tmp_path, second, 0.875, 1_234_567)
    benchmark(tmp_path, row(first, 2_345_678, 12.34), row(second, 1_234_567, 5.678, "/tmp/x/"))
    page = Page(report.write_page(tmp_path))
    for expected in (
        "the smallest champion within 1 point of the best float32 validation accuracy",
        "92.50",
        "2,346",
        "1,235",
        "12.3",
        "18.5",
        "5.68",
        "Board & Co",
        "50 inferences of each file",
        "2 threads",
        "2 ADD, 3 CONV_2D",
        "1,234",
        "A Board",
        "3.15.1",
        "f00d",
        "No image was skipped.",
        "1 min 01 s",
        "eliminated in round 1, ranked 3 of 3",
    ):
        assert expected in page.text, expected
    assert page.tags.count("svg") == 6
    assert page.tags.count("span") >= 2
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {
        "accuracy-latency.png",
        "accuracy-size.png",
        "bracket-group0.png",
        "bracket-group1.png",
        "curves-group0.png",
        "curves-group1.png",
    }
    for name in written:
        with Image.open(tmp_path / "report" / name) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn
    assert {path.name for path in tmp_path.iterdir() if "part" in path.name} == set()


def test_the_page_loads_nothing_and_its_ids_are_unique(tmp_path):
    first, second = search(tmp_path)
    sidecar(tmp_path, first, 0.9, 2000)
    sidecar(tmp_path, second, 0.8, 1000)
    page = Page(report.write_page(tmp_path))
    assert "script" not in page.tags
    assert not {"link", "img", "iframe", "object", "image"} & set(page.tags)
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids)) > 10
    for key, value in page.attributes:
        assert key != "src"
        if key.endswith("href"):
            assert value.startswith("#")
            assert value[1:] in ids
        for target in re.findall(r"url\(#(.+?)\)", value or ""):
            assert target in ids
    assert "http" not in page.source.replace("http-equiv", "")
    assert "@import" not in page.source
    assert dict(page.attributes)["http-equiv"] == "Content-Security-Policy"


def test_figures_follow_the_theme(tmp_path):
    search(tmp_path)
    page = Page(report.write_page(tmp_path))
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert "var(--accent)" in drawn
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)) & set(markup.LIGHT.values())
    assert "prefers-color-scheme:dark" in page.source


def test_hostile_texts_stay_texts(tmp_path):
    skipped = [{"path": "<img src=http://evil/x onerror=alert(1)>.jpg", "reason": HOSTILE}]
    champions = search(
        tmp_path / HOSTILE[:20].replace("/", "_"), labels=(HOSTILE, "b"), skipped=skipped
    )
    workdir = tmp_path / HOSTILE[:20].replace("/", "_")
    sidecar(workdir, champions[0], 0.9, 1000)
    bad = row(champions[0], 1000, 1.0) | {"error": HOSTILE, "model": f"/{HOSTILE.split('/')[-1]}"}
    benchmark(workdir, row(champions[0], 1000, 1.0), bad)
    page = Page(report.write_page(workdir))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(HOSTILE) == 3  # as label, as reason and as error
    assert "<img src=http://evil/x onerror=alert(1)>.jpg" in page.text


def test_before_the_first_epoch(tmp_path):
    search(tmp_path, budget=0)
    page = Page(report.write_page(tmp_path))
    assert "No group has a champion yet" in page.text
    assert "No epoch has been trained yet in group 0, 1" in page.text
    assert "0 % of the training done" in page.text.replace("\u00a0", " ")
    assert "svg" not in page.tags


@pytest.mark.parametrize("budget", range(1, 24, 3))
def test_at_any_time_of_a_search(tmp_path, budget):
    search(tmp_path, budget=budget, size=4)
    page = Page(report.write_page(tmp_path))
    assert page.tags.count("svg") == len(list((tmp_path / "report").iterdir()))


def test_one_candidate(tmp_path):
    (name,) = search(tmp_path, groups=1, size=1)
    sidecar(tmp_path, name, 0.9, 1000)
    page = unillustrated(tmp_path)
    assert "the only champion that has been exported" in page.text
    assert "No latency has been measured" in page.text


def test_everything_has_failed(tmp_path):
    search(tmp_path, budget=3)
    with Ledger(tmp_path) as ledger:
        for candidate in ledger.candidates():
            ledger.record_failure(candidate.name, 2, "diverged <b>")
    page = unillustrated(tmp_path)
    assert "every candidate has failed" in page.text
    # Each in the list of candidates; two finished round 1 before, the decisions tell the others.
    assert page.text.count("failed: diverged <b>") >= 6


def test_not_exported_and_partly_exported(tmp_path):
    first, second = search(tmp_path)
    page = unillustrated(tmp_path)
    assert f"Champions so far: {first}, {second}. None has been exported yet" in page.text
    assert f"elite export --workdir={tmp_path}" in page.text
    sidecar(tmp_path, second, 0.9, 1000)
    page = unillustrated(tmp_path)
    assert f"Not exported yet: {first}." in page.text


def test_old_figures_go(tmp_path):
    first, second = search(tmp_path)
    for name in (first, second):
        sidecar(tmp_path, name, 0.9, 1000)
    report.write_page(tmp_path)
    assert (tmp_path / "report" / "accuracy-size.png").is_file()
    (tmp_path / "export" / first / f"{first}.json").unlink()
    report.write_page(tmp_path)
    assert not (tmp_path / "report" / "accuracy-size.png").exists()


def test_a_benchmark_of_other_files_is_not_believed(tmp_path):
    first, _ = search(tmp_path)
    sidecar(tmp_path, first, 0.9, 1000)
    benchmark(tmp_path, row(first, 999, 12.34))
    page = unillustrated(tmp_path)
    assert f"{first}.int8.tflite has been exported again since the benchmark" in page.text
    assert "12.3" not in page.text


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"rows": 3}', '{"files": [], "rows": [1]}', "\x00"]
)
@pytest.mark.parametrize("which", ["benchmark", "sidecar"])
def test_damaged_files_are_told(tmp_path, which, content):
    first, second = search(tmp_path, epochs=2)
    path = sidecar(tmp_path, first, 0.9, 1000)
    sidecar(tmp_path, second, 0.8, 900)
    if which == "benchmark":
        path = tmp_path / "benchmark.json"
    path.write_text(content)
    page = unillustrated(tmp_path)
    assert f"{path.name} cannot be used" in page.text
    assert second in page.text


def test_no_search(tmp_path):
    with pytest.raises(UserError, match="no search"):
        report.write_page(tmp_path)


def test_the_same_search_gives_the_same_figures(tmp_path):
    search(tmp_path)
    report.write_page(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "report").iterdir()}
    report.write_page(tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "report").iterdir()} == before


def test_starts_without_tensorflow_or_matplotlib():
    code = (
        "import sys, efficientnet_elite.report\n"
        "sys.exit(bool({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
