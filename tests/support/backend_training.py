"""A short training of a tiny network, with whatever backend of Keras this process has.

As a program (`python -m tests.support.backend_training JSON`) it prints what `train` returns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.backend import use_jax_devices
from efficientnet_elite.training.trainer import Trainer


def train(
    spec: str, checkpoint: str, recipe: dict[str, Any], until: int, workers: int | None = None
) -> dict[str, Any]:
    """Trains on the digits until an epoch; gives the loss of each step, and what epochs came to.

    With `workers`, as the first of so many workers that train by JAX.
    """
    if workers is not None:
        use_jax_devices(0, workers)
    data = data_lib.load(DataConfig(), max_side=24, progress=False)
    trainer = Trainer(
        ArchSpec.from_json(spec),
        TrainConfig(**recipe),
        data,
        base_resolution=16,
        seed=3,
        checkpoint=Path(checkpoint),
    )
    losses: list[float] = []
    trainer.run(until, lambda epoch: None, lambda *_: losses.append(trainer._epoch.losses[-1]))
    return {
        "losses": losses,
        "scores": [epoch.validation_accuracy for epoch in trainer.history],
        "accuracy": trainer.accuracy("test"),
    }


if __name__ == "__main__":
    print(json.dumps(train(**json.loads(sys.argv[1]))))
