"""Says what a trained network sees in images: the class and its probability, an image a line. The
first argument is a .tflite or .keras file, or the work directory of a search or training; then
follow images, folders of images, or a camera. Where an export has chosen a threshold (`elite export
--unknown_precision=0.95`), an answer that is not sure enough is "unknown".

Images are prepared as the evaluation does, which the sidecar of an export says. Of a .tflite file
from elsewhere, the quantization of its input, metadata or --input say which pixel values it takes.
.tflite files need no TensorFlow: the package without its extra `train`. Images that cannot
be read are named and skipped, and the exit status is then 1.

  elite predict runs/photos holiday/*.jpg --top=3
  elite predict NAME.int8.tflite FOLDER --format=csv --save=answers
  elite predict downloaded.tflite cat.jpg --labels=labels.txt --input=-1..1
  elite predict NAME.int8.tflite camera:0
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    from efficientnet_elite.job.prediction import Prediction

FLAGS = absl_flags.FlagValues()
common.define_format(FLAGS, "Format of the output.")
absl_flags.DEFINE_integer(
    "top", 1, "Number of classes to show for each image.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "save",
    None,
    "Folder to write pictures to, with the answer drawn. Segmentation networks colour each pixel "
    "by its class.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "labels",
    None,
    "Text file with the name of one class in each line. By default the sidecar's names, or those "
    "of labels.txt beside the model, or of its metadata.",
    flag_values=FLAGS,
)
common.define_input(FLAGS)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints the predictions to stdout; returns 1 if an image was skipped."""
    from efficientnet_elite.export.classifier import in_this_process
    from efficientnet_elite.job import camera, prediction

    if not arguments:
        raise UserError("name a .tflite or .keras file or a work directory, and then images")
    model, *rest = arguments
    live = camera.number_of(rest) is not None
    images = rest if live else prediction.find_images(rest)
    classifier = prediction.load(
        Path(model).expanduser(),
        takes=flags.input,
        labels=Path(flags.labels).expanduser() if flags.labels else None,
    )
    if Path(model).expanduser() != classifier.path:
        print(f"uses {classifier.path}", file=sys.stderr)
    if live:
        if flags.format != "table":
            raise UserError(f"--format={flags.format} needs an end, which a camera has not")
        classifier.run(classifier.crop(_black())[None])  # an unsound file ends here, in a process
        classifier = in_this_process(classifier)
    skipped: list[str] = []

    def skip(image: str, reason: str) -> None:
        skipped.append(image)
        print(f"skipped {image}: {reason}", file=sys.stderr)

    predictions = prediction.predict(
        classifier,
        images,
        top=flags.top,
        save=Path(flags.save).expanduser() if flags.save else None,
        on_skipped=skip,
    )
    if live:
        for answer in predictions:
            print("  ".join(_cells(answer)), flush=True)
        return 0
    answers = list(predictions)
    kind = "share" if classifier.masks else "probability"
    if flags.format == "json":
        print(common.as_json([_row(answer, kind) for answer in answers]), end="")
    elif answers and flags.format == "csv":
        print(common.as_csv([row for answer in answers for row in _rows(answer, kind)]), end="")
    elif answers:
        print(common.table([["image", *["class", kind] * len(answers[0].classes)],
                            *map(_cells, answers)]), end="")  # fmt: skip
    return 1 if skipped else 0


def _cells(answer: Prediction) -> list[str]:
    names = [answer.answer, *(score.label for score in answer.classes[1:])]
    shown = zip(names, answer.classes, strict=True)
    cells = [cell for name, score in shown for cell in (name, f"{score.probability:.1%}")]
    return [answer.image, *cells]


def _row(answer: Prediction, kind: str) -> dict[str, Any]:
    classes = [{"class": s.label, "index": s.index, kind: s.probability} for s in answer.classes]
    return {"image": answer.image, "known": answer.known, **classes[0], "classes": classes}


def _rows(answer: Prediction, kind: str) -> list[dict[str, Any]]:
    return [
        {"image": answer.image, "known": answer.known, "rank": rank, "class": s.label,
         "index": s.index, kind: s.probability}
        for rank, s in enumerate(answer.classes, start=1)
    ]  # fmt: skip


def _black() -> Any:
    import numpy as np

    return np.zeros((8, 8, 3), np.uint8)
