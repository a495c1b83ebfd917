"""Measures what each part of the recipe of `--config=auto` is worth (docs/auto.md).

    python -m benchmarks.studies.recipe --images=FOLDER --variants=auto,steps-300,rmsprop \\
        --seeds=0,1,2 --resolution=64 --json=FILE

FOLDER is a folder of photographs as for `elite train`, or `rendered`. A variant is the recipe with
a part of it changed, of which the name says what and to which value. Each is trained as `elite
train` does it.
The results are the rows of the file that --json names, which is written again after each training.
After an interruption the same command continues; CPU seconds are then only those of the last run.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.config import AUTO, NONE, SearchConfig
from efficientnet_elite.data.choices import SOURCES
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import request, training
from efficientnet_elite.job.recipes import PRESETS, QUICK, TrainingLengths
from efficientnet_elite.job.settings import value_of, with_values
from efficientnet_elite.search.workdir import write_json

FLAGS = flags.FlagValues()
for _name, _text in (
    ("images", "Folder of photographs, or a data set that is built in, as for `elite train`."),
    ("json", "File that gets the rows."),
):
    flags.DEFINE_string(_name, None, _text, required=True, flag_values=FLAGS)
flags.DEFINE_string("network", "elite9-relu6-nose", "Network by name.", flag_values=FLAGS)
flags.DEFINE_string("pretrained", NONE, "As for `elite train`.", flag_values=FLAGS)
flags.DEFINE_integer("resolution", 64, "Input side in pixels.", lower_bound=8, flag_values=FLAGS)
flags.DEFINE_integer("train_images", 500, "Size of the training part.", flag_values=FLAGS)
flags.DEFINE_list("variants", [AUTO], "Variants of the recipe, see below.", flag_values=FLAGS)
flags.DEFINE_list("seeds", ["0"], "Seeds of weights and data order.", flag_values=FLAGS)
command.define_format(FLAGS, tables.FORMATS)

_OLD = (
    *("batch_size", "optimizer", "learning_rate", "weight_decay", "gradient_clip", "schedule"),
    *("ema", "label_smoothing", "batch_norm_momentum", "drop_rates"),
)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    AUTO: {},
    **{f"steps-{steps}": {"steps": steps} for steps in (150, 300, 600, 900, 1200, 1800, 2400)},
    **{f"batch-{size}": {"train.batch_size": size} for size in (16, 64)},
    **{f"rate-{rate:g}": {"train.learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)},
    **{f"decay-{decay:g}": {"train.weight_decay": decay} for decay in (0.0, 0.2)},
    **{f"smoothing-{share:g}": {"train.label_smoothing": share} for share in (0.0, 0.2)},
    **{f"area-{area:g}": {"data.min_area": area} for area in (0.08, 0.2, 0.35, 0.5, 0.8)},
    **{f"ema-{decay:g}": {"train.ema": decay} for decay in (0.0, 0.98, 0.99, 0.999)},
    **{f"augment-{name}": {"data.augment": name} for name in ("none", "light", "trivial")},
    "sgd": {
        "train.optimizer": "sgd",
        "train.learning_rate": 0.05,
        "train.weight_decay": 5e-4,
    },
    "rmsprop": {
        "train.optimizer": "rmsprop",
        "train.learning_rate": 0.0015,
        "train.weight_decay": 1e-5,
        "train.gradient_clip": None,
    },
    # What `elite train` did before: the preset of the digits, ten epochs.
    "quick": {
        **{f"train.{name}": value_of(PRESETS[QUICK](), f"train.{name}") for name in _OLD},
        "data.min_area": 0.5,
        "train.epochs": 10,
    },
}
"""Name of each variant to the settings that it changes, by dotted names; `steps` are its length."""


def config_of(values: flags.FlagValues, variant: str) -> tuple[SearchConfig, frozenset[str]]:
    """The settings of a variant, and which of them do not follow from images and start.

    Args:
      values: the flags, parsed.
      variant: a name of `VARIANTS`, or several of them with `+` between them.

    Raises:
      UserError: there is no such variant.
    """
    changes: dict[str, Any] = {}
    for part in variant.split("+"):
        if part not in VARIANTS:
            raise UserError(f"no variant {part!r}: use {', '.join(VARIANTS)}")
        changes |= VARIANTS[part]
    dataset = values.images
    if dataset not in SOURCES:
        dataset = f"folder:{Path(dataset).expanduser().absolute()}"
    asked = request.training_request({"dataset": dataset}, AUTO)
    batch = changes.get("train.batch_size", asked.config.train.batch_size)
    if steps := changes.pop("steps", None):
        lengths = TrainingLengths.of(values.train_images, batch, steps)
        changes["train.epochs"] = lengths.epochs
    changes |= {"base_resolution": values.resolution, "train.pretrained": values.pretrained}
    return with_values(asked.config, changes), asked.given | changes.keys()


def train(values: flags.FlagValues, variant: str, seed: int) -> dict[str, Any]:
    """The row of one training."""
    import keras

    # Free the graphs of earlier trainings: dozens of them would not fit into memory.
    keras.backend.clear_session()
    gc.collect()
    config, given = config_of(values, variant)
    workdir = Path(f"{values.json}.runs", f"{variant}-{seed}")
    began = time.process_time()
    (result,) = training.train(
        [values.network],
        workdir,
        replace(config, seed=seed),
        given=given,
        automatic=True,
        export=False,
        progress=False,
    )
    used = json.loads((workdir / "train_settings.json").read_text(encoding="utf-8"))["train"]
    return {
        "network": result.network,
        "resolution": result.resolution,
        "pretrained": used["pretrained"],
        "variant": variant,
        "seed": seed,
        "epochs": used["epochs"],
        "batch_size": used["batch_size"],
        "test_top1": result.test_accuracies[0],
        "cpu_seconds": time.process_time() - began,
    }


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of the table: one for each network, side, start and variant."""
    heads = ["network", "pixels", "start", "variant", "epochs", "seeds", "test top-1"]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["network"], row["resolution"], row["pretrained"], row["variant"], row["epochs"])
        groups.setdefault(key, []).append(row)
    table = []
    for key, members in groups.items():
        accuracies = [100 * row["test_top1"] for row in members]
        table.append(
            [
                *map(str, key),
                str(len(members)),
                f"{fmean(accuracies):.1f}",
                f"{stdev(accuracies):.1f}" if len(members) > 1 else "-",
                f"{fmean(row['cpu_seconds'] for row in members):.0f}",
            ]
        )
    return [*heads, "deviation", "CPU s"], table


def main() -> None:
    """Trains what is missing and prints a table of all rows of the file."""
    path = Path(FLAGS.json)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    about = {"network": FLAGS.network, "resolution": FLAGS.resolution}
    for variant in FLAGS.variants:
        config_of(FLAGS, variant)
    for seed in map(int, FLAGS.seeds):
        for variant in FLAGS.variants:
            identity = about | {"variant": variant, "seed": seed}
            if not any(identity.items() <= row.items() for row in rows):
                rows.append(train(FLAGS, variant, seed))
                write_json(path, rows)
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if FLAGS.format == "json":
        print(json.dumps(rows, indent=2))
        return
    print(tables.text(FLAGS.format, *cells(rows), left=4), end="")


if __name__ == "__main__":
    command.run(FLAGS, main)
