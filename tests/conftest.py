"""What test files share: one real search, undisturbed; and how they are spread over processes."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

from tests.support.command import SEARCH_FLAGS, TRAIN_FLAGS, elite  # noqa: E402, after the line above

# A busy machine may take any time over an example. The same commit gets the same verdict; new
# examples are looked for with --hypothesis-profile=explore.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")

# Ray's workers are nice to others, 15 of 19: beside the tests of another process they would starve.
os.environ.setdefault("RAY_worker_niceness", "0")

# In the background of a script Ctrl-C is ignored, and so it would be by all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Work directory of one exported training of seconds. Copy it before changing anything."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    workdir = root / "trained"
    with (root / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "export").is_dir():
            done = elite("train", *TRAIN_FLAGS, f"--workdir={workdir}", timeout=300)
            assert done.returncode == 0, done.stderr
            done = elite("export", f"--workdir={workdir}", "--io=int8,uint8", timeout=300)
            assert done.returncode == 0, done.stderr
    return workdir


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps neighbouring tests in one process: many share what took seconds to train.

    At the end a process takes over what is left of the other's.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


_SKIPPED = "elite/skipped"  # in pytest's cache: the tests and files that a run skipped


def pytest_addoption(parser):
    parser.addoption(
        "--skipped-before",
        action="store_true",
        help="only what the last run without this option skipped: more is installed now",
    )


def pytest_terminal_summary(terminalreporter, config):
    if not (config.getoption("skipped_before") or config.getoption("lf")):
        skipped = {report.nodeid for report in terminalreporter.stats.get("skipped", [])}
        config.cache.set(_SKIPPED, sorted(skipped))


def pytest_collection_modifyitems(config, items):
    if not config.getoption("skipped_before"):
        return
    skipped = set(config.cache.get(_SKIPPED, []))
    chosen, others = [], []
    for item in items:
        file = item.nodeid.partition("::")[0]
        (chosen if {item.nodeid, file} & skipped else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = chosen
