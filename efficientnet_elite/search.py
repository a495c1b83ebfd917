"""The search driver: data and pool in, champions out, everything in between in the ledger.

Holds no state of its own: what to train next is asked of the tournament after every task, from the
scores in the ledger, so that a killed search goes on where it stopped, with the same decisions.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from efficientnet_elite import __version__, pools, summary
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.data import ImageData, SkippedImage
from efficientnet_elite.errors import UserError
from efficientnet_elite.executors import Executor, LocalExecutor, Task
from efficientnet_elite.ledger import FILE_NAME as LEDGER_FILE
from efficientnet_elite.ledger import Epoch, Ledger
from efficientnet_elite.pools import Candidate
from efficientnet_elite.tournament import Job, Standing
from efficientnet_elite.training import EpochResult, TrainingError
from efficientnet_elite.workdir import champions_path, checkpoint_path, lock, write_json

# Settings that a search may be continued with at other values: no score depends on them.
_CHANGES_NOTHING = ("data.cache_gb", "data.data_dir")
_VERSIONS_OF = ("keras", "numpy", "ai-edge-litert")


def run(
    config: SearchConfig,
    workdir: Path,
    *,
    machine: str = "",
    progress: bool = True,
    on_skipped: Callable[[SkippedImage], None] = lambda image: None,
) -> list[dict[str, Any]]:
    """Runs (or continues) a search to its end.

    Args:
      config: the search; on a work directory with a ledger it must equal the recorded one.
      workdir: where the ledger, checkpoints and ``champions.json`` are.
      machine: name of the CPU or board, for the record.
      progress: whether to show a progress bar on stderr.
      on_skipped: called for every image that is left out.

    Returns:
      the champions, heaviest group first, as written to ``champions.json``.

    Raises:
      UserError: bad data or settings, or a work directory of another search or in use.
    """
    with lock(workdir):
        if (workdir / LEDGER_FILE).exists():
            with Ledger(workdir) as ledger:
                _check_settings(ledger, config)
        data = load_data(config, progress=progress)
        for image in data.skipped:
            on_skipped(image)
        data_lib.steps_per_epoch(data, config.train.batch_size)  # before anything is recorded
        with Ledger(workdir, create=True) as ledger:
            if ledger.meta():
                check_data(ledger, data)
            else:
                _start(ledger, config, data, machine)
            executor = LocalExecutor(
                config.train, data, base_resolution=config.base_resolution, seed=config.seed
            )
            return drive(ledger, executor, workdir, progress=progress)


def load_data(config: SearchConfig, *, progress: bool = True) -> ImageData:
    """The images of a search, stored no larger than its networks can make use of."""
    largest = max(pools.resolutions(config.pool, config.base_resolution))
    return data_lib.load(config.data, max_side=largest * 3 // 2, progress=progress)


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
    data = load_data(config, progress=progress)
    check_data(ledger, data)
    return config, data


def choose(config: SearchConfig, classes: int) -> list[Candidate]:
    """The candidates of a search, the cheapest first (which the tournament prefers in a tie).

    With ``max_candidates`` groups take turns, each giving a seeded random member, until there are
    enough, so that every group that can be is filled.
    """
    pool = pools.candidates(
        config.pool,
        base_resolution=config.base_resolution,
        classes=classes,
        groups=config.groups,
        metrics=config.group_by,
        method=config.group_method,
    )
    chosen: Iterable[Candidate] = pool
    if config.max_candidates is not None:
        chosen = pools.sample(pool, config.max_candidates, config.seed)
    return sorted(chosen, key=lambda c: (c.spec.macs, c.spec.params, c.name))


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


def _start(ledger: Ledger, config: SearchConfig, data: ImageData, machine: str) -> None:
    ledger.start(
        choose(config, data.num_classes),
        {
            "config": asdict(config),
            "data": {
                "name": data.name,
                "labels": list(data.labels),
                "sizes": dict(data.sizes),
                "skipped": [asdict(image) for image in data.skipped],
                "fingerprint": data.fingerprint,
            },
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


def drive(
    ledger: Ledger, executor: Executor, workdir: Path, *, progress: bool = True
) -> list[dict[str, Any]]:
    """Trains and eliminates until every group has its champion, trained to the end."""
    specs = {candidate.name: candidate.spec for candidate in ledger.candidates()}
    with tqdm(
        total=1.0,
        disable=not progress,
        bar_format="{desc}|{bar:20}| {percentage:3.0f}% [{elapsed}<{remaining}]{postfix}",
    ) as bar:
        while True:
            standings = summary.standings(ledger)
            for group, standing in standings.items():
                ledger.record_decisions(group, standing.decisions)
                _retire(executor, standing)
            _show(bar, ledger)
            jobs = ((g, job) for g, s in standings.items() for job in s.jobs)
            found = next(jobs, None) or _lost(standings, ledger, workdir)
            if found is None:
                break
            group, job = found
            task = Task(
                specs[job.candidate], job.until_epoch, checkpoint_path(workdir, job.candidate)
            )
            _train(ledger, executor, task, bar, f"group {group} {job.candidate}")
    champions = describe_champions(ledger, standings)
    write_json(champions_path(workdir), champions)
    return champions


def _lost(standings: dict[int, Standing], ledger: Ledger, workdir: Path) -> tuple[int, Job] | None:
    """A champion whose checkpoint has disappeared: it is trained anew, its scores stand."""
    epochs, failures = summary.schedule_of(ledger.meta()).epochs, ledger.failures()
    for group, standing in standings.items():
        name = standing.champion
        if name is None or name in failures:  # trained anew, but in vain
            continue
        if not checkpoint_path(workdir, name).is_file():
            return group, Job(name, epochs)
    return None


def _train(ledger: Ledger, executor: Executor, task: Task, bar: Any, label: str) -> None:
    name = task.spec.name
    done = len(ledger.epochs().get(name, ()))

    def on_build(seconds: float) -> None:
        if seconds > 0:
            ledger.record_timing("graph building", name, seconds, add=True)

    def on_epoch(result: EpochResult) -> None:
        nonlocal done
        done = result.epoch
        ledger.record_epoch(Epoch(candidate=name, **asdict(result)))
        _show(bar, ledger)
        bar.set_postfix_str(f"accuracy {result.validation_accuracy:.3f}", refresh=False)

    def on_step(step: int, steps: int) -> None:
        epoch = f"epoch {min(done + 1, task.until_epoch)}/{task.until_epoch}"
        bar.set_description_str(f"{label} {epoch} step {step}/{steps} ", refresh=False)
        bar.update(0)  # redraws at tqdm's own pace

    bar.set_description_str(f"{label} building ")
    try:
        executor.run(task, on_build=on_build, on_epoch=on_epoch, on_step=on_step)
    except TrainingError as error:
        ledger.record_failure(name, done + 1, str(error))
        executor.retire(name)


def _show(bar: Any, ledger: Ledger) -> None:
    bar.update(max(0.0, summary.progress(ledger) - bar.n))


def _retire(executor: Executor, standing: Standing) -> None:
    for decision in standing.decisions:
        if not decision.survives:
            executor.retire(decision.candidate)
    if standing.champion and not standing.jobs:
        executor.retire(standing.champion)


def describe_champions(ledger: Ledger, standings: dict[int, Standing]) -> list[dict[str, Any]]:
    """What ``champions.json`` says: one entry a group that has a champion, heaviest group first."""
    candidates = {candidate.name: candidate for candidate in ledger.candidates()}
    epochs = ledger.epochs()
    return [
        {
            "name": champion,
            "group": group,
            "params": candidates[champion].spec.params,
            "macs": candidates[champion].spec.macs,
            "resolution": candidates[champion].spec.resolution,
            "width": candidates[champion].width,
            "depth": candidates[champion].depth,
            "epochs": len(epochs[champion]),
            "validation_accuracy": epochs[champion][-1].validation_accuracy,
        }
        for group, standing in sorted(standings.items())
        if (champion := standing.champion) is not None and champion in epochs
    ]
