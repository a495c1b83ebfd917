"""CondenseNet and CondenseNeXt in training, and their conversion to the deployed form.

During the first half of a training, each learned convolution drops input channels in stages that
are evenly spaced. The second half trains the connections that remain (arXiv 1711.09224, section 3).
`deployed_form` then replaces the learned convolutions by index layers and group convolutions. The
network computes the same function before and after.
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

_LASSO_WEIGHT = 1e-5  # of the group lasso in the loss, as in the paper for ImageNet


def learned_layers(model: keras.Model) -> list[LearnedConv]:
    """The learned group convolutions of a model; most networks have none."""
    return [layer for layer in model.layers if isinstance(layer, LearnedConv)]


def group_lasso_loss(layers: Sequence[LearnedConv]) -> Any:
    """The group lasso of the layers, weighted to be added to the loss (a scalar)."""
    return _LASSO_WEIGHT * sum(layer.group_lasso() for layer in layers)


def drop_due_channels(layers: Sequence[LearnedConv], step: int, steps: int) -> None:
    """Drops the channels that are due before a training step.

    Args:
      layers: the learned group convolutions of the model.
      step: number of the step, from 0.
      steps: steps of the whole training.
    """
    for layer in layers:
        stages = layer.op.stages
        layer.drop_channels(min(stages, 2 * stages * step // steps))


def deployed_form(model: keras.Model, spec: ArchSpec) -> tuple[keras.Model, ArchSpec]:
    """The deployed form of a trained model, with its spec.

    Args:
      model: the trained model of `families.condense.training_form(spec)`.
      spec: the network.

    Returns:
      the model with index layers and group convolutions, and the spec that holds the channels that
      training has chosen. A network without learned convolutions is returned as it is.

    Raises:
      UserError: training has not yet dropped all channels that are to be dropped.
    """
    if not learned_layers(model):
        return model, spec
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    blocks = list(spec.blocks)
    for number, block in enumerate(blocks):
        if not isinstance(block, LearnedBlock):
            continue
        layer = model.get_layer(block.learned_name)
        channels = layer.channels_by_group()
        final_counts = layer.op.channels_left(layer.mask.shape[0], layer.op.stages)
        if tuple(map(len, channels)) != final_counts:
            raise UserError(
                f"{spec.name} still drops connections and cannot be deployed yet: train at least "
                "half of its epochs first"
            )
        blocks[number] = replace(block, kept=block.select_order(channels))
        weights |= _deployed_weights(block, channels, weights)
    deployed_spec = replace(spec, blocks=tuple(blocks))
    deployed_model = build(deployed_spec)
    for layer in deployed_model.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return deployed_model, deployed_spec


# The weights of layers by the names of the layers, each in the order of `keras.Layer.get_weights`.
_Weights = dict[str, list[np.ndarray]]


@singledispatch
def _deployed_weights(
    block: LearnedBlock, channels: Sequence[Sequence[int]], trained: _Weights
) -> _Weights:
    """Weights of those layers of a block that differ between its training and deployed form.

    Args:
      block: the block.
      channels: the input channels that each group of filters of the learned convolution reads.
      trained: weights of all layers in the training form.
    """
    raise NotImplementedError(f"no deployed weights for {block}")


@_deployed_weights.register
def _(block: CondenseLayer, channels: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    kernel, norm = trained[block.learned_name][0], f"{block.name}_in_bn"
    selected = list(block.select_order(channels))
    # In training, filter f belongs to group f mod groups. Deployed, the filters of a group follow
    # each other.
    kernels = [
        kernel[:, :, group_channels, group :: block.groups]
        for group, group_channels in enumerate(channels)
    ]
    return {
        norm: [values[selected] for values in trained[norm]],
        f"{block.name}_reduce_conv": [np.concatenate(kernels, axis=-1)],
    }


@_deployed_weights.register
def _(block: CondenseNextLayer, channels: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    kernel = trained[block.learned_name][0]
    # The input channel and the filter of each connection, in the order of the index layer.
    inputs = list(block.select_order(channels))
    filters = [[filter_] * len(inputs_) for filter_, inputs_ in enumerate(channels)]
    outputs = list(block.select_order(filters))
    return {f"{block.name}_dwconv": [kernel[:, :, inputs, outputs][..., None]]}


@_deployed_weights.register
def _(block: CondensedClassifier, channels: Sequence[Sequence[int]], trained: _Weights) -> _Weights:
    kernel, bias = trained[block.learned_name][:2]
    return {block.name: [kernel[0, 0, list(block.select_order(channels))], bias]}
