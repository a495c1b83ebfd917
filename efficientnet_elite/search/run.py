"""Runs a search: images and pool in, champions out, everything in between in the ledger.

This module prepares a search or checks a begun one; `driver` decides what is trained when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import EngineConfig, SearchConfig, unknown_fields
from efficientnet_elite.data import ImageData, SkippedImage
from efficientnet_elite.errors import UserError
from efficientnet_elite.machine import versions
from efficientnet_elite.networks.families import user
from efficientnet_elite.search import driver, starts
from efficientnet_elite.search.begun import (
    as_begun,
    check_policy,
    check_settings,
    differences,
    record_place,
)
from efficientnet_elite.search.budget import Pace
from efficientnet_elite.search.candidates import (
    Candidate,
    Measure,
    Selection,
    cannot_measure,
    sample_candidates,
    select_for,
)
from efficientnet_elite.search.ledger import FILE_NAME as LEDGER_FILE
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.search.pace import measure_pace, once
from efficientnet_elite.search.planning import choose_repeats, plan_candidates
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.schedule import with_rule_defaults
from efficientnet_elite.search.starts import Start
from efficientnet_elite.search.tensorboard import Summaries
from efficientnet_elite.search.workdir import champions_path, has_checkpoints, lock
from efficientnet_elite.search.workers import (
    check_backend,
    executor_for,
    leave_gpus,
    load_data,
    use_threads,
)
from efficientnet_elite.training.tasks import images_of_score, task_for
from efficientnet_elite.training.trainer import Quantize

Fit = Callable[[SearchConfig, ImageData, Callable[[SearchConfig], Pace]], SearchConfig]
"""From settings, images and a function that measures the pace of this machine, to settings."""


def run(
    config: SearchConfig,
    workdir: Path,
    *,
    engine: EngineConfig | None = None,
    fit: Fit = lambda config, images, pace_of: config,
    machine: str = "",
    progress: bool = True,
    on_skipped: Callable[[SkippedImage], None] = lambda image: None,
    on_message: Callable[[str], None] = lambda text: None,
    measure: Measure = cannot_measure,
    quantize: Quantize | None = None,
) -> list[dict[str, Any]]:
    """Runs (or continues) a search to its end.

    Args:
      config: the search; on a work directory with a ledger it must equal the recorded one.
      workdir: where the ledger, checkpoints and ``champions.json`` are.
      engine: where candidates are trained; by default one after the other in this process. A search
        may be continued on another engine: no score depends on it.
      fit: gives a new search its settings, see `Fit`; those of a begun one stand.
      machine: name of the CPU or board, for the record.
      progress: whether to show a progress bar on stderr.
      on_skipped: called for every image that is left out.
      on_message: gets a line about every candidate that failed or had to be set back.
      measure: measures cost metrics that are not computed, if the search groups by or limits one.
      quantize: makes the int8 form of a network, if the search selects by int8 accuracy
        (`export.int8.quantizer.int8_form`). Workers get it pickled.

    Returns:
      The champions, heaviest group first, as written to ``champions.json``.

    Raises:
      UserError: images or settings are wrong, or the work directory is in use or of another search.
    """
    began = time.monotonic()
    asked, config, engine = config, with_rule_defaults(config), engine or EngineConfig()
    if config.select == "int8" and quantize is None:
        raise UserError(
            "select=int8 needs a function that quantizes: search.run(quantize=int8_form)"
        )
    check_backend(engine, config)
    with lock(workdir) as killed:
        if killed:
            on_message(killed)
        begun = _is_begun(workdir, asked)
        if begun and (before := recorded_config(workdir)) is not None:
            config = as_begun(config, before)
        source = _load_start(config, is_finished=begun and champions_path(workdir).is_file())
        use_threads(config.threads)
        if not engine.in_process:
            leave_gpus()
        data = load_data(config, workdir, progress=progress)
        config = replace(config, data=data_lib.decided(config.data, data))
        for image in data.skipped:
            on_skipped(image)
        # Set up first, so that settings that are impossible leave no ledger behind.
        setup = None
        if not begun:
            chosen = _chooser(data, source, measure)
            pace_of = once(partial(_pace, data, source, engine, workdir, chosen, on_message))
            config = with_rule_defaults(fit(config, data, pace_of))
            data_lib.steps_per_epoch(data, config.train.batch_size)
            place = {"versions": versions(engine.backend), "machine": machine}
            setup = _set_up(config, data, source, place, chosen, on_message, pace_of)
        with Ledger(workdir, create=True) as ledger:
            if setup is None:
                check_data(ledger, data)
                before = ledger.meta()["data"].get("policy_sha256")
                check_policy(workdir, before, data.pipeline.policy_sha256)
                record_place(ledger, config)
                if source is not None or not config.train.is_pretrained:
                    start = starts.start_of_search(ledger.meta())
                    starts.check_unchanged(source, start, workdir)
                _report_versions(ledger, versions(engine.backend), on_message)
            else:
                ledger.start(*setup)
            record = read_record(ledger)
            sources = [s for c in record.candidates for s in user.sources_of_spec(c.spec)]
            asked_for = user.modules_of(user.sources_of_pool(config.pool))
            user.check_trusted(sources, asked_for, workdir)
            curves = Summaries(workdir, record.meta["started"], record.epochs)
            trainings = len(record.candidates) + len(record.repeats)
            start = starts.start_of_search(record.meta)
            if engine.name == "local" and engine.workers:
                on_message(f"trains in {engine.workers} processes (--workers)")
            executor = executor_for(config, data, workdir, engine, quantize, trainings, start)
            return driver.drive(
                ledger,
                executor,
                workdir,
                progress=progress,
                on_message=on_message,
                on_recorded=curves.record,
                began=began,
                record=record,
            )


def _load_start(config: SearchConfig, *, is_finished: bool) -> starts.Weights | None:
    """The weights that networks start from; None for random weights.

    A search that is finished needs its weights only if a checkpoint was lost. Where they are no
    longer on this machine, the result is None and the training of that network refuses.
    """
    try:
        return starts.load_start(config.train)
    except UserError:
        if not is_finished:
            raise
        return None


def recorded_config(workdir: Path) -> SearchConfig | None:
    """The settings of the search in a work directory; None where none has been set up there."""
    if not (workdir / LEDGER_FILE).exists():
        return None
    with Ledger(workdir, create=True) as ledger:  # also where its first entry is missing
        meta = ledger.meta()
    return SearchConfig.from_dict(meta["config"]) if meta else None


def check_data(ledger: Ledger, data: ImageData) -> None:
    """UserError where the images are not those that the search was started with."""
    meta = ledger.meta()
    if meta["data"]["fingerprint"] != data.fingerprint:
        if (before := meta["config"]["data"]["dataset"]) != data.name:
            raise UserError(
                f"{ledger.path.parent} holds a search with the images of {before}, and those of "
                f"{data.name} are others: use the same, or another --workdir"
            )
        raise UserError(
            f"the images of {data.name} have changed since {ledger.path.parent} was started: "
            "restore them, or use another --workdir"
        )


def recorded(
    ledger: Ledger, *, trusted: Collection[str] = (), progress: bool = True
) -> tuple[SearchConfig, ImageData]:
    """Settings and images of a recorded search.

    Args:
      ledger: of the search.
      trusted: modules that may be imported if its pool names them.
      progress: whether to show progress bars on stderr.

    Raises:
      UserError: the images have changed, or the pool names a module that is not trusted.
    """
    config = SearchConfig.from_dict(ledger.meta()["config"])
    user.check_trusted(user.sources_of_pool(config.pool), trusted, ledger.path.parent)
    data = load_data(config, ledger.path.parent, progress=progress)
    check_data(ledger, data)
    return config, data


def _report_versions(
    ledger: Ledger, now: Mapping[str, str], on_message: Callable[[str], None]
) -> None:
    """A message about each package and setting of the begun search that it has no longer."""
    meta = ledger.meta()
    for name, (old, new) in differences(meta["versions"], now).items():
        begun = f"begun with {name} {old}" if old else f"begun without {name}"
        now_has = f"continued with {new}" if new else "continued without it"
        on_message(f"{begun}, {now_has}: scores may not compare")
    for name, value in unknown_fields(meta["config"]).items():
        on_message(f"begun with {name}={value}, a setting that this version does not have")


def choose(config: SearchConfig, classes: int, measure: Measure = cannot_measure) -> Selection:
    """The candidates of a search, the cheapest first, which the tournament prefers in a tie.

    With ``max_candidates`` a random member of each group in turn is taken until there are enough,
    so that no group stays empty that need not.
    """
    selected = select_for(config, classes, measure)
    chosen: Iterable[Candidate] = selected.candidates
    if config.max_candidates is not None:
        chosen = sample_candidates(selected.candidates, config.max_candidates, config.seed)
    ordered = sorted(chosen, key=lambda c: (c.spec.macs, c.spec.params, c.name))
    return replace(selected, candidates=tuple(ordered))


def _is_begun(workdir: Path, config: SearchConfig) -> bool:
    """Whether there is a search in the work directory; UserError where it has other settings."""
    if (workdir / LEDGER_FILE).exists():
        with Ledger(workdir, create=True) as ledger:
            if ledger.meta():  # empty if the search was ended before its first entry
                check_settings(ledger, config)
                return True
    if has_checkpoints(workdir):  # a search would continue them, whatever their settings were
        raise UserError(
            f"{workdir} holds checkpoints, but no {LEDGER_FILE} says what they were trained on: "
            "put it back, or use another --workdir"
        )
    return False


Chosen = Callable[[SearchConfig], tuple[Selection, Mapping[str, str]]]
"""From settings to the candidates of a search, and name to reason of those that no weights fit."""


def _chooser(data: ImageData, source: starts.Weights | None, measure: Measure) -> Chosen:
    """A function that chooses candidates, and works only once for the same settings."""
    known: list[tuple[SearchConfig, tuple[Selection, Mapping[str, str]]]] = []

    def chosen(config: SearchConfig) -> tuple[Selection, Mapping[str, str]]:
        for before, found in known:
            if before == config:
                return found
        selected = choose(config, data.num_classes, measure)
        specs = [candidate.spec for candidate in selected.candidates]
        found = selected, {} if source is None else starts.refused(source, specs)
        known.append((config, found))
        return found

    return chosen


def _set_up(
    config: SearchConfig,
    data: ImageData,
    source: starts.Weights | None,
    place: Mapping[str, Any],
    chosen: Chosen,
    on_message: Callable[[str], None],
    pace_of: Callable[[SearchConfig], Pace],
) -> tuple[tuple[Candidate, ...], dict[str, Any], list[Repeat]]:
    """What the ledger of a new search starts with."""
    selected, refused = chosen(config)
    for candidate in selected.candidates:
        task_for(candidate.spec, data, score=config.train.score)  # before anything is recorded
    if selected.excluded:
        on_message(f"{len(selected.excluded)} candidates are over a limit and not trained")
    specs = [candidate.spec for candidate in selected.candidates]
    start = None if source is None else Start.of(source, refused)
    if start is not None:
        starts.announce(start, len(specs), on_message)
    pace = None if config.budget_hours is None else pace_of(config)
    candidates, plan, text = plan_candidates(selected.candidates, config, pace)
    on_message(text)
    meta = {
        "config": asdict(config),
        "plan": plan,
        starts.META: None if start is None else start.record(),
        "validation_images": images_of_score(config.train.score, data),
        "data": {
            "name": data.name,
            "labels": list(data.labels),
            "score": "mIoU" if data.masks else config.train.score,
            "sizes": dict(data.sizes),
            "skipped": [asdict(image) for image in data.skipped],
            "fingerprint": data.fingerprint,
            "policy_sha256": data.pipeline.policy_sha256,
        },
        "excluded": dict(selected.excluded),
        "measured": selected.measured,
        **place,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return candidates, meta, choose_repeats(candidates, config)


def _pace(
    data: ImageData,
    source: starts.Weights | None,
    engine: EngineConfig,
    workdir: Path,
    chosen: Chosen,
    on_message: Callable[[str], None],
    config: SearchConfig,
) -> Pace:
    """How fast the candidates of a search train where the engine trains them."""
    on_message(f"measuring the pace of {'this machine' if engine.name == 'local' else 'workers'}")
    selected, refused = chosen(config)
    specs = [candidate.spec for candidate in selected.candidates]
    start = None if source is None else Start.of(source, refused)
    executor = executor_for(config, data, workdir, engine, None, len(specs), start)
    return measure_pace(executor, specs, config, data, workdir, tuple(refused))
