"""Tests the remedies for int8 on networks that plain quantization destroys (docs/int8.md).

    python -m benchmarks.studies.int8_collapse --wide=linear --wide=all --seeds=0,1,2

The program trains a small network with swish and squeeze-excite, in which the channels differ
widely in range. There are two ways to produce this:

- ``--wide=all``: the scales of batch normalization begin at exp(N(0, spread)) instead of 1.
- ``--wide=linear``: in the middle of the training the channels of the linear bottlenecks are
  multiplied by such scales, and the weights of the layers that read them are divided by the scales.

Then it tries all remedies, each on top of the best result so far. It prints the accuracies on the
validation part, by which the best result is chosen, and on the test part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.spec import ArchSpec

if TYPE_CHECKING:
    import keras
    import numpy as np

    from efficientnet_elite.data import ImageData

FLAGS = flags.FlagValues()
flags.DEFINE_string("dataset", "digits", "Data set, as for `elite search`.", flag_values=FLAGS)
flags.DEFINE_multi_enum(
    "wide",
    ["linear", "all"],
    ["linear", "all"],
    "Channels that differ in range: those of linear bottlenecks, or all.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "seeds",
    ["0", "1", "2"],
    "Seeds of weights, ranges and data order.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "spread", 2.0, "Standard deviation of the logarithms of the scales.", flag_values=FLAGS
)
flags.DEFINE_integer("side", 32, "Input side in pixels.", flag_values=FLAGS)
flags.DEFINE_integer("epochs", 20, "Number of epochs of the training in float.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 50, "Number of images in a training step.", flag_values=FLAGS)
flags.DEFINE_float("learning_rate", 3e-3, "Initial learning rate of Adam.", flag_values=FLAGS)
flags.DEFINE_integer(
    "calibration_images",
    200,
    "Number of training images that determine the int8 ranges.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "remedies",
    ["calibration", "equalization", "mixed", "qat"],
    "Remedies to try, in this order.",
    flag_values=FLAGS,
)


# For each group of linear bottlenecks that share channels in the network below: the batch
# normalizations that produce these channels, and the convolutions that read them.
LINEAR_BOTTLENECKS = (
    (("first_project_bn",), ("second_expand_conv",)),
    (("second_project_bn", "third_project_bn"), ("third_expand_conv", "top_conv")),
)


def network(side: int, classes: int) -> ArchSpec:
    """Returns a small network with the blocks of eLite and one residual connection.

    Args:
      side: input side in pixels.
      classes: number of classes.
    """
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


def train(data: ImageData, seed: int, wide: str) -> keras.Model:
    """Returns the network after training in float; `wide` is "all" or "linear"."""
    import keras
    import numpy as np

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.networks.build import build

    model = build(network(FLAGS.side, data.num_classes), seed=seed)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # the default, 0.99, is too slow for this short training
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
            for norms, readers in LINEAR_BOTTLENECKS:
                _rescale(model, norms, readers, random)
        # A generator instead of the data set, which Keras would restart in the second half.
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
    """Multiplies channels by random scales and divides the weights that read them by the scales.

    The network's output stays the same.
    """
    scales = _scales(random, model.get_layer(norms[0]))
    for norm in map(model.get_layer, norms):
        norm.gamma.assign(norm.gamma * scales)
        norm.beta.assign(norm.beta * scales)
    for reader in map(model.get_layer, readers):
        reader.kernel.assign(reader.kernel / scales[:, None])


# Name of a trial, its validation accuracy and its test accuracy; no accuracies if it failed.
Trial = tuple[str, float | None, float | None]


def try_remedies(data: ImageData, seed: int, wide: str) -> Iterator[Trial]:
    """Trains one network and yields the trials, first the network in float32."""
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
    model = train(data, seed, wide)

    def training() -> tuple[Iterator[Any], int]:
        stream, steps = data_lib.train_batches(
            data, resolution=FLAGS.side, batch_size=FLAGS.batch_size, seed=seed + 1
        )
        return (batch for batch, _ in stream), steps

    def infer(x: np.ndarray) -> np.ndarray:
        return np.asarray(model(x, training=False))

    yield "float32", *(remedies.accuracy(infer, parts[part]) for part in ("validation", "test"))
    test_accuracies = []

    def score(trial: remedies.Quantization) -> float:
        runner = Runner(trial.checked_file())
        test_accuracies.append(remedies.accuracy(runner.run, parts["test"]))
        return remedies.accuracy(runner.run, parts["validation"])

    plan = remedies.RemedyPlan(tuple(FLAGS.remedies), lambda: parts["validation"], training)
    context = remedies.Context(images, plan, "minmax")
    calibrated = quantizer.calibrate(model, images, "minmax")
    plain, named_remedies = remedies.trials_of(model, calibrated, context)
    for attempt in ladder.try_remedies(plain, named_remedies, score, needed=float("inf")).attempts:
        succeeded = attempt.accuracy is not None
        yield attempt.trial, attempt.accuracy, test_accuracies.pop(0) if succeeded else None


def main() -> None:
    """Prints one table for each value of ``--wide``, with validation / test accuracies."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig

    data = data_lib.load(DataConfig(FLAGS.dataset))
    for wide in FLAGS.wide:
        rows: dict[str, list[str]] = {}
        for seed in map(int, FLAGS.seeds):
            for trial, validation, test in try_remedies(data, seed, wide):
                cell = "failed" if validation is None else f"{validation:.1%} / {test:.1%}"
                rows.setdefault(trial, []).append(cell)
        print(f"| {wide} | " + " | ".join(f"seed {seed}" for seed in FLAGS.seeds) + " |")
        print("|---|" + "---|" * len(FLAGS.seeds))
        for trial, cells in rows.items():
            print(f"| {trial} | " + " | ".join(cells) + " |")
        print(flush=True)


if __name__ == "__main__":
    command.run(FLAGS, main)
