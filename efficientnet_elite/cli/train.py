"""Trains networks by name, each with several seeds, and prints their test accuracy: mean and
standard deviation. NAME@PIXELS trains a network at another input size. The same command continues.

  elite train elite0 elite9 elite0@38 --seeds=3 --dataset=rendered --base_resolution=64 \\
      --epochs=20 --workdir=runs/rendered
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import PRESETS
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

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
common.define_data(FLAGS)
common.define_training(FLAGS)
absl_flags.DEFINE_integer("seeds", 1, "Trainings a network.", lower_bound=1, flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Trains, then prints a line a network to stdout; results also go to ``train.json``."""
    if not arguments:
        raise UserError("name networks, such as elite9 or elite9@96 (`elite models` lists them)")
    preset = PRESETS["quick"]()
    config = replace(preset.train, **common.given(flags, "epochs", "batch_size", "learning_rate"))
    workdir = common.workdir(flags)
    base = flags.base_resolution or preset.base_resolution
    first_seed = flags.seed or 0
    sides = {name: _network(name, base).resolution for name in arguments}
    common.quiet_tensorflow()
    from tqdm import tqdm

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.training.trainer import Trainer

    data_config = common.data_config(flags, preset.data)
    data = data_lib.load(
        data_config, max_side=max(base, *sides.values()) * 3 // 2, cache_dir=cache_path(workdir)
    )
    results: list[dict[str, Any]] = []
    with lock(workdir):
        settings = {
            "train": asdict(config),
            "base_resolution": base,
            "images": data.fingerprint,
            "pipeline": {k: v for k, v in asdict(data.pipeline).items() if v is not None},
        }
        _check_settings(workdir / "train_settings.json", settings)
        for name, side in sides.items():
            spec = _network(name, base, data.num_classes)
            accuracies = []
            for seed in range(first_seed, first_seed + flags.seeds):
                label = f"{name}-seed{seed}"
                path = checkpoint_path(workdir, label)
                trainer = Trainer(
                    spec, config, data, base_resolution=base, seed=seed, checkpoint=path
                )
                with tqdm(total=config.epochs, initial=trainer.epochs_done, desc=label) as bar:
                    trainer.run(config.epochs, lambda epoch, bar=bar: bar.update())  # type: ignore[misc]
                accuracies.append(trainer.accuracy("test"))
            results.append(
                {
                    "network": name,
                    "resolution": side,
                    "params": spec.params,
                    "macs": spec.macs,
                    "test_accuracies": accuracies,
                }
            )
            write_json(workdir / "train.json", results)
    score = "test mIoU" if data.masks else "test top-1"
    cells = [["network", "pixels", "params", "MACs", score, "deviation", "seeds"]]
    for result in results:
        values = result["test_accuracies"]
        cells.append(
            [
                result["network"],
                str(result["resolution"]),
                f"{result['params'] / 1e6:.2f} M",
                f"{result['macs'] / 1e6:.1f} M",
                f"{fmean(values):.2%}",
                f"{stdev(values):.2%}" if len(values) > 1 else "-",
                str(len(values)),
            ]
        )
    print(common.table(cells), end="")


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Checkpoints of other images or another recipe must not be taken for these."""
    if not path.is_file():
        if has_checkpoints(path.parent):
            raise UserError(f"{path.parent} holds other trainings: use another --workdir")
        write_json(path, settings)
    elif json.loads(path.read_text()) != settings:
        raise UserError(
            f"{path.parent} holds trainings of other images or settings ({path.name}): "
            "use the same to continue them, or another --workdir"
        )


def _network(name: str, base_resolution: int, classes: int = 1000) -> ArchSpec:
    """A network by its name, for as many pixels as stand behind its @, if any do."""
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
