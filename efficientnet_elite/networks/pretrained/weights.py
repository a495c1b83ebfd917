"""The one form that pretrained weights have, whatever file or package they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.networks.spec import ArchSpec

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights of a whole network, in the terms of this project.

    Attributes:
      name: by which users choose them, such as ``lite0``.
      spec: the network that they belong to, with its classes and the input size that it was trained
        at. It can be `resized`: no array depends on the input size.
      arrays: for each variable of the Keras model that `build` makes of the spec, its value as
        float32. The names are the paths of the variables, such as ``block2a_expand_conv/kernel``.
      scale, offset: input of the network for a pixel p from 0..255, by channel (red, green, blue):
        ``p * scale + offset``.
      licence: SPDX identifier of the weights' licence, such as ``Apache-2.0``; ``unknown`` if the
        file does not say.
      sha256: of the file that they were read from, as 64 hexadecimal digits.
      origin: package, address or path that they were read from, for people.
      deviation: in what the outputs of the network differ from those of the source's own
        implementation, as half a sentence for people; empty if they are the same.
    """

    name: str
    spec: ArchSpec
    arrays: Mapping[str, NDArray[np.float32]]
    scale: Channels
    offset: Channels
    licence: str
    sha256: str
    origin: str
    deviation: str = ""
