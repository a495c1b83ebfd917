"""From dense training to deployed group convolutions (arXiv 1711.09224, sections 3 and 4).

In the first half of a training each learned convolution drops input channels in stages, at equal
distances; the second half trains what is left. `convert` then takes index layers and group
convolutions in its place, without a change to what the network computes.

Backend-neutral Keras 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from typing import Any

import keras
import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import (
    CondensedClassifier,
    CondenseLayer,
    CondenseNextLayer,
    LearnedBlock,
)
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.layers import LearnedConv
from efficientnet_elite.networks.spec import ArchSpec

_LASSO = 1e-5  # weight of the group lasso in the loss, as the paper has for ImageNet


def learned_layers(model: keras.Model) -> list[LearnedConv]:
    """The convolutions of a model that learn their groups; none in most networks."""
    return [layer for layer in model.layers if isinstance(layer, LearnedConv)]


def penalty(layers: Sequence[LearnedConv]) -> Any:
    """What they add to the loss."""
    return _LASSO * sum(layer.group_lasso() for layer in layers)


def condense(layers: Sequence[LearnedConv], step: int, steps: int) -> None:
    """Drops what is due before a step (from 0) of a training of so many steps."""
    for layer in layers:
        stages = layer.op.stages
        layer.condense(min(stages, 2 * stages * step // steps))


def convert(model: keras.Model, spec: ArchSpec) -> tuple[keras.Model, ArchSpec]:
    """The deployed form of a trained model, and its spec with the channels that were chosen.

    Args:
      model: of `training_form(spec)`.
      spec: the network; one without learned convolutions is returned as it is.

    Raises:
      UserError: training has not yet dropped all that is to be dropped.
    """
    if not learned_layers(model):
        return model, spec
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    blocks = list(spec.blocks)
    for number, block in enumerate(blocks):
        if not isinstance(block, LearnedBlock):
            continue
        layer = model.get_layer(block.learned_name)
        kept = layer.kept()
        if tuple(map(len, kept)) != layer.op.left(layer.mask.shape[0], layer.op.stages):
            raise UserError(
                f"{spec.name} is still condensing: there is nothing to deploy before half of its "
                "epochs are trained"
            )
        blocks[number] = replace(block, kept=block.order(kept))
        weights |= _deployed(block, kept, weights)
    deployed = replace(spec, blocks=tuple(blocks))
    target = build(deployed)
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return target, deployed


# Weights of all layers by name, of one layer in Keras' order.
_Weights = dict[str, list[np.ndarray]]


@singledispatch
def _deployed(block: LearnedBlock, kept: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    """Weights of the layers that stand in a learned convolution's place, or changed with it."""
    raise NotImplementedError(f"no deployed weights for {block}")


@_deployed.register
def _(block: CondenseLayer, kept: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    kernel, norm = trained[block.learned_name][0], f"{block.name}_in_bn"
    # A group's filters lie behind each other, where in training every groups-th one is of a group.
    parts = [kernel[:, :, own, group :: block.groups] for group, own in enumerate(kept)]
    return {
        norm: [values[list(block.order(kept))] for values in trained[norm]],
        f"{block.name}_reduce_conv": [np.concatenate(parts, axis=-1)],
    }


@_deployed.register
def _(block: CondenseNextLayer, kept: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    kernel = trained[block.learned_name][0]
    filters = block.order([[group] * len(own) for group, own in enumerate(kept)])
    window = kernel[:, :, list(block.order(kept)), list(filters)]
    return {f"{block.name}_dwconv": [window[..., None]]}


@_deployed.register
def _(block: CondensedClassifier, kept: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    kernel, bias = trained[block.learned_name][:2]
    return {block.name: [kernel[0, 0, list(block.order(kept))], bias]}
