"""The networks of `keras.applications` that this project has too: layer names, files, addresses.

Nothing here imports Keras, except for `load`.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.networks.blocks import Block, Cell, ZeroPaddedCell
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec

_STORAGE = "https://storage.googleapis.com/"
_APPLICATIONS = f"{_STORAGE}tensorflow/keras-applications/"

# Name of a Keras layer, and the index of the first of its weights that belongs to our layer. The
# index is 1 only for the 1x1 convolution of Keras' separable convolutions, which are two layers
# here.
Place = tuple[str, int]


@dataclass(frozen=True)
class LayerNames:
    """How a family's layers are called in `keras.applications`.

    Attributes:
      ends: names of the layers outside of blocks, by their names here.
      parts: names of the layers of a block, by what follows the block's name here. ``{}`` stands
        for what ``block`` gives.
      block: gives a block's part of a layer name in Keras, from the index and the name here.
    """

    ends: Mapping[str, str]
    parts: Mapping[str, str]
    block: Callable[[int, str], str]

    def __call__(self, spec: ArchSpec) -> dict[str, Place]:
        """The place of each of our layers with weights, by its name."""
        blocks = [block.name for block in spec.blocks if block.name not in _ENDS]
        indices = {name: index for index, name in enumerate(blocks)}

        def place(layer: str) -> Place:
            if layer in self.ends:
                return self.ends[layer], 0
            block, _, part = layer.partition("_")
            return self.parts[part].format(self.block(indices[block], block)), 0

        return {name: place(name) for name in _with_weights(spec)}


_ENDS = ("stem", "top", "predictions")


def _with_weights(spec: ArchSpec) -> Iterator[str]:
    return (node.name for node in spec.graph.nodes if node.params)


_EFFICIENTNET = LayerNames(
    {name: name for name in ("stem_conv", "stem_bn", "top_conv", "top_bn", "predictions")},
    {
        "expand_conv": "{}_expand_conv",
        "expand_bn": "{}_expand_bn",
        "dwconv": "{}_dwconv",
        "dw_bn": "{}_bn",
        "se_reduce": "{}_se_reduce",
        "se_expand": "{}_se_expand",
        "project_conv": "{}_project_conv",
        "project_bn": "{}_project_bn",
    },
    lambda index, name: name,
)
_MOBILENETV1 = LayerNames(
    {"stem_conv": "conv1", "stem_bn": "conv1_bn", "predictions": "conv_preds"},
    {
        "dwconv": "conv_dw_{}",
        "dw_bn": "conv_dw_{}_bn",
        "pw_conv": "conv_pw_{}",
        "pw_bn": "conv_pw_{}_bn",
    },
    lambda index, name: str(index + 1),
)
_MOBILENETV2 = LayerNames(
    {
        "stem_conv": "Conv1",
        "stem_bn": "bn_Conv1",
        "top_conv": "Conv_1",
        "top_bn": "Conv_1_bn",
        "predictions": "predictions",
    },
    {
        "expand_conv": "{}_expand",
        "expand_bn": "{}_expand_BN",
        "dwconv": "{}_depthwise",
        "dw_bn": "{}_depthwise_BN",
        "project_conv": "{}_project",
        "project_bn": "{}_project_BN",
    },
    lambda index, name: f"block_{index}" if index else "expanded_conv",
)
_MOBILENETV3 = LayerNames(
    {
        "stem_conv": "conv",
        "stem_bn": "conv_bn",
        "top_conv": "conv_1",
        "top_bn": "conv_1_bn",
        "hidden": "conv_2",
        "predictions": "logits",
    },
    {
        "expand_conv": "{}_expand",
        "expand_bn": "{}_expand_bn",
        "dwconv": "{}_depthwise",
        "dw_bn": "{}_depthwise_bn",
        "se_reduce": "{}_squeeze_excite_conv",
        "se_expand": "{}_squeeze_excite_conv_1",
        "project_conv": "{}_project",
        "project_bn": "{}_project_bn",
    },
    lambda index, name: f"expanded_conv_{index}" if index else "expanded_conv",
)

# Our separable convolutions of NASNet's cells (number of the state and side of the pair), and
# their names in Keras.
_NASNET_BRANCHES = {
    "normal": {"2a": "left1", "2b": "right1", "3a": "left2", "3b": "right2", "6a": "left5"},
    "reduction": {"2a": "left1", "2b": "right1", "3b": "right2", "4b": "right3", "6a": "left4"},
}
_NASNET_PARTS = {
    "input_conv": "{kind}_conv_1_{cell}",
    "input_bn": "{kind}_bn_1_{cell}",
    "previous_conv": "adjust_conv_projection_{cell}",
    "previous_even_conv": "adjust_conv_1_{cell}",
    "previous_odd_conv": "adjust_conv_2_{cell}",
    "previous_bn": "adjust_bn_{cell}",
}


def _nasnet(spec: ArchSpec) -> dict[str, Place]:
    """The place of each of NASNetMobile's layers with weights, by its name here."""
    cells = _nasnet_cells(spec)
    ends = {"stem_conv": "stem_conv1", "stem_bn": "stem_bn1", "predictions": "predictions"}

    def place(layer: str) -> Place:
        if layer in ends:
            return ends[layer], 0
        block, _, part = layer.partition("_")
        kind, cell = cells[block]
        if part in _NASNET_PARTS:
            return _NASNET_PARTS[part].format(kind=kind, cell=cell), 0
        state, step, what = part.removeprefix("state").split("_")
        branch = _NASNET_BRANCHES[kind][state]
        norm = "bn_" if what == "bn" else ""
        return f"separable_conv_{step}_{norm}{kind}_{branch}_{cell}", int(what == "conv")

    return {name: place(name) for name in _with_weights(spec)}


def _nasnet_cells(spec: ArchSpec) -> dict[str, tuple[str, str]]:
    """Kind and identification in Keras of each cell, by its name here."""
    cells = [block for block in spec.blocks if isinstance(block, Cell)]
    identified = {cells[0].name: ("reduction", "stem_1"), cells[1].name: ("reduction", "stem_2")}
    normal_cells, after_a_reduction = 0, 0
    for cell in cells[2:]:
        if cell.stride == 1:
            # Keras leaves out one number after the first of these reduction cells only.
            identified[cell.name] = ("normal", str(normal_cells + after_a_reduction))
            normal_cells += 1
        else:
            identified[cell.name] = ("reduction", f"reduce_{normal_cells}")
            after_a_reduction = 1
    return identified


@dataclass(frozen=True)
class KerasNetwork:
    """A network of `keras.applications`.

    Attributes:
      name: of the same network here, and of the source of its weights.
      function: name of its function in `keras.applications`.
      arguments: of that function.
      layers: gives the place in Keras of each of our layers with weights.
      address: of the published weights; None if there are none.
      file: name under which Keras keeps them.
    """

    name: str
    function: str
    layers: Callable[[ArchSpec], dict[str, Place]]
    address: str | None = None
    file: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its function and arguments, as they are written in Python."""
        given = ", ".join(f"{key}={value}" for key, value in self.arguments.items() if value)
        return f"{self.function}({given})" if given else self.function

    @cached_property
    def spec(self) -> ArchSpec:
        """Our network with 1000 classes, at the input size that it was published for."""
        spec = spec_by_name(self.name)
        return replace(spec, blocks=tuple(map(_as_in_keras, spec.blocks)))

    def side_in(self, file: str) -> int | None:
        """The input side that the name of a published file is for; None if it is another file.

        Keras publishes files with and without the classifier, and those of MobileNetV1 and V2 for
        several input sizes.
        """
        if not self.file:
            return None
        stem = re.escape(self.file.removesuffix(".h5")).replace("_224", r"_(?P<side>\d+)", 1)
        match = re.fullmatch(rf"{stem}(_notop|_no_top(_v2)?)?\.h5", file)
        if match is None:
            return None
        side = match.groupdict().get("side")
        return int(side) if side else self.spec.size.height


def _as_in_keras(block: Block) -> Block:
    if isinstance(block, Cell) and block.stride == 2:
        return ZeroPaddedCell(**vars(block))
    return block


def _efficientnet(number: int) -> KerasNetwork:
    file = f"efficientnetb{number}.h5"
    return KerasNetwork(
        f"efficientnet-b{number}",
        f"EfficientNetB{number}",
        _EFFICIENTNET,
        f"{_STORAGE}keras-applications/{file}",
        file,
    )


def _named(family: str, width: float) -> str:
    return family if width == 1 else f"{family}-{width}"


# MobileNetV1's widths, and how the names of its files spell them.
_MOBILENETV1_WIDTHS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}


def _mobilenetv1(width: float) -> KerasNetwork:
    file = f"mobilenet_{_MOBILENETV1_WIDTHS[width]}_224_tf.h5"
    return KerasNetwork(
        _named("mobilenetv1", width),
        "MobileNet",
        _MOBILENETV1,
        f"{_APPLICATIONS}mobilenet/{file}",
        file,
        {"alpha": width},
    )


def _mobilenetv2(width: float) -> KerasNetwork:
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224.h5"
    return KerasNetwork(
        _named("mobilenetv2", width),
        "MobileNetV2",
        _MOBILENETV2,
        f"{_APPLICATIONS}mobilenet_v2/{file}",
        file,
        {"alpha": width},
    )


def _mobilenetv3(size: str, width: float, minimalistic: bool = False) -> KerasNetwork:
    form = f"{size}_minimalistic" if minimalistic else size
    file = f"weights_mobilenet_v3_{form}_224_{width}_float.h5"
    published = width in (0.75, 1.0)
    return KerasNetwork(
        _named(f"mobilenetv3-{form.replace('_', '-')}", width),
        f"MobileNetV3{size.title()}",
        _MOBILENETV3,
        f"{_APPLICATIONS}mobilenet_v3/{file}" if published else None,
        file if published else "",
        {"alpha": width, "minimalistic": minimalistic},
    )


KERAS_NETWORKS: dict[str, KerasNetwork] = {
    network.name: network
    for network in (
        *map(_efficientnet, range(8)),
        *map(_mobilenetv1, _MOBILENETV1_WIDTHS),
        *map(_mobilenetv2, (1.4, 1.3, 1.0, 0.75, 0.5, 0.35)),
        *(
            _mobilenetv3(size, width)
            for size in ("large", "small")
            for width in (1.25, 1.0, 0.75, 0.5)
        ),
        *(_mobilenetv3(size, 1.0, minimalistic=True) for size in ("large", "small")),
        KerasNetwork(
            "nasnet-a",
            "NASNetMobile",
            _nasnet,
            f"{_APPLICATIONS}nasnet/NASNet-mobile.h5",
            "nasnet_mobile.h5",
        ),
    )
}


def cache_folder() -> Path:
    """The folder in which Keras keeps the weights that it downloads.

    Keras is not asked, since importing it takes seconds; a test compares its answer.
    """
    user = os.path.expanduser("~")  # noqa: PTH111 - pathlib raises for users without a home
    base = user if os.access(user, os.W_OK) else "/tmp"
    home = Path(os.environ.get("KERAS_HOME", f"{base}/.keras")).expanduser()
    if home.exists() and not os.access(home, os.W_OK):  # as keras.utils.get_file does
        temporary = Path("/tmp")
        home = (temporary if temporary.is_dir() else Path(tempfile.gettempdir())) / ".keras"
    return home / "models"


def is_cached(name: str) -> bool:
    """Whether Keras' cache has the published weights of a network; asks no server."""
    try:
        return (cache_folder() / KERAS_NETWORKS[name].file).is_file()
    except OSError:  # a folder that may not be read has nothing for this user
        return False


def load(name: str) -> PretrainedWeights:
    """See `keras_applications.load_imagenet`, which is imported when it is needed."""
    weights: PretrainedWeights = registry.resolve(
        f"{__package__}.keras_applications:load_imagenet"
    )(name)
    return weights
