"""Flags and small helpers that several subcommands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.config import ENGINES, DataConfig, Limits
from efficientnet_elite.data.choices import SOURCES
from efficientnet_elite.device import costs, limits
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import activations
from efficientnet_elite.networks.families import FAMILIES, segmentation
from efficientnet_elite.training.keras_import import import_keras


def no_arguments(arguments: list[str]) -> None:
    """UserError where something was given that is no flag."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags look like --name=value")


def table(cells: list[list[str]]) -> str:
    """Lines of aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines) + "\n"


def define_pool(flags: absl_flags.FlagValues, what: str) -> None:
    """The flag ``--pool``; its help starts with ``what``."""
    suffixes = " or ".join(f"-{name}" for name in activations.variants())
    absl_flags.DEFINE_string(
        "pool",
        None,
        f"{what}: one or more of {', '.join(FAMILIES)}, or the beginning of their names, or "
        f"all, or for segmentation {', '.join(segmentation.FAMILIES)} or segmentation (all of "
        f"these), comma-separated; each with {suffixes} for another "
        "activation and -nose for no channel gates, such as elite-relu6-nose; or module:function "
        "for Keras models of your own (docs/families.md).",
        flag_values=flags,
    )


def define_grouping(flags: absl_flags.FlagValues) -> None:
    """Flags of `pools.candidates`' grouping."""
    absl_flags.DEFINE_integer(
        "groups",
        None,
        "Number of cost groups (in each resolution for HF); the paper's by default.",
        lower_bound=1,
        flag_values=flags,
    )
    absl_flags.DEFINE_list(
        "group_by",
        None,
        "Costs whose z-scores are added for grouping (params,macs by default): some of "
        f"{', '.join(costs.METRICS)}.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "group_method",
        None,
        ["width", "count"],
        "Cut the z-score sum into equal-width intervals (the paper's way, the default for one "
        "family) or into equally many candidates (the default for several).",
        flag_values=flags,
    )


def define_limits(flags: absl_flags.FlagValues) -> None:
    """A flag ``--max_...`` for each field of `Limits`, and the table of latencies."""
    for name, metric in limits.metric_of().items():
        described = costs.METRICS[metric]
        absl_flags.DEFINE_float(
            f"max_{name}",
            None,
            f"Leave out candidates above this many {described.unit}: {described.description}.",
            flag_values=flags,
        )
    absl_flags.DEFINE_string(
        "metric_table",
        None,
        "Latencies of a device, as `elite benchmark --json=FILE` or `python -m benchmarks` wrote "
        "them there; by default those of this machine count.",
        flag_values=flags,
    )


def limits_of(flags: Any) -> Limits:
    """The limits that were set."""
    return Limits.of({name: flags[f"max_{name}"].value for name in limits.metric_of()})


def metric_table(flags: Any) -> str | None:
    """Absolute path of the table of latencies, so that it means the same from any directory."""
    return flags.metric_table and str(Path(flags.metric_table).expanduser().absolute())


def define_workdir(flags: absl_flags.FlagValues) -> None:
    """The work directory flag, required; an empty one (an unset variable) does not count."""
    absl_flags.DEFINE_string("workdir", None, "Directory of the search.", flag_values=flags)
    absl_flags.register_validator(
        "workdir", bool, "name the work directory with --workdir=DIR", flag_values=flags
    )


def define_data(flags: absl_flags.FlagValues) -> None:
    """Flags of `DataConfig`; unset ones leave a preset's value."""
    absl_flags.DEFINE_string(
        "dataset",
        None,
        ", ".join(f"{each.spelling} ({each.description})" for each in SOURCES.values()) + ".",
        flag_values=flags,
    )
    absl_flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.", flag_values=flags)
    absl_flags.DEFINE_float(
        "validation_fraction",
        None,
        "Share of the training part that eliminations are judged on.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "test_fraction",
        None,
        "Share of all images held out for the reported accuracy, where the data set has no test "
        "part.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "cache_gb",
        None,
        "Decode images once, up to this size (kept under the work directory); decode larger sets "
        "anew each epoch.",
        lower_bound=0.0,
        upper_bound=1024.0,
        flag_values=flags,
    )
    absl_flags.DEFINE_boolean(
        "flip",
        None,
        "Mirror half of the training images; --noflip where left and right tell classes apart.",
        flag_values=flags,
    )
    absl_flags.DEFINE_boolean(
        "center_crop",
        None,
        "Evaluate on the centre crop; --nocenter_crop where the subject fills the frame.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "min_area",
        None,
        "Smallest share of an image in a training crop (0.08 in the paper).",
        lower_bound=0.01,
        upper_bound=1.0,
        flag_values=flags,
    )


def define_training(flags: absl_flags.FlagValues) -> None:
    """Flags of `TrainConfig`; unset ones leave a preset's value."""
    absl_flags.DEFINE_integer("epochs", None, "Full length of a training.", flag_values=flags)
    absl_flags.DEFINE_integer("batch_size", None, "Images a step.", flag_values=flags)
    absl_flags.DEFINE_float("learning_rate", None, "After warm-up.", flag_values=flags)
    absl_flags.DEFINE_integer(
        "base_resolution",
        None,
        "Input side in pixels at resolution coefficient 1 (224 for ImageNet).",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "seed",
        None,
        "Of splits, weights, data order and calibration.",
        lower_bound=0,
        flag_values=flags,
    )


def define_engine(flags: absl_flags.FlagValues) -> None:
    """Flags of `EngineConfig`, and the number of threads."""
    absl_flags.DEFINE_integer(
        "workers",
        None,
        "Candidates trained at once, each in a process of its own; on a Ray cluster one a CPU by "
        "default. Without it one, in the search's own process. Does not change the result.",
        lower_bound=1,
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "threads",
        None,
        "CPU threads that train one candidate; scores depend on it to the last bits. One by "
        "default: many workers make better use of many cores than many threads.",
        lower_bound=1,
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "engine",
        "local",
        list(ENGINES),
        "Train on this machine, or on a Ray cluster whose nodes share --workdir.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "ray_address",
        None,
        "Of the cluster, such as auto or HOST:6379; by default one on this machine, started where "
        "there is none.",
        flag_values=flags,
    )


def given(flags: Any, *names: str) -> dict[str, Any]:
    """The flags among ``names`` that were set; lists as tuples."""
    values = {name: flags[name].value for name in names if flags[name].value is not None}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}


def data_config(flags: Any, preset: DataConfig) -> DataConfig:
    """A preset with the data flags that were set."""
    names = (
        "dataset",
        "data_dir",
        "validation_fraction",
        "test_fraction",
        "cache_gb",
        "flip",
        "center_crop",
        "min_area",
        "seed",
    )
    config = replace(preset, **given(flags, *names))
    name, _, argument = config.dataset.partition(":")
    if name in SOURCES and SOURCES[name].is_path and argument:
        # Absolute, so that the recorded setting means the same from any directory.
        path = Path(argument).expanduser().absolute()
        config = replace(config, dataset=f"{name}:{path}")
    return config


def workdir(flags: Any) -> Path:
    """The work directory as a path; UserError where there is a file of that name."""
    path = Path(flags.workdir).expanduser()
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: --workdir names a folder")
    return path


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its C++ chatter; what matters reaches us as exceptions."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _silent_stderr():
        import_keras()
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    # The file descriptor, not sys.stderr: TensorFlow writes from C++ before its log is set up.
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def exported_table(sidecars: Sequence[dict[str, Any]]) -> str:
    """What was exported, a line a champion."""
    # A search has one score; sidecars of older versions do not name theirs.
    score = next((sidecar["verification"].get("score") for sidecar in sidecars), None) or "top-1"
    head = ["champion", "input", f"float {score}", f"int8 {score}", "float kB", "int8 kB"]
    cells = [[*head, "|TFLite-Keras|"]]
    for sidecar in sidecars:
        verified, files = sidecar["verification"], sidecar["files"]
        cells.append(
            [
                sidecar["name"],
                f"{sidecar['input']['shape'][1]} px",
                f"{verified['float_accuracy']:.2%}",
                f"{verified['int8_accuracy']:.2%}",
                f"{files['float32']['bytes'] / 1000:.0f}",
                f"{files['int8']['bytes'] / 1000:.0f}",
                f"{verified['max_difference']:.1e}",
            ]
        )
    return table(cells)
