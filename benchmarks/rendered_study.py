"""Does the rendered data set reward capacity and resolution? The figures of docs/rendered.md.

Trains eLite0, eLite9 and eLite0 at 0.587 of its resolution (the pool's smallest, "132 of 224")
equally, with several seeds each, and prints test accuracies, gaps, and what a linear classifier
gets out of thumbnails and colours.

  python -m efficientnet_elite.benchmarks.rendered_study --workdir=runs/rendered_study

Finished epochs are kept in the work directory; the same command continues. To split the work over
processes, pass some of ``--networks`` and ``--seeds`` to each; the whole command then reports.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, TypeVar

from absl import app, flags

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

T = TypeVar("T")

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Where checkpoints and results.json go.", required=True)
flags.DEFINE_string("rendered", "", "Settings of the data set, such as classes=20,seed=1.")
flags.DEFINE_list("networks", ["elite0@64", "elite9@64", "elite0@38"], "NETWORK@PIXELS each.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of initial weights and data order.")
flags.DEFINE_integer("epochs", 16, "Of each training.")
flags.DEFINE_integer("batch_size", 32, "Images a step.")
flags.DEFINE_float("learning_rate", 0.0015, "After one epoch of warm-up; then a cosine to 0.")
flags.DEFINE_float("min_area", 0.5, "Smallest share of an image in a training crop.")
flags.DEFINE_integer("base_resolution", 64, "Input side that stands for 224.")


def _train(data: ImageData, name: str, seed: int, workdir: Path) -> dict[str, float]:
    from efficientnet_elite import pools
    from efficientnet_elite.config import TrainConfig
    from efficientnet_elite.training import Trainer

    network, _, pixels = name.partition("@")
    spec = pools.spec(
        network, classes=data.num_classes, base_resolution=FLAGS.base_resolution
    ).resized((int(pixels), int(pixels), 3))
    config = TrainConfig(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=FLAGS.learning_rate,
        warmup_epochs=1,
        schedule="cosine",
        ema=0.98,
        batch_norm_momentum=0.9,
        drop_rates=0,
    )
    trainer = Trainer(
        spec,
        config,
        data,
        base_resolution=FLAGS.base_resolution,
        seed=seed,
        checkpoint=workdir / f"{name}-seed{seed}.ckpt",
    )
    trainer.run(
        config.epochs,
        lambda epoch: print(f"{name} seed {seed}: {epoch}", file=sys.stderr, flush=True),
    )
    return {
        "test_accuracy": trainer.accuracy("test"),
        "seconds": sum(epoch.seconds for epoch in trainer.history),
    }


def shortcut_accuracy(rendered: str, train_share: float) -> float:
    """Test accuracy of logistic regression on 8 x 8 thumbnails, colour histograms and sizes."""
    import numpy as np
    from PIL import Image
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from efficientnet_elite.rendered import RenderedConfig, render

    config = RenderedConfig.parse(rendered)
    features, labels = [], []
    for index in range(config.images):
        jpeg, label = render(config, index)
        image = Image.open(io.BytesIO(jpeg))
        pixels = np.asarray(image)
        bins = [np.bincount(pixels[:, :, c].ravel() // 16, minlength=16) for c in range(3)]
        thumbnail = np.asarray(image.resize((8, 8), Image.Resampling.BOX)).ravel()
        features.append(np.concatenate([thumbnail, np.ravel(bins) / np.sum(bins), image.size]))
        labels.append(label)
    split = int(train_share * config.images)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    model.fit(features[:split], labels[:split])
    return float(model.score(features[split:], labels[split:]))


def _kept(path: Path, compute: Callable[[], T]) -> T:
    """What the file holds; where there is none, what is computed now and written to it."""
    if not path.is_file():
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(compute()))
        temporary.replace(path)
    return json.loads(path.read_text())


def _report(shortcut: float, accuracies: dict[str, list[float]]) -> str:
    lines = [f"linear classifier on thumbnail, colours, size: {100 * shortcut:.1f} %"]
    reference = FLAGS.networks[0]
    for name, values in accuracies.items():
        spread = f" +- {stdev(values):.1f}" if len(values) > 1 else ""
        gap = fmean(accuracies[reference]) - fmean(values)
        each = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"{name}: {fmean(values):.1f}{spread} % ({each}); {reference} gains {gap:.1f}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Trains what the work directory does not hold yet, then prints the figures to stdout."""
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig

    workdir = Path(FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    config = DataConfig(
        dataset=f"rendered:{FLAGS.rendered}",
        validation_fraction=0.1,
        test_fraction=0.25,
        min_area=FLAGS.min_area,
    )
    data = cache(lambda: data_lib.load(config))  # only where something is to be trained
    accuracies: dict[str, list[float]] = {name: [] for name in FLAGS.networks}
    for seed in FLAGS.seeds:
        for name in FLAGS.networks:
            run = _kept(
                workdir / f"{name}-seed{seed}.json",
                partial(lambda name, seed: _train(data(), name, int(seed), workdir), name, seed),
            )
            accuracies[name].append(100 * run["test_accuracy"])
    shortcut = _kept(
        workdir / "shortcut.json", lambda: shortcut_accuracy(FLAGS.rendered, train_share=0.75)
    )
    print(_report(shortcut, accuracies))


if __name__ == "__main__":
    app.run(main)
