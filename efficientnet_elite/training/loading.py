"""Loads a trained network from its checkpoint, without the trainer and the images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import keras

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import condense
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import user
from efficientnet_elite.networks.families.condense import training_form
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.training.checkpoint import Checkpoint, check_arrays


def load_averaged(path: Path, trusted: Collection[str] = ()) -> tuple[keras.Model, ArchSpec, int]:
    """Loads the model in a checkpoint, with its averaged weights.

    Networks with learned group convolutions are converted to the form in which they are deployed.

    Args:
      path: of the checkpoint.
      trusted: modules that may be imported to build a user's own model.

    Returns:
      The model, its spec, and the number of epochs that it was trained for.

    Raises:
      UserError: the checkpoint is missing or damaged, names a module that is not trusted, or the
        learned convolutions have not been trained long enough to be converted.
    """
    if not path.is_file():
        raise UserError(
            f"checkpoint {path} is missing: run the same `elite search` again to train it"
        )
    saved = Checkpoint.load(path)
    spec = ArchSpec.from_json(saved.spec)
    user.check_trusted(user.sources_of_spec(spec), trusted, path)
    model = build(training_form(spec))
    float_variables = [v for v in model.variables if "float" in v.dtype]
    check_arrays(path, saved.parts["average"], [variable.shape for variable in float_variables])
    for variable, array in zip(float_variables, saved.parts["average"], strict=True):
        variable.assign(array)
    masks = [array for array in saved.parts["weights"] if array.dtype == bool]
    learned = condense.learned_layers(model)
    check_arrays(path, masks, [layer.mask.shape for layer in learned])
    for layer, mask in zip(learned, masks, strict=True):
        layer.mask.assign(mask)
    return *condense.deployed_form(model, spec), len(saved.history)
