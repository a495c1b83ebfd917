"""Does the rendered data set reward capacity and resolution? The figures of docs/rendered.md.

Trains eLite0, eLite9 and eLite0 at 0.587 of its resolution (the pool's smallest, "132 of 224")
equally, with several seeds each, and prints test accuracies, gaps, and what a linear classifier
gets out of thumbnails and colours.

  python -m benchmarks.studies.rendered_study --workdir=runs/rendered_study

Finished epochs are kept in the work directory; the same command continues. To split the work over
processes, pass some of ``--networks`` and ``--seeds`` to each; the whole command then reports.
"""

from __future__ import annotations

import io
import os
import sys
from functools import partial
from statistics import fmean, stdev

from absl import flags

from efficientnet_elite.benchmarks.studies import program
from efficientnet_elite.benchmarks.studies.study import TEST_FRACTION, Study, define_flags
from efficientnet_elite.errors import UserError

FLAGS = flags.FlagValues()
define_flags(FLAGS, epochs=16)
flags.DEFINE_string(
    "rendered", "", "Settings of the data set, such as classes=20,seed=1.", flag_values=FLAGS
)
flags.DEFINE_list(
    "networks",
    ["elite0@64", "elite9@64", "elite0@38"],
    "NETWORK@PIXELS each.",
    flag_values=FLAGS,
)


def _train(study: Study, name: str, seed: int) -> dict[str, float]:
    from efficientnet_elite.networks.names import spec_by_name

    network, _, pixels = name.partition("@")
    spec = spec_by_name(
        network, classes=study.images.num_classes, base_resolution=study.base_resolution
    ).resized((int(pixels), int(pixels), 3))
    trainer = study.train(spec, seed, _run(name, seed))
    return {
        "test_accuracy": trainer.accuracy("test"),
        "seconds": sum(epoch.seconds for epoch in trainer.history),
    }


def _run(name: str, seed: int) -> str:
    return f"{name}-seed{seed}"


def shortcut_accuracy(rendered: str, train_share: float) -> float:
    """Test accuracy of logistic regression on 8 x 8 thumbnails, colour histograms and sizes."""
    import numpy as np
    from PIL import Image
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from efficientnet_elite.data.rendered.scene import RenderedConfig, render

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


def _report(shortcut: float, accuracies: dict[str, list[float]]) -> str:
    lines = [f"linear classifier on thumbnail, colours, size: {100 * shortcut:.1f} %"]
    reference = FLAGS.networks[0]
    for name, values in accuracies.items():
        spread = f" +- {stdev(values):.1f}" if len(values) > 1 else ""
        gap = fmean(accuracies[reference]) - fmean(values)
        each = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"{name}: {fmean(values):.1f}{spread} % ({each}); {reference} gains {gap:.1f}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Trains what the work directory does not hold yet, then prints the figures to stdout."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        study = Study(FLAGS, f"rendered:{FLAGS.rendered}")
    except UserError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 1
    accuracies: dict[str, list[float]] = {name: [] for name in FLAGS.networks}
    for seed in map(int, FLAGS.seeds):
        for name in FLAGS.networks:
            result = study.kept(_run(name, seed), partial(_train, study, name, seed))
            accuracies[name].append(100 * result["test_accuracy"])
    shortcut = study.kept(
        "shortcut", lambda: shortcut_accuracy(FLAGS.rendered, train_share=1 - TEST_FRACTION)
    )
    print(_report(shortcut, accuracies))
    return 0


if __name__ == "__main__":
    sys.exit(main(program.parse(FLAGS, sys.argv)))
