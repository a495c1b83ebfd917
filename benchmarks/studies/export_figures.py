"""Measures exports: time, memory, file sizes, arenas, accuracy drops, latencies (docs/export.md).

    python -m benchmarks.studies.export_figures --dataset=digits --checkpoints=a.ckpt,b.ckpt
    python -m benchmarks.studies.export_figures --variants=elite9,elite9-relu6-nose
    python -m benchmarks.studies.export_figures --normalisation=elite9

The first command exports trained networks, each in a process of its own, so that the peak memory is
that of the export alone. The second compares the latencies of untrained networks. The third shows
what it costs if ImageNet's normalization is not absorbed into the first convolution.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks import latency
from efficientnet_elite.benchmarks.studies import command, tables, trained
from efficientnet_elite.device import memory
from efficientnet_elite.export import inspect
from efficientnet_elite.export.int8 import absorb
from efficientnet_elite.export.runtimes import isolated, tflm

if TYPE_CHECKING:
    import keras

FLAGS = flags.FlagValues()
trained.define_flags(FLAGS)
flags.DEFINE_list(
    "variants",
    [],
    "Untrained networks to measure. Latencies are relative to the first one.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "normalisation",
    None,
    "Untrained network to measure without and with ImageNet's normalization.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "resolution", 96, "Input side in pixels of the untrained networks.", flag_values=FLAGS
)
flags.DEFINE_integer("runs", 200, "Number of timed inferences of each file.", flag_values=FLAGS)

_EXPORT_TIMEOUT_SECONDS = 1800
# ImageNet's mean and standard deviation of pixel / 255, which most published networks use.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BYTES = {"FLOAT32": 4, "INT32": 4, "INT8": 1, "UINT8": 1, "INT16": 2, "INT64": 8, "BOOL": 1}


def lower_bound(contents: inspect.Contents) -> int:
    """Returns a lower bound on the bytes of activations, for this order of the operators.

    It is the greatest sum of the sizes of all tensors that are in use at the same time. No
    placement of the tensors in the arena can need less.
    """
    first_use: dict[int, int] = {}
    last_use: dict[int, int] = {}
    for step, operator in enumerate(contents.steps, start=1):
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and not contents.tensors[index].constant:
                # The input image exists before the first operator.
                has_producer = contents.tensors[index].producer is not None
                first_use.setdefault(index, step if has_producer else 0)
                last_use[index] = step
    return memory.peak_bytes(
        memory.Buffer(_tensor_bytes(contents.tensors[index]), first_use[index], last_use[index])
        for index in first_use
    )


def weight_bytes(contents: inspect.Contents) -> int:
    """Returns the bytes of all int8 weights of a file."""
    return sum(_tensor_bytes(t) for t in contents.tensors if t.constant and t.type == "INT8")


def _tensor_bytes(tensor: inspect.Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * _BYTES[tensor.type]


def export_rows() -> Iterator[list[str]]:
    """Exports the trained networks; yields the rows of the table, the column headings first."""
    heads = "network,export s,peak MB,float32 kB,int8 kB,weights kB,overhead B,overhead,arena kB"
    heads += ",lower bound kB,arena/bound,float top-1,int8 top-1,drop"
    yield heads.split(",")
    for network in trained.networks(FLAGS):
        images, classes = network.part("test")
        with tempfile.TemporaryDirectory() as folder:
            keras_file = Path(folder, "model.keras")
            network.model.save(keras_file)
            measured = isolated.call(
                trained.measured_export,
                {
                    "path": str(keras_file),
                    "folder": folder,
                    "calibration": network.calibration_images(),
                    "images": images,
                    "classes": classes,
                },
                timeout=_EXPORT_TIMEOUT_SECONDS,
            )
            content = Path(folder, "net", "net.int8.tflite").read_bytes()
        contents = inspect.read(content)
        weights, bound = weight_bytes(contents), lower_bound(contents)
        arena = tflm.arena_bytes(content)
        values = {name: float(value) for name, value in measured.items()}
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


def latency_rows(models: Mapping[str, keras.Model]) -> Iterator[list[str]]:
    """Converts models to float32 and int8 files and measures their latencies.

    Args:
      models: name to model.

    Yields:
      The rows of the table, the column headings first: latencies, also relative to the first model,
      and the operators of the int8 file.
    """
    from efficientnet_elite.export.int8 import convert

    yield ["network", "int8 ms", "int8 relative", "float32 relative", "int8 operators"]
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, list[Path]] = {"int8": [], "float32": []}
        operators = []
        for number, model in enumerate(models.values()):
            noise = np.random.default_rng(0).uniform(-1, 0.99, (8, *model.input_shape[1:]))
            float_content, int8_content = convert.to_tflite_pair(model, noise)
            operators.append(inspect.operators(int8_content))
            for kind, content in (("float32", float_content), ("int8", int8_content)):
                paths[kind].append(Path(folder, f"{number}.{kind}.tflite"))
                paths[kind][-1].write_bytes(content)
        options = latency.Options(runs=FLAGS.runs)
        rows = {kind: latency.measure_latencies(files, options) for kind, files in paths.items()}
    for name, counts, int8_row, float_row in zip(
        models, operators, rows["int8"], rows["float32"], strict=True
    ):
        counts_text = ", ".join(f"{count} {operator}" for operator, count in counts.items())
        ratios = [f"{row.ratio:.2f}" if row.ratio else "fails" for row in (int8_row, float_row)]
        yield [name, f"{int8_row.median_ms or 0:.3f}", *ratios, counts_text]


def _untrained(name: str, *, normalized: bool = False) -> keras.Model:
    """Builds a network with random weights, with ImageNet's normalization in front if asked."""
    import keras

    from efficientnet_elite.networks.factories import build_named

    model = build_named(name, base_resolution=FLAGS.resolution, seed=0)
    if not normalized:
        return model
    image = keras.Input(model.input_shape[1:])
    x = keras.layers.Rescaling(1 / 255)(image)
    variance = [value**2 for value in DEVIATION]
    x = keras.layers.Normalization(mean=list(MEAN), variance=variance)(x)
    return keras.Model(image, model(x), name=name)


def main() -> None:
    """Prints the tables that the flags ask for to stdout."""
    if FLAGS.checkpoints:
        tables.print_markdown(export_rows())
    if FLAGS.variants:
        tables.print_markdown(latency_rows({name: _untrained(name) for name in FLAGS.variants}))
    if FLAGS.normalisation:
        model = _untrained(FLAGS.normalisation, normalized=True)
        absorbed = absorb.absorb(model, "0..255")
        models = {
            "without normalisation": _untrained(FLAGS.normalisation),
            f"absorbed ({absorbed.how})": absorbed.model,
            "as operators": absorb.with_normalisation_operators(model, "0..255"),
        }
        tables.print_markdown(latency_rows(models))


if __name__ == "__main__":
    command.run(FLAGS, main)
