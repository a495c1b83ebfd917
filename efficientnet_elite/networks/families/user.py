"""Pools of Keras models of the user, named ``module:function``.

The function takes the input side in pixels and the number of classes. It returns a dict from names
to functions without arguments, each of which builds one Keras model. The model maps (batch, side,
side, 3) images, or (batch, side, side, 1) for grey ones, in the range of `build.preprocess_input`
to (batch, classes) logits. Every process that trains a model calls the function again.

The module may also lie in the current folder; no other module is looked for there. Checkpoints and
ledgers name modules, too. Whoever reads them calls `check_trusted`, so that a file from elsewhere
runs no code that the user has not named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from math import prod
from pathlib import Path
from traceback import extract_tb
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.families.axes import pool_parts
from efficientnet_elite.networks.families.base import IMAGENET_RESOLUTION, Family, Setting
from efficientnet_elite.networks.spec import ArchSpec

# Layers that use every weight of their kernels once for each output position.
_COUNTED_LAYERS = {
    "Conv1D",
    "Conv2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv2D",
}


def sources_of_pool(pool: str) -> list[str]:
    """The parts ``module:function`` of a pool's name.

    Raises:
      UserError: see `axes.pool_parts`.
    """
    return [part.name for part in pool_parts(pool) if part.is_of_user]


def modules_of(sources: Iterable[str]) -> frozenset[str]:
    """The modules that sources ``module:function`` name."""
    return frozenset(source.partition(":")[0] for source in sources)


def sources_of_spec(spec: ArchSpec) -> list[str]:
    """The sources ``module:function`` that a network is built by."""
    return [block.source for block in spec.blocks if isinstance(block, UserModel)]


def check_trusted(sources: Iterable[str], trusted: Collection[str], origin: object) -> None:
    """UserError where a file's network is built by a module that the user has not named.

    Args:
      sources: ``module:function``, read from the file.
      trusted: names of modules that may be imported.
      origin: the file or work directory, for the message.
    """
    for module in sorted(modules_of(sources) - set(trusted)):
        raise UserError(
            f"{origin} names the Python module {module[:100]!r}, whose code would run: if you "
            "trust it, name it with --trust=MODULE"
        )


def _imported(name: str) -> Any:
    """A module, also from the current folder if no other module has its name.

    The folder is not put on sys.path: whatever else lies there, such as a folder ``google``, stays
    unseen.
    """
    top = name.partition(".")[0]
    if top not in sys.modules and find_spec(top) is None:
        spec = PathFinder.find_spec(top, [str(Path.cwd())])
        if spec is not None and spec.loader is not None:
            module = sys.modules[top] = module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[top]
                raise
    return import_module(name)


def load_builders(source: str, resolution: int, classes: int) -> Mapping[str, Callable[[], Any]]:
    """Calls the function of a pool; returns what builds each model, by the name of the model.

    Args:
      source: ``module:function``.
      resolution: input side in pixels.
      classes: number of classes.

    Raises:
      UserError: the function cannot be called, or it does not return such a dict.
    """
    module, _, function = source.partition(":")
    try:
        builders = getattr(_imported(module), function)(resolution, classes)
    except Exception as error:  # the code of the user may raise anything
        raise UserError(
            f"pool {source!r} cannot be loaded: {_error_with_place(error)}; correct its module"
        ) from error
    if not isinstance(builders, Mapping) or not builders:
        raise UserError(f"pool {source!r}: the function must return a dict from names to functions")
    for name in builders:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", str(name)):
            raise UserError(
                f"pool {source!r}: {name!r} is not allowed as a name, use a-z, 0-9, '.', '_', '-' "
                "and begin with a letter or digit"
            )
    return builders


def _error_with_place(error: Exception) -> str:
    """The first line of an error, with the file and line in the code of the user."""
    message = next(iter(str(error).splitlines()), "") or type(error).__name__
    for frame in extract_tb(error.__traceback__):
        if frame.filename != __file__ and "importlib" not in frame.filename:
            return f"{message} ({Path(frame.filename).name}, line {frame.lineno})"
    return message


def build_model(source: str, name: str, resolution: int, classes: int) -> Any:
    """Builds one Keras model of a pool.

    Args:
      source: ``module:function``.
      name: of the model in the dict of the function.
      resolution: input side in pixels.
      classes: number of classes.

    Raises:
      UserError: the model does not map (resolution, resolution, 3) images, or those of one channel,
        to ``classes`` logits.
    """
    model = load_builders(source, resolution, classes)[name]()
    taken = tuple(model.input_shape[1:])
    channels = 1 if taken[-1:] == (1,) else 3
    for verb, shape, required_shape in (
        ("takes", taken, (resolution, resolution, channels)),
        ("returns", tuple(model.output_shape[1:]), (classes,)),
    ):
        if shape != required_shape:
            raise UserError(
                f"model {name!r} of {source!r} {verb} {shape}: it must be {required_shape}"
            )
    if last := _last_activation_if_probabilities(model):
        raise UserError(
            f"model {name!r} of {source!r} ends in {last}: it must return logits, so remove {last}"
        )
    return model


def _last_activation_if_probabilities(model: Any) -> str | None:
    """Name of the last activation of a model if it is softmax or sigmoid, else None."""
    last = model
    while getattr(last, "outputs", None):  # the last layer of a model may be a model itself
        last = last.outputs[0]._keras_history.operation
    activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__)
    return activation if activation.lower() in ("softmax", "sigmoid") else None


def family_of_models(source: str) -> Family:
    """The family of a pool ``module:function``, with each of its models at the base resolution.

    Raises:
      UserError: see `load_builders`.
    """

    def build_spec(
        name: str, width: float, depth: float, resolution: int, classes: int
    ) -> ArchSpec:
        try:
            model = build_model(source, name, resolution, classes)
        except UserError:
            raise
        except Exception as error:  # the code of the user may raise anything
            raise UserError(
                f"pool {source!r} cannot build model {name!r}: {_error_with_place(error)}; "
                "correct its module"
            ) from error
        params, macs = model.count_params(), _count_macs(source, model)
        channels = model.input_shape[-1]
        block = UserModel(name, source, resolution, classes, params, macs, channels)
        return ArchSpec(name, (resolution, resolution, channels), (block,))

    names = load_builders(source, IMAGENET_RESOLUTION, 1000)
    return Family(source, build_spec, None, published={name: Setting() for name in names})


def _inner_layers(layer: Any) -> Iterator[Any]:
    """All layers of a model, those of the models inside it included."""
    for inner in getattr(layer, "layers", ()):
        yield from _inner_layers(inner)
    if not hasattr(layer, "layers"):
        yield layer


def _count_macs(source: str, model: Any) -> int:
    """Multiply-accumulates of a Keras model for one image.

    Raises:
      UserError: the model has a layer with weights of which they are not known.
    """
    total = 0
    for layer in _inner_layers(model):
        layer_type = type(layer).__name__
        kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
        if layer_type == "PReLU":  # its slopes are no kernel, though they have several axes
            kernels = []
        if kernels and layer_type not in _COUNTED_LAYERS:
            raise UserError(
                f"pool {source!r}: cannot count the MACs of layer {layer.name} ({layer_type}), "
                f"use only {', '.join(sorted(_COUNTED_LAYERS))} and layers without kernels"
            )
        positions = prod(layer.output.shape[1:-1]) if kernels else 0
        total += positions * sum(prod(kernel.shape) for kernel in kernels)
    return total
