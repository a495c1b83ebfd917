"""Searches to report on, made up and recorded in a moment; and how pages are read."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

from efficientnet_elite import report
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.report import artefacts, results
from efficientnet_elite.report.contents import Figures
from efficientnet_elite.report.page import render
from efficientnet_elite.search import planning
from efficientnet_elite.search.candidates import pool_candidates
from efficientnet_elite.search.decisions import decided_rounds
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.summary import standings, summarize
from efficientnet_elite.training.outcome import Int8Result

HOSTILE = '<script>alert("1")</script>&amp;$x_1$'
VOID = {"meta", "br", "img"}


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
    validation=0.2,
    **settings,
):
    """A search in which later candidates learn faster; stops after ``budget`` epochs.

    With ``change`` it selects by int8, which adds so much to the accuracy of each candidate.
    """
    config = SearchConfig(
        round_epochs=1,
        first_elimination=1 if rule == "race" else None,
        rule=rule,
        train=TrainConfig(epochs=epochs),
        data=DataConfig(dataset="folder:pets", validation=validation),
        select="float" if change is None else "int8",
        **settings,
    )
    pool = pool_candidates("elite", base_resolution=32, classes=len(labels))
    chosen = [replace(c, group=i % groups) for i, c in enumerate(pool[: groups * size])]
    repeats = planning.choose_repeats(chosen, config)
    kept, plan, _ = planning.plan_candidates(chosen, config, pace)
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
        ledger.start(chosen, meta, repeats)
        order = {candidate.name: i for i, candidate in enumerate(chosen)}
        for repeat in repeats:
            own = accuracy(order[repeat.candidate] + repeat.seed, 1)
            ledger.record_epoch(Epoch(repeat.name, 1, own, 1.0, 2.0))
        while pending := [need for s in standings(ledger).values() for need in s.pending]:
            for need in pending:
                known = ledger.scores().get(need.training, ())
                done, found = len(known), known[-1] if known else None
                for epoch in range(done + 1, need.until_epoch + 1):
                    if not budget:
                        return []
                    budget -= 1
                    found = accuracy(order[need.candidate] + need.seed, epoch)
                    ledger.record_epoch(Epoch(need.training, epoch, found, 1.0, 2.0))
                if need.int8:
                    in_int8 = found + change(order[need.candidate])
                    result = Int8Result(need.until_epoch, found, in_int8, 56, 1.0)
                    ledger.record_int8(need.candidate, result)
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


def champion(name, accuracy, size, milliseconds=None, on_front=True, validation=None, int8=None):
    latency = None if milliseconds is None else artefacts.Latency(milliseconds, milliseconds)
    export = artefacts.Export(
        name=name,
        float_accuracy=0.99,
        int8_accuracy=accuracy,
        agreement=1.0,
        test_images=100,
        score="top-1",
        max_difference=0.0,
        logit_range=1.0,
        float_file="",
        int8_file="",
        float_bytes=1,
        int8_bytes=size,
        operators={},
        float_latency=None,
        int8_latency=latency,
    )
    member = SimpleNamespace(last_score=accuracy if validation is None else validation)
    return results.Champion(0, member, export, on_front, int8)


def noisy(place, epoch):
    """Candidates that overtake each other, the same in every run."""
    return 0.5 + 0.03 * place % 0.11 + 0.2 * (1 - 1 / epoch) + ((place * 7 + epoch * 13) % 11) / 60


def texts(figure):
    return [e.text for e in ElementTree.fromstring(figure.svg).iter("text")]


def group_of(workdir, number=0):
    with Ledger(workdir) as ledger:
        return summarize(ledger).groups[number]


def rounds_of(group):
    return decided_rounds(group.number, group.decisions)
