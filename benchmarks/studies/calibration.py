"""Compares the calibration methods of int8 quantization on trained networks (docs/export.md).

    python -m benchmarks.studies.calibration --dataset=digits --checkpoints=a.ckpt,b.ckpt

Prints for each network, number of calibration images and method the signal-to-noise ratio of the
int8 logits and the top-1 accuracy, and both with weights that are merely rounded to the nearest
step, without `int8.rounding` and `int8.bias_correction`. The networks are evaluated on the
validation part, because the study is there to choose a method, and the test part must not be used
for choices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables, trained

FLAGS = flags.FlagValues()
trained.define_flags(FLAGS)
flags.DEFINE_list(
    "counts", ["8", "50", "200"], "Numbers of calibration images to compare.", flag_values=FLAGS
)


def signal_to_noise(float_logits: np.ndarray, int8_logits: np.ndarray) -> float:
    """Returns the energy of the float logits over that of the int8 error, in decibels."""
    noise = np.square(int8_logits - float_logits).sum()
    return float(10 * np.log10(np.square(float_logits).sum() / noise))


def comparison_rows() -> Iterator[list[str]]:
    """Yields the rows of the table, the column headings first."""
    from efficientnet_elite.export.int8 import quantizer
    from efficientnet_elite.export.runtimes import runtime

    yield [
        *("network", "images", "method", "SNR dB", "int8 top-1"),
        *("nearest: SNR dB", "int8 top-1", "float top-1"),
    ]
    for network in trained.networks(FLAGS):
        all_calibration_images = network.calibration_images()
        images, classes = network.part("validation")
        float_logits = np.asarray(network.model.predict(images, verbose=0))
        float_accuracy = (float_logits.argmax(-1) == classes).mean()
        for count in map(int, FLAGS.counts):
            calibrated = quantizer.calibrate(network.model, all_calibration_images[:count])
            for method, ranges in calibrated.ranges_by_method.items():
                row = [network.name, str(count), method]
                for each in (calibrated, calibrated.plain):
                    int8_logits = runtime.run(quantizer.quantize(each, ranges=ranges), images)
                    row.append(f"{signal_to_noise(float_logits, int8_logits):.1f}")
                    row.append(f"{(int8_logits.argmax(-1) == classes).mean():.2%}")
                yield [*row, f"{float_accuracy:.2%}"]


def main() -> None:
    """Prints the comparison as a Markdown table to stdout."""
    tables.print_markdown(comparison_rows())


if __name__ == "__main__":
    command.run(FLAGS, main)
