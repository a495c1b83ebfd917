"""Does the rendered data set reward capacity and resolution? The figures of docs/rendered.md.

Trains eLite0, eLite9 and eLite0 at 0.587 of its resolution (the pool's smallest, "132 of 224")
equally, with several seeds each, and prints test accuracies, gaps, and what a linear classifier
gets out of thumbnails and colours.

  python -m efficientnet_elite.benchmarks.rendered_study --workdir=runs/rendered_study

Finished epochs are kept in the work directory; the same command continues. To split the work, pass
some of ``--networks`` and ``--seeds`` at a time.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from absl import app, flags

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Where checkpoints and results.json go.", required=True)
flags.DEFINE_string("rendered", "", "Settings of the data set, such as classes=20,seed=1.")
flags.DEFINE_list("networks", ["elite0@64", "elite9@64", "elite0@38"], "NETWORK@PIXELS each.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of initial weights and data order.")
flags.DEFINE_integer("epochs", 8, "Of each training.")
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


def _report(results: dict[str, Any]) -> str:
    accuracies: dict[str, list[float]] = {}
    for name, runs in sorted(results["runs"].items()):
        accuracies[name] = [100 * runs[seed]["test_accuracy"] for seed in sorted(runs)]
    lines = [f"linear classifier on thumbnail, colours, size: {100 * results['shortcut']:.1f} %"]
    reference = FLAGS.networks[0]
    for name, values in accuracies.items():
        spread = f" +- {stdev(values):.1f}" if len(values) > 1 else ""
        gap = fmean(accuracies[reference]) - fmean(values)
        each = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"{name}: {fmean(values):.1f}{spread} % ({each}); {reference} gains {gap:.1f}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Trains what is not in ``results.json`` yet, then prints the figures to stdout."""
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig

    workdir = Path(FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "results.json"
    if path.is_file():
        results = json.loads(path.read_text())
    else:
        results = {"shortcut": shortcut_accuracy(FLAGS.rendered, train_share=0.75), "runs": {}}
    config = DataConfig(
        dataset=f"rendered:{FLAGS.rendered}",
        validation_fraction=0.1,
        test_fraction=0.25,
        min_area=FLAGS.min_area,
    )
    missing = [
        (name, seed)
        for seed in FLAGS.seeds
        for name in FLAGS.networks
        if seed not in results["runs"].get(name, {})
    ]
    data = data_lib.load(config) if missing else None
    for name, seed in missing:
        assert data is not None
        results["runs"].setdefault(name, {})[seed] = _train(data, name, int(seed), workdir)
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(results, indent=2))
        partial.replace(path)
    print(_report(results))


if __name__ == "__main__":
    app.run(main)
