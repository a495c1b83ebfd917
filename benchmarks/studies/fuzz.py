"""Mutates files that users give, and counts how many are answered by one line or read.

    python -m benchmarks.studies.fuzz --cases=3000 --files=net.tflite,net.keras

The files are sound .tflite, .keras, .npz (checkpoints) and image files. Each case changes, inserts,
removes or repeats some bytes of one of them, also inside the members of zip archives, whose
checksums are then right. It is held where the reader accepts the content or raises the error that
users see as one line. Everything else, such as another exception, is a failure: its seed and file
are printed, and the exit status is 1. Nothing is handed to Keras or to a runtime, which run in
processes of their own.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.data.decode import UnreadableImage, decode
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, keras_file, metadata, pixel_rule
from efficientnet_elite.training.checkpoint import Checkpoint

FLAGS = flags.FlagValues()
flags.DEFINE_list("files", None, "Sound files to mutate.", required=True, flag_values=FLAGS)
flags.DEFINE_integer("cases", 1000, "Cases of each file.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Seed of the first case; each has the next.", flag_values=FLAGS)


def _read_tflite(path: Path) -> None:
    content = path.read_bytes()
    contents = inspect.read(content)
    inspect.check_own_operators(contents)
    inspect.image_shape(contents)
    metadata.labels(content)
    pixel_rule.of_file(content, contents, takes=None, exported=False)


def _read_image(path: Path) -> None:
    decode(path.read_bytes())


READERS: dict[str, Callable[[Path], object]] = {
    ".tflite": _read_tflite,
    ".keras": keras_file.check,
    ".npz": Checkpoint.load,
    ".png": _read_image,
    ".jpg": _read_image,
}


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one to eight changes; of a zip archive, half the time within a member."""
    if zipfile.is_zipfile(io.BytesIO(content)) and random.random() < 0.5:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = str(random.choice(sorted(members)))
        if random.random() < 0.2:
            del members[name]
        else:
            members[name] = _changed(members[name], random)
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return sink.getvalue()
    return _changed(content, random)


def _changed(content: bytes, random: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(random.integers(1, 9)):
        place, length = int(random.integers(len(data) + 1)), int(random.integers(1, 9))
        kind = random.integers(4)
        if kind == 0:
            data[place : place + length] = random.bytes(length)
        elif kind == 1:
            data[place:place] = random.bytes(length)
        elif kind == 2:
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length * 8]
    return bytes(data)


def fuzz(path: Path, cases: int, seed: int) -> Counter[str]:
    """How the cases of one file end: read, refused, or the name of an error that is a failure."""
    content, reader, ends = path.read_bytes(), READERS[path.suffix], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"case{path.suffix}")
        for number in range(seed, seed + cases):
            file.write_bytes(mutated(content, np.random.default_rng(number)))
            try:
                reader(file)
                ends["read"] += 1
            except (UserError, UnreadableImage) as error:
                ends["refused" if "\n" not in str(error) else "several lines"] += 1
            except Exception as error:  # what this program looks for
                ends[type(error).__name__] += 1
                print(f"{path.name}: seed {number}: {type(error).__name__}: {error}")
    return ends


def main() -> None:
    """Prints a table; SystemExit with status 1 where a case failed."""
    paths = [Path(name) for name in FLAGS.files]
    for path in paths:
        if path.suffix not in READERS or not path.is_file():
            raise UserError(f"{path} is no file that ends in {', '.join(READERS)}")
    rows = [(path, fuzz(path, FLAGS.cases, FLAGS.seed)) for path in paths]
    print("| file | cases | read | refused | failed |")
    print("|---|---|---|---|---|")
    failed = 0
    for path, ends in rows:
        bad = sum(ends.values()) - ends["read"] - ends["refused"]
        failed += bad
        print(f"| {path.name} | {FLAGS.cases} | {ends['read']} | {ends['refused']} | {bad} |")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    command.run(FLAGS, main)
