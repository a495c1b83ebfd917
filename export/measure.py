"""Measures costs that a spec does not tell: latency on this machine, TFLM's arena, Ethos-U cycles.

Networks are exported untrained, each once, into a folder in which later calls find them.
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
    """Measures costs of networks; a `search.candidates.Measure`.

    Args:
      folder: for files and values; values that are in it are not measured again.
      table: latencies of a device (see `metric_table`); None: those of this machine.
      options: of the timing here.
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
        """Values by the networks' names; UserError where a tool or a table's row is missing."""
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
        """Measures one network after the other; each value is recorded at once."""
        record = self._folder / f"{metric}.json"
        values = _read(record)
        costs_by_network = {}
        for spec in self._bar(specs, metric):
            path = int8_path(spec, self._folder)
            if path.name not in values:
                values[path.name] = cost(int8_file(spec, self._folder).read_bytes())
                write_json(record, values)
            costs_by_network[spec.name] = values[path.name]
        return costs_by_network

    def _latencies(self, specs: Sequence[ArchSpec]) -> dict[str, float]:
        """Latencies of all networks, timed in turns in one run; where one is missing, all anew."""
        record = self._folder / "latency_ms.json"
        paths = {spec.name: int8_path(spec, self._folder) for spec in specs}
        known = _read(record)
        if any(path.name not in known for path in paths.values()):
            for spec in self._bar(specs, "exporting"):
                int8_file(spec, self._folder)
            with tqdm(total=self._options.runs, desc="timing", disable=not self._progress) as bar:
                rows = latency.measure_latencies(
                    list(paths.values()), self._options, lambda done, total: bar.update(1)
                )
            for row in rows:
                if row.median_ms is None:
                    raise UserError(f"{row.model} cannot be timed: {row.error}")
                known[Path(row.model).name] = row.median_ms
            write_json(record, known)
        return {name: known[path.name] for name, path in paths.items()}

    def _bar(self, specs: Sequence[ArchSpec], label: str) -> Sequence[ArchSpec]:
        return tqdm(specs, desc=label, disable=not self._progress)


def _read(path: Path) -> dict[str, float]:
    return json.loads(path.read_text()) if path.is_file() else {}


_CALIBRATION_IMAGES = 2


def int8_bytes(spec: ArchSpec, seed: int = 0) -> bytes:
    """The content of an untrained network's int8 file, with noise as representative data set.

    UserError where the converter cannot convert it.
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
    # After that: where a map is a single pixel its variance is zero.
    for variable in model.weights:
        if len(variable.shape) == 1:  # biases, and all of batch normalisation
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(value + random.uniform(0.05, 0.2, value.shape))
    content = to_tflite(model, calibration=images)
    keras.backend.clear_session()
    return content


def int8_path(spec: ArchSpec, folder: Path) -> Path:
    """Where `int8_file` writes.

    The name says which network (``elite9``) for people and which spec for the tool: another input
    size or number of classes is another file.
    """
    digest = zlib.crc32(spec.to_json().encode())
    return folder / f"{spec.name}-{spec.resolution}px-{digest:08x}.int8.tflite"


def int8_file(spec: ArchSpec, folder: Path, seed: int = 0) -> Path:
    """Path of an untrained network's int8 file in a folder; it is written where it is missing."""
    path = int8_path(spec, folder)
    if not path.is_file():
        write_bytes(path, int8_bytes(spec, seed))
    return path
