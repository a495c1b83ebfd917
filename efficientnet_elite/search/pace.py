"""How fast the candidates of a search train, measured where they train, with a few steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from statistics import fmean

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.budget import Pace
from efficientnet_elite.search.executors.protocol import (
    Event,
    Executor,
    Failed,
    Finished,
    Lost,
    Ready,
    Timed,
    WorkItem,
)
from efficientnet_elite.search.workdir import checkpoint_path

_FORWARD = 1 / 3  # share of the forward pass in a training step: backward takes twice as much


def measure_pace(
    executor: Executor,
    specs: Sequence[ArchSpec],
    config: SearchConfig,
    data: ImageData,
    workdir: Path,
    from_scratch: Collection[str] = (),
) -> Pace:
    """Builds and trains the cheapest, the median and the costliest network for some steps.

    Every worker does so, so that as many train at the same time as in the search. The trained
    networks are thrown away. This takes some seconds for each network, most of them for building
    it.

    Args:
      executor: where the search will train; it is closed.
      specs: specs of the candidates, at least one.
      config: settings of the search: recipe, seed, resolution.
      data: the images.
      workdir: work directory of the search.
      from_scratch: names of networks that pretrained weights do not fit.

    Raises:
      UserError: one of the networks cannot be trained.
    """
    ordered = sorted(specs, key=lambda spec: spec.macs)
    chosen = {spec.macs: spec for spec in (ordered[0], ordered[len(ordered) // 2], ordered[-1])}
    items = [
        WorkItem(
            spec,
            done=0,
            until_epoch=0,
            checkpoint=checkpoint_path(workdir, spec.name),
            from_scratch=spec.name in from_scratch,
            timed=True,
        )
        for spec in chosen.values()
    ]
    try:
        timed = _time(executor, items)
    finally:
        executor.close()
    steps = data_lib.steps_per_epoch(data, config.train.batch_size)
    steps += round(_FORWARD * data.sizes["validation"] / config.train.batch_size)
    seconds = {macs: fmean(t.step for t in timed[spec.name]) for macs, spec in chosen.items()}
    return Pace.fit(
        {macs: steps * each for macs, each in seconds.items()},
        fmean(t.build for times in timed.values() for t in times),
        workers=executor.slots,
    )


def _time(executor: Executor, items: Sequence[WorkItem]) -> dict[str, list[Timed]]:
    """Has each slot time all items; name of the network to its times on the slots.

    Slots that become ready only after another one is done, if ever, are not waited for.
    """
    timed: dict[str, list[Timed]] = {item.spec.name: [] for item in items}
    waiting: dict[int, list[WorkItem]] = {}  # of each slot that takes part; the running one first
    done = False

    def start(slot: int) -> None:
        nonlocal done
        if waiting[slot]:
            executor.submit(slot, waiting[slot][0])
        else:
            del waiting[slot]
            done = True

    def on_event(slot: int, event: Event) -> None:
        match event:
            case Ready():
                if not done:
                    first = slot % len(items)  # different ones at the same time, as in the search
                    waiting[slot] = [*items[first:], *items[:first]]
                    start(slot)
            case Timed():
                timed[waiting[slot][0].spec.name].append(event)
            case Finished():
                item = waiting[slot].pop(0)
                executor.retire(slot, item.spec.name)
                start(slot)
            case Lost(blameless=True):  # others measure, or this one when it is ready again
                waiting.pop(slot, None)
            case Failed(reason) | Lost(reason) if slot in waiting:
                raise UserError(
                    f"the pace of {waiting[slot][0].spec.name} cannot be measured ({reason}): use "
                    "--budget_epochs, which needs no pace"
                )

    while waiting or not done:
        executor.wait(on_event)
    return timed


def once(measure: Callable[[SearchConfig], Pace]) -> Callable[[SearchConfig], Pace]:
    """The first result of a function for all calls: rounds and groups do not change the pace."""
    results: list[Pace] = []

    def call(config: SearchConfig) -> Pace:
        if not results:
            results.append(measure(config))
        return results[0]

    return call
