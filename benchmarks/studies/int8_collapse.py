"""What rescues a network that plain int8 destroys? The figures of docs/int8.md.

Trains a small network with swish and squeeze-excite whose channels differ widely in range: batch
normalisation starts with scales exp(N(0, spread)) instead of 1 (``all``), or the channels of the
linear bottlenecks are multiplied by such scales in the middle of the training, and the weights that
read them divided (``linear``). Then every remedy is tried, each from the best so far, and its
accuracy printed: on the validation part, which also chooses, and on the test part.

  python -m benchmarks.studies.int8_collapse --wide=linear --wide=all --seeds=0,1,2
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from efficientnet_elite.benchmarks.studies import program
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.spec import ArchSpec

if TYPE_CHECKING:
    import keras
    import numpy as np

    from efficientnet_elite.data import ImageData

FLAGS = flags.FlagValues()
flags.DEFINE_string("dataset", "digits", "As for `elite search`.", flag_values=FLAGS)
flags.DEFINE_multi_enum(
    "wide", ["linear", "all"], ["linear", "all"], "Where ranges differ.", flag_values=FLAGS
)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of weights, ranges and data order.", flag_values=FLAGS)
flags.DEFINE_float("spread", 2.0, "Deviation of the scales' logarithms.", flag_values=FLAGS)
flags.DEFINE_integer("side", 32, "Of the input in pixels.", flag_values=FLAGS)
flags.DEFINE_integer("epochs", 20, "Of training in float.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 50, "Of all training.", flag_values=FLAGS)
flags.DEFINE_float("learning_rate", 3e-3, "Of Adam, at first.", flag_values=FLAGS)
flags.DEFINE_integer("calibration_images", 200, "That set ranges.", flag_values=FLAGS)
flags.DEFINE_list(
    "remedies", ["calibration", "equalization", "mixed", "qat"], "To try.", flag_values=FLAGS
)


# Of the network below: what makes the linear bottlenecks that share channels, and what reads them.
LINEAR = (
    (("first_project_bn",), ("second_expand_conv",)),
    (("second_project_bn", "third_project_bn"), ("third_expand_conv", "top_conv")),
)


def network(side: int, classes: int) -> ArchSpec:
    """A few blocks of eLite's kind: swish, squeeze-excite, linear bottlenecks, one residual sum."""
    return ArchSpec(
        "wide",
        (side, side, 3),
        (
            ConvBlock("stem", 16, kernel=3, stride=2),
            MBConv("first", filters=12, expanded=None, kernel=3, squeeze=4),
            MBConv("second", filters=24, expanded=64, kernel=5, stride=2, squeeze=4),
            MBConv("third", filters=24, expanded=96, kernel=3, squeeze=6),
            ConvBlock("top", 96),
            Classifier("predictions", classes),
        ),
    )


def trained(data: ImageData, seed: int, wide: str) -> keras.Model:
    """The network after training in float."""
    import keras
    import numpy as np

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.networks.build import build

    model = build(network(FLAGS.side, data.num_classes), seed=seed)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # the training is too short for 0.99
            if wide == "all":
                layer.gamma.assign(_scales(random, layer))
    stream, steps = data_lib.train_batches(
        data, resolution=FLAGS.side, batch_size=FLAGS.batch_size, seed=seed
    )
    batches = iter(stream)
    rate = keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, FLAGS.epochs * steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    for half in range(2):
        if half and wide == "linear":
            for norms, readers in LINEAR:
                _rescale(model, norms, readers, random)
        # A generator of its own: Keras would begin a data set anew.
        model.fit(
            (batch for batch in batches), steps_per_epoch=FLAGS.epochs * steps // 2, verbose=0
        )
    return model


def _scales(random: np.random.Generator, norm: keras.Layer) -> np.ndarray:
    import numpy as np

    return np.exp(random.normal(0, FLAGS.spread, norm.gamma.shape))


def _rescale(
    model: keras.Model,
    norms: Sequence[str],
    readers: Sequence[str],
    random: np.random.Generator,
) -> None:
    """Scales the channels between layers; what the network computes stays the same."""
    scales = _scales(random, model.get_layer(norms[0]))
    for norm in map(model.get_layer, norms):
        norm.gamma.assign(norm.gamma * scales)
        norm.beta.assign(norm.beta * scales)
    for reader in map(model.get_layer, readers):
        reader.kernel.assign(reader.kernel / scales[:, None])


Row = tuple[str, float | None, float | None]


def study(data: ImageData, seed: int, wide: str) -> Iterator[Row]:
    """Trains one network; gives each trial's name and accuracy on validation and test part."""
    import numpy as np

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.export.int8 import ladder, quantizer, remedies
    from efficientnet_elite.export.runtimes.runtime import Runner

    sizes = {"resolution": FLAGS.side, "base_resolution": FLAGS.side}
    parts = {
        part: [
            (x.numpy(), y.numpy())
            for x, y in data_lib.eval_batches(data, part, **sizes, batch_size=FLAGS.batch_size)
        ]
        for part in ("validation", "test")
    }
    images, _ = data_lib.calibration_images(
        data, **sizes, count=FLAGS.calibration_images, seed=seed
    )
    model = trained(data, seed, wide)

    def training() -> tuple[Iterator[Any], int]:
        stream, steps = data_lib.train_batches(
            data, resolution=FLAGS.side, batch_size=FLAGS.batch_size, seed=seed + 1
        )
        return (batch for batch, _ in stream), steps

    def infer(x: np.ndarray) -> np.ndarray:
        return np.asarray(model(x, training=False))

    yield "float32", *(remedies.accuracy(infer, parts[part]) for part in ("validation", "test"))
    on_test = []

    def score(trial: remedies.Quantization) -> float:
        runner = Runner(trial.checked())
        on_test.append(remedies.accuracy(runner.run, parts["test"]))
        return remedies.accuracy(runner.run, parts["validation"])

    plan = remedies.Plan(tuple(FLAGS.remedies), lambda: parts["validation"], training)
    context = remedies.Context(images, plan, "minmax")
    plain, rungs = remedies.trials_of(model, quantizer.calibrate(model, images), context)
    for attempt in ladder.climb(plain, rungs, score, needed=float("inf")).attempts:
        made = attempt.accuracy is not None
        yield attempt.trial, attempt.accuracy, on_test.pop(0) if made else None


def main(argv: list[str]) -> int:
    """Prints a table a kind of network: a line a trial, validation / test accuracy a seed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig

    data = data_lib.load(DataConfig(FLAGS.dataset))
    for wide in FLAGS.wide:
        rows: dict[str, list[str]] = {}
        for seed in map(int, FLAGS.seeds):
            for trial, validation, test in study(data, seed, wide):
                cell = "failed" if validation is None else f"{validation:.1%} / {test:.1%}"
                rows.setdefault(trial, []).append(cell)
        print(f"| {wide} | " + " | ".join(f"seed {seed}" for seed in FLAGS.seeds) + " |")
        print("|---|" + "---|" * len(FLAGS.seeds))
        for trial, cells in rows.items():
            print(f"| {trial} | " + " | ".join(cells) + " |")
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(program.parse(FLAGS, sys.argv)))
