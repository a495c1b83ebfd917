"""What the studies that train networks share: flags, the training recipe, and kept results.

A study trains all networks with the same images, recipe, data order and seeds. It keeps each result
in a JSON file and each training in a checkpoint, both in its work directory. After an interruption
the same command continues. Several processes can share the work, as long as no two of them train
the same network with the same seed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from absl import flags as absl_flags

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.config import AUTO, DataConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.recipes import FROM_SCRATCH, TrainingLengths
from efficientnet_elite.job.settings import with_values

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData
    from efficientnet_elite.networks.spec import ArchSpec
    from efficientnet_elite.training.trainer import Trainer

T = TypeVar("T")

_SETTINGS = ("epochs", "batch_size", "base_resolution")
RMSPROP = "rmsprop"
# Settings by dotted name.
_RECIPES: Mapping[str, Mapping[str, Any]] = {
    # The trainings are short. So weights are averaged over half an epoch, the statistics of batch
    # normalization follow quickly, and there is no dropout or stochastic depth.
    RMSPROP: {
        "train.learning_rate": 0.0015,
        "train.warmup_epochs": 1,
        "train.schedule": "cosine",
        "train.ema": 0.98,
        "train.batch_norm_momentum": 0.9,
        "train.drop_rates": 0,
        "data.min_area": 0.5,
    },
    AUTO: FROM_SCRATCH,
}
# The data sets are small. With this fraction of 4,000 images, a percent of accuracy is 10 images.
TEST_FRACTION = 0.25


def define_flags(flags: absl_flags.FlagValues, *, epochs: int) -> None:
    """Defines the flags of a `Study`, and ``--seeds``.

    Args:
      flags: gets the flags.
      epochs: default of ``--epochs``.
    """
    command.define_workdir(flags, "Folder for checkpoints and results.")
    for name, default, text in (
        ("epochs", epochs, "Number of epochs of each training."),
        ("batch_size", 32, "Number of images in a training step."),
        ("base_resolution", 64, "Input side in pixels at resolution coefficient 1."),
    ):
        absl_flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=flags)
    absl_flags.DEFINE_list(
        "seeds", ["0", "1", "2"], "Seeds of initial weights and data order.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "recipe",
        RMSPROP,
        list(_RECIPES),
        "Recipe of the trainings: RMSProp, or that of docs/auto.md from random weights.",
        flag_values=flags,
    )
    for name, text in (
        ("learning_rate", "Learning rate after the warm-up; it then falls to 0 like a cosine."),
        ("min_area", "Smallest fraction of an image's area in a training crop."),
    ):
        text = f"{text} By default that of the recipe."
        absl_flags.DEFINE_float(name, None, text, lower_bound=0, flag_values=flags)


class Study:
    """A work directory with the settings and the images of a study.

    Args:
      flags: the flags of `define_flags`, parsed. The work directory is created if it is missing.
      dataset: name of the data set (see `DataConfig.dataset`).

    Raises:
      UserError: the work directory contains results of other settings.
    """

    def __init__(self, flags: absl_flags.FlagValues, dataset: str):
        self.workdir = Path(flags.workdir)
        self.base_resolution: int = flags.base_resolution
        given = {"train.learning_rate": flags.learning_rate, "data.min_area": flags.min_area}
        settings: dict[str, Any] = {
            "train.epochs": flags.epochs,
            "train.warmup_epochs": TrainingLengths(flags.epochs).warmup_epochs,
            **_RECIPES[flags.recipe],
            "train.batch_size": flags.batch_size,
            **{name: value for name, value in given.items() if value is not None},
        }
        data = DataConfig(dataset=dataset, validation=0.1, test_fraction=TEST_FRACTION)
        config = with_values(SearchConfig(data=data), settings)
        self._data, self.recipe = config.data, config.train
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.settings = {
            "dataset": dataset,
            **{name: flags[name].value for name in _SETTINGS},
            "learning_rate": self.recipe.learning_rate,
            "min_area": self._data.min_area,
            "recipe": flags.recipe,
        }
        # Earlier versions had one recipe.
        if {"recipe": RMSPROP, **self.result("settings", lambda: self.settings)} != self.settings:
            raise UserError(
                f"{self.workdir} holds results of other settings (see its settings.json): "
                "choose another --workdir"
            )

    @cached_property
    def images(self) -> ImageData:
        """The images. They are loaded when first used; a cache keeps them for all processes."""
        from efficientnet_elite import data

        return data.load(self._data, cache_dir=self.workdir / "cache")

    def result_path(self, name: str) -> Path:
        """Returns the path of the JSON file that keeps a result."""
        return self.workdir / f"{name}.json"

    def result(self, name: str, compute: Callable[[], T]) -> T:
        """Returns a result from its file; if there is no file, computes the result and writes it.

        Args:
          name: name of the result.
          compute: computes the result, which JSON must be able to represent.
        """
        path = self.result_path(name)
        if not path.is_file():
            # The temporary name contains the process id, in case two processes compute the same.
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(compute(), indent=2) + "\n")
            temporary.replace(path)
        return json.loads(path.read_text(encoding="utf-8"))

    def train(self, spec: ArchSpec, seed: int, run: str) -> Trainer:
        """Trains a network with the whole recipe; continues from its checkpoint if there is one.

        Args:
          spec: the network.
          seed: seed of the initial weights and the data order.
          run: name of the checkpoint, which also begins each line of progress on stderr.

        Returns:
          The trainer after the last epoch.

        Raises:
          TrainingError: the loss is no longer finite, or there is too little memory.
        """
        import keras

        from efficientnet_elite.training.trainer import Trainer

        # Free the graphs of earlier trainings: dozens of them would not fit into memory.
        keras.backend.clear_session()
        gc.collect()
        trainer = Trainer(
            spec,
            self.recipe,
            self.images,
            base_resolution=self.base_resolution,
            seed=seed,
            checkpoint=self.workdir / f"{run}.ckpt",
        )
        trainer.run(
            self.recipe.epochs,
            lambda epoch: print(f"{run}: {epoch}", file=sys.stderr, flush=True),
        )
        return trainer
