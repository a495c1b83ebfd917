"""Settings that go together: presets of a search, and the recipe for pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_elite.config import NONE, DataConfig, SearchConfig, TrainConfig


def _quick() -> SearchConfig:
    """Nine candidates in three groups on the embedded digits.

    ``elite search --config=quick --workdir=runs/digits``: 4 min 46 s on two cores (AMD EPYC,
    TensorFlow 2.21), of which training 2 min 58 s (68 epochs), graph building 59 s, export 19 s.
    Champions: 98.6, 99.4, 98.6 % int8 test accuracy (float 98.9, 99.4, 98.6) on 359 images.
    """
    return SearchConfig(
        groups=3,
        round_epochs=2,
        first_elimination=3,
        base_resolution=32,
        max_candidates=9,
        data=DataConfig(dataset="digits", min_area=0.5),  # the paper's 0.08 is for 350 epochs
        train=TrainConfig(
            epochs=10,
            batch_size=32,
            learning_rate=0.0015,
            warmup_epochs=1.0,
            schedule="cosine",
            ema=0.99,
            batch_norm_momentum=0.9,
            drop_rates=0.0,
        ),
    )


def _paper() -> SearchConfig:
    """The paper's search: the whole eLite pool on ImageNet, 350 epochs, rounds of ten.

    ``elite search --config=paper --data_dir=DIR --workdir=runs/imagenet``: not run by us. The paper
    reports 80 to 150 GPU hours a group (Table 5) and 65.5 to 76.9 % top-1 for the champions; its
    augmentation policy is not part of this project yet. As in the paper, networks start from random
    weights.
    """
    return SearchConfig(
        rule="average",
        data=DataConfig(dataset="tfds:imagenet2012", validation_fraction=0.02),
        train=TrainConfig(pretrained=NONE),
    )


PRESETS = {"quick": _quick, "paper": _paper}

# -- the recipe where networks start from pretrained weights (docs/transfer.md) -------------------

FINE_TUNING: Mapping[str, Any] = {
    "train.batch_size": 32,
    "train.optimizer": "adamw",
    "train.learning_rate": 7e-4,
    "train.weight_decay": 0.05,
    "train.gradient_clip": 1.0,
    "train.schedule": "cosine",
    "train.ema": 0.98,
    "train.label_smoothing": 0.1,
    "train.batch_norm_momentum": 0.9,
    "train.drop_rates": 0.0,
    "train.freeze_statistics": True,
    "train.distill": "features",
    "train.distill_weight": 3.0,
    "data.min_area": 0.5,
}
"""Settings, by dotted name, that replace those of a preset where networks start from pretrained
weights, unless the user gives them himself. The lengths are those of `FineTuningLengths`."""

OF_THE_OPTIMIZER = ("train.learning_rate", "train.weight_decay", "train.gradient_clip")
"""Settings of `FINE_TUNING` that suit its optimizer alone: another keeps those of the preset."""

_FINE_TUNING_STEPS = 900  # training steps in all
_FEWEST_EPOCHS, _MOST_EPOCHS = 3, 200
_WARMUP_SHARE, _FIRST_ELIMINATION_SHARE, _ROUND_SHARE = 0.05, 0.1, 0.05  # of the epochs


@dataclass(frozen=True)
class FineTuningLengths:
    """How long networks that start from pretrained weights are trained.

    Attributes:
      epochs: of the whole training.
    """

    epochs: int

    @classmethod
    def of(cls, images: int, batch_size: int) -> FineTuningLengths:
        """The epochs that give about 900 steps, but at least 3 and at most 200.

        Args:
          images: size of the training part: 500 images in batches of 32 are trained for 60 epochs.
          batch_size: images in a step.
        """
        steps = max(1, images // batch_size)
        return cls(min(max(round(_FINE_TUNING_STEPS / steps), _FEWEST_EPOCHS), _MOST_EPOCHS))

    @property
    def warmup_epochs(self) -> float:
        """Epochs of warm-up: a twentieth of all."""
        return _WARMUP_SHARE * self.epochs

    @property
    def first_elimination(self) -> int:
        """Epoch of the first elimination of a group: after a tenth of the training."""
        return max(1, round(_FIRST_ELIMINATION_SHARE * self.epochs))

    @property
    def round_epochs(self) -> int:
        """Epochs between two eliminations: a twentieth of all."""
        return max(1, round(_ROUND_SHARE * self.epochs))
