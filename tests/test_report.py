"""The report: its page as a browser reads it, its figures, and a page where pieces are missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from efficientnet_elite import planning, pools, report
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.ledger import Epoch, Ledger
from efficientnet_elite.outcome import Int8Result
from efficientnet_elite.report import style
from efficientnet_elite.report.contents import Figures
from efficientnet_elite.report.page import render
from efficientnet_elite.summary import standings, summarize

HOSTILE = '<script>alert("1")</script>&amp;$x_1$'
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks the structure while parsing, and keeps text, tags and attributes."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.source = source if isinstance(source, str) else source.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.words.append(data)


def test_two_writers_of_a_file(tmp_path):
    """Such as the report at a search's end, and one that somebody asks for."""
    script = (
        "import sys; from pathlib import Path; from efficientnet_elite.workdir import write_bytes\n"
        "for _ in range(300): write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    )
    path = tmp_path / "report.html"
    writers = [subprocess.Popen([sys.executable, "-c", script, path, mark]) for mark in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    assert list(tmp_path.iterdir()) == [path]


def unillustrated(workdir):
    """The page without its figures, which most of a report's time goes into."""
    return Page(render(report.gather(workdir), Figures({}, {}, None, None)))


def search(
    workdir,
    *,
    groups=2,
    size=3,
    epochs=4,
    budget=10**9,
    labels=("cat", "dog"),
    skipped=(),
    rule="average",
    accuracy=lambda place, epoch: 0.9 - 0.5 / (epoch + place),
    score="top-1",
    change=None,
    pace=None,
    **settings,
):
    """A search in which later candidates learn faster; stops after ``budget`` epochs.

    With ``change`` it selects by int8, which adds so much to the accuracy of each candidate.
    """
    config = SearchConfig(
        round_epochs=1,
        rule=rule,
        train=TrainConfig(epochs=epochs),
        data=DataConfig(dataset="folder:pets"),
        select="float" if change is None else "int8",
        **settings,
    )
    pool = pools.candidates("elite", base_resolution=32, classes=len(labels))
    chosen = [replace(c, group=i % groups) for i, c in enumerate(pool[: groups * size])]
    replicas = planning.replicas(chosen, config.seeds)
    kept, plan = planning.planned(chosen, config, pace)
    assert kept == tuple(chosen)
    meta = {
        "config": asdict(config),
        "plan": plan,
        "data": {
            "name": "folder:pets",
            "score": score,
            "labels": list(labels),
            "sizes": {"train": 1234, "validation": 56, "test": 78},
            "skipped": list(skipped),
            "fingerprint": "f00d",
        },
        "versions": {"python": "3.11.9", "keras": "3.15.1"},
        "machine": "A Board",
        "started": "2025-01-02T03:04:05+00:00",
    }
    with Ledger(workdir, create=True) as ledger:
        ledger._db.execute("PRAGMA synchronous=OFF")
        ledger.start(chosen, meta, replicas)
        order = {candidate.name: i for i, candidate in enumerate(chosen)}
        for replica in replicas:
            own = accuracy(order[replica.candidate] + replica.seed, 1)
            ledger.record_epoch(Epoch(replica.name, 1, own, 1.0, 2.0))
        while jobs := [job for s in standings(ledger).values() for job in s.jobs]:
            for job in jobs:
                known = ledger.scores().get(job.candidate, ())
                done, found = len(known), known[-1] if known else None
                for epoch in range(done + 1, job.until_epoch + 1):
                    if not budget:
                        return []
                    budget -= 1
                    found = accuracy(order[job.candidate], epoch)
                    ledger.record_epoch(Epoch(job.candidate, epoch, found, 1.0, 2.0))
                if job.int8:
                    in_int8 = found + change(order[job.candidate])
                    result = Int8Result(job.until_epoch, found, in_int8, 56, 1.0)
                    ledger.record_int8(job.candidate, result)
        ledger.record_timing("graph building", chosen[0].name, 61.0)
        return [group.champion for group in summarize(ledger).groups]


def sidecar(workdir, name, int8_accuracy, int8_bytes, score="top-1"):
    """As `export.champion` writes it."""
    folder = workdir / "export" / name
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": name,
        "verification": {
            "score": score,
            "keras_accuracy": 0.95,
            "float_accuracy": 0.95,
            "int8_accuracy": int8_accuracy,
            "agreement": 0.99,
            "test_images": 78,
            "max_difference": 1e-6,
            "logit_range": 10.0,
        },
        "operators": {"float32": {"CONV_2D": 3}, "int8": {"ADD": 2, "CONV_2D": 3}},
        "files": {
            "float32": {"file": f"{name}.float32.tflite", "bytes": 4 * int8_bytes},
            "int8": {"file": f"{name}.int8.tflite", "bytes": int8_bytes},
        },
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def row(name, file_bytes, median_ms, folder="C:\\models\\"):
    """As `benchmarks.latency` writes it."""
    return {
        "model": f"{folder}{name}.int8.tflite",
        "file_bytes": file_bytes,
        "median_ms": median_ms,
        "p90_ms": 1.5 * median_ms,
        "error": None,
    }


def benchmark(workdir, *rows):
    content = {
        "host": {"cpu": "Board & Co", "cores": 4, "runtime": "ai-edge-litert 2.3.0"},
        "options": {"runs": 50, "warmup": 10, "threads": 2, "seed": 0},
        "rows": rows,
    }
    (workdir / "benchmark.json").write_text(json.dumps(content))


def test_a_finished_search(tmp_path):
    first, second = search(tmp_path)
    sidecar(tmp_path, first, 0.925, 2_345_678)
    sidecar(tmp_path, second, 0.875, 1_234_567)
    benchmark(tmp_path, row(first, 2_345_678, 12.34), row(second, 1_234_567, 5.678, "/tmp/x/"))
    page = Page(report.write(tmp_path))
    for expected in (
        "the smallest champion within 1 point of the best float32 validation accuracy",
        "92.50",
        "2,346",
        "1,235",
        "12.3",
        "18.5",
        "5.68",
        "Board & Co",
        "50 inferences each",
        "2 threads",
        "2 ADD, 3 CONV_2D",
        "1,234",
        "A Board",
        "3.15.1",
        "f00d",
        "No image was skipped.",
        "1 min 01 s",
        "out in round 1, ranked 3 of 3",
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
    page = Page(report.write(tmp_path))
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
    page = Page(report.write(tmp_path))
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert "var(--accent)" in drawn
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)) & set(style.LIGHT.values())
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
    page = Page(report.write(workdir))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(HOSTILE) == 3  # as label, as reason and as error
    assert "<img src=http://evil/x onerror=alert(1)>.jpg" in page.text


def test_before_the_first_epoch(tmp_path):
    search(tmp_path, budget=0)
    page = Page(report.write(tmp_path))
    assert "No group has a champion yet" in page.text
    assert "No epoch has been trained yet in group 0, 1" in page.text
    assert "0 % of the training done" in page.text.replace("\u00a0", " ")
    assert "svg" not in page.tags


@pytest.mark.parametrize("budget", range(1, 24, 3))
def test_at_any_time_of_a_search(tmp_path, budget):
    search(tmp_path, budget=budget, size=4)
    page = Page(report.write(tmp_path))
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
    report.write(tmp_path)
    assert (tmp_path / "report" / "accuracy-size.png").is_file()
    (tmp_path / "export" / first / f"{first}.json").unlink()
    report.write(tmp_path)
    assert not (tmp_path / "report" / "accuracy-size.png").exists()


def test_a_benchmark_of_other_files_is_not_believed(tmp_path):
    first, _ = search(tmp_path)
    sidecar(tmp_path, first, 0.9, 1000)
    benchmark(tmp_path, row(first, 999, 12.34))
    page = unillustrated(tmp_path)
    assert f"{first}.int8.tflite has been exported anew since the benchmark" in page.text
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
        report.write(tmp_path)


def test_the_same_search_gives_the_same_figures(tmp_path):
    search(tmp_path)
    report.write(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "report").iterdir()}
    report.write(tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "report").iterdir()} == before


def test_starts_without_tensorflow_or_matplotlib():
    code = (
        "import sys, efficientnet_elite.report\n"
        "sys.exit(bool({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
