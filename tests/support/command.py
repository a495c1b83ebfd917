"""The command in a process of its own, and the flags of a search of seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# A group of two candidates and a group of one, on 7 and 8 pixels: every step of a search in
# seconds. Most of them go into building graphs: this pool has small ones, and the seed draws
# shallow networks.
SEARCH_FLAGS = (
    "--config=quick",
    "--pool=mobilenetv1",
    "--base_resolution=8",
    "--max_candidates=3",
    "--groups=2",
    "--epochs=3",
    "--round_epochs=1",
    "--rule=best",
    "--workers=0",  # a process a core would cost a start of TensorFlow each
    "--batch_size=128",
    "--seed=357",
)
# A training of seconds: it learns enough of the digits to be worth comparing.
TRAIN_FLAGS = (
    "mobilenetv1-0.25@16",
    "--config=quick",
    "--base_resolution=16",
    "--epochs=6",
    "--batch_size=32",
    "--noexport",
)


def elite(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    """Runs the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "efficientnet_elite", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        **options,
    )
