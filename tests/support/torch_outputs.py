"""Program that computes outputs of random networks of timm and torchvision.

It runs in a process of its own, because PyTorch's compiler and TensorFlow do not load into the same
one. For each line ``LIBRARY NAME FILE SIDE ...`` of its input it writes an ``.npz`` file with the
state dict (``tensor/NAME``), and images (batch, height, width, channels) and their logits for each
side in pixels (``images/SIDE``, ``logits/SIDE``). It then prints the line.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import timm
import torch
import torchvision


def random_network(library: str, name: str) -> Any:
    """A network with random weights for 7 classes, in inference mode."""
    torch.manual_seed(0)
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    network = make(name, num_classes=7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = 1.0  # the statistics of the images below
    network.train()(torch.rand(8, 3, 96, 96) * 2 - 1)
    return network.eval()


def write(library: str, name: str, file: str, sides: list[int]) -> None:
    """Writes the file of one network."""
    network = random_network(library, name)
    arrays = {f"tensor/{key}": value.numpy() for key, value in network.state_dict().items()}
    for side in sides:
        images = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
        arrays[f"images/{side}"] = images
        logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        arrays[f"logits/{side}"] = logits.numpy()
    np.savez(file, **arrays)


if __name__ == "__main__":
    with torch.no_grad():
        for line in sys.stdin:
            library, name, file, *sides = line.split()
            write(library, name, file, [int(side) for side in sides])
            print(line, end="", flush=True)
