"""Pretrained weights from one of this project's own checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.pretrained.inputs import OFFSET, SCALE
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights, sha256_of
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.checkpoint import Checkpoint, DamagedCheckpoint


def read_checkpoint(path: Path) -> PretrainedWeights:
    """The averaged weights of a checkpoint, which are those that are evaluated and exported.

    Args:
      path: of an ``.npz`` file that a search or a training has written.

    Raises:
      UserError: the file is no checkpoint or is damaged, or belongs to a user's Keras model.
    """
    try:
        spec = ArchSpec.from_json(Checkpoint.load(path).spec)
    except (
        DamagedCheckpoint
    ) as error:  # its advice is to delete the file, which may be the only one
        raise UserError(
            f"{path} is damaged or is no file of this project: copy it again, or name other weights"
        ) from error
    if isinstance(spec.blocks[0], UserModel):
        raise UserError(
            f"{path} belongs to {spec.name}, a model of your own: only networks that are built of "
            "this project's blocks can start others"
        )
    from efficientnet_elite.training.loading import load_averaged  # imports TensorFlow

    model, spec, _ = load_averaged(path)
    return PretrainedWeights(
        name=spec.name,
        spec=spec,
        arrays={
            variable.path: np.asarray(variable, np.float32)
            for variable in model.variables
            if "float" in variable.dtype
        },
        scale=SCALE,
        offset=OFFSET,
        licence="unknown",
        sha256=sha256_of(path),
        origin=str(path),
    )
