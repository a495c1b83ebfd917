"""The report of networks that were trained by name: what it shows, and the same as data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from efficientnet_elite.config.training import BALANCED
from efficientnet_elite.report import artefacts as artefacts_lib
from efficientnet_elite.report import data, mistakes
from efficientnet_elite.report.artefacts import Artefacts, Export
from efficientnet_elite.report.columns import Columns, Table, of_epoch, table
from efficientnet_elite.report.mistakes import Mistakes
from efficientnet_elite.search.trainings import (
    epochs_path,
    label,
    read_trained,
    results_path,
    settings_path,
)
from efficientnet_elite.text import now

FORMAT = 1


@dataclass(frozen=True)
class Epoch:
    """An epoch of a training.

    Attributes:
      epoch: its number, from 1.
      train_loss: mean loss of its steps.
      validation_accuracy: score of the averaged weights on the validation part, 0..1.
      learning_rate: that of its last step.
    """

    epoch: int
    train_loss: float
    validation_accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """A training of a network with one seed; what is not known before its end is None.

    Attributes:
      name: of its checkpoint and exports.
      network: name of the network.
      epochs: those that are done.
      result: its entry of `search.trainings.read_trained`.
      export: its verified files.
    """

    name: str
    network: str
    epochs: tuple[Epoch, ...]
    result: Mapping[str, Any] | None
    export: Export | None


@dataclass(frozen=True)
class TrainingContents:
    """What the page shows.

    Attributes:
      workdir: work directory, for the commands that the page names.
      settings: those that the trainings were begun with.
      trainings: all of them, in the order of their results.
      artefacts: files that export and benchmark have written.
      written: when the page was written, as text.
    """

    workdir: Path
    settings: Mapping[str, Any]
    trainings: Sequence[Trained]
    artefacts: Artefacts
    written: str

    @property
    def score(self) -> str:
        """What networks are judged by: ``accuracy``, or ``mIoU`` where they classify pixels."""
        scores = {training.result["score"] for training in self.trainings if training.result}
        return "mIoU" if "mIoU" in scores else "accuracy"

    @property
    def judged_by(self) -> str:
        """What the validation part measures, which may be another measure."""
        balanced = self.settings["train"].get("score") == BALANCED
        return "balanced accuracy" if balanced else self.score

    @property
    def mistakes(self) -> list[Mistakes]:
        """What the exported networks get wrong."""
        return [*self.artefacts.mistakes.values()]

    @property
    def dataset(self) -> str:
        """Name of the data set; trainings of earlier versions may not say it."""
        named = self.artefacts.dataset.get("name") or self.settings.get("data", {}).get("dataset")
        return named or "unknown images"


def gather(workdir: Path) -> TrainingContents:
    """Reads everything that the report shows.

    Raises:
      UserError: a file of the trainings is damaged.
    """
    results = {}
    if results_path(workdir).is_file():  # otherwise none has come to its end
        results = {entry["name"]: entry for entry in read_trained(workdir)}
    epochs = _epochs(workdir)
    networks = {name: entry["network"] for name, entry in results.items()}
    networks |= {label(network, seed): network for network, seed in epochs}
    by_name = {label(*key): rows for key, rows in epochs.items()}
    exported = artefacts_lib.read(workdir, results)
    return TrainingContents(
        workdir=workdir,
        settings=json.loads(settings_path(workdir).read_text(encoding="utf-8")),
        trainings=[
            Trained(
                name=name,
                network=network,
                epochs=tuple(by_name.get(name, ())),
                result=results.get(name),
                export=exported.exports.get(name),
            )
            for name, network in networks.items()
        ],
        artefacts=exported,
        written=now(),
    )


def _epochs(workdir: Path) -> dict[tuple[str, int], list[Epoch]]:
    """Network and seed to its epochs; trainings of earlier versions have no table of them."""
    path = epochs_path(workdir)
    found: dict[tuple[str, int], list[Epoch]] = {}
    if not path.is_file():
        return found
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            epoch = Epoch(
                int(row["epoch"]),
                float(row["train_loss"]),
                float(row["validation_accuracy"]),
                float(row["learning_rate"]),
            )
            found.setdefault((row["network"], int(row["seed"])), []).append(epoch)
    return found


# -- the same as data -----------------------------------------------------------------------------


def as_json(contents: TrainingContents) -> dict[str, Any]:
    """One object, ready for JSON.

    Its keys: ``format`` (a number that changes with the meaning of the rest), ``written`` (when),
    ``training`` (data set and score), ``settings`` (all that the trainings were begun with), and
    ``benchmark``, ``problems`` and ``tables`` as those of a search (`data.as_json`).
    """
    return {
        "format": FORMAT,
        "written": contents.written,
        "training": {"dataset": contents.dataset, "score": contents.score},
        "settings": dict(contents.settings),
        **data.artefacts_as_json(contents.artefacts),
        "tables": data.tables_as_json(tables(contents)),
    }


def tables(contents: TrainingContents) -> list[Table]:
    """All tables that are not empty."""
    every = (_trainings(contents), _curves(contents), *mistakes.tables(contents.mistakes))
    return [table for table in every if table.rows]


def _trainings(contents: TrainingContents) -> Table:
    def of(key: str) -> Callable[[Trained], Any]:
        return lambda trained: (trained.result or {}).get(key)

    columns: Columns = {
        "name": ("name of the training: network and seed", "name"),
        "network": ("name of the network", "network"),
        "epochs": ("epochs trained", lambda t: len(t.epochs)),
        "validation_accuracy": (
            "float32 validation accuracy of the last epoch",
            lambda t: t.epochs[-1].validation_accuracy if t.epochs else None,
        ),
        "test_accuracy": ("float32 test accuracy of the averaged weights", of("test_accuracy")),
        "resolution": ("input side in pixels, or height x width", of("resolution")),
        "params": ("parameters", of("params")),
        "macs": ("multiply-accumulates of one image", of("macs")),
        **data.EXPORTED,
    }
    return table("trainings", "A training of a network.", columns, contents.trainings)


def _curves(contents: TrainingContents) -> Table:
    columns: Columns = {
        "name": ("name of the training", lambda pair: pair[0].name),
        **of_epoch(itemgetter(1)),
        "learning_rate": (
            "learning rate of the last step",
            lambda pair: pair[1].learning_rate,
        ),
    }
    pairs = [(training, epoch) for training in contents.trainings for epoch in training.epochs]
    return table("curves", "An epoch of a training.", columns, pairs)
