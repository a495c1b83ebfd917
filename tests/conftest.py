"""Shared fixtures: one real search, undisturbed, that several test files look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A group of two candidates and a group of one, on 5 to 8 pixels: every step of a search in seconds.
# The seed is one that draws shallow networks, which are built sooner.
SEARCH_FLAGS = (
    "--config=quick",
    "--base_resolution=8",
    "--max_candidates=3",
    "--groups=2",
    "--epochs=3",
    "--round_epochs=1",
    "--batch_size=128",
    "--seed=290",
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


@pytest.fixture(scope="session")
def searched(tmp_path_factory) -> Path:
    """Work directory of a finished search without export. Copy it before changing anything."""
    workdir = tmp_path_factory.mktemp("searched") / "run"
    done = elite("search", *SEARCH_FLAGS, "--noexport", f"--workdir={workdir}", timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return workdir
