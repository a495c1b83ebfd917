"""Flags and small helpers that several subcommands share."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.config import (
    BACKENDS,
    ENGINES,
    RAY_PATIENCE,
    DataConfig,
    EngineConfig,
    InputSize,
    SearchConfig,
)
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.int8.choices import INPUTS
from efficientnet_elite.job import config_file, device_choice, request, settings, value_types
from efficientnet_elite.job.arguments import data_set, default_workdir
from efficientnet_elite.job.recipes import PRESETS
from efficientnet_elite.job.request import Request
from efficientnet_elite.training.keras_import import import_keras


def no_arguments(arguments: list[str]) -> None:
    """UserError where an argument was given that is not a flag."""
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


def as_json(content: list[dict[str, Any]] | dict[str, Any]) -> str:
    """Rows as a JSON list of objects, or one object, indented."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_texts(texts: Mapping[str | None, Callable[[], str]]) -> None:
    """Writes what flags ask for.

    Args:
      texts: path to what makes the text; ``-`` is stdout, and None stands for a flag that was not
        given.
    """
    from efficientnet_elite.search.workdir import write_bytes

    for path, text in texts.items():
        if path == "-":
            print(text(), end="")
        elif path:
            write_bytes(Path(path).expanduser(), text().encode())


def as_csv(rows: list[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows with the same keys as CSV, with a header; columns are needed where there is no row."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns or rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def define_options(flags: absl_flags.FlagValues, *names: str) -> None:
    """A flag for each of these options of `job.settings`; one that is not given changes nothing."""
    table = settings.options()
    for name in names:
        _define(flags, name, table[name])


def _define(flags: absl_flags.FlagValues, name: str, option: settings.Option) -> None:
    """A flag of the option's type."""
    if option.choices:
        absl_flags.DEFINE_enum(name, None, option.choices, option.help, flag_values=flags)
        return
    define = _DEFINE.get(option.type, absl_flags.DEFINE_list)
    define(name, None, option.help, flag_values=flags)


class _SizeParser(absl_flags.ArgumentParser):
    """Parses an input size."""

    syntactic_help = "a size such as 96 or 96x128"

    def parse(self, argument: Any) -> int | str:
        """The size as settings hold it; ValueError where the text is none."""
        return InputSize.of(argument).plain


def define_size(
    name: str, default: int | None, help: str, flag_values: absl_flags.FlagValues
) -> None:
    """Defines a flag whose value is an input size: a number of pixels, or a text like 96x128."""
    absl_flags.DEFINE(
        _SizeParser(), name, default, help, flag_values, absl_flags.ArgumentSerializer()
    )


_DEFINE: dict[Any, Callable[..., Any]] = {
    value_types.SIZE: define_size,
    value_types.SHARE: absl_flags.DEFINE_string,
    int: absl_flags.DEFINE_integer,
    float: absl_flags.DEFINE_float,
    bool: absl_flags.DEFINE_boolean,
    str: absl_flags.DEFINE_string,
}


def define_format(
    flags: absl_flags.FlagValues,
    description: str = "Format of the output on stdout.",
    formats: tuple[str, ...] = ("table", "json", "csv"),
) -> None:
    """Defines --format; the first of the formats is the default."""
    absl_flags.DEFINE_enum("format", formats[0], list(formats), description, flag_values=flags)


def define_input(flags: absl_flags.FlagValues) -> None:
    """The flag ``--input``: which pixel values a model file from elsewhere takes."""
    absl_flags.DEFINE_enum(
        "input",
        None,
        list(INPUTS),
        "Pixel values that the model takes; imagenet: normalised by ImageNet's mean and deviation, "
        "elite: pixel / 128 - 1. Needed only where neither sidecar nor metadata say it, nor the "
        "quantization of an integer input, nor layers at the beginning of a Keras model.",
        flag_values=flags,
    )


def define_trust(flags: absl_flags.FlagValues) -> None:
    """The flag ``--trust``: modules whose code a file may run."""
    absl_flags.DEFINE_list(
        "trust",
        [],
        "Python modules whose code may run where a checkpoint or work directory names them, as "
        "those of networks from --pool=module:function do. Other such files are refused.",
        flag_values=flags,
    )


def define_pool(flags: absl_flags.FlagValues) -> None:
    """The flag ``--pool``."""
    define_options(flags, "pool")


def define_grouping(flags: absl_flags.FlagValues) -> None:
    """Flags for how candidates are put into cost groups."""
    define_options(flags, "groups", "group_by", "group_method", "latency_target")


def define_limits(flags: absl_flags.FlagValues) -> None:
    """A flag ``--max_...`` for each limit, and the file of latencies."""
    define_options(flags, *settings.names_of("limits"), "metric_table")


def device_options(flags: Any) -> dict[str, Any]:
    """The limits and groups that were set, with those that --device and --latency_target choose."""
    names = (*settings.names_of("limits"), "metric_table", "device", "group_by", "latency_target")
    return device_choice.expanded(values(flags, *names), SearchConfig())


def metric_table(flags: Any) -> str | None:
    """Absolute path of the file of latencies."""
    return settings.search_config(values(flags, "metric_table"), SearchConfig()).metric_table


def define_config(flags: absl_flags.FlagValues) -> None:
    """The flag ``--config``: a preset or a file of settings."""
    absl_flags.DEFINE_string(
        "config",
        None,
        f"Settings to start from, which all other flags override: {', '.join(PRESETS)}, or a file "
        "ending in .toml or .yaml. auto chooses what suits the images and this machine; it is the "
        "default for folder: and tfds:, quick for data sets that are built in. `elite config` "
        "prints settings as a file.",
        flag_values=flags,
    )
    absl_flags.register_validator(
        "config",
        lambda name: name is None or name in PRESETS or config_file.is_file_name(name),
        f"use {', '.join(PRESETS)} or a file that ends in {', '.join(config_file.SUFFIXES)}",
        flag_values=flags,
    )


def define_workdir(flags: absl_flags.FlagValues) -> None:
    """The required flag ``--workdir``; an empty value, such as of an unset variable, is refused."""
    absl_flags.DEFINE_string(
        "workdir",
        None,
        "Work directory: the folder of the ledger, checkpoints, exports and report. Required.",
        flag_values=flags,
    )
    absl_flags.register_validator(
        "workdir", bool, "name the work directory with --workdir=DIR", flag_values=flags
    )


def define_optional_workdir(flags: absl_flags.FlagValues) -> None:
    """The flag ``--workdir`` of a command that makes a work directory where none is named."""
    absl_flags.DEFINE_string(
        "workdir",
        None,
        "Work directory: the folder of checkpoints, exports and results. By default "
        "runs/NAME-DATE, of which NAME is that of the data set; the same command on the same day "
        "continues there.",
        flag_values=flags,
    )
    absl_flags.register_validator(
        "workdir", lambda path: path != "", "name a folder, or leave it out", flag_values=flags
    )


def define_images(flags: absl_flags.FlagValues, model: str) -> None:
    """Flags for the images that models are run on: those of a search, or a data set.

    Args:
      flags: get the flags.
      model: whose input side is the default of ``--base_resolution``.
    """
    absl_flags.DEFINE_string(
        "workdir",
        None,
        "Work directory of the search from which images, their split and the crop are taken.",
        flag_values=flags,
    )
    define_data(flags)
    define_size(
        "base_resolution",
        None,
        "Side of the input image in pixels at resolution coefficient 1, which determines the "
        f"centre crop. By default the input side of the {model}.",
        flag_values=flags,
    )


def define_data(flags: absl_flags.FlagValues) -> None:
    """Flags of `DataConfig` except for the seed; those not given leave the preset's value."""
    define_options(flags, *(name for name in settings.names_of("data") if name != "seed"))


def define_training(flags: absl_flags.FlagValues) -> None:
    """Flags of `TrainConfig`, input size and seed; those not given leave the preset's value."""
    define_options(flags, *settings.names_of("train"), "base_resolution", "input_size", "seed")


def define_search(flags: absl_flags.FlagValues) -> None:
    """Flags of all settings of a search: ``--config`` and those that override it."""
    define_config(flags)
    define_options(flags, *settings.options())


def search_request(flags: Any, arguments: list[str]) -> Request:
    """The settings that ``--config`` names, with the flags that were set.

    Args:
      flags: those of `define_search`, parsed.
      arguments: a data set or nothing.
    """
    return request.search_request(search_options(flags, arguments), flags.config)


def search_options(flags: Any, arguments: list[str]) -> dict[str, Any]:
    """The settings that flags give, and a data set that is named without a flag."""
    options = values(flags, *settings.options())
    no_arguments(arguments[1:])
    if arguments:
        if options["dataset"] is not None:
            no_arguments(arguments)
        options["dataset"] = data_set(arguments[0])
    return options


def made_workdir(flags: Any, command: str, networks: Sequence[str], options: Any) -> Path:
    """The work directory that ``--workdir`` names, or that of this request by default."""
    if flags.workdir is not None:
        return workdir(flags)
    path = default_workdir(command, networks, options)
    print(f"work directory: {path} (--workdir)", file=sys.stderr)
    return path


def define_engine(flags: absl_flags.FlagValues) -> None:
    """Flags of `EngineConfig`."""
    described = {field.name: field.metadata["help"] for field in fields(EngineConfig)}
    absl_flags.DEFINE_integer("workers", None, described["workers"], flag_values=flags)
    absl_flags.DEFINE_enum("engine", "local", list(ENGINES), described["name"], flag_values=flags)
    absl_flags.DEFINE_enum(
        "backend", "tensorflow", list(BACKENDS), described["backend"], flag_values=flags
    )
    absl_flags.DEFINE_string("ray_address", None, described["ray_address"], flag_values=flags)
    absl_flags.DEFINE_float(
        "ray_patience",
        RAY_PATIENCE,
        described["ray_patience"],
        lower_bound=0,
        flag_values=flags,
    )
    absl_flags.DEFINE_float("memory_gb", None, described["memory_gb"], flag_values=flags)


def values(flags: Any, *names: str) -> dict[str, Any]:
    """Name to value of these flags (by default of all), None where one was not set."""
    return {name: flags[name].value for name in names or flags}


def given(flags: Any, *names: str) -> dict[str, Any]:
    """Name to value of the flags among these that were set."""
    return {name: value for name, value in values(flags, *names).items() if value is not None}


def data_config(flags: Any, preset: DataConfig) -> DataConfig:
    """A preset with the data flags that were set."""
    return settings.data_config(values(flags), preset)


def workdir(flags: Any) -> Path:
    """The work directory as a path; UserError where there is a file of that name."""
    path = Path(flags.workdir).expanduser()
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: --workdir names a folder")
    return path


def quiet_tensorflow() -> None:
    """Imports TensorFlow without the log lines of its C++ code; errors are exceptions anyway."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr():
        import_keras("tensorflow")
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    # The file descriptor, not sys.stderr: TensorFlow writes from C++ before its log is set up.
    sys.stderr.flush()
    original = os.dup(2)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def exported_table(sidecars: Sequence[Mapping[str, Any]], kind: str = "champion") -> str:
    """A table of what was exported, with a line for each network; ``kind`` says what they are."""
    # A search has one score; sidecars of older versions do not name theirs.
    score = next((sidecar["verification"].get("score") for sidecar in sidecars), None) or "top-1"
    head = [kind, "input", f"float {score}", f"int8 {score}", "float kB", "int8 kB"]
    cells = [[*head, "|TFLite-Keras|"]]
    for sidecar in sidecars:
        verified, files = sidecar["verification"], sidecar["files"]
        cells.append(
            [
                sidecar["name"],
                f"{InputSize(*sidecar['input']['shape'][1:3])} px",
                f"{verified['float_accuracy']:.2%}",
                f"{verified['int8_accuracy']:.2%}",
                f"{files['float32']['bytes'] / 1000:.0f}",
                f"{files['int8']['bytes'] / 1000:.0f}",
                f"{verified['max_difference']:.1e}",
            ]
        )
    return table(cells)
