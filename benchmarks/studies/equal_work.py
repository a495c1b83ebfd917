"""Compares families of networks at equal cost, trained with the same recipe (docs/equal_work.md).

    python -m benchmarks.studies.equal_work --workdir=runs/equal_work

The program takes from each family's pool the candidate with the cost nearest to that of
``--target``: as many parameters and MACs, or what ``--equal`` names. It trains these networks on
the same images with the same recipe, data order and seeds, exports each as full int8 (calibrated
with training images, evaluated on the test images), measures the latencies of the int8 files and
prints a table. The distance between two costs is the Euclidean distance of the logarithms of these,
each divided by its standard deviation over the candidates of all ``--families``.

The program keeps results in the work directory, so the same command continues after an
interruption, and ``--notrain`` prints the results so far. To split the work over processes, give
each of them some of the ``--seeds``, but all families, because the distances depend on them.
Latencies are relative to that of the first family's network. Measure them while the machine does
nothing else; ``--runs=0`` leaves them out.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, ratios, tables
from efficientnet_elite.benchmarks.studies.ratios import RelativeLatency
from efficientnet_elite.benchmarks.studies.study import Study, define_flags
from efficientnet_elite.device import costs
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
flags.DEFINE_list(
    "families",
    _FAMILIES,
    "Pools; one network of each is trained. Latencies are relative to the first one's.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "target", "elite9", "Network with the cost that the others should have.", flag_values=FLAGS
)
flags.DEFINE_list(
    "equal",
    ["params", "macs"],
    "Cost metrics that the networks should have in common, of those that can be computed.",
    flag_values=FLAGS,
)
flags.DEFINE_string("dataset", "rendered", "Data set, as for `elite search`.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "train", True, "Whether to train the networks that have no result yet.", flag_values=FLAGS
)
command.define_runs(FLAGS, default=100)
command.define_format(FLAGS, tables.FORMATS)


@dataclass(frozen=True)
class MatchedNetwork:
    """The network of a family with the cost nearest to the target's.

    Attributes:
      family: the pool, as ``--families`` names it.
      spec: the network.
      distance: distance between its cost and the target's; 0 means the same cost, 1 a difference of
        one standard deviation in the logarithm of one metric.
      costs: metric to cost, of the metrics that should be equal.
    """

    family: str
    spec: ArchSpec
    distance: float
    costs: Mapping[str, float] = field(default_factory=dict)

    def run_name(self, seed: int) -> str:
        """Returns the name of the files of its training with this seed."""
        return f"{self.spec.name}@{self.spec.resolution}-seed{seed}"


def match_cost(
    families: Sequence[str],
    target: str,
    *,
    base_resolution: int,
    classes: int,
    equal: Sequence[str] = ("params", "macs"),
) -> list[MatchedNetwork]:
    """Returns from each family's pool the candidate with the cost nearest to that of a network.

    Of candidates at the same distance the first one is returned. Candidates of which a cost cannot
    be computed are left out.

    Args:
      families: pools (see `search.candidates.pool_members`).
      target: name of the network with the cost to match.
      base_resolution: input side in pixels at resolution coefficient 1, of target and pools.
      classes: number of classes.
      equal: names of cost metrics.

    Raises:
      UserError: a family, the network or a metric is unknown, or a family has no candidate of
        which these can be computed.
    """
    sizes = {"base_resolution": base_resolution, "classes": classes}
    wanted = [costs.of(spec_by_name(target, **sizes), metric) for metric in equal]
    pools = {
        family: [
            (c.spec, known)
            for c in pool_members(family, **sizes)
            if (known := _costs(c.spec, equal))
        ]
        for family in families
    }
    for family, members in pools.items():
        if not members:
            raise UserError(f"{', '.join(equal)} of {family} cannot be computed")
    every = [map(math.log, known) for members in pools.values() for _, known in members]
    # A cost that is the same for all candidates has no influence on the distance.
    deviations = [pstdev(values) or math.inf for values in zip(*every, strict=True)]

    def distance(member: tuple[ArchSpec, list[float]]) -> float:
        columns = zip(member[1], wanted, deviations, strict=True)
        return math.hypot(*(math.log(cost / goal) / spread for cost, goal, spread in columns))

    return [
        MatchedNetwork(family, spec, distance((spec, known)), dict(zip(equal, known, strict=True)))
        for family, members in pools.items()
        for spec, known in [min(members, key=distance)]
    ]


def _costs(spec: ArchSpec, metrics: Sequence[str]) -> list[float] | None:
    try:
        return [costs.of(spec, metric) for metric in metrics]
    except UserError:
        return None


def train_and_export(study: Study, network: MatchedNetwork, seed: int) -> dict[str, Any]:
    """Trains and exports one network.

    Returns:
      ``float_accuracy`` and ``int8_accuracy`` on the test images (0..1), ``agreement`` (fraction of
      test images to which both give the same class), ``int8_bytes``, ``file`` (path of the int8
      file in the work directory) and ``seconds`` (of the training). If the training diverged or the
      network cannot be exported, the result is only ``error``, the reason.
    """
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import CALIBRATION_IMAGES
    from efficientnet_elite.export import beside
    from efficientnet_elite.export.champion import export_model
    from efficientnet_elite.training.loading import load_averaged

    run, spec = network.run_name(seed), network.spec
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
            out_dir=study.workdir / beside.FOLDER,
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
    """The results of a family's network over the seeds that have been trained.

    Attributes:
      family, network, resolution, params, macs, distance, costs: see `MatchedNetwork`.
      file, int8_bytes: path and size of the first seed's int8 file (see `train_and_export`); None
        if there is none yet.
      latency: latency relative to the first family's network; None if it was not measured.
      float_accuracies, int8_accuracies: test accuracy in percent for each seed.
      errors: reasons why a seed has no result or the file no latency.
    """

    family: str
    network: str
    resolution: int | str
    params: int
    macs: int
    distance: float
    file: str | None
    int8_bytes: int | None
    float_accuracies: list[float]
    int8_accuracies: list[float]
    errors: list[str]
    latency: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)


def summarize(network: MatchedNetwork, results: Sequence[dict[str, Any]]) -> Row:
    """Returns the row of a network, without its latency.

    Args:
      network: the network.
      results: what `train_and_export` returned for each seed that has been trained.
    """
    successful = [result for result in results if "error" not in result]
    first = successful[0] if successful else {"file": None, "int8_bytes": None}
    return Row(
        family=network.family,
        network=network.spec.name,
        resolution=network.spec.resolution,
        params=network.spec.params,
        macs=network.spec.macs,
        distance=network.distance,
        file=first["file"],
        int8_bytes=first["int8_bytes"],
        float_accuracies=[100 * result["float_accuracy"] for result in successful],
        int8_accuracies=[100 * result["int8_accuracy"] for result in successful],
        errors=[result["error"] for result in results if "error" in result],
        costs=network.costs,
    )


_COUNTED = ("params", "macs")  # metrics that have a column in any case


def headings(rows: Sequence[Row]) -> list[str]:
    """Returns the headings of the columns: the metrics that were to be equal have one each."""
    metrics = [costs.METRICS[name] for name in _further(rows)]
    return [
        *("family", "network", "pixels", "params M", "MACs M"),
        *(f"{metric.title} {metric.unit}" for metric in metrics),
        *("distance", "int8 kB", "latency", "seeds", "float %", "int8 %", "float, each"),
    ]


def _further(rows: Sequence[Row]) -> list[str]:
    return [
        name
        for name in dict.fromkeys(name for row in rows for name in row.costs)
        if name not in _COUNTED
    ]


def cells(row: Row, further: Sequence[str] = ()) -> list[str]:
    """Returns a row as text, in the order of the headings; missing figures are empty.

    Args:
      row: the row.
      further: metrics that have a column beside parameters and MACs.
    """
    each = [f"{value:.1f}" for value in row.float_accuracies]
    return [
        row.family,
        row.network,
        str(row.resolution),
        f"{row.params / 1e6:.2f}",
        f"{row.macs / 1e6:.2f}",
        *(f"{row.costs[name] / costs.METRICS[name].factor:.1f}" for name in further),
        f"{row.distance:.2f}",
        "" if row.int8_bytes is None else f"{row.int8_bytes / 1e3:.0f}",
        "" if row.latency is None else f"{row.latency:.2f}",
        str(len(row.float_accuracies)),
        mean_and_deviation(row.float_accuracies),
        mean_and_deviation(row.int8_accuracies),
        " ".join(each),
    ]


def mean_and_deviation(values: Sequence[float]) -> str:
    """Returns the mean and, if there are several values, their sample standard deviation."""
    if not values:
        return ""
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def as_text(rows: Sequence[Row], form: str, settings: dict[str, Any]) -> str:
    """Returns the rows in one of `tables.FORMATS`; JSON also contains the study's settings."""
    if form == "json":
        return json.dumps({**settings, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
    further = _further(rows)
    return tables.text(form, headings(rows), [cells(row, further) for row in rows], left=2)


def with_latency(row: Row, latencies: Mapping[str, RelativeLatency]) -> Row:
    """Returns the row with its latency, or with the error of measuring it.

    Args:
      row: a row without latency.
      latencies: name of an int8 file to its latency.
    """
    relative = latencies.get(Path(row.file or "").name)
    if relative is None:
        return row
    errors = [*row.errors, f"cannot be timed: {relative.error}"] if relative.error else row.errors
    return replace(row, latency=relative.ratio, errors=errors)


def _results(study: Study, network: MatchedNetwork, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the results that the work directory contains."""
    paths = [study.result_path(network.run_name(seed)) for seed in seeds]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def main() -> None:
    """Trains and measures what is missing, then prints the table to stdout."""
    study = Study(FLAGS, FLAGS.dataset)
    networks = match_cost(
        FLAGS.families,
        FLAGS.target,
        base_resolution=study.base_resolution,
        classes=study.images.num_classes,
        equal=FLAGS.equal,
    )
    seeds = [int(seed) for seed in FLAGS.seeds]
    for seed in seeds if FLAGS.train else ():
        for network in networks:
            compute = partial(train_and_export, study, network, seed)
            study.result(network.run_name(seed), compute)
    rows = [summarize(network, _results(study, network, seeds)) for network in networks]
    files = [study.workdir / row.file for row in rows if row.file is not None]
    latencies = ratios.relative_latencies(study.result_path("latency"), files, FLAGS.runs)
    rows = [with_latency(row, latencies) for row in rows]
    for row in rows:
        for reason in row.errors:
            print(f"{row.network}: {reason}", file=sys.stderr)
    print(as_text(rows, FLAGS.format, study.settings), end="")


if __name__ == "__main__":
    command.run(FLAGS, main)
