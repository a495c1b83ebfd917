"""Compares the answers of a network's C package with those of `elite predict`, on photographs.

  python -m benchmarks.studies.answers NAME.int8.tflite FOLDER

An answer is a class or unknown, with its calibrated probability. The package, compiled for this
machine, gets the photographs themselves, which it crops and resizes in fixed-point arithmetic; and
the pixels that `elite predict` shows its network, so that only the networks' arithmetic differs.
Last, `elite predict` gets the logits of the package, so that only the step from logits to answers
can differ.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.data.decode import Pixels, decode
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.packages.names import identifier
from efficientnet_elite.export.runtimes import compiled_c, runtime
from efficientnet_elite.job import prediction

FLAGS = flags.FlagValues()
command.define_format(FLAGS)

_HEADS = ("package gets", "images", "same answer", "unknown", "median difference", "greatest")

# Reads images: width, height, whether they are the network's input already, and pixels. Writes
# answers, probabilities and, for inputs, the network's outputs.
_PROGRAM = """\
#include <stdio.h>
#include <stdlib.h>
#include "$net.h"
static double arena[${NET}_ARENA_BYTES / 8 + 1];
static float probabilities[${NET}_CLASSES];
static int8_t output[${NET}_OUTPUT_BYTES];
static void set_input(const uint8_t *pixels) {
  int8_t *const input = ${net}_input(arena);
  int32_t i;
  for (i = 0; i < ${NET}_INPUT_BYTES; ++i) input[i] = (int8_t)(pixels[i] - 128);
}
int main(void) {
  int32_t head[3];
  while (fread(head, sizeof head, 1, stdin) == 1) {
    const size_t bytes = 3 * (size_t)head[0] * (size_t)head[1];
    uint8_t *const pixels = (uint8_t *)malloc(bytes);
    int32_t answer;
    if (!pixels || fread(pixels, 1, bytes, stdin) != bytes) return 1;
    if (head[2]) {
      set_input(pixels);
      answer = ${net}_classify_input(probabilities, arena);
      set_input(pixels);
      ${net}_run(${net}_input(arena), output, arena);
    } else {
      answer = ${net}_classify(pixels, head[0], head[1], NN_RGB888, probabilities, arena);
    }
    fwrite(&answer, sizeof answer, 1, stdout);
    fwrite(probabilities, sizeof probabilities, 1, stdout);
    fwrite(output, sizeof output, 1, stdout);
    free(pixels);
  }
  return 0;
}
"""


class CPackage:
    """The C package of a model file, as a program of this machine."""

    def __init__(self, model: Path, folder: Path):
        """Writes and compiles it.

        Args:
          model: the int8 file of a classifier.
          folder: where to; it is created.
        """
        name = packages.of_file(model, "c", out_dir=folder).name
        net = identifier(name)
        main = Template(_PROGRAM).substitute(net=net, NET=net.upper())
        (folder / "main.c").write_text(main)
        self._program = folder / "program"
        sources = sorted(folder.glob("*.c"))
        host = compiled_c.HOST
        subprocess.run([*host.compiler, *sources, *host.libraries, "-o", self._program], check=True)
        _, (self._output,) = runtime.interfaces(inspect.read(model.read_bytes()))

    def answers(
        self, images: Sequence[Pixels], *, inputs: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What it says of images.

        Args:
          images: uint8 (height, width, 3).
          inputs: whether these are the network's inputs already, cropped and resized.

        Returns:
          Index of the answer (N,), -1 where the image is too wide for the arena; probability of the
          most probable class (N,); logits (N, classes) of inputs.
        """
        given = b"".join(
            np.array([*image.shape[1::-1], inputs], np.int32).tobytes() + image.tobytes()
            for image in images
        )
        done = subprocess.run([self._program], input=given, stdout=subprocess.PIPE, check=True)
        classes = self._output.shape[-1]
        rows = np.frombuffer(
            done.stdout, [("answer", "<i4"), ("chances", "<f4", classes), ("output", "i1", classes)]
        )
        logits = runtime.dequantize_outputs(rows["output"], self._output)
        return rows["answer"], rows["chances"].max(-1), logits


def cells(
    given: str,
    answers: np.ndarray,
    probabilities: np.ndarray,
    expected: Sequence[prediction.Prediction],
    classes: int,
) -> list[str]:
    """The cells of one row, in the order of the headings.

    Args:
      given: what the package gets.
      answers: indices of its answers; the number of classes stands for unknown.
      probabilities: of its most probable classes.
      expected: the predictions of `elite predict`.
      classes: number of classes.
    """
    taken = answers >= 0
    indices = np.array([each.classes[0].index if each.known else classes for each in expected])
    stated = np.array([each.probability for each in expected])
    difference = np.abs(probabilities - stated)[taken]
    return [
        given,
        f"{taken.sum():,}",
        f"{(answers == indices)[taken].sum():,}",
        f"{(answers == classes).sum():,}",
        f"{np.median(difference):.1e}",
        f"{difference.max():.1e}",
    ]


def main(arguments: list[str]) -> None:
    """Prints a row for each thing that the package gets."""
    if len(arguments) != 2:
        raise UserError("give an int8 .tflite file and a folder of images")
    if reason := compiled_c.HOST.missing():
        raise UserError(reason)
    model = Path(arguments[0])
    files = prediction.find_images(arguments[1:])
    classifier = prediction.load(model)
    classes = len(classifier.labels)
    images = [decode(Path(file).read_bytes()) for file in files]
    squares = [classifier.crop(image) for image in images]

    def predicted(with_logits: np.ndarray | None = None) -> list[prediction.Prediction]:
        chosen, done = classifier, 0
        if with_logits is not None:
            # It runs batch after batch.
            def run(batch: Pixels) -> np.ndarray:
                nonlocal done
                done += len(batch)
                return with_logits[done - len(batch) : done]

            chosen = replace(classifier, run=run)
        return list(prediction.predict(chosen, files, on_skipped=_refuse))

    with tempfile.TemporaryDirectory() as name:
        package = CPackage(model, Path(name, "package"))
        whole, expected = package.answers(images), predicted()
        same = package.answers(squares, inputs=True)
    rows = [
        cells("photographs", *whole[:2], expected, classes),
        cells("the evaluation's pixels", *same[:2], expected, classes),
        cells("and gives its logits", *same[:2], predicted(same[2]), classes),
    ]
    print(tables.text(FLAGS.format, _HEADS, rows), end="")


def _refuse(image: str, reason: str) -> None:
    raise UserError(f"{image}: {reason}")


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
