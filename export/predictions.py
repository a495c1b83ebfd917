"""What the files of a network predict for every validation and test image, stored beside them.

``NAME/predictions.npz`` holds, for each image, its part, name, label and the probabilities of the
float32 and the int8 file, so that whatever is asked about mistakes later needs neither images nor
TensorFlow. It also holds small copies of those images that the report shows (`shown_rows`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .confidence import softmax
from .runtimes.runtime import Runner

FILE = "predictions.npz"
PARTS = ("validation", "test")
SHOWN = 6  # images of a kind, see `shown_rows`
PAIRS = 5  # pairs of classes of which images are shown
_SIDE = 96  # longest side of a stored copy in pixels

# Images (N, height, width, channels) float32, pixel / 128 - 1, and their classes (N,).
Batches: TypeAlias = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Predictions:
    """Probabilities of all images of some parts; rows are images, in the order of the parts.

    Attributes:
      part: ``validation`` or ``test``, (n,) text.
      name: what the user calls the image, (n,) text.
      label: true class, (n,) int32.
      float32, int8: probability of each class from either file, (n, classes) float32.
      shown: rows of which there are copies, (k,) int64.
      copies: these images as the network sees them, (k, height, width, channels) uint8.
      int8_sha256: hash of the int8 file that predicted, by which an older file is noticed.
      unknown: the int8 file's probabilities for images of none of the classes, (m, classes)
        float32; none in files of older versions.
    """

    part: np.ndarray
    name: np.ndarray
    label: np.ndarray
    float32: np.ndarray
    int8: np.ndarray
    shown: np.ndarray
    copies: np.ndarray
    int8_sha256: str
    unknown: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def of_part(self, part: str) -> np.ndarray:
        """Rows of a part, int64."""
        return np.flatnonzero(self.part == part)


@dataclass(frozen=True)
class Images:
    """The images whose predictions are stored.

    Attributes:
      batches: from the name of a part to its images and classes, always in the same order.
      names: part to the names of its images, in this order; images of a part that is missing are
        called by the part and their number.
      unknown: gives batches of images of none of the classes (N, height, width, channels).
    """

    batches: Callable[[str], Batches]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: Callable[[], Iterable[np.ndarray]] = tuple


@dataclass(frozen=True)
class Outputs:
    """What the files of a network compute for a part.

    Attributes:
      values: ``float32`` and ``int8`` to logits or probabilities, (n, classes).
      labels: true classes, (n,).
    """

    values: Mapping[str, np.ndarray]
    labels: np.ndarray


def predict(
    images: Images,
    runners: Mapping[str, Runner],
    tested: Outputs,
    *,
    int8_sha256: str,
    probabilities: bool,
) -> Predictions:
    """Runs the files of a classifier on the validation part, and on images of none of the classes.

    Args:
      images: the images.
      runners: of the files ``float32`` and ``int8``.
      tested: what they have computed for the test part already.
      int8_sha256: hash of the int8 file.
      probabilities: whether the files end in softmax, and not in logits.
    """

    def chances(values: np.ndarray) -> np.ndarray:
        return (values if probabilities else softmax(values)).astype(np.float32)

    parts = {"validation": _run(runners, images.batches("validation")), "test": tested}
    counts = {part: len(outputs.labels) for part, outputs in parts.items()}
    part_of = np.repeat(list(counts), list(counts.values()))
    label = np.concatenate([outputs.labels for outputs in parts.values()]).astype(np.int32)
    float32, int8 = (
        chances(np.concatenate([outputs.values[form] for outputs in parts.values()]))
        for form in ("float32", "int8")
    )
    called: list[str] = []
    for part, count in counts.items():
        called += images.names.get(part, [f"{part} {number}" for number in range(count)])
    rows = shown_rows(part_of, label, float32, int8)
    copies = list(_copies(part_of, rows, images.batches)) if len(rows) else []
    others = [chances(runners["int8"].run(batch)) for batch in images.unknown()]
    return Predictions(
        part=part_of,
        name=np.array(called),
        label=label,
        float32=float32,
        int8=int8,
        shown=rows,
        copies=np.stack(copies) if copies else np.empty(0, np.uint8),
        int8_sha256=int8_sha256,
        unknown=np.concatenate(others) if others else np.empty((0, int8.shape[1]), np.float32),
    )


def _run(runners: Mapping[str, Runner], batches: Batches) -> Outputs:
    """Runs files on all images of a part, of at least one batch."""
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in runners}
    labels: list[np.ndarray] = []
    for images, classes in batches:
        for name, runner in runners.items():
            outputs[name].append(runner.run(np.asarray(images, np.float32)))
        labels.append(np.asarray(classes))
    values = {name: np.concatenate(each) for name, each in outputs.items()}
    return Outputs(values, np.concatenate(labels))


def encoded(predictions: Predictions) -> bytes:
    """The content of the file."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {
        each.name: np.asarray(getattr(predictions, each.name)) for each in fields(Predictions)
    }
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def read(folder: Path) -> Predictions | None:
    """Reads an export's predictions; None where there are none, as in exports of older versions.

    Raises:
      ValueError: the file is damaged or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            before = {"unknown": np.empty((0, content["int8"].shape[-1]), np.float32)}
            values = before | {name: content[name] for name in content.files}
            return Predictions(**values | {"int8_sha256": str(values["int8_sha256"])})
    except (KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"no predictions: {error}") from error


# -- which images are worth a look --------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """Rows of test images that say something about a network; int8 unless said otherwise.

    Attributes:
      pairs: the most frequent mistakes: (true class, predicted class, how many, some rows, the most
        confident first).
      confident: mistakes, the most confident first.
      uncertain: right answers, the least certain first.
      changed: rows for which int8 and float32 choose different classes, those where the class that
        float32 chose lost most first.
    """

    pairs: tuple[tuple[int, int, int, np.ndarray], ...]
    confident: np.ndarray
    uncertain: np.ndarray
    changed: np.ndarray


def worth_a_look(
    part: np.ndarray, label: np.ndarray, float32: np.ndarray, int8: np.ndarray
) -> Shown:
    """Chooses the test images that a report shows; for the arguments see `Predictions`."""
    test = np.flatnonzero(part == "test")
    chosen, before = int8.argmax(-1), float32.argmax(-1)
    certainty = int8.max(-1)
    wrong = test[chosen[test] != label[test]]
    wrong = wrong[np.argsort(-certainty[wrong], kind="stable")]
    right = test[chosen[test] == label[test]]
    right = right[np.argsort(certainty[right], kind="stable")]
    changed = test[chosen[test] != before[test]]
    lost = float32[changed, before[changed]] - int8[changed, before[changed]]
    changed = changed[np.argsort(-lost, kind="stable")]
    kinds, counts = np.unique(
        np.column_stack([label[wrong], chosen[wrong]]), axis=0, return_counts=True
    )
    pairs = []
    for place in np.argsort(-counts, kind="stable")[:PAIRS]:
        true, predicted = map(int, kinds[place])
        rows = wrong[(label[wrong] == true) & (chosen[wrong] == predicted)]
        pairs.append((true, predicted, int(counts[place]), rows[:SHOWN]))
    return Shown(tuple(pairs), wrong[: 2 * SHOWN], right[: 2 * SHOWN], changed[: 2 * SHOWN])


def shown_rows(
    part: np.ndarray, label: np.ndarray, float32: np.ndarray, int8: np.ndarray
) -> np.ndarray:
    """All rows of `worth_a_look`, sorted, int64 (k,)."""
    shown = worth_a_look(part, label, float32, int8)
    rows = [rows for *_, rows in shown.pairs]
    every = np.concatenate([*rows, shown.confident, shown.uncertain, shown.changed])
    return np.unique(every).astype(np.int64)


def _copies(
    part: np.ndarray, rows: np.ndarray, batches: Callable[[str], Batches]
) -> Iterator[np.ndarray]:
    """Small copies of the test images in some rows, uint8."""
    wanted, row = set(rows.tolist()), int(np.flatnonzero(part == "test")[0])
    for images, _ in batches("test"):
        for image in np.asarray(images):
            if row in wanted:
                yield _small(np.rint((image + 1) * 128).clip(0, 255).astype(np.uint8))
            row += 1


def _small(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    if max(image.shape[:2]) <= _SIDE:
        return image
    picture = Image.fromarray(image.squeeze())
    scale = _SIDE / max(image.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.size]
    resized = np.asarray(picture.resize((size[0], size[1]), Image.Resampling.LANCZOS))
    return resized.reshape(*resized.shape[:2], image.shape[-1])
