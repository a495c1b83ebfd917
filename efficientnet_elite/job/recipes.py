"""Settings that go together: presets of a search, and recipes for each kind of start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientnet_elite.config import AUTO, NONE, DataConfig, SearchConfig, TrainConfig


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
    reports 80 to 150 GPU hours a group (Table 5) and 65.5 to 76.9 % top-1 for the champions. As in
    the paper, networks start from random weights. The paper trains with the policy that Fast
    AutoAugment found on ImageNet and prints none of it; AutoAugment's takes its place.
    """
    return SearchConfig(
        rule="average",
        data=DataConfig(
            dataset="tfds:imagenet2012",
            validation=0.02,
            augment="autoaugment+jitter(0.4)+lighting(0.1)",
        ),
        train=TrainConfig(pretrained=NONE),
    )


_SHORT_TRAINING: Mapping[str, Any] = {
    "train.batch_size": 32,
    "train.optimizer": "adamw",
    "train.weight_decay": 0.05,
    "train.gradient_clip": 1.0,
    "train.schedule": "cosine",
    "train.ema": 0.98,
    "train.label_smoothing": 0.1,
    "train.batch_norm_momentum": 0.9,
    "train.drop_rates": 0.0,
}
"""What a training of about a thousand steps needs, from random weights or from pretrained ones."""

FROM_SCRATCH: Mapping[str, Any] = {
    **_SHORT_TRAINING,
    "train.learning_rate": 4e-3,
    "data.min_area": 0.2,
    "data.augment": "light",
}
"""Settings, by dotted name, of the preset ``auto`` where networks start from random weights
(docs/auto.md says what each is worth). The lengths are those of `TrainingLengths`."""


def _auto() -> SearchConfig:
    """Photographs of the user: settings follow from the images, the start and the machine (`plan`).

    ``elite search PHOTOS``. What stands here is only what does not depend on these, and what they
    are for 500 images: `plan` replaces the rest.
    """
    lengths = TrainingLengths.of(500, 32, FROM_SCRATCH_STEPS)
    train = {
        name.removeprefix("train."): value
        for name, value in FROM_SCRATCH.items()
        if name.startswith("train.")
    }
    return SearchConfig(
        pool=AUTO_POOL,
        groups=3,
        round_epochs=lengths.round_epochs,
        first_elimination=lengths.first_elimination,
        base_resolution=96,
        max_candidates=12,
        budget_hours=0.5,
        data=DataConfig(
            min_area=FROM_SCRATCH["data.min_area"], augment=FROM_SCRATCH["data.augment"]
        ),
        train=TrainConfig(epochs=lengths.epochs, warmup_epochs=lengths.warmup_epochs, **train),
    )


AUTO_POOL = "elite-relu6-nose"
"""The pool of the preset ``auto``: EfficientNet-Lite0 and its smaller forms. Its weights can start
all of them, and ReLU6 without squeeze-excite is what int8 kernels run best."""

QUICK = "quick"
PRESETS = {QUICK: _quick, AUTO: _auto, "paper": _paper}

# -- the recipe where networks start from pretrained weights (docs/transfer.md) -------------------

FINE_TUNING: Mapping[str, Any] = {
    **_SHORT_TRAINING,
    "train.learning_rate": 7e-4,
    "train.freeze_statistics": True,
    "train.distill": "features",
    "train.teacher_reads": "stages",
    "train.distill_weight": 3.0,
    "data.min_area": 0.5,
    "classifier_reads": "stages",
}
"""Settings, by dotted name, that replace those of a preset where networks start from pretrained
weights, unless the user gives them himself. The lengths are those of `TrainingLengths`."""

OF_THE_OPTIMIZER = ("train.learning_rate", "train.weight_decay", "train.gradient_clip")
"""Settings of `FINE_TUNING` that suit its optimizer alone: another keeps those of the preset."""

FINE_TUNING_STEPS = 900
"""Training steps in all from pretrained weights."""
FROM_SCRATCH_STEPS = 1200
"""Training steps in all from random weights, in the preset ``auto``."""
_FEWEST_EPOCHS, _MOST_EPOCHS = 3, 200
_WARMUP_SHARE, _FIRST_ELIMINATION_SHARE, _ROUND_SHARE = 0.05, 0.1, 0.05  # of the epochs


@dataclass(frozen=True)
class TrainingLengths:
    """How long networks are trained: so many steps, whatever the size of the data set.

    Attributes:
      epochs: of the whole training.
    """

    epochs: int

    @classmethod
    def of(cls, images: int, batch_size: int, steps: int = FINE_TUNING_STEPS) -> TrainingLengths:
        """The epochs that give about so many steps, but at least 3 and at most 200.

        Args:
          images: size of the training part: 500 images in batches of 32 are trained for 60 epochs.
          batch_size: images in a step.
          steps: of the whole training.
        """
        epochs = round(steps / max(1, images // batch_size))
        return cls(min(max(epochs, _FEWEST_EPOCHS), _MOST_EPOCHS))

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
