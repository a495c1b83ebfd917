"""What test files share: one real search, undisturbed; and how they are spread over processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine may take any time over an example.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

# In the background of a script Ctrl-C is ignored, and so it would be by all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
    "--batch_size=128",
    "--seed=357",
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
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers: the first to come searches, the others wait
    workdir = root / "searched"
    with (root / "searched.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "champions.json").exists():
            done = elite("search", *SEARCH_FLAGS, "--noexport", f"--workdir={workdir}", timeout=300)
            assert done.returncode == 0, done.stderr
            assert done.stdout == ""
    return workdir


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps a file's tests in one process: many share what took seconds to train."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log) if config.getoption("dist") == "load" else None
