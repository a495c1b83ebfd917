"""What studies that train have in common: flags, the recipe, results that outlive an interruption.

A study trains networks equally: same images, recipe, order and seeds. Each result is a JSON file in
its work directory, each training a checkpoint: the same command continues, and several processes
may share the work as long as no two train the same network with the same seed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from absl import flags as absl_flags

from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData
    from efficientnet_elite.networks.spec import ArchSpec
    from efficientnet_elite.training.trainer import Trainer

T = TypeVar("T")

_SETTINGS = ("epochs", "batch_size", "learning_rate", "min_area", "base_resolution")
TEST_FRACTION = 0.25  # of few images, so that a percent of accuracy is ten of them


def define_flags(flags: absl_flags.FlagValues, *, epochs: int) -> None:
    """Flags of a `Study`, and ``--seeds``."""
    for name, default, text in (
        ("epochs", epochs, "Of each training."),
        ("batch_size", 32, "Images a step."),
        ("base_resolution", 64, "Input side that stands for 224."),
    ):
        absl_flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=flags)
    absl_flags.DEFINE_string(
        "workdir", None, "Where checkpoints and results go.", required=True, flag_values=flags
    )
    absl_flags.DEFINE_list(
        "seeds", ["0", "1", "2"], "Of initial weights and data order.", flag_values=flags
    )
    absl_flags.DEFINE_float(
        "learning_rate",
        0.0015,
        "After one epoch of warm-up; then a cosine to 0.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "min_area", 0.5, "Smallest share of an image in a training crop.", flag_values=flags
    )


class Study:
    """A work directory with what trainings need.

    Args:
      flags: those of `define_flags`, parsed. The work directory is made where missing.
      dataset: see `DataConfig`.

    Raises:
      UserError: the work directory holds results of other settings.
    """

    def __init__(self, flags: absl_flags.FlagValues, dataset: str):
        self.workdir = Path(flags.workdir)
        self.base_resolution: int = flags.base_resolution
        self._data = DataConfig(
            dataset=dataset,
            validation_fraction=0.1,
            test_fraction=TEST_FRACTION,
            min_area=flags.min_area,
        )
        self.recipe = TrainConfig(
            epochs=flags.epochs,
            batch_size=flags.batch_size,
            learning_rate=flags.learning_rate,
            warmup_epochs=1,
            schedule="cosine",
            # Short trainings: an average over half an epoch, statistics that keep up, and nothing
            # that regularises.
            ema=0.98,
            batch_norm_momentum=0.9,
            drop_rates=0,
        )
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.settings = {"dataset": dataset} | {name: flags[name].value for name in _SETTINGS}
        if self.kept("settings", lambda: self.settings) != self.settings:
            raise UserError(
                f"{self.workdir} holds results of other settings (see its settings.json): "
                "choose another --workdir"
            )

    @cached_property
    def images(self) -> ImageData:
        """The images, loaded when first needed and decoded once for all processes."""
        from efficientnet_elite import data

        return data.load(self._data, cache_dir=self.workdir / "cache")

    def path(self, name: str) -> Path:
        """Where `kept` keeps a value."""
        return self.workdir / f"{name}.json"

    def kept(self, name: str, compute: Callable[[], T]) -> T:
        """What the file of that name holds; else what is computed now, and written to it."""
        path = self.path(name)
        if not path.is_file():
            # A name of this process's own: the work may be split carelessly.
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(compute(), indent=2) + "\n")
            temporary.replace(path)
        return json.loads(path.read_text())

    def checkpoint(self, run: str) -> Path:
        """Of a training."""
        return self.workdir / f"{run}.ckpt"

    def train(self, spec: ArchSpec, seed: int, run: str) -> Trainer:
        """Trains a network to the recipe's end, from its checkpoint on where it has one.

        Args:
          spec: the network.
          seed: of initial weights and data order.
          run: names the checkpoint and the lines of progress on stderr.

        Raises:
          TrainingError: the loss is no longer finite, or memory does not suffice.
        """
        import keras

        from efficientnet_elite.training.trainer import Trainer

        keras.backend.clear_session()  # of the training before: dozens would not fit into memory
        gc.collect()
        trainer = Trainer(
            spec,
            self.recipe,
            self.images,
            base_resolution=self.base_resolution,
            seed=seed,
            checkpoint=self.checkpoint(run),
        )
        trainer.run(
            self.recipe.epochs,
            lambda epoch: print(f"{run}: {epoch}", file=sys.stderr, flush=True),
        )
        return trainer
