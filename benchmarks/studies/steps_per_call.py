"""Measures what several training steps in one call, or XLA, would gain (docs/speed.md).

    python -m benchmarks.studies.steps_per_call --networks=elite9@32,mobilenetv1@64

A training calls the graph of a step once for each batch. Here the same steps are made by such calls
and, taking turns with them, by a graph that takes --steps batches from the stream and trains on
them one after the other. Batches are ready in memory, so that the cost of a call is seen as well as
it can be. It prints the CPU time of a step in milliseconds, and what the call of many saves. With
--xla, the third way are calls of the same step, compiled by XLA (jit_compile).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "networks", ["elite9@32", "elite9@96", "mobilenetv1@64"], "Networks.", flag_values=FLAGS
)
flags.DEFINE_integer("batch_size", 32, "Images of a step.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("steps", 8, "Steps of a call.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_boolean("xla", False, "Whether to measure XLA, too.", flag_values=FLAGS)
flags.DEFINE_integer("turns", 9, "Measurements of each way.", lower_bound=1, flag_values=FLAGS)


def main() -> None:
    """Measures each network and prints the table to stdout."""
    rows = []
    for name in FLAGS.networks:
        seconds = _measure(_ways(name), FLAGS.turns)
        one, many, *xla = (1000 * each / FLAGS.steps for each in seconds)
        row = [name, f"{one:.1f}", f"{many:.1f}", f"{100 * (1 - many / one):+.1f} %"]
        rows.append([*row, *(f"{each:.1f}" for each in xla)])
    headings = ["network", "ms, one step a call", f"ms, {FLAGS.steps} steps a call", "saved"]
    headings += ["ms, XLA"] if FLAGS.xla else []
    print(tables.aligned(headings, rows), end="")


def _ways(name: str) -> tuple[Callable[[], Any], ...]:
    """Functions that make the same number of steps: call by call, in one call, and with XLA."""
    import tensorflow as tf

    from efficientnet_elite.config import TrainConfig
    from efficientnet_elite.job.training import network_spec
    from efficientnet_elite.networks.build import build
    from efficientnet_elite.training.precision import decided, use_deterministic_kernels
    from efficientnet_elite.training.step import TrainingStep
    from efficientnet_elite.training.tasks import Classification

    config = decided(TrainConfig(batch_size=FLAGS.batch_size))
    use_deterministic_kernels(bool(config.deterministic))
    spec = network_spec(name, 224, classes=10)
    model = build(spec, split_groups=True)
    step = TrainingStep(model, Classification(10), config, seed=0)
    step.trace()
    images = tf.random.stateless_uniform((FLAGS.batch_size, *spec.input_shape), [0, 0], -1, 1)
    labels = tf.range(FLAGS.batch_size) % 10
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).cache().repeat().prefetch(4))

    def one_by_one() -> Any:
        for number in range(FLAGS.steps):
            images, labels = next(batches)
            loss = step(images, labels, 0.001, step=number, steps=1000)
        return loss

    @tf.function(autograph=False)
    def together(rates: Any, decays: Any, weights: Any) -> Any:
        def body(number: Any, loss: Any) -> tuple[Any, Any]:
            del loss
            images, labels = next(batches)
            rest = (rates[number], decays[number], tf.cast(number, tf.int64), weights[number])
            return number + 1, step.graph(images, labels, *rest)

        start = (tf.constant(0), tf.constant(0.0))
        return tf.while_loop(
            lambda number, _: number < FLAGS.steps, body, start, parallel_iterations=1
        )[1]

    compiled = tf.function(step._train, autograph=False, jit_compile=True)

    def by_xla() -> Any:
        for number in range(FLAGS.steps):
            scalars = map(tf.constant, (0.001, 0.5))
            images, labels = next(batches)
            loss = compiled(images, labels, *scalars, tf.constant(number, tf.int64), tf.zeros(()))
        return loss

    numbers = tf.ones(FLAGS.steps)
    ways = one_by_one, lambda: together(0.001 * numbers, 0.5 * numbers, 0 * numbers)
    return (*ways, by_xla) if FLAGS.xla else ways


def _measure(ways: tuple[Callable[[], Any], ...], turns: int) -> list[float]:
    """Seconds of CPU time that each way takes, the median of some turns; they take turns."""
    from efficientnet_elite.training.graphs import unoptimized_graphs

    seconds: list[list[float]] = [[] for _ in ways]
    with unoptimized_graphs():
        for turn in range(turns + 1):
            for number, way in [*enumerate(ways)][:: -1 if turn % 2 else 1]:
                started = time.process_time()
                float(way())
                if turn:  # the first builds kernels
                    seconds[number].append(time.process_time() - started)
    return [median(each) for each in seconds]


if __name__ == "__main__":
    command.run(FLAGS, main)
