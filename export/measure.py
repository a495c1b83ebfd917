"""Measures costs that cannot be computed from a spec: latency, TFLM's arena, Ethos-U cycles.

Each network is exported once, untrained, into a folder; later calls reuse its file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from efficientnet_elite import registry
from efficientnet_elite.benchmarks import latency
from efficientnet_elite.device import metric_table
from efficientnet_elite.device.costs import METRICS
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.int8.convert import to_tflite
from efficientnet_elite.export.int8.post_training import INPUT_RANGE
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.workdir import write_bytes, write_json


class Measurer:
    """Measures costs of networks; it is a `search.candidates.Measure`.

    Args:
      folder: folder for files and measured values; values found in it are not measured again.
      table: path of a table of latencies on a device (see `metric_table`); None to measure latency
        on this machine.
      options: options for timing on this machine.
      progress: whether to show progress bars on stderr.
    """

    def __init__(
        self,
        folder: Path,
        table: str | Path | None = None,
        options: latency.Options = latency.Options(runs=30, warmup=3),  # noqa: B008 (frozen)
        progress: bool = True,
    ):
        self._folder, self._options, self._progress = folder, options, progress
        self._table = None if table is None else Path(table)

    def __call__(self, metric: str, specs: Sequence[ArchSpec]) -> Mapping[str, float]:
        """Network's name to cost; UserError if a tool or a row of the table is missing."""
        if metric == "latency_ms":
            if self._table is not None:
                return metric_table.latencies(self._table, specs)
            return self._latencies(specs)
        entry = METRICS[metric]
        if entry.measure is None:
            raise ValueError(f"{metric} is not measured")
        if entry.check is not None:
            registry.resolve(entry.check)()
        return self._each(metric, specs, registry.resolve(entry.measure))

    def _each(
        self, metric: str, specs: Sequence[ArchSpec], cost: Callable[[bytes], float]
    ) -> dict[str, float]:
        """Measures one network after the other; saves each value before measuring the next."""
        values_path = self._folder / f"{metric}.json"
        values = _read(values_path)
        costs_by_network = {}
        for spec in self._bar(specs, metric):
            path = int8_path(spec, self._folder)
            if path.name not in values:
                values[path.name] = cost(int8_file(spec, self._folder).read_bytes())
                write_json(values_path, values)
            costs_by_network[spec.name] = values[path.name]
        return costs_by_network

    def _latencies(self, specs: Sequence[ArchSpec]) -> dict[str, float]:
        """Latencies in ms, timed in turns; if one is missing, all are measured again."""
        values_path = self._folder / "latency_ms.json"
        paths = {spec.name: int8_path(spec, self._folder) for spec in specs}
        values = _read(values_path)
        if any(path.name not in values for path in paths.values()):
            for spec in self._bar(specs, "exporting"):
                int8_file(spec, self._folder)
            with tqdm(total=self._options.runs, desc="timing", disable=not self._progress) as bar:
                rows = latency.measure_latencies(
                    list(paths.values()), self._options, lambda done, total: bar.update(1)
                )
            for row in rows:
                if row.median_ms is None:
                    raise UserError(f"{row.model} cannot be timed: {row.error}")
                values[Path(row.model).name] = row.median_ms
            write_json(values_path, values)
        return {name: values[path.name] for name, path in paths.items()}

    def _bar(self, specs: Sequence[ArchSpec], label: str) -> Sequence[ArchSpec]:
        return tqdm(specs, desc=label, disable=not self._progress)


def _read(path: Path) -> dict[str, float]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


_CALIBRATION_IMAGES = 2


def int8_bytes(spec: ArchSpec, seed: int = 0) -> bytes:
    """The content of an untrained network's int8 file, calibrated on noise.

    Raises:
      UserError: the converter cannot convert the network.
    """
    import keras

    from efficientnet_elite.networks.build import build

    random = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    model = build(spec, batch_size=1, seed=seed)
    low, high = INPUT_RANGE
    shape = (_CALIBRATION_IMAGES, *spec.input_shape)
    images = random.uniform(low, high, shape).astype(np.float32)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images[:1], training=True)
    # Only after that pass, because the variance of a map of a single pixel is zero.
    for variable in model.weights:
        if len(variable.shape) == 1:  # biases, and all variables of batch normalisation
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(value + random.uniform(0.05, 0.2, value.shape))
    # Random weights need no method that suits them.
    content = to_tflite(model, calibration=images, method="minmax")
    keras.backend.clear_session()
    return content


def int8_path(spec: ArchSpec, folder: Path) -> Path:
    """The path to which `int8_file` writes.

    It contains the network's name and a checksum of its spec, so that networks of the same name
    with another input size or number of classes have other files.
    """
    digest = zlib.crc32(spec.to_json().encode())
    return folder / f"{spec.name}-{spec.resolution}px-{digest:08x}.int8.tflite"


def int8_file(spec: ArchSpec, folder: Path, seed: int = 0) -> Path:
    """Path of an untrained network's int8 file in a folder; writes the file if it is missing."""
    path = int8_path(spec, folder)
    if not path.is_file():
        write_bytes(path, int8_bytes(spec, seed))
    return path
