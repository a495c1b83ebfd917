"""How fast this machine trains the candidates of a search, measured with a few training steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search import starts
from efficientnet_elite.search.budget import Pace
from efficientnet_elite.training.trainer import Trainer

_STEPS = 8  # steps that are timed; the first one is left out, since it includes building
_FORWARD = 1 / 3  # share of the forward pass in a training step: backward takes twice as much


class _Enough(Exception):
    """Ends a training of which enough steps have been timed."""


def measure_pace(
    specs: Sequence[ArchSpec],
    config: SearchConfig,
    data: ImageData,
    from_scratch: Collection[str] = (),
) -> Pace:
    """Builds and trains the cheapest, the median and the costliest network for some steps.

    The trained networks are thrown away. This takes some seconds for each network, most of them for
    building it.

    Args:
      specs: specs of the candidates, at least one.
      config: settings of the search: recipe, seed, resolution.
      data: the images.
      from_scratch: names of networks that pretrained weights do not fit.
    """
    ordered = sorted(specs, key=lambda spec: spec.macs)
    chosen = {spec.macs: spec for spec in (ordered[0], ordered[len(ordered) // 2], ordered[-1])}
    steps = data_lib.steps_per_epoch(data, config.train.batch_size)
    steps += round(_FORWARD * data.sizes["validation"] / config.train.batch_size)
    paces, builds = {}, []
    with TemporaryDirectory() as folder:
        for macs, spec in chosen.items():
            train, images = config.train, data
            if spec.name in from_scratch:
                train, images = starts.from_scratch(train, images)
            path = Path(folder) / f"{macs}.npz"
            seconds, build = _time(spec, replace(config, train=train), images, path)
            paces[macs] = steps * seconds
            builds.append(build)
    return Pace.fit(paces, fmean(builds))


def once(measure: Callable[[SearchConfig], Pace]) -> Callable[[SearchConfig], Pace]:
    """The first result of a function for all calls: rounds and groups do not change the pace."""
    results: list[Pace] = []

    def call(config: SearchConfig) -> Pace:
        if not results:
            results.append(measure(config))
        return results[0]

    return call


def _time(
    spec: ArchSpec, config: SearchConfig, data: ImageData, checkpoint: Path
) -> tuple[float, float]:
    """Seconds of one training step, and seconds for building the network."""
    trainer = Trainer(
        spec,
        config.train,
        data,
        base_resolution=config.base_resolution,
        seed=config.seed,
        checkpoint=checkpoint,
    )
    times: list[float] = []

    def on_step(step: int, steps: int) -> None:
        if step == 1:
            times.clear()  # between two epochs lies the validation
        times.append(time.perf_counter())
        if steps > 1 and len(times) > min(_STEPS, steps - 1):
            raise _Enough

    with suppress(_Enough):
        trainer.run(2, lambda result: None, on_step)
    if len(times) < 2:  # an epoch of one step; building it is timed apart
        return trainer.history[-1].seconds, trainer.build_seconds
    return (times[-1] - times[0]) / (len(times) - 1), trainer.build_seconds
