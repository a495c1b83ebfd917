"""Searches and trainings side by side: settings that differ, networks, and whether these differ.

Two networks that were tested with the same images are compared image by image (McNemar's exact
test), which tells them apart far sooner than two intervals that overlap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.report import artefacts
from efficientnet_elite.report.artefacts import Export
from efficientnet_elite.report.columns import Columns, Table, table
from efficientnet_elite.report.data import EXPORTED
from efficientnet_elite.report.mistakes import Mistakes
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.trainings import holds_trainings, networks, settings_path


@dataclass(frozen=True)
class Network:
    """A network of a run.

    Attributes:
      run: name of the run.
      name: name of the champion or training.
      resolution: input side in pixels; a text such as ``96x128`` where it is not square.
      params, macs: numbers of parameters and multiply-accumulates.
      test_accuracy: float32 accuracy on the test part, 0..1; None of champions without export.
      score: what the accuracies are: ``top-1`` or ``mIoU``.
      images: fingerprint of the data set; None where it is not recorded.
      export: its verified files; None where there are none.
      mistakes: its predictions for each image; None where they are not stored.
    """

    run: str
    name: str
    resolution: int | str
    params: int
    macs: int
    test_accuracy: float | None
    score: str
    images: str | None
    export: Export | None
    mistakes: Mistakes | None

    @property
    def title(self) -> str:
        """Run and name."""
        return f"{self.run}: {self.name}"


@dataclass(frozen=True)
class Pair:
    """Two networks on the same test images, int8.

    Attributes:
      first, second: their titles.
      images: number of test images.
      only_first, only_second: images that only one of them gets right.
      p: probability of a difference like this or greater if both were equally good: McNemar's exact
        test, two-sided.
    """

    first: str
    second: str
    images: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Several runs.

    Attributes:
      runs: their names; `folders` has their work directories.
      folders: work directories, in the same order.
      settings: dotted name of each setting that differs to its value in each run; None where a run
        does not have it.
      networks: of all runs.
      pairs: all pairs of networks that were tested with the same images.
      problems: files that could not be used, one sentence each.
    """

    runs: tuple[str, ...]
    folders: tuple[Path, ...]
    settings: Mapping[str, tuple[Any, ...]]
    networks: tuple[Network, ...]
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...]


def gather(workdirs: Sequence[Path]) -> Comparison:
    """Reads runs from their work directories.

    Raises:
      UserError: fewer than two are named, one is named twice, or one holds no finished search or
        training.
    """
    if len(workdirs) < 2:
        raise UserError("name two or more work directories of searches or trainings")
    folders = [workdir.expanduser().absolute() for workdir in workdirs]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("a work directory is named twice: name each once")
    names = _names(folders)
    found: list[Network] = []
    problems: list[str] = []
    for name, folder in zip(names, folders, strict=True):
        entries = networks(folder)
        exported = artefacts.read(folder, [entry["name"] for entry in entries])
        problems += [f"{name}: {problem}" for problem in exported.problems]
        found += [_network(name, entry, exported) for entry in entries]
    return Comparison(
        runs=tuple(names),
        folders=tuple(folders),
        settings=_differing([_settings(folder) for folder in folders]),
        networks=tuple(found),
        pairs=tuple(_pairs(found)),
        problems=tuple(problems),
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """What runs are called: their folders, or where these are alike the part of the paths that
    differs."""
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath(folders)
    return [str(folder.relative_to(common)) for folder in folders]


def _network(run: str, entry: Mapping[str, Any], exported: artefacts.Artefacts) -> Network:
    name = entry["name"]
    export = exported.exports.get(name)
    details = exported.sidecars.get(name, {}).get("details") or {}
    score = export.score if export else entry.get("score", "top-1")
    return Network(
        run=run,
        name=name,
        resolution=entry["resolution"],
        params=entry["params"],
        macs=entry["macs"],
        test_accuracy=export.float_accuracy if export else entry.get("test_accuracy"),
        score=score,
        images=(details.get("dataset") or {}).get("fingerprint"),
        export=export,
        mistakes=exported.mistakes.get(name),
    )


def _settings(folder: Path) -> dict[str, Any]:
    """Dotted name to value of what a run was asked for, and its images and start."""
    if holds_trainings(folder):
        recorded = json.loads(settings_path(folder).read_text(encoding="utf-8"))
        config = {k: recorded[k] for k in ("train", "data", "base_resolution", "seed")
                  if k in recorded}  # fmt: skip
        images, start = recorded.get("images"), recorded.get("start")
    else:
        with Ledger(folder) as ledger:
            meta = ledger.meta()
        config, start = meta["config"], meta.get("start")
        images = meta["data"].get("fingerprint")
    return {**_flat(config), "images": images, "start": (start or {}).get("name")}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Settings with different values among the runs that have them, two at least."""
    names = dict.fromkeys(name for run in settings for name in run)
    found = {}
    for name in names:
        values = [run[name] for run in settings if name in run]
        if len(values) > 1 and any(value != values[0] for value in values):
            found[name] = tuple(run.get(name) for run in settings)
    return found


def _pairs(found: Sequence[Network]) -> Iterator[Pair]:
    for first, second in combinations(found, 2):
        answers = _on_the_same_images(first, second)
        if answers is not None:
            a, b = answers
            only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
            p = mcnemar(only_first, only_second)
            yield Pair(first.title, second.title, len(a), only_first, only_second, p)


def _on_the_same_images(first: Network, second: Network) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether each int8 answer is right, for both networks; None where images differ."""
    if first.mistakes is None or second.mistakes is None:
        return None
    right, tested = [], []
    for mistakes in (first.mistakes, second.mistakes):
        stored = mistakes.predictions
        rows = stored.of_part("test")
        right.append(stored.int8[rows].argmax(-1) == stored.label[rows])
        classes = [mistakes.labels[number] for number in stored.label[rows]]
        tested.append((stored.name[rows].tolist(), classes))
    if tested[0] != tested[1]:
        return None
    # Images without names are numbered, which says nothing of other data sets.
    numbered = all(name.startswith("test ") for name in tested[0][0])
    if numbered and (first.images is None or first.images != second.images):
        return None
    return right[0], right[1]


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided; 1 where no image tells the networks apart."""
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(only_first, count, 0.5).pvalue) if count else 1.0


# -- tables -----------------------------------------------------------------------------------


def tables(comparison: Comparison) -> list[Table]:
    """Networks, pairs and settings as plain values; those without rows, too."""
    columns: Columns = {
        "run": ("name of the run", "run"),
        "name": ("name of the network", "name"),
        "resolution": ("input side in pixels, or height x width", "resolution"),
        "params": ("parameters", "params"),
        "macs": ("multiply-accumulates of one image", "macs"),
        "score": ("what the accuracies are", "score"),
        "test_accuracy": ("float32 test accuracy", "test_accuracy"),
        **{name: EXPORTED[name] for name in _SHOWN},
    }
    pairs: Columns = {
        "first": ("run and name of a network", "first"),
        "second": ("run and name of another", "second"),
        "images": ("test images, the same for both", "images"),
        "only_first": ("images that only the first gets right, int8", "only_first"),
        "only_second": ("images that only the second gets right, int8", "only_second"),
        "p": ("p-value of McNemar's exact test, two-sided", "p"),
    }
    settings = {"setting": "dotted name"} | dict.fromkeys(comparison.runs, "value there")
    return [
        table("networks", "A network.", columns, comparison.networks),
        table("pairs", "Two networks on the same test images.", pairs, comparison.pairs),
        Table(
            "settings",
            "A setting that differs.",
            settings,
            [[name, *values] for name, values in comparison.settings.items()],
        ),
    ]


_SHOWN = (
    *("int8_accuracy", "int8_accuracy_low", "int8_accuracy_high", "test_images"),
    *("int8_bytes", "float_bytes", "int8_median_ms", "float_median_ms"),
)
