"""Families of networks side by side: equal cost, equal work, equal recipe.

    python -m benchmarks.studies.equal_work --workdir=runs/equal_work

Takes from each family's pool the candidate whose cost is nearest to ``--target``'s, trains them all
on the same images with the same recipe, order and seeds, exports each (``export``: full int8,
calibrated with training images, verified on the test images), times the int8 files in turns, and
prints a table. Nearest: the Euclidean distance of the logarithms of parameters and MACs, each
divided by its standard deviation over the candidates of all ``--families``.

Results stay in the work directory: the same command continues, ``--notrain`` prints what there is.
To split the work over processes give each some of the ``--seeds``; what is nearest depends on all
families. Latencies are relative to the first family's network; time them while nothing else runs
(``--runs=0`` leaves them out).
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import program, ratios, texts
from efficientnet_elite.benchmarks.studies.ratios import Timing
from efficientnet_elite.benchmarks.studies.study import Study, define_flags
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_members
from efficientnet_elite.training.outcome import TrainingError

_FAMILIES = [
    "elite",
    "hf",
    "tinynet",
    "mobilenetv1",
    "mobilenetv2",
    "mobilenetv3-large",
    "ecamobilenetv2",
    "mnasnet",
    "ghostnet",
    "shufflenet",
    "squeezenet",
    "peleenet",
]

FLAGS = flags.FlagValues()
define_flags(FLAGS, epochs=12)
flags.DEFINE_list("families", _FAMILIES, "Pools, one network of each.", flag_values=FLAGS)
flags.DEFINE_string("target", "elite9", "Network whose cost is matched.", flag_values=FLAGS)
flags.DEFINE_string("dataset", "rendered", "Images, as for `elite search`.", flag_values=FLAGS)
flags.DEFINE_boolean("train", True, "Train what is missing.", flag_values=FLAGS)
flags.DEFINE_integer(
    "runs", 100, "Timed inferences a network; 0 for no timing.", lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_enum("format", "table", texts.FORMATS, "How to print.", flag_values=FLAGS)


@dataclass(frozen=True)
class Pick:
    """A family's network of matched cost.

    Attributes:
      family: the pool, as it was asked for.
      spec: the network.
      distance: to the target; 0 is the same cost, 1 a standard deviation of a logarithm.
    """

    family: str
    spec: ArchSpec
    distance: float

    def run(self, seed: int) -> str:
        """Name of one training's files."""
        return f"{self.spec.name}@{self.spec.resolution}-seed{seed}"


def nearest(
    families: Sequence[str], target: str, *, base_resolution: int, classes: int
) -> list[Pick]:
    """From each family's pool the candidate nearest in cost to a network, the first of equals.

    Args:
      families: pools (see `pools.members`).
      target: name of the network whose parameters and MACs are to be met.
      base_resolution: input side in pixels at resolution coefficient 1, of target and pools.
      classes: number of classes.

    Raises:
      UserError: an unknown family or network.
    """
    sizes = {"base_resolution": base_resolution, "classes": classes}
    goal = _logarithms(spec_by_name(target, **sizes))
    members = {family: [c.spec for c in pool_members(family, **sizes)] for family in families}
    every = [_logarithms(spec) for specs in members.values() for spec in specs]
    # A cost that all candidates share tells none from another.
    scales = [pstdev(values) or math.inf for values in zip(*every, strict=True)]

    def distance(spec: ArchSpec) -> float:
        costs = zip(_logarithms(spec), goal, scales, strict=True)
        return math.hypot(*((cost - wanted) / scale for cost, wanted, scale in costs))

    best = {family: min(specs, key=distance) for family, specs in members.items()}
    return [Pick(family, spec, distance(spec)) for family, spec in best.items()]


def _logarithms(spec: ArchSpec) -> tuple[float, float]:
    return math.log(spec.params), math.log(spec.macs)


def train(study: Study, pick: Pick, seed: int) -> dict[str, Any]:
    """Trains and exports one network.

    Returns:
      ``float_accuracy`` and ``int8_accuracy`` (of the test images, 0..1), ``agreement`` (share of
      them that both put into the same class), ``int8_bytes``, ``file`` (the int8 file's path in the
      work directory), ``seconds``; or only ``error``, where the training diverged or the export was
      refused: that too is a result.
    """
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import CALIBRATION_IMAGES
    from efficientnet_elite.export.champion import export_model
    from efficientnet_elite.training.trainer import load_averaged

    run, spec = pick.run(seed), pick.spec
    sizes = {"resolution": spec.resolution, "base_resolution": study.base_resolution}
    try:
        trainer = study.train(spec, seed, run)
        model, _, _ = load_averaged(trainer.checkpoint)
        calibration, _ = data_lib.calibration_images(
            study.images, **sizes, count=CALIBRATION_IMAGES, seed=seed
        )
        batches = data_lib.eval_batches(
            study.images, "test", **sizes, batch_size=study.recipe.batch_size
        )
        exported = export_model(
            model,
            name=run,
            out_dir=study.workdir / "export",
            labels=study.images.labels,
            calibration_images=calibration,
            test_batches=((images.numpy(), labels.numpy()) for images, labels in batches),
            details={"seed": seed},
        )
    except (TrainingError, UserError) as error:
        return {"error": str(error)}
    return {
        "float_accuracy": exported.keras_accuracy,
        "int8_accuracy": exported.int8_accuracy,
        "agreement": exported.agreement,
        "int8_bytes": exported.int8_bytes,
        "file": str(exported.int8_path.relative_to(study.workdir)),
        "seconds": sum(epoch.seconds for epoch in trainer.history),
    }


@dataclass(frozen=True)
class Row:
    """A family's results over the seeds that are done.

    Attributes:
      family, network, resolution, params, macs, distance: see `Pick`.
      file, int8_bytes: the first seed's int8 file, as `train` has it; None before it is there.
      latency: relative to the first family's; None where it was not timed.
      float_accuracies, int8_accuracies: in percent of the test images, a seed each.
      errors: why a seed has no result, or the file no latency.
    """

    family: str
    network: str
    resolution: int
    params: int
    macs: int
    distance: float
    file: str | None
    int8_bytes: int | None
    float_accuracies: list[float]
    int8_accuracies: list[float]
    errors: list[str]
    latency: float | None = None


def rows(picks: Sequence[Pick], results: Sequence[Sequence[dict[str, Any]]]) -> list[Row]:
    """One row a pick, from what `train` returned for each seed that is done; nothing timed."""
    found = []
    for pick, runs in zip(picks, results, strict=True):
        done = [run for run in runs if "error" not in run]
        first = done[0] if done else {"file": None, "int8_bytes": None}
        found.append(
            Row(
                family=pick.family,
                network=pick.spec.name,
                resolution=pick.spec.resolution,
                params=pick.spec.params,
                macs=pick.spec.macs,
                distance=pick.distance,
                file=first["file"],
                int8_bytes=first["int8_bytes"],
                float_accuracies=[100 * run["float_accuracy"] for run in done],
                int8_accuracies=[100 * run["int8_accuracy"] for run in done],
                errors=[run["error"] for run in runs if "error" in run],
            )
        )
    return found


_HEADS = (
    "family",
    "network",
    "pixels",
    "params M",
    "MACs M",
    "distance",
    "int8 kB",
    "latency",
    "seeds",
    "float %",
    "int8 %",
    "float, each",
)


def cells(row: Row) -> list[str]:
    """A row as text, in the order of the headings; empty where nothing is known."""
    each = [f"{value:.1f}" for value in row.float_accuracies]
    return [
        row.family,
        row.network,
        str(row.resolution),
        f"{row.params / 1e6:.2f}",
        f"{row.macs / 1e6:.2f}",
        f"{row.distance:.2f}",
        "" if row.int8_bytes is None else f"{row.int8_bytes / 1e3:.0f}",
        "" if row.latency is None else f"{row.latency:.2f}",
        str(len(row.float_accuracies)),
        spread(row.float_accuracies),
        spread(row.int8_accuracies),
        " ".join(each),
    ]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of a sample; without the latter where one value is no sample."""
    if not values:
        return ""
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def as_text(found: Sequence[Row], form: str, settings: dict[str, Any]) -> str:
    """The rows in one of `texts.FORMATS`."""
    if form == "json":
        return json.dumps({**settings, "rows": [asdict(row) for row in found]}, indent=2) + "\n"
    lines = [cells(row) for row in found]
    if form == "csv":
        return texts.comma_separated(_HEADS, lines)
    if form == "markdown":
        return texts.markdown(_HEADS, lines, left=2)
    return texts.aligned(_HEADS, lines)


def _timed(row: Row, timings: Mapping[str, Timing]) -> Row:
    timing = timings.get(Path(row.file or "").name)
    if timing is None:
        return row
    errors = [*row.errors, f"cannot be timed: {timing.error}"] if timing.error else row.errors
    return replace(row, latency=timing.ratio, errors=errors)


def main(argv: list[str]) -> int:
    """Trains and times what is missing, then prints; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        study = Study(FLAGS, FLAGS.dataset)
        picks = nearest(
            FLAGS.families,
            FLAGS.target,
            base_resolution=study.base_resolution,
            classes=study.images.num_classes,
        )
        seeds = [int(seed) for seed in FLAGS.seeds]
        for seed in seeds if FLAGS.train else ():
            for pick in picks:
                study.kept(pick.run(seed), partial(train, study, pick, seed))
    except UserError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 1

    def results(pick: Pick) -> list[dict[str, Any]]:
        paths = [study.path(pick.run(seed)) for seed in seeds]
        return [json.loads(path.read_text()) for path in paths if path.is_file()]

    found = rows(picks, [results(pick) for pick in picks])
    files = [study.workdir / row.file for row in found if row.file is not None]
    timed = ratios.kept(study.path("latency"), files, FLAGS.runs)
    found = [_timed(row, timed) for row in found]
    for row in found:
        for reason in row.errors:
            print(f"{row.network}: {reason}", file=sys.stderr)
    print(as_text(found, FLAGS.format, study.settings), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(program.parse(FLAGS, sys.argv)))
