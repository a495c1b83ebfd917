"""Measures what could be done for a network at the end: train longer, average, test larger.

    python -m benchmarks.studies.final_training --dataset=folder:FOLDER --further=FURTHER \\
        --epochs=20,60 --seeds=0,1 --json=FILE

Each network is trained by the recipe of `--config=auto`, on the training part and, with
`--joined`, on training and validation part together. Its weights are the usual moving averages
(`ema`) or the mean over the ends of the epochs of the last quarter (`swa`). They are evaluated on
the test part and on further images. The input side is that of the training or a larger one, always
with the same field of view. The statistics of batch normalisation are those of the training or
(`+statistics`) measured again at that side.

The results are the rows of the file that --json names, written again after each training.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.config import AUTO
from efficientnet_elite.job import automatic, request, starts
from efficientnet_elite.job.settings import with_values
from efficientnet_elite.job.training import network_spec
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.workdir import write_json

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

Weights = list[np.ndarray]

FLAGS = flags.FlagValues()
for _name, _default, _text in (
    ("dataset", None, "Images, as for `elite train`."),
    ("json", None, "File that gets the rows."),
):
    flags.DEFINE_string(_name, _default, _text, required=True, flag_values=FLAGS)
flags.DEFINE_string("further", None, "Folder of further test images.", flag_values=FLAGS)
flags.DEFINE_string("network", "elite9-relu6-nose", "Network by name.", flag_values=FLAGS)
flags.DEFINE_string("pretrained", None, "As for `elite train`.", flag_values=FLAGS)
flags.DEFINE_integer("resolution", 64, "Side of the training.", lower_bound=8, flag_values=FLAGS)
flags.DEFINE_boolean("joined", False, "Train on the validation part, too.", flag_values=FLAGS)
for _name, _values, _text in (
    ("epochs", ["20"], "Lengths of the trainings."),
    ("seeds", ["0"], "Seeds of weights and data order."),
    ("factors", ["1", "1.15", "1.3"], "Sides of the evaluation over that of the training."),
):
    flags.DEFINE_list(_name, _values, _text, flag_values=FLAGS)
command.define_format(FLAGS)

_LAST = 0.25  # share of the epochs whose weights `swa` averages
_BATCH = 200


class Study:
    """The images, and trainings on them.

    Args:
      values: the flags, parsed.
    """

    def __init__(self, values: flags.FlagValues) -> None:
        from efficientnet_elite import data as data_lib

        self._values = values
        self._workdir = Path(f"{values.json}.runs")
        asked = request.training_request({"dataset": values.dataset}, AUTO)
        changes: dict[str, Any] = {"base_resolution": values.resolution}
        if values.pretrained is not None:
            changes["train.pretrained"] = values.pretrained
        self._given = {*asked.given, *changes}
        kinds = starts.kinds_of_networks([values.network])
        config = starts.begun(with_values(asked.config, changes), self._given, kinds)
        side = int(1.5 * max(map(float, values.factors)) * values.resolution)
        load: dict[str, Any] = {
            "max_side": side,
            "cache_dir": self._workdir / "cache",
            "progress": False,
        }
        self._images = data_lib.load(config.data, **load)
        self._config = replace(config, data=data_lib.decided(config.data, self._images))
        self._tests = {"test": [(self._images, "test")]}
        if values.further:
            data = replace(self._config.data, dataset=f"folder:{values.further}")
            further = data_lib.load(data, **load)
            self._tests["further"] = [(further, part) for part in further.parts]

    def rows(self, epochs: int, seed: int, joined: bool) -> list[dict[str, Any]]:
        """Trains a network and evaluates its weights in all ways."""
        import keras

        from efficientnet_elite.training.trainer import Trainer

        keras.backend.clear_session()
        gc.collect()
        given = {*self._given, "train.epochs"}
        config = with_values(self._config, {"train.epochs": epochs})
        config = automatic.fitted(config, given, self._images.sizes["train"])
        images = _joined(self._images) if joined else self._images
        spec = network_spec(self._values.network, self._values.resolution, images.num_classes)
        spec = spec.reading_stages(config.reads_stages)
        began = time.process_time()
        trainer = Trainer(
            spec,
            config.train,
            images,
            base_resolution=config.base_resolution,
            seed=seed,
            checkpoint=self._workdir / f"{self._values.network}-{epochs}-{seed}-{joined}.npz",
        )
        sums: Weights | None = None
        count = 0
        while trainer.epochs_done < epochs:
            trainer.run(trainer.epochs_done + 1, lambda epoch: None)
            if trainer.epochs_done > (1 - _LAST) * epochs:
                now = _weights(trainer.model)
                sums = now if sums is None else [a + b for a, b in zip(sums, now, strict=True)]
                count += 1
        with trainer.averaged_weights():
            kinds = {"ema": _weights(trainer.model)}
        if sums is not None:
            kinds["swa"] = [value / count for value in sums]
        seconds = time.process_time() - began
        about = {"epochs": epochs, "seed": seed, "joined": joined, "cpu_seconds": seconds}
        return [
            about | {"weights": kind, "factor": factor, **self._accuracies(spec, w, factor)}
            for kind, w in kinds.items()
            for factor in map(float, self._values.factors)
        ]

    def _accuracies(self, spec: ArchSpec, weights: Weights, factor: float) -> dict[str, float]:
        """Accuracies on the test part and on further images, with both kinds of statistics."""
        from efficientnet_elite.networks.build import build

        side = round(factor * self._values.resolution)
        model = build(spec.with_drop_rates(0).resized((side, side, spec.input_shape[2])))
        for variable, value in zip(_variables(model), weights, strict=True):
            variable.assign(value)
        # The same field of view: crops are a share of the image that depends on side / base.
        sizes = {"resolution": side, "base_resolution": side, "batch_size": _BATCH}
        result = self._tested(model, sizes, "")
        _measure_statistics(model, self._images, sizes)
        return result | self._tested(model, sizes, "+statistics")

    def _tested(self, model: Any, sizes: Mapping[str, Any], suffix: str) -> dict[str, float]:
        from efficientnet_elite import data as data_lib

        return {
            f"{name}{suffix}": float(
                np.concatenate(
                    [
                        model(x, training=False).numpy().argmax(-1) == y.numpy()
                        for images, part in parts
                        for x, y in data_lib.eval_batches(images, part, **sizes)
                    ]
                ).mean()
            )
            for name, parts in self._tests.items()
        }


def _joined(images: ImageData) -> ImageData:
    """The images with the validation part in the training part, too."""
    from efficientnet_elite.data.parts import IndexedPart

    train, validation = (images.parts[name] for name in ("train", "validation"))
    assert isinstance(train, IndexedPart) and isinstance(validation, IndexedPart)
    both = IndexedPart(
        train._store, train._labels, np.concatenate([train._indices, validation._indices])
    )
    return replace(images, parts={**images.parts, "train": both})


def _variables(model: Any) -> list[Any]:
    return [variable for variable in model.variables if "float" in variable.dtype]


def _weights(model: Any) -> Weights:
    return [variable.numpy() for variable in _variables(model)]


def _measure_statistics(model: Any, images: ImageData, sizes: Mapping[str, Any]) -> None:
    """Replaces the moving statistics by the means over the batches of the training part."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.training.statistics import batch_norm_layers

    layers = batch_norm_layers(model)
    for number, (batch, _) in enumerate(data_lib.eval_batches(images, "train", **sizes)):
        for layer in layers:
            layer.momentum = number / (number + 1)
        model(batch, training=True)


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of the table, which are means over seeds."""
    kinds = [name for name in rows[0] if name.startswith(("test", "further"))]
    keys = ("epochs", "joined", "weights", "factor")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    table = [
        [*map(str, key), str(len(members)), *_means(members, kinds)]
        for key, members in groups.items()
    ]
    return [*keys, "seeds", *kinds], table


def _means(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Iterator[str]:
    return (f"{100 * fmean(row[kind] for row in rows):.1f}" for kind in kinds)


def main() -> None:
    """Trains what is missing and prints a table of all rows of the file."""
    path = Path(FLAGS.json)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    study = Study(FLAGS)
    for seed in map(int, FLAGS.seeds):
        for epochs in map(int, FLAGS.epochs):
            identity = {"epochs": epochs, "seed": seed, "joined": FLAGS.joined}
            if not any(identity.items() <= row.items() for row in rows):
                new = study.rows(epochs, seed, FLAGS.joined)
                rows += new
                write_json(path, rows)
                print(json.dumps(new), file=sys.stderr, flush=True)
    print(tables.text(FLAGS.format, *cells(rows), left=4), end="")


if __name__ == "__main__":
    command.run(FLAGS, main)
