"""Compares the speed of training with TensorFlow and with JAX (docs/engine.md).

    python -m benchmarks.studies.backends --networks=elite9@96

Each backend of Keras trains a network on the embedded digits for two epochs, in a process of its
own, and they take turns. The first epoch is not counted, as it includes compilation. It prints the
epochs per second, their ratio, and the seconds for building and compiling the graphs.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.config import BACKENDS
from efficientnet_elite.training.keras_import import import_keras

FLAGS = flags.FlagValues()
flags.DEFINE_list("networks", ["elite9@96"], "Networks.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 64, "Images of a step.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string("precision", "float32", "See `elite train --precision`.", flag_values=FLAGS)
flags.DEFINE_integer("turns", 1, "Runs of each backend.", lower_bound=1, flag_values=FLAGS)


def main() -> None:
    """Measures each network and prints the table to stdout."""
    rows = []
    for name in FLAGS.networks:
        times: dict[str, list[tuple[float, float]]] = {backend: [] for backend in BACKENDS}
        for turn in range(FLAGS.turns):
            for backend in BACKENDS[:: -1 if turn % 2 else 1]:
                work = partial(measure, name, FLAGS.batch_size, FLAGS.precision)
                times[backend].append(_in_process(backend, work))
        for backend, measured in times.items():
            seconds, building = (median(each) for each in zip(*measured, strict=True))
            first = median(each[0] for each in times[BACKENDS[0]])
            row = [f"{1 / seconds:.3f}", f"{first / seconds:.2f}", f"{building:.1f}"]
            rows.append([name, backend, *row])
    headings = ["network", "backend", "epochs/s", "ratio", "building, s"]
    print(tables.aligned(headings, rows), end="")


def measure(name: str, batch_size: int, precision: str) -> tuple[float, float]:
    """Seconds of the second epoch, and of building the graphs, with this process's backend."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig, TrainConfig
    from efficientnet_elite.job.training import network_spec
    from efficientnet_elite.training.trainer import Trainer

    spec = network_spec(name, 224, classes=10)
    data = data_lib.load(DataConfig(), max_side=spec.size.stored_side, progress=False)
    config = TrainConfig(epochs=2, batch_size=batch_size, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            spec, config, data, base_resolution=224, seed=0, checkpoint=Path(folder, "x.npz")
        )
        trainer.run(2, lambda epoch: None)
    return trainer.history[1].seconds, trainer.build_seconds


def _in_process(backend: str, work: Any) -> tuple[float, float]:
    """Calls a function in a new process with a backend of Keras."""
    with multiprocessing.get_context("spawn").Pool(1, import_keras, (backend,)) as pool:
        result: tuple[float, float] = pool.apply(work)
    return result


if __name__ == "__main__":
    command.run(FLAGS, main)
