"""Compares the methods of calibration on trained networks: signal to noise, and accuracy.

  python -m benchmarks.studies.calibration --dataset=digits --checkpoints=a.ckpt,b.ckpt

Judged on the validation part: the method is a choice, and the test part is not there for choices.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from . import trained

flags.DEFINE_list("counts", ["8", "50", "200"], "Calibration images to try.")


def decibels(signal: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise of logits: energy over that of the error."""
    return float(10 * np.log10(np.square(signal).sum() / np.square(got - signal).sum()))


def compared() -> Iterator[list[str]]:
    """The rows, the head first."""
    from efficientnet_elite.export.int8 import quantizer
    from efficientnet_elite.export.runtimes import runtime

    yield ["network", "images", "method", "SNR dB", "int8 top-1", "float top-1"]
    for network in trained.networks():
        every = network.calibration
        images, classes = network.part("validation")
        logits = np.asarray(network.model.predict(images, verbose=0))
        in_float = (logits.argmax(-1) == classes).mean()
        for count in map(int, flags.FLAGS.counts):
            calibrated = quantizer.calibrate(network.model, every[:count])
            for method, ranges in calibrated.ranges_by_method.items():
                got = runtime.run(quantizer.quantize(calibrated, ranges=ranges), images)
                figures = [f"{decibels(logits, got):.1f}"]
                figures += [f"{x:.2%}" for x in ((got.argmax(-1) == classes).mean(), in_float)]
                yield [network.name, str(count), method, *figures]


def main(argv: list[str]) -> None:
    """Prints a table to stdout."""
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    trained.show(compared())


if __name__ == "__main__":
    trained.define_flags()
    app.run(main)
