"""Top-1 accuracy on the test part of a data set, of .npz checkpoints (with their averaged
weights) and of .tflite files whose input is images as this tool exports them. With --workdir the
images, their split and the crop are those of that search; otherwise a test part that the network
was not trained on needs the same --dataset, --seed and fractions as its training.

  elite evaluate --workdir=runs/digits runs/digits/export/elite9/elite9.int8.tflite
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.ledger import Ledger

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    "workdir", None, "Take images, split and crop from this search.", flag_values=FLAGS
)
common.define_data(FLAGS)
absl_flags.DEFINE_integer(
    "base_resolution",
    None,
    "Input side in pixels at resolution coefficient 1, for the centre crop; by default the largest "
    "model's own side.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer("seed", None, "Of the splits.", flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints a line a model to stdout."""
    if not arguments:
        raise UserError("name .npz checkpoints or .tflite files")
    common.quiet_tensorflow()
    from efficientnet_elite import data as data_lib
    from efficientnet_elite import search
    from efficientnet_elite.export.runtime import Runner
    from efficientnet_elite.training import load_averaged

    loaded = []
    for argument in arguments:
        path = Path(argument)
        if path.suffix == ".npz":
            model, spec, _ = load_averaged(path)
            loaded.append((path, spec.resolution, lambda x, m=model: np.asarray(m(x))))
        elif path.suffix == ".tflite":
            runner = Runner(path)
            loaded.append((path, runner.side, runner.run))
        else:
            raise UserError(f"{path} is neither a .npz checkpoint nor a .tflite file")
    if flags.workdir:
        with Ledger(common.workdir(flags)) as ledger:
            config, data = search.recorded(ledger)
        base = config.base_resolution
    else:
        # Stored images shrink to what a search at this base resolution would have stored.
        base = flags.base_resolution or max(side for _, side, _ in loaded)
        data = data_lib.load(common.data_config(flags, DataConfig()), max_side=base * 3 // 2)
    cells = [["model", "pixels", "test images", "top-1"]]
    for path, side, infer in loaded:
        batches = data_lib.eval_batches(
            data,
            "test",
            resolution=side,
            batch_size=64,
            base_resolution=base,
        )
        right = [np.argmax(infer(x.numpy()), -1) == y.numpy() for x, y in batches]
        accuracy = np.concatenate(right).mean()
        cells.append([str(path), str(side), str(data.sizes["test"]), f"{accuracy:.2%}"])
    print(common.table(cells), end="")
