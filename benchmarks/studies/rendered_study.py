"""Tests whether the rendered data set rewards capacity and resolution (docs/rendered.md).

    python -m benchmarks.studies.rendered_study --workdir=runs/rendered_study

The program trains eLite0, eLite9 and eLite0 at 0.587 of its resolution (the smallest resolution of
the pool, 132 instead of 224) with the same recipe and several seeds each. It prints the test
accuracies, how far the first network is ahead, and the accuracy of a linear classifier on
thumbnails and colour histograms, which shows whether there are shortcuts to the label.

The program keeps results in the work directory, so the same command continues after an
interruption. To split the work over processes, pass some of ``--networks`` and ``--seeds`` to each
of them; the whole command then prints all results.
"""

from __future__ import annotations

import io
from functools import partial
from statistics import fmean, stdev

from absl import flags

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.benchmarks.studies.study import TEST_FRACTION, Study, define_flags

FLAGS = flags.FlagValues()
define_flags(FLAGS, epochs=16)
flags.DEFINE_string(
    "rendered",
    "",
    "Settings of the rendered data set, such as classes=20,seed=1.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "networks",
    ["elite0@64", "elite9@64", "elite0@38"],
    "Networks with their input side in pixels, NETWORK@PIXELS.",
    flag_values=FLAGS,
)


def _train(study: Study, name: str, seed: int) -> dict[str, float]:
    from efficientnet_elite.networks.names import spec_by_name

    network, _, pixels = name.partition("@")
    spec = spec_by_name(
        network, classes=study.images.num_classes, base_resolution=study.base_resolution
    ).resized((int(pixels), int(pixels), 3))
    trainer = study.train(spec, seed, _run_name(name, seed))
    return {
        "test_accuracy": trainer.accuracy("test"),
        "seconds": sum(epoch.seconds for epoch in trainer.history),
    }


def _run_name(name: str, seed: int) -> str:
    return f"{name}-seed{seed}"


def shortcut_accuracy(rendered: str, train_share: float) -> float:
    """Returns the test accuracy (0..1) of logistic regression on features without shapes.

    The features are thumbnails of 8 x 8 pixels, colour histograms with 16 bins for each channel,
    and the sizes of the images.

    Args:
      rendered: settings of the rendered data set, such as ``classes=20,seed=1``.
      train_share: fraction of the images to train on; the others are the test images.
    """
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
    """Returns the lines to print.

    Args:
      shortcut: accuracy of the linear classifier (0..1).
      accuracies: network to the test accuracies of its seeds in percent.
    """
    lines = [f"linear classifier on thumbnail, colours, size: {100 * shortcut:.1f} %"]
    reference = FLAGS.networks[0]
    for name, values in accuracies.items():
        deviation = f" +- {stdev(values):.1f}" if len(values) > 1 else ""
        gap = fmean(accuracies[reference]) - fmean(values)
        each = ", ".join(f"{value:.1f}" for value in values)
        lines.append(
            f"{name}: {fmean(values):.1f}{deviation} % ({each}); {reference} is ahead by {gap:.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Trains the networks that have no result yet, then prints all results to stdout."""
    study = Study(FLAGS, f"rendered:{FLAGS.rendered}")
    accuracies: dict[str, list[float]] = {name: [] for name in FLAGS.networks}
    for seed in map(int, FLAGS.seeds):
        for name in FLAGS.networks:
            result = study.result(_run_name(name, seed), partial(_train, study, name, seed))
            accuracies[name].append(100 * result["test_accuracy"])
    shortcut = study.result(
        "shortcut", lambda: shortcut_accuracy(FLAGS.rendered, train_share=1 - TEST_FRACTION)
    )
    print(_report(shortcut, accuracies))


if __name__ == "__main__":
    command.run(FLAGS, main)
