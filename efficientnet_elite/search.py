"""A search from its settings: data and pool in, champions out, everything in between in the ledger.

What is trained when, and what is decided, is the `driver`'s; here is what it starts from.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf

from efficientnet_elite import __version__, driver, pools
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.data import ImageData, SkippedImage
from efficientnet_elite.errors import UserError
from efficientnet_elite.executors.local import LocalExecutor
from efficientnet_elite.executors.pool import ProcessPool
from efficientnet_elite.executors.protocol import Executor
from efficientnet_elite.executors.ray_cluster import RayCluster
from efficientnet_elite.ledger import FILE_NAME as LEDGER_FILE
from efficientnet_elite.ledger import Ledger
from efficientnet_elite.pools import Candidate
from efficientnet_elite.selection import Measure, Selection, cannot_measure, select
from efficientnet_elite.tensorboard import Summaries
from efficientnet_elite.workdir import cache_path, lock

# Settings that a search may be continued with at other values: no score depends on them.
_CHANGES_NOTHING = ("data.cache_gb", "data.data_dir")
_VERSIONS_OF = ("keras", "numpy", "ai-edge-litert")


def run(
    config: SearchConfig,
    workdir: Path,
    *,
    engine: EngineConfig | None = None,
    machine: str = "",
    progress: bool = True,
    on_skipped: Callable[[SkippedImage], None] = lambda image: None,
    on_message: Callable[[str], None] = lambda text: None,
    measure: Measure = cannot_measure,
) -> list[dict[str, Any]]:
    """Runs (or continues) a search to its end.

    Args:
      config: the search; on a work directory with a ledger it must equal the recorded one.
      workdir: where the ledger, checkpoints and ``champions.json`` are.
      engine: where to train (None: in this process, one candidate at a time). A search may be
        continued on another one: no score depends on it.
      machine: name of the CPU or board, for the record.
      progress: whether to show a progress bar on stderr.
      on_skipped: called for every image that is left out.
      on_message: gets a line about every candidate that failed or had to be set back.
      measure: of costs that are not computed, where the search groups by or limits one.

    Returns:
      the champions, heaviest group first, as written to ``champions.json``.

    Raises:
      UserError: bad data or settings, or a work directory of another search or in use.
    """
    engine = engine or EngineConfig()
    with lock(workdir):
        if (workdir / LEDGER_FILE).exists():
            with Ledger(workdir) as ledger:
                _check_settings(ledger, config)
        _use_threads(config.threads)
        if not engine.in_process:
            _leave_gpus()
        data = load_data(config, workdir, progress=progress)
        for image in data.skipped:
            on_skipped(image)
        data_lib.steps_per_epoch(data, config.train.batch_size)  # before anything is recorded
        with Ledger(workdir, create=True) as ledger:
            if ledger.meta():
                check_data(ledger, data)
            else:
                selected = choose(config, data.num_classes, measure)
                if selected.cut:
                    on_message(f"{len(selected.cut)} candidates are over a limit and not trained")
                _start(ledger, config, data, machine, selected)
            curves = Summaries(workdir, ledger.meta()["started"], ledger.epochs())
            executor = _executor(config, data, workdir, engine)
            return driver.drive(
                ledger,
                executor,
                workdir,
                progress=progress,
                on_message=on_message,
                on_recorded=curves.record,
            )


def _executor(
    config: SearchConfig, data: ImageData, workdir: Path, engine: EngineConfig
) -> Executor:
    if engine.in_process:
        return _local(config, data)
    make = partial(_worker, config=config, workdir=workdir.absolute(), fingerprint=data.fingerprint)
    if engine.name == "local":
        assert engine.workers is not None
        return ProcessPool(make, engine.workers, workdir)
    return RayCluster(make, engine.workers, workdir.absolute(), engine.ray_address)


def _local(config: SearchConfig, data: ImageData) -> LocalExecutor:
    return LocalExecutor(
        config.train, data, base_resolution=config.base_resolution, seed=config.seed
    )


def _worker(slot: int, *, config: SearchConfig, workdir: Path, fingerprint: str) -> LocalExecutor:
    """What a worker process trains with; workers take turns at the GPUs of a machine."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        own = gpus[slot % len(gpus)]
        tf.config.set_visible_devices(own, "GPU")
        tf.config.experimental.set_memory_growth(own, True)
    _use_threads(config.threads)
    data = load_data(config, workdir, progress=False)
    if data.fingerprint != fingerprint:
        raise UserError(f"a worker sees other images in {data.name} than the search")
    return _local(config, data)


def _leave_gpus() -> None:
    with suppress(RuntimeError):  # as below
        tf.config.set_visible_devices([], "GPU")


def _use_threads(count: int) -> None:
    # Sums over the threads' shares differ in their last bits with the number of shares. Once
    # TensorFlow is at work, as in a notebook, it is too late: the number cannot be changed.
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(count)


def load_data(config: SearchConfig, workdir: Path, *, progress: bool = True) -> ImageData:
    """The images of a search, stored no larger than its networks can make use of.

    Decoded once: all processes with this work directory share what the first of them has decoded.
    """
    largest = max(pools.resolutions(config.pool, config.base_resolution))
    return data_lib.load(
        config.data, max_side=largest * 3 // 2, cache_dir=cache_path(workdir), progress=progress
    )


def check_data(ledger: Ledger, data: ImageData) -> None:
    """UserError where the images are not those that the search was started with."""
    if ledger.meta()["data"]["fingerprint"] != data.fingerprint:
        raise UserError(
            f"the images of {data.name} have changed since {ledger.path.parent} was started: "
            "restore them, or use another --workdir"
        )


def recorded(ledger: Ledger, *, progress: bool = True) -> tuple[SearchConfig, ImageData]:
    """Settings and images of a search on record; UserError where the images have changed."""
    config = SearchConfig.from_dict(ledger.meta()["config"])
    data = load_data(config, ledger.path.parent, progress=progress)
    check_data(ledger, data)
    return config, data


def choose(config: SearchConfig, classes: int, measure: Measure = cannot_measure) -> Selection:
    """The candidates of a search, the cheapest first (which the tournament prefers in a tie).

    With ``max_candidates`` groups take turns, each giving a seeded random member, until there are
    enough, so that every group that can be is filled.
    """
    selected = select(
        config.pool,
        base_resolution=config.base_resolution,
        classes=classes,
        groups=config.groups,
        metrics=config.group_by,
        method=config.group_method,
        limits=config.limits,
        measure=measure,
    )
    chosen: Iterable[Candidate] = selected.candidates
    if config.max_candidates is not None:
        chosen = pools.sample(selected.candidates, config.max_candidates, config.seed)
    ordered = sorted(chosen, key=lambda c: (c.spec.macs, c.spec.params, c.name))
    return replace(selected, candidates=tuple(ordered))


def _check_settings(ledger: Ledger, config: SearchConfig) -> None:
    recorded = ledger.meta().get("config")
    if recorded is None:
        return
    for key, (old, new) in _differences(recorded, asdict(config)).items():
        if key in _CHANGES_NOTHING:
            continue
        raise UserError(
            f"{ledger.path.parent} holds a search with {key}={old}, not {new}: "
            "use the same settings to continue it, or another --workdir"
        )


def _differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= _differences(before, after, f"{prefix}{key}.")
        elif before != (list(after) if isinstance(after, tuple) else after):
            found[prefix + key] = (before, after)
    return dict(sorted(found.items()))


def _start(
    ledger: Ledger, config: SearchConfig, data: ImageData, machine: str, selected: Selection
) -> None:
    ledger.start(
        selected.candidates,
        {
            "config": asdict(config),
            "data": {
                "name": data.name,
                "labels": list(data.labels),
                "sizes": dict(data.sizes),
                "skipped": [asdict(image) for image in data.skipped],
                "fingerprint": data.fingerprint,
            },
            "cut": dict(selected.cut),
            "measured": selected.measured,
            "versions": versions(),
            "machine": machine,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {
        "efficientnet-elite": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,  # its distribution may be called tensorflow-cpu
        **{name: version(name) for name in _VERSIONS_OF},
    }
