"""Public functions that build networks by name.

`ELite0` .. `ELite9` and `HF0` .. `HF5` have the signature of the `keras.applications` models.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

import keras

from efficientnet_elite.config import check_same_size, checked_size
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.names import DISPLAY_NAMES, MEMBERS, spec_by_name
from efficientnet_elite.networks.spec import ArchSpec

IMAGENET = "imagenet"  # the value of ``weights`` that stands for published weights

# The members that are published networks, and the names of their weights in
# `pretrained.keras_networks`.
_PUBLISHED = {"elite0": "efficientnet-b0"}
_PUBLISHED_TEXT = {
    "elite0": "They are those of `keras.applications.EfficientNetB0`, which is this network."
}


def build_named(name_or_spec: str | ArchSpec, **options: Any) -> keras.Model:
    """Builds the Keras model of a spec, or of a network by name, such as ``elite9``.

    Args:
      name_or_spec: the spec, or a name that `names.spec_by_name` knows.
      **options: options of `build.build`; with a name also ``classes``, ``base_resolution`` or,
        as another name of it, ``input_size`` (a number of pixels, ``96x128`` or a pair of height
        and width), and ``channels``.

    Raises:
      UserError: the name is unknown, or two different sizes are given.
    """
    if isinstance(name_or_spec, ArchSpec):
        return build(name_or_spec, **options)
    keys = ("classes", "base_resolution", "channels")
    spec_options = {key: options.pop(key) for key in keys if key in options}
    if "input_size" in options:
        size = checked_size(options.pop("input_size"), "input_size").plain
        check_same_size(spec_options.setdefault("base_resolution", size), size)
    return build(spec_by_name(name_or_spec, **spec_options), **options)


def __getattr__(name: str) -> Any:
    """The factories `ELite0` .. `ELite9` and `HF0` .. `HF5`, made when they are first used."""
    member = DISPLAY_NAMES.get(name)
    if member is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    factory = globals()[name] = _make_factory(member)
    return factory


def _make_factory(member: str) -> Callable[..., keras.Model]:
    default = spec_by_name(member)
    published = _PUBLISHED_TEXT.get(member, "There are none of this network.")

    def factory(
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: Any = None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        include_preprocessing: bool = True,
        name: str | None = None,
    ) -> keras.Model:
        if weights == IMAGENET:
            _check_published(member, include_top, classes)
        spec = spec_by_name(member, classes=classes)
        shape = _checked_input_shape(input_shape, input_tensor)
        if shape is not None:
            spec = spec.resized(shape)
        model = build(
            spec,
            include_top=include_top,
            pooling=pooling,
            classifier_activation=classifier_activation if include_top else None,
            include_preprocessing=include_preprocessing,
            input_tensor=input_tensor,
            name=name,
        )
        if weights == IMAGENET:
            _load_published(model, member, spec.input_shape[2])
        elif weights is not None:
            load_weights(model, weights)
        return model

    factory.__name__ = factory.__qualname__ = MEMBERS[member].display_name
    factory.__doc__ = f"""{factory.__name__} (arXiv 2009.07409), as in `keras.applications`.

    As published, it has {default.resolution} x {default.resolution} x 3 inputs, {default.params:,}
    parameters and {default.macs:,} multiply-accumulates with 1000 classes.

    Args:
      include_top: whether to keep the classifier.
      weights: None for random weights; the path of a weights file; or ``imagenet`` for weights
        that were trained on ImageNet, from Keras' cache or downloaded into it. {published} In
        images of one channel, they see three equal ones.
      input_tensor: a Keras tensor to build the model on.
      input_shape: (height, width, channels) of the input; by default the published one.
      pooling: global pooling of the last feature map: None, ``avg`` or ``max``. Only used without
        the top.
      classes: number of classes; 1000 with the top and the weights ``imagenet``.
      classifier_activation: ``softmax``, or None for logits.
      include_preprocessing: whether the model takes pixels from 0..255; otherwise apply
        `preprocess_input` first.
      name: of the model.

    Raises:
      UserError: the shape or the weights file does not fit, ``pooling`` is unknown, there are no
        weights ``imagenet`` of this network, or they can be neither found nor downloaded.
    """
    return factory


def _check_published(member: str, include_top: bool, classes: int) -> None:
    """Raises UserError if there are no published weights for the arguments of a factory."""
    title = MEMBERS[member].display_name
    if member not in _PUBLISHED:
        known = ", ".join(MEMBERS[name].display_name for name in _PUBLISHED)
        raise UserError(
            f"weights='imagenet': no weights of {title} are published, only of {known}; fine-tune "
            f"{title} from those of a larger network with `elite train --pretrained=imagenet`"
        )
    if include_top and classes != 1000:
        raise UserError(
            f"weights='imagenet' has 1000 classes, not {classes}: leave classes out, or use "
            "include_top=False and a classifier of your own"
        )


def _load_published(model: keras.Model, member: str, channels: int) -> None:
    """Gives a model the published weights, for the input range of this project's networks."""
    from efficientnet_elite.networks.pretrained import inputs, keras_applications

    weights = keras_applications.load_imagenet(_PUBLISHED[member])
    weights = inputs.adapt_input(inputs.with_input_range(weights), channels)
    for variable in model.variables:
        if variable.path in weights.arrays:
            variable.assign(weights.arrays[variable.path])


def _checked_input_shape(
    input_shape: tuple[int, int, int] | None, input_tensor: Any
) -> tuple[int, int, int] | None:
    """The input shape that the arguments of a factory ask for; None if they leave it open.

    Raises:
      UserError: the shape is not that of an image, or the two arguments contradict each other.
    """
    shape = input_shape
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise UserError(
                f"input_shape={input_shape} contradicts the shape {shape} of input_tensor: give "
                "only one of them"
            )
    if shape is None:
        return None
    if len(shape) != 3 or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise UserError(
            f"input_shape={shape}: give (height, width, channels) as three whole numbers, such as "
            "(96, 96, 3), because a network is built for one input size"
        )
    height, width, channels = map(int, shape)
    return height, width, channels


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Loads a ``.weights.h5`` or ``.keras`` file; UserError if it is missing or does not fit."""
    if not Path(path).is_file():
        raise UserError(f"weights file {path} does not exist: give the path of a .weights.h5 file")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"weights file {path} does not fit {model.name}, give one that was saved from the same "
            f"network: {reason}"
        ) from error
