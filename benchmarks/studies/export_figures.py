"""The figures of docs/export.md: what exports cost and weigh, and what int8 takes away.

  python -m benchmarks.studies.export_figures --dataset=digits --checkpoints=a.ckpt,...
  python -m benchmarks.studies.export_figures --variants=elite9,elite9-relu6-nose
  python -m benchmarks.studies.export_figures --normalisation=elite9

Every export runs in a process of its own, whose time and memory are reported.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import app, flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.device import memory
from efficientnet_elite.export import inspect
from efficientnet_elite.export.int8 import absorb
from efficientnet_elite.export.runtimes import isolated, tflm

from . import trained

if TYPE_CHECKING:
    import keras

flags.DEFINE_list("variants", [], "Networks to time against the first, untrained.")
flags.DEFINE_string("normalisation", None, "A network to absorb ImageNet's normalisation into.")
flags.DEFINE_integer("resolution", 96, "Input side in pixels of untrained networks.")
flags.DEFINE_integer("runs", 200, "Timed inferences of each file.")

# Of ImageNet's pixels over 255, as most published networks take them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BYTES = {"FLOAT32": 4, "INT32": 4, "INT8": 1, "UINT8": 1, "INT16": 2, "INT64": 8, "BOOL": 1}


def lower_bound(contents: inspect.Contents) -> int:
    """Bytes of activations that no plan for this order of execution can stay below."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, operator in enumerate(contents.steps, start=1):
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and not contents.tensors[index].constant:
                # The image is there from the beginning.
                produced = contents.tensors[index].producer is not None
                first.setdefault(index, step if produced else 0)
                last[index] = step
    return memory.peak_bytes(
        memory.Buffer(_size(contents.tensors[index]), first[index], last[index]) for index in first
    )


def weight_bytes(contents: inspect.Contents) -> int:
    """Sum of the sizes of a file's int8 weights."""
    return sum(_size(t) for t in contents.tensors if t.constant and t.type == "INT8")


def _size(tensor: inspect.Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * _BYTES[tensor.type]


def _of_trained() -> Iterator[list[str]]:
    heads = "network,export s,peak MB,float32 kB,int8 kB,weights kB,overhead B,overhead,arena kB"
    heads += ",lower bound kB,arena/bound,float top-1,int8 top-1,drop"
    yield heads.split(",")
    for network in trained.networks():
        images, classes = network.part("test")
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder, "model.keras")
            network.model.save(saved)
            found = isolated.call(
                trained.measured_export,
                {
                    "path": str(saved),
                    "folder": folder,
                    "calibration": network.calibration,
                    "images": images,
                    "classes": classes,
                },
                timeout=1800,
            )
            content = Path(folder, "net", "net.int8.tflite").read_bytes()
        contents = inspect.read(content)
        weights, bound = weight_bytes(contents), lower_bound(contents)
        arena = tflm.arena_bytes(content)
        values = {name: float(value) for name, value in found.items()}
        yield [
            network.name,
            f"{values['seconds']:.1f}",
            f"{values['memory'] / 1e6:.0f}",
            f"{values['float_bytes'] / 1e3:.1f}",
            f"{len(content) / 1e3:.1f}",
            f"{weights / 1e3:.1f}",
            str(len(content) - weights),
            f"{len(content) / weights - 1:.1%}",
            f"{arena / 1e3:.1f}",
            f"{bound / 1e3:.1f}",
            f"{arena / bound:.2f}",
            f"{values['float_accuracy']:.2%}",
            f"{values['int8_accuracy']:.2%}",
            f"{100 * (values['float_accuracy'] - values['int8_accuracy']):.2f}",
        ]


def _timed(models: Mapping[str, keras.Model]) -> Iterator[list[str]]:
    """Operators of models' files, and latencies relative to the first model's."""
    from efficientnet_elite.export.int8 import convert

    yield ["network", "int8 ms", "int8 relative", "float32 relative", "int8 operators"]
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, list[Path]] = {"int8": [], "float32": []}
        operators = []
        for number, model in enumerate(models.values()):
            noise = np.random.default_rng(0).uniform(-1, 0.99, (8, *model.input_shape[1:]))
            pair = convert.to_tflite_pair(model, noise)
            operators.append(inspect.operators(pair[1]))
            for kind, content in zip(("float32", "int8"), pair, strict=True):
                paths[kind].append(Path(folder, f"{number}.{kind}.tflite"))
                paths[kind][-1].write_bytes(content)
        options = latency.Options(runs=flags.FLAGS.runs)
        rows = {kind: latency.measure(files, options) for kind, files in paths.items()}
    for name, found, int8, in_float in zip(
        models, operators, rows["int8"], rows["float32"], strict=True
    ):
        counts = ", ".join(f"{count} {operator}" for operator, count in found.items())
        ratios = [f"{row.ratio:.2f}" if row.ratio else "fails" for row in (int8, in_float)]
        yield [name, f"{int8.median_ms or 0:.3f}", *ratios, counts]


def _network(name: str, normalised: bool = False) -> keras.Model:
    """A network, untrained; with ImageNet's normalisation in front where ``normalised``."""
    import keras

    from efficientnet_elite.networks.factories import build_named

    side = flags.FLAGS.resolution
    model = build_named(name, base_resolution=side, seed=0)
    if not normalised:
        return model
    image = keras.Input(model.input_shape[1:])
    x = keras.layers.Rescaling(1 / 255)(image)
    variance = [value**2 for value in DEVIATION]
    x = keras.layers.Normalization(mean=list(MEAN), variance=variance)(x)
    return keras.Model(image, model(x), name=name)


def main(argv: list[str]) -> None:
    """Prints tables to stdout."""
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    values = flags.FLAGS
    if values.checkpoints:
        trained.show(_of_trained())
    if values.variants:
        trained.show(_timed({name: _network(name) for name in values.variants}))
    if values.normalisation:
        model = _network(values.normalisation, normalised=True)
        absorbed = absorb.absorb(model, "0..255")
        networks = {
            "without normalisation": _network(values.normalisation),
            f"absorbed ({absorbed.how})": absorbed.model,
            "as operators": absorb.with_normalisation_operators(model, "0..255"),
        }
        trained.show(_timed(networks))


if __name__ == "__main__":
    trained.define_flags()
    app.run(main)
