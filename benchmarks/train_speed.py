"""Training speed against plain Keras: the same networks, images and epochs, in the same order.

    python -m efficientnet_elite.benchmarks.train_speed --epochs=3 elite0 elite9

For each network in turn, plain `keras.Model.fit` (compile, RMSProp, validation every epoch) and
this project's trainer (the whole recipe: L2, averaged weights, checkpoints) train from scratch on
the embedded digits. Which of the two goes first alternates. Only the ratios mean something on a
shared machine. Unlike `latency`, this needs the whole package and TensorFlow.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from absl import flags

FLAGS = flags.FlagValues()
flags.DEFINE_integer("epochs", 3, "Epochs a training.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("base_resolution", 32, "Input side at coefficient 1.", flag_values=FLAGS)


def main(argv: list[str]) -> None:
    """Trains everything twice and prints seconds and ratios."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite import pools
    from efficientnet_elite.config import PRESETS

    preset = PRESETS["quick"]()
    config = replace(preset.train, epochs=FLAGS.epochs)
    base = FLAGS.base_resolution
    data = data_lib.load(preset.data, max_side=base * 3 // 2)
    total = {"fit": [0.0, 0.0], "trainer": [0.0, 0.0]}
    for turn, name in enumerate(argv[1:] or ["elite0", "elite5", "elite9"]):
        spec = pools.spec(name, classes=data.num_classes, base_resolution=base)
        ways = {"fit": _fit, "trainer": _trainer}
        for way in sorted(ways, reverse=bool(turn % 2)):
            whole, training = ways[way](spec, config, data, base)
            total[way][0] += whole
            total[way][1] += training
            print(
                f"{name:8} {way:8} {whole:6.1f} s, of which training {training:6.1f} s", flush=True
            )
    ratios = [fit / ours for fit, ours in zip(total["fit"], total["trainer"], strict=True)]
    print(
        f"epochs a second, this project / fit: {ratios[0]:.2f} in all, {ratios[1]:.2f} in training"
    )


def _fit(spec, config, data, base) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Seconds in all, and without building and the first epoch's tracing."""
    import keras

    from efficientnet_elite import data as data_lib
    from efficientnet_elite import models

    class Clock(keras.callbacks.Callback):
        """Notes when each training step ends and how long each epoch takes."""

        building = 0.0

        def on_train_begin(self, logs: object = None) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if not self.building:
                self.building = time.perf_counter() - self.began

    started = time.perf_counter()
    model = models.build(spec)
    model.compile(
        keras.optimizers.RMSprop(0.001, rho=0.9, momentum=0.9, epsilon=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    sizes = {"resolution": spec.resolution, "batch_size": config.batch_size}
    batches, steps = data_lib.train_batches(data, **sizes, seed=0)
    validation = data_lib.eval_batches(data, "validation", **sizes, base_resolution=base)
    clock = Clock()
    begun = time.perf_counter()
    model.fit(
        batches,
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=validation,
        verbose=0,
        callbacks=[clock],
    )
    ended = time.perf_counter()
    return ended - started, ended - begun - clock.building


def _trainer(spec, config, data, base) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """The same of this project's trainer."""
    from efficientnet_elite.training import Trainer

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        trainer = Trainer(
            spec, config, data, base_resolution=base, seed=0, checkpoint=Path(folder) / "c.npz"
        )
        trainer.run(config.epochs, lambda epoch: None)
        whole = time.perf_counter() - started
        return whole, sum(epoch.seconds for epoch in trainer.history)


if __name__ == "__main__":
    try:
        arguments = FLAGS(sys.argv)
    except flags.Error as error:
        sys.exit(str(error))
    main(arguments)
