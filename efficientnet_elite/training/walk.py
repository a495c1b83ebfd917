"""Runs a Keras model of a spec node by node on a set of images, while its weights change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.graph import Graph

BATCH = 25  # images that are computed at once
_POSITIONS = 64  # positions of each feature map that are sampled

Floats = NDArray[np.float32]


class Positions:
    """The sampled positions of feature maps, the same ones for all maps of the same size.

    Args:
      images: number of images.
      seed: of the choice.
    """

    def __init__(self, images: int, seed: int):
        self._images, self._seed = images, seed
        self._chosen: dict[tuple[int, int], NDArray[np.int32]] = {}

    def of(self, height: int, width: int) -> NDArray[np.int32]:
        """Indices into the flattened map: (images, at most 64)."""
        if (height, width) not in self._chosen:
            rng = np.random.default_rng((self._seed, height, width))
            size = height * width
            everywhere = np.tile(np.arange(size, dtype=np.int32), (self._images, 1))
            chosen = rng.permuted(everywhere, axis=1)[:, :_POSITIONS]
            self._chosen[height, width] = chosen if size > _POSITIONS else everywhere
        return self._chosen[height, width]

    def sample(self, x: Any, first: int) -> Floats:
        """Takes the positions of a batch that begins with image ``first``.

        Maps (batch, h, w, c) to (batch * positions, c).
        """
        count, height, width, channels = x.shape
        chosen = self.of(height, width)[first : first + count]
        flat = np.asarray(x).reshape(count, height * width, channels)
        return flat[np.arange(count)[:, np.newaxis], chosen].reshape(-1, channels)


class Walk:
    """The tensors of a model on a set of images, each computed when it is asked for.

    A tensor that was asked for is kept as long as later nodes need it. Everything before it must
    have its final weights by then.

    Args:
      model: Keras model of a spec, see `networks.build.build`.
      graph: of that spec.
      images: (n, height, width, channels), in the input range of the model.
    """

    def __init__(self, model: keras.Model, graph: Graph, images: Floats):
        self.graph = graph
        self._layers = {layer.name: layer for layer in model.layers}
        self._kept: dict[int, list[Any]] = {
            -1: [
                keras.ops.convert_to_tensor(images[i : i + BATCH])
                for i in range(0, len(images), BATCH)
            ]
        }

    def layer(self, index: int) -> keras.Layer:
        """The Keras layer of a node."""
        return self._layers[self.graph.nodes[index].name]

    def batches(self, index: int) -> Iterator[Any]:
        """The output of a node, batch by batch; it is not kept."""
        steps = self._steps([index])
        for number in range(len(self._kept[-1])):
            values = {i: batches[number] for i, batches in self._kept.items()}
            for step in steps:
                node = self.graph.nodes[step]
                inputs = [values[i] for i in node.inputs]
                x = inputs[0] if len(inputs) == 1 else inputs
                if isinstance(node.op, ops.Dropout | ops.DropPath):
                    values[step] = x
                elif isinstance(node.op, ops.BatchNorm):
                    values[step] = self.layer(step)(x, training=False)
                else:
                    values[step] = self.layer(step)(x)
            yield values[index]

    def keep(self, index: int, needed_later: Sequence[int]) -> list[Any]:
        """The output of a node in batches, kept until nothing needs it any more.

        Args:
          index: of the node; -1 for the images.
          needed_later: indices of the nodes that will be asked for after this one.
        """
        if index not in self._kept:
            self._kept[index] = list(self.batches(index))
        kept = self._kept[index]
        needed = self._sources(needed_later)
        self._kept = {i: batches for i, batches in self._kept.items() if i in needed or i == -1}
        return kept

    def forget(self, index: int) -> None:
        """Has the output of a node computed again, because the weights of its layer changed."""
        self._kept.pop(index, None)

    def _steps(self, wanted: Sequence[int]) -> list[int]:
        """The nodes to compute, in order, for the outputs of some nodes."""
        steps: set[int] = set()
        stack = [index for index in wanted if index not in self._kept]
        while stack:
            index = stack.pop()
            steps.add(index)
            inputs = self.graph.nodes[index].inputs
            stack += [i for i in inputs if i not in self._kept and i not in steps]
        return sorted(steps)

    def _sources(self, wanted: Sequence[int]) -> set[int]:
        """The kept tensors from which the outputs of some nodes are computed."""
        used = {i for step in self._steps(wanted) for i in self.graph.nodes[step].inputs}
        return (used | set(wanted)) & self._kept.keys()
