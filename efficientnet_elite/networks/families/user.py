"""Pools of a user's own Keras models, named as ``module:function``.

The function takes an input side in pixels and a number of classes, and returns a dict from names to
functions without arguments, each of which builds one model: from (side, side, 3) images in the
range of `models.preprocess_input` to logits. Workers call it again to build their one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from math import prod
from pathlib import Path
from traceback import extract_tb
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.families.base import Family, Setting
from efficientnet_elite.networks.spec import ArchSpec

# Layers whose multiply-accumulates are those of their kernels at every output position.
_COUNTED = {"Conv1D", "Conv2D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv2D"}


def load(source: str, resolution: int, classes: int) -> Mapping[str, Callable[[], Any]]:
    """Names and builders that ``module:function`` gives; UserError where it does not."""
    module, _, function = source.partition(":")
    try:
        builders = getattr(import_module(module), function)(resolution, classes)
    except Exception as error:  # whatever the module or the function may raise
        raise UserError(f"pool {source!r} does not give models: {_fault(error)}") from error
    if not isinstance(builders, Mapping) or not builders:
        raise UserError(f"pool {source!r}: the function must return a dict of names to functions")
    for name in builders:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", str(name)):
            raise UserError(f"pool {source!r}: {name!r} is no name; use a-z, 0-9, '.', '_', '-'")
    return builders


def _fault(error: Exception) -> str:
    """What is wrong with a user's module, and where, in one line."""
    said = next(iter(str(error).splitlines()), "") or type(error).__name__
    for frame in extract_tb(error.__traceback__):
        if frame.filename != __file__ and "importlib" not in frame.filename:
            return f"{said} ({Path(frame.filename).name}, line {frame.lineno})"
    return said


def build(source: str, name: str, resolution: int, classes: int) -> Any:
    """The Keras model of a name; UserError where it is no classifier of such images."""
    model = load(source, resolution, classes)[name]()
    for what, found, wanted in (
        ("takes", tuple(model.input_shape[1:]), (resolution, resolution, 3)),
        ("returns", tuple(model.output_shape[1:]), (classes,)),
    ):
        if found != wanted:
            raise UserError(f"model {name!r} of {source!r} {what} {found}: it must be {wanted}")
    if last := _probabilities(model):
        raise UserError(
            f"model {name!r} of {source!r} ends in {last}: it must return logits, so leave it out"
        )
    return model


def _probabilities(model: Any) -> str | None:
    """Name of a model's last activation if it makes probabilities of logits, else None."""
    last = model
    while getattr(last, "outputs", None):  # a model may be the last layer of another
        last = last.outputs[0]._keras_history.operation
    activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__)
    return activation if activation.lower() in ("softmax", "sigmoid") else None


def family(source: str) -> Family:
    """The family of ``module:function``: one network a name, each at the base resolution."""

    def spec(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
        try:
            model = build(source, name, resolution, classes)
        except UserError:
            raise
        except Exception as error:  # as above
            raise UserError(f"pool {source!r} gives no model {name!r}: {_fault(error)}") from error
        block = UserModel(
            name, source, resolution, classes, model.count_params(), _macs(source, model)
        )
        return ArchSpec(name, (resolution, resolution, 3), (block,))

    names = load(source, 224, 1000)
    return Family(source, spec, None, published={name: Setting() for name in names})


def _leaves(layer: Any) -> Iterator[Any]:
    for inner in getattr(layer, "layers", ()):
        yield from _leaves(inner)
    if not hasattr(layer, "layers"):
        yield layer


def _macs(source: str, model: Any) -> int:
    total = 0
    for layer in _leaves(model):
        kind = type(layer).__name__
        kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
        if kind == "PReLU":  # its slopes have the shape of a map
            kernels = []
        if kernels and kind not in _COUNTED:
            raise UserError(
                f"pool {source!r}: cannot count the MACs of layer {layer.name} ({kind})"
            )
        positions = prod(layer.output.shape[1:-1]) if kernels else 0
        total += positions * sum(prod(kernel.shape) for kernel in kernels)
    return total
