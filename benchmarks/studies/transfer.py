"""Measures what a pretrained start and distillation are worth (docs/transfer.md).

    python -m benchmarks.studies.transfer --images=FOLDER --networks=elite9-relu6-nose \\
        --starts=none,lite,lite+features --seeds=0,1 --steps=900 --json=FILE

FOLDER holds `train`, `val` and `test`, each with one folder per class. Every network is trained
from every start with every seed for the same number of steps. A start is `none` for random weights,
or a source as for `elite train --pretrained`, such as `lite`. `+features`, `+logits` or `+both`
adds distillation from the source. All trainings have the recipe of fine-tuning, and those from
random weights the same without distillation: AdamW, a cosine schedule and averaged weights.
--settings changes single settings of all of them.

The results are the rows of the file that --json names, which is written again after each training;
`curve` is the validation accuracy after each epoch.
After an interruption the same command continues, within a training too. A training ends with a
whole epoch: where --steps is no multiple of the steps in an epoch, it is rounded up, and `steps` is
the number that was trained.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.config import NONE, PARTS, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import starts
from efficientnet_elite.job.recipes import FINE_TUNING, TrainingLengths
from efficientnet_elite.job.settings import setting_types, with_values
from efficientnet_elite.job.training import network_spec
from efficientnet_elite.job.value_types import checked
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.starts import Weights, load_start
from efficientnet_elite.search.workdir import write_json

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData
    from efficientnet_elite.training.trainer import Trainer

FLAGS = flags.FlagValues()
for _name, _text in (
    ("images", "Folder with train, val and test, each with one folder per class."),
    ("json", "File that gets the rows."),
):
    flags.DEFINE_string(_name, None, _text, required=True, flag_values=FLAGS)
for _name, _default, _text in (
    (
        "networks",
        ["elite9-relu6-nose"],
        "Networks by name; NAME@PIXELS for another input size than --resolution.",
    ),
    ("starts", [NONE, "lite", "lite+features"], "What networks start from, see above."),
    ("seeds", ["0"], "Seeds of the classifier, random weights and data order."),
    (
        "settings",
        [],
        "Settings that replace those of the recipe, such as train.learning_rate=0.0005.",
    ),
):
    flags.DEFINE_list(_name, _default, _text, flag_values=FLAGS)
for _name, _number, _text in (
    ("steps", 900, "Number of training steps."),
    ("resolution", 96, "Input side in pixels."),
    ("batch_size", 32, "Number of images in a training step."),
):
    flags.DEFINE_integer(_name, _number, _text, lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string(
    "further",
    None,
    "Folder of further images of the same classes, for choices that must not see the test part.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean("int8", True, "Measure int8 test accuracy, too.", flag_values=FLAGS)
flags.DEFINE_string(
    "workdir",
    None,
    "Folder for checkpoints and decoded images; by default the name of --json with .runs added.",
    flag_values=FLAGS,
)
command.define_format(FLAGS, tables.FORMATS)

_DISTILLATIONS = ("features", "logits", "both")


@dataclass(frozen=True)
class Run:
    """One training of the study.

    Attributes:
      network: its name, as given.
      start: as given, such as ``lite+features``.
      seed: of the training.
      recipe: all of the recipe; its ``pretrained`` is a source by name.
      sha256: of the source; None for random weights.
    """

    network: str
    start: str
    seed: int
    recipe: TrainConfig
    sha256: str | None

    @property
    def identity(self) -> dict[str, Any]:
        """The columns of its row that say which training it is."""
        return {"network": self.network, "start": self.start, "seed": self.seed}


class Study:
    """The trainings that the flags ask for, and the rows of those that are done.

    Args:
      values: the flags, parsed.

    Raises:
      UserError: a flag is wrong, or the file of rows is of other settings.
    """

    def __init__(self, values: flags.FlagValues):
        self._values = values
        self.path = Path(values.json)
        self.workdir = Path(values.workdir or f"{values.json}.runs")
        names = values.networks
        if not (names and values.starts and values.seeds):
            raise UserError("name at least one network, one start and one seed")
        self._specs = {name: self._spec(name) for name in names}  # before anything is loaded
        self._sources: dict[str, Weights | None] = {}
        self.rows: list[dict[str, Any]] = self._read()

    def _spec(self, name: str, classes: int = 1000) -> ArchSpec:
        side = self._values.resolution
        spec = network_spec(name if "@" in name else f"{name}@{side}", side, classes)
        return spec.reading_stages(self._config.reads_stages)

    @cached_property
    def _config(self) -> SearchConfig:
        """The recipe and the images, without the lengths."""
        folder = Path(self._values.images).expanduser().absolute()
        if missing := [part for part in ("train", "val", "test") if not (folder / part).is_dir()]:
            raise UserError(f"{folder} has no folder {missing[0]}: it needs train, val and test")
        recipe = {**FINE_TUNING, "train.batch_size": self._values.batch_size}
        data = {"data.dataset": f"folder:{folder}"}
        return with_values(SearchConfig(), {**recipe, **data, **_given(self._values.settings)})

    @cached_property
    def images(self) -> ImageData:
        """The images; a cache keeps them decoded."""
        from efficientnet_elite import data as data_lib

        return data_lib.load(
            self._config.data, max_side=self._max_side, cache_dir=self.workdir / "cache"
        )

    @property
    def _max_side(self) -> int:
        return max(spec.size.stored_side for spec in self._specs.values())

    @cached_property
    def further(self) -> ImageData | None:
        """The images of ``--further``; the parts into which they fall do not matter."""
        if self._values.further is None:
            return None
        from efficientnet_elite import data as data_lib

        folder = Path(self._values.further).expanduser().absolute()
        images = data_lib.load(
            replace(self._config.data, dataset=f"folder:{folder}", unlabelled=None),
            max_side=self._max_side,
            cache_dir=self.workdir / "cache",
        )
        if images.labels != self.images.labels:
            raise UserError(f"--further={folder}: its classes are not those of --images")
        return images

    @cached_property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        from efficientnet_elite import data as data_lib

        return data_lib.steps_per_epoch(self.images, self._values.batch_size)

    def runs(self) -> list[Run]:
        """All trainings, those of one network and start one after the other."""
        return [
            self._run(network, start, _seed(seed))
            for network in self._values.networks
            for start in self._values.starts
            for seed in self._values.seeds
        ]

    def _run(self, network: str, start: str, seed: int) -> Run:
        name, _, distillation = start.partition("+")
        if distillation and (distillation not in _DISTILLATIONS or name == NONE):
            raise UserError(
                f"start {start!r}: use {NONE}, SOURCE, or SOURCE+{{{','.join(_DISTILLATIONS)}}}"
            )
        weights = starts.source_name(name, starts.kinds_of_networks(self._specs))
        if weights not in self._sources:
            self._sources[weights] = load_start(replace(self._config.train, pretrained=weights))
        source = self._sources[weights]
        lengths = TrainingLengths(-(-self._values.steps // self.steps_per_epoch))
        values = {
            "train.epochs": lengths.epochs,
            "train.warmup_epochs": lengths.warmup_epochs,
            "train.pretrained": weights,
            "train.distill": distillation or "none",
        }
        given = _given(self._values.settings)
        values = {key: value for key, value in values.items() if key not in given}
        recipe = with_values(self._config, values).train
        return Run(network, start, seed, recipe, None if source is None else source.sha256)

    # -- rows ------------------------------------------------------------------------------------

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(rows, list) and all("settings" in row for row in rows):
                return rows
        except (ValueError, TypeError):
            pass
        raise UserError(f"{self.path} is no result of this study: name another --json")

    def settings(self, run: Run) -> str:
        """A digest of all that a result depends on, except for the machine."""
        content = [
            asdict(run.recipe),
            run.sha256,
            self._specs[run.network].to_json(),
            self.images.fingerprint,
            asdict(self.images.pipeline),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def row(self, run: Run) -> dict[str, Any] | None:
        """The row of a training that is done; UserError where it was done with other settings."""
        for row in self.rows:
            if run.identity.items() <= row.items():
                if row["settings"] == self.settings(run):
                    return row
                raise UserError(
                    f"{self.path} holds {run.network} from {run.start} with other images, steps or "
                    "settings: name another --json"
                )
        return None

    def train(self, run: Run) -> None:
        """Trains one network, or continues its training, and writes its row."""
        import keras

        from efficientnet_elite.training.trainer import Trainer

        # Free the graphs of earlier trainings: dozens of them would not fit into memory.
        keras.backend.clear_session()
        gc.collect()
        name = f"{run.network}-{run.start.replace('/', '_')}-seed{run.seed}-{self.settings(run)}"
        times = _Times(self.workdir / f"{name}.json")
        spec = self._spec(run.network, self.images.num_classes)
        trainer = Trainer(
            spec,
            run.recipe,
            self.images,
            base_resolution=self._values.resolution,
            seed=run.seed,
            checkpoint=self.workdir / f"{name}.npz",
        )
        start_seconds = trainer.start_seconds if not trainer.history else 0.0
        times.add(start_seconds)

        def on_epoch(epoch: Any) -> None:
            times.add()
            print(
                f"{run.network} from {run.start}, seed {run.seed}: epoch {epoch.epoch} of "
                f"{run.recipe.epochs}, validation {epoch.validation_accuracy:.1%}",
                file=sys.stderr,
                flush=True,
            )

        trainer.run(run.recipe.epochs, on_epoch)
        test_top1 = trainer.accuracy("test")
        times.add()
        curve = [epoch.validation_accuracy for epoch in trainer.history]
        self.rows.append(
            run.identity
            | {
                "steps": run.recipe.epochs * self.steps_per_epoch,
                "test_top1": test_top1,
                "test_top1_int8": self._int8_accuracy(trainer),
                "val_top1": curve[-1],
                "further_top1": self._further_accuracy(trainer),
                "curve": curve,
                "cpu_seconds": times.cpu,
                "seconds": times.wall,
                "start_seconds": times.start,
                "source": run.recipe.pretrained,
                "source_sha256": run.sha256,
                "resolution": spec.resolution,
                "batch_size": run.recipe.batch_size,
                "epochs": run.recipe.epochs,
                "params": spec.params,
                "macs": spec.macs,
                "settings": self.settings(run),
            }
        )
        write_json(self.path, self.rows)

    def _further_accuracy(self, trainer: Trainer) -> float | None:
        """Accuracy on all images of ``--further``; None without that flag."""
        if self.further is None:
            return None
        sizes = self.further.sizes
        right = sum(size * trainer.accuracy(part, self.further) for part, size in sizes.items())
        return right / sum(sizes.values())

    def _int8_accuracy(self, trainer: Trainer) -> float | None:
        """Test accuracy in int8; None where it is not wanted, or the network has no int8 form."""
        if not self._values.int8:
            return None
        from efficientnet_elite.export.int8.quantizer import int8_form

        return trainer.evaluate_int8(int8_form, "test").int8_accuracy


class _Times:
    """Seconds of a training, of all processes that have worked on it one after the other.

    Attributes:
      cpu, wall: CPU seconds of all threads, and seconds passed.
      start: seconds that preparing the pretrained weights took.

    Args:
      path: file that keeps them between two processes.
    """

    def __init__(self, path: Path):
        self._path = path
        self.cpu = self.wall = self.start = 0.0
        if path.is_file():
            self.cpu, self.wall, self.start = json.loads(path.read_text(encoding="utf-8"))
        self._clocks = time.process_time(), time.perf_counter()

    def add(self, start: float = 0.0) -> None:
        """Adds the time since the last call."""
        clocks = time.process_time(), time.perf_counter()
        self.cpu += clocks[0] - self._clocks[0]
        self.wall += clocks[1] - self._clocks[1]
        self.start += start
        self._clocks = clocks
        write_json(self._path, [self.cpu, self.wall, self.start])


def _seed(text: str) -> int:
    """A seed; UserError where it is no whole number from 0."""
    if not text.isdecimal():
        raise UserError(f"seed {text!r}: must be a whole number from 0")
    return int(text)


def _given(settings: Sequence[str]) -> Mapping[str, Any]:
    """The values of ``--settings`` by their dotted names."""
    types = setting_types()
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        known = name.partition(".")[0] in PARTS or name == "classifier_reads"
        if not known or name not in types:
            raise UserError(
                f"--settings={setting}: write train.NAME=VALUE, data.NAME=VALUE or "
                "classifier_reads=VALUE"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[name] = checked(value, types[name], name)
    return values


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of the table: one for each network and start."""
    heads = ["network", "start", "steps", "seeds", "test top-1", "deviation", "further", "int8",
             "CPU s"]  # fmt: skip
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["start"], row["steps"]), []).append(row)
    table = []
    for (network, start, steps), members in groups.items():
        accuracies = [100 * row["test_top1"] for row in members]
        table.append(
            [
                network,
                start,
                str(steps),
                str(len(members)),
                f"{fmean(accuracies):.1f}",
                f"{stdev(accuracies):.1f}" if len(members) > 1 else "-",
                _mean_percentage([row.get("further_top1") for row in members]),
                _mean_percentage([row["test_top1_int8"] for row in members]),
                f"{fmean(row['cpu_seconds'] for row in members):.0f}",
            ]
        )
    return heads, table


def _mean_percentage(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * fmean(known):.1f}" if len(known) == len(values) else "-"


def main() -> None:
    """Trains what has no row yet, and prints a table of all rows of this call."""
    study = Study(FLAGS)
    runs = study.runs()
    for run in runs:
        if study.row(run) is None:
            study.train(run)
    rows = [row for row in map(study.row, runs) if row is not None]
    if FLAGS.format == "json":
        print(json.dumps(rows, indent=2))
        return
    print(tables.text(FLAGS.format, *cells(rows), left=2), end="")


if __name__ == "__main__":
    command.run(FLAGS, main)
