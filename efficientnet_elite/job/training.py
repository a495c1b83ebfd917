"""Networks trained by name, each with several seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import fits, spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.workdir import (
    cache_path,
    checkpoint_path,
    has_checkpoints,
    lock,
    write_json,
)


@dataclass(frozen=True)
class Training:
    """A network that was trained.

    Attributes:
      network: its name, with ``@PIXELS`` where it was given.
      resolution: side of its input in pixels.
      params, macs: its numbers of parameters and multiply-accumulates.
      score: what the accuracies are: ``top-1``, or ``mIoU`` of segmentation networks.
      test_accuracies: of the averaged weights on the test part, 0..1, one for each seed.
      checkpoints: files of these trainings.
    """

    network: str
    resolution: int
    params: int
    macs: int
    score: str
    test_accuracies: tuple[float, ...]
    checkpoints: tuple[Path, ...]


def check_networks(names: Sequence[str], base_resolution: int) -> None:
    """UserError if a name is unknown or its network cannot be built for this input size."""
    if not names:
        raise UserError("name networks, such as elite9 or elite9@96 (`elite models` lists them)")
    for name in names:
        network_spec(name, base_resolution)


def train(
    names: Sequence[str],
    workdir: Path,
    *,
    train: TrainConfig,
    data: DataConfig,
    base_resolution: int,
    first_seed: int = 0,
    seeds: int = 1,
    progress: bool = True,
) -> tuple[Training, ...]:
    """Trains networks by name; the same call continues trainings that were interrupted.

    Args:
      names: such as ``elite9`` or, for another input size, ``elite9@96``.
      workdir: gets the checkpoints and the results, ``train.json``.
      train: the recipe.
      data: images and their splits.
      base_resolution: input side in pixels at resolution coefficient 1.
      first_seed, seeds: each network is trained with so many seeds from the first on.
      progress: whether to show progress bars on stderr.

    Raises:
      UserError: an unknown network, or a work directory with trainings of other settings or images.
    """
    from tqdm import tqdm

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.training.trainer import Trainer

    check_networks(names, base_resolution)
    sides = {name: network_spec(name, base_resolution).resolution for name in names}
    images = data_lib.load(
        data,
        max_side=max(base_resolution, *sides.values()) * 3 // 2,
        cache_dir=cache_path(workdir),
        progress=progress,
    )
    trainings = []
    with lock(workdir):
        settings = {
            "train": asdict(train),
            "base_resolution": base_resolution,
            "images": images.fingerprint,
            # A setting of the pipeline that is None did not exist in earlier versions.
            "pipeline": {k: v for k, v in asdict(images.pipeline).items() if v is not None},
        }
        _check_settings(workdir / "train_settings.json", settings)
        for name, side in sides.items():
            spec = network_spec(name, base_resolution, images.num_classes)
            accuracies, checkpoints = [], []
            for seed in range(first_seed, first_seed + seeds):
                label = f"{name}-seed{seed}"
                checkpoint = checkpoint_path(workdir, label)
                trainer = Trainer(
                    spec,
                    train,
                    images,
                    base_resolution=base_resolution,
                    seed=seed,
                    checkpoint=checkpoint,
                )
                with tqdm(
                    total=train.epochs,
                    initial=trainer.epochs_done,
                    desc=label,
                    disable=not progress,
                ) as bar:
                    trainer.run(train.epochs, lambda epoch, bar=bar: bar.update())  # type: ignore[misc]
                accuracies.append(trainer.accuracy("test"))
                checkpoints.append(checkpoint)
            trainings.append(
                Training(
                    network=name,
                    resolution=side,
                    params=spec.params,
                    macs=spec.macs,
                    score="mIoU" if images.masks else "top-1",
                    test_accuracies=tuple(accuracies),
                    checkpoints=tuple(checkpoints),
                )
            )
            write_json(workdir / "train.json", [_record(training) for training in trainings])
    return tuple(trainings)


def _record(training: Training) -> dict[str, Any]:
    names = ("network", "resolution", "params", "macs", "test_accuracies")
    return {name: getattr(training, name) for name in names}


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    """UserError where the checkpoints are of other images or another recipe."""
    if not path.is_file():
        if has_checkpoints(path.parent):
            raise UserError(f"{path.parent} holds other trainings: use another --workdir")
        write_json(path, settings)
    elif json.loads(path.read_text()) != settings:
        raise UserError(
            f"{path.parent} holds trainings of other images or settings ({path.name}): "
            "use the same to continue them, or another --workdir"
        )


def network_spec(name: str, base_resolution: int, classes: int = 1000) -> ArchSpec:
    """A network by its name, for the number of pixels after its @ if there is one."""
    network, at, pixels = name.partition("@")
    if not at:
        return spec_by_name(network, classes=classes, base_resolution=base_resolution)
    if not pixels.isdecimal() or int(pixels) < 8:
        raise UserError(f"{name}: write NETWORK@PIXELS with at least 8 pixels, such as elite9@96")
    side = int(pixels)
    spec = spec_by_name(network, classes=classes).resized((side, side, 3))
    if not fits(spec):
        raise UserError(f"{network} cannot be made for {side} x {side} pixels: try others")
    return spec
