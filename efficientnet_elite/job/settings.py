"""Settings by the names that users give them: command-line flags and keyword arguments.

The table of options is made of the fields of `config`. One option can set several fields: ``seed``
sets the seed of the search and that of the splits.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.config import (
    FORMER_NAMES,
    PARTS,
    DataConfig,
    Limits,
    SearchConfig,
    TrainConfig,
    all_fields,
    check_same_size,
)
from efficientnet_elite.data.choices import AUGMENTATIONS, SOURCES, with_absolute_policy
from efficientnet_elite.device import costs, limits
from efficientnet_elite.device.latency_targets import LATENCY_TARGETS
from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import value_type
from efficientnet_elite.job.recipes import PRESETS
from efficientnet_elite.job.value_types import SHARE, SIZE, checked
from efficientnet_elite.networks import activations
from efficientnet_elite.networks.families import FAMILIES, segmentation
from efficientnet_elite.networks.families.axes import AXES
from efficientnet_elite.networks.pretrained.sources import FILE_SUFFIXES
from efficientnet_elite.search import rules
from efficientnet_elite.training import class_weights


@dataclass(frozen=True)
class Option:
    """A setting that a flag or a keyword argument gives.

    Attributes:
      name: of the flag, without dashes, and of the keyword argument.
      type: of its value: int, float, bool, str, a tuple of strings, `SIZE` or `SHARE`.
      choices: the only values allowed; empty if any value of the type is.
      help: what it does, for users.
      fields: dotted names of the fields that it sets, such as ``train.epochs``.
      factor: by which its value is multiplied.
    """

    name: str
    type: Any
    choices: tuple[str, ...]
    help: str
    fields: tuple[str, ...]
    factor: float | None = None


# Options that give a field in another unit, or under another name.
_IN_OTHER_UNITS = (
    Option(
        "input_size",
        SIZE,
        (),
        "Height and width of the input image in pixels at resolution coefficient 1, such as 96x128 "
        "(height x width). It is base_resolution under another name: 96 and 96x96 are the same.",
        ("base_resolution",),
    ),
    *(
        Option(former, SHARE, (), f"The former name of {now}.", (f"data.{now}",))
        for former, now in FORMER_NAMES.items()
    ),
    Option(
        "budget_minutes",
        float,
        (),
        "Most minutes that the search may take: budget_hours in minutes.",
        ("budget_hours",),
        1 / 60,
    ),
)
# Options that stand for several others.
_FOR_OTHERS = (
    Option(
        "device",
        str,
        (),
        "The board or phone that the network is for, a name of `elite devices`. It sets "
        "--max_size_kb and --max_arena_kb by the device's memory, leaving a quarter for the "
        "application, and on a microcontroller --pool to networks without swish and "
        "squeeze-excite and --latency_target to the estimate for its core, if there is one; these "
        "flags override it.",
        (),
    ),
    Option(
        "latency_target",
        str,
        (),
        "Where latency counts. Candidates are grouped by parameters and by this, in place of "
        f"MACs, unless --group_by says otherwise. {registry.described(LATENCY_TARGETS.values())}. "
        "With m4 and a --device with a Cortex-M4 or M33, --max_latency_ms becomes a limit of "
        "instructions; of a Cortex-M55 no milliseconds are known.",
        (),
    ),
)


def setting_types() -> dict[str, Any]:
    """Dotted name of every setting, such as ``train.epochs``, to the type of its value.

    The settings of a part stand together; limits on metrics that were added are among them.
    """
    types: dict[str, Any] = {}
    for dotted, cls, field in all_fields():
        if cls is Limits:
            types |= {f"limits.{name}": float for name in limits.metrics_by_limit()}
        else:
            types[dotted] = value_type(cls, field.name)
    return types


def value_of(config: SearchConfig, dotted: str) -> Any:
    """The value of a setting by its dotted name."""
    part, _, name = dotted.rpartition(".")
    if part == "limits":
        return config.limits.by_name().get(name)
    return getattr(getattr(config, part) if part else config, name)


def options() -> dict[str, Option]:
    """Name to option, of all settings that have a flag, in their order."""
    table: dict[str, Option] = {}
    for dotted, kind in setting_types().items():
        part, _, name = dotted.rpartition(".")
        if part == "limits":
            name = f"max_{name}"
        elif not _FIELDS[dotted].metadata["flag"]:
            continue
        if name in table:
            table[name] = replace(table[name], fields=(*table[name].fields, dotted))
        else:
            table[name] = Option(name, kind, choices_of(dotted), help_of(dotted), (dotted,))
    return table | {option.name: option for option in (*_IN_OTHER_UNITS, *_FOR_OTHERS)}


def names_of(*parts: str) -> tuple[str, ...]:
    """Names of the options that set a field of these parts of a search: ``data``, ``train``, ..."""
    return tuple(
        option.name
        for option in options().values()
        if any(dotted.rpartition(".")[0] in parts for dotted in option.fields)
    )


def help_of(dotted: str) -> str:
    """Description of a field, with the names that it can have now."""
    if dotted in _NAMES:
        return f"{_FIELDS[dotted].metadata['help']} {_NAMES[dotted]()}"
    part, _, name = dotted.rpartition(".")
    if part == "limits":
        metric = costs.METRICS[limits.metrics_by_limit()[name]]
        unit = _UNITS.get(metric.unit, metric.unit)
        return (
            f"Limit on {metric.title}, in {unit}. {metric.description}. Candidates above the limit "
            "are excluded before training. By default there is no limit."
        )
    return _FIELDS[dotted].metadata["help"]


def choices_of(dotted: str) -> tuple[str, ...]:
    """The only values that a field may have; empty if it may have any of its type."""
    if dotted == "rule":
        return tuple(rules.RULES)
    return _FIELDS[dotted].metadata["choices"] if dotted in _FIELDS else ()


def _pool_names() -> str:
    suffixes = " or ".join(f"-{name}" for name in activations.variants())
    axes = ", ".join(f"{axis.name}={'|'.join(axis.values())}" for axis in AXES.values())
    return (
        f"One or more families, separated by commas: {', '.join(FAMILIES)}. The beginning of a "
        "name stands for all families that begin so, and all for every family. For segmentation: "
        f"{', '.join(segmentation.FAMILIES)}, or segmentation for all of these. A name can end in "
        f"{suffixes} for another activation, then in -nose for no squeeze-excite, -k3 for 3x3 "
        "depthwise kernels, -m16 for channels in multiples of 16 and -stem4 for a 4x4 stem of "
        "stride 4, such as elite-relu6-nose; -mcu is short for -relu6-nose-k3-m16. "
        "NAME:AXIS=VALUE,VALUE stands for a variant for each value, and further axes multiply "
        f"them: {axes}. "
        "module:function takes your own Keras models (docs/families.md)."
    )


def _dataset_names() -> str:
    spellings = ", ".join(f"{each.spelling} ({each.description})" for each in SOURCES.values())
    return f"Use one of {spellings}."


def _augmentation_names() -> str:
    spellings = [f"{each.spelling} ({each.description})" for each in AUGMENTATIONS.values()]
    return f"There are {', '.join(spellings)}."


def _rule_names() -> str:
    return f"average is the rule of the paper; {rules.RECOMMENDED} is recommended."


def _metric_names() -> str:
    return f"Use one or more of {', '.join(costs.METRICS)}."


_UNITS = {"M": "millions", "kB": "kB (1000 bytes)", "ms": "milliseconds"}
_FIELDS = {dotted: field for dotted, cls, field in all_fields() if cls is not Limits}
# Field to the sentence on the names that it can have, which lower rooms keep in tables.
_NAMES: Mapping[str, Callable[[], str]] = {
    "pool": _pool_names,
    "group_by": _metric_names,
    "rule": _rule_names,
    **{name: partial(rules.parameter_help, name) for name in rules.PARAMETERS},
    "data.dataset": _dataset_names,
    "data.augment": _augmentation_names,
}


# -- from values to configs ----------------------------------------------------------------------


def nearest(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the nearest known one, if one is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else ""


def check_names(given: Iterable[str], known: Iterable[str], caller: str) -> None:
    """TypeError where a keyword argument has an unknown name; it names the nearest known one."""
    known = list(known)
    for name in given:
        if name not in known:
            raise TypeError(f"{caller}() has no keyword argument {name!r}{nearest(name, known)}")


def with_values(config: SearchConfig, values: Mapping[str, Any]) -> SearchConfig:
    """A config with some fields replaced, by their dotted names; paths become absolute.

    Raises:
      UserError: a value is out of its bounds, or has no effect under the rule of elimination.
    """
    rule = values.get("rule", config.rule)
    changes_rule = rules.find_rule(rule) is not rules.find_rule(config.rule)
    for name in rules.PARAMETERS:
        if values.get(name) is not None:
            rules.check_parameter(rule, name)
    if values.get("round_epochs") is not None:
        # The config's first elimination belongs to its own rounds.
        config = replace(config, first_elimination=None)
    elif changes_rule and config.first_elimination is not None:
        # The first elimination stays where it is; other rules make it after one round.
        config = replace(config, round_epochs=config.first_elimination, first_elimination=None)
    if values.get("budget_epochs") is not None and "budget_hours" not in values:
        config = replace(config, budget_hours=None)  # that of the config
    # Rounds of the config that no longer fit into a shorter training become the rule's own.
    epochs = values.get("train.epochs", config.train.epochs)
    too_long: dict[str, Any] = {
        name: None
        for name in ("round_epochs", "first_elimination")
        if (getattr(config, name) or 0) > epochs >= 1
    }
    config = replace(config, **too_long)
    parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    top: dict[str, Any] = {}
    for dotted, value in values.items():
        part, _, name = dotted.rpartition(".")
        (parts[part] if part else top)[name] = value
    if parts["limits"]:
        top["limits"] = Limits.of({**config.limits.by_name(), **parts.pop("limits")})
    for part, replaced in parts.items():
        if replaced:
            top[part] = replace(getattr(config, part), **replaced)
    config = replace(config, **top)
    return replace(
        config,
        data=_with_absolute_paths(config.data),
        train=_with_absolute_weights(config.train),
        metric_table=_absolute(config.metric_table),
    )


def _with_absolute_paths(data: DataConfig) -> DataConfig:
    """A recorded setting must mean the same images from any directory."""
    data = replace(
        data,
        unlabelled=_absolute(data.unlabelled),
        labels=_absolute(data.labels),
        augment=data.augment and with_absolute_policy(data.augment),
    )
    name, _, argument = data.dataset.partition(":")
    if name in SOURCES and SOURCES[name].is_path and argument:
        return replace(data, dataset=f"{name}:{_absolute(argument)}")
    return data


def _with_absolute_weights(train: TrainConfig) -> TrainConfig:
    """A recorded file of pretrained weights must be the same file from any directory.

    Weights of classes are recorded themselves, in place of their file.
    """
    train = replace(train, class_weights=class_weights.written_out(train.class_weights))
    if train.pretrained is None or not _is_weights_file(train.pretrained):
        return train
    network, colon, path = train.pretrained.partition(":")
    if colon and not _is_weights_file(network):
        return replace(train, pretrained=f"{network}:{_absolute(path)}")
    return replace(train, pretrained=_absolute(train.pretrained))


def _is_weights_file(name: str) -> bool:
    return "/" in name or name.lower().endswith(FILE_SUFFIXES)


def _absolute(path: str | None) -> str | None:
    return path and str(Path(path).expanduser().absolute())


def search_config(values: Mapping[str, Any], config: SearchConfig) -> SearchConfig:
    """A config in which the options that are given, those that are not None, are replaced."""
    table = options()
    replaced: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None and name in table:
            option = table[name]
            value = checked(value, option.type, name, option.choices)
            if option.factor is not None:
                value *= option.factor
            for field in option.fields:
                if field in replaced and option.type == SIZE:
                    check_same_size(replaced[field], value)
                elif field in replaced:
                    raise UserError(f"{name} is given twice: as {field}, too")
            replaced |= dict.fromkeys(option.fields, value)
    return with_values(config, replaced)


def given_fields(values: Mapping[str, Any]) -> frozenset[str]:
    """Dotted names of the fields that options set which are given, those that are not None."""
    table = options()
    names = [name for name, value in values.items() if name in table and value is not None]
    return frozenset(chain.from_iterable(table[name].fields for name in names))


def data_config(values: Mapping[str, Any], data: DataConfig | None = None) -> DataConfig:
    """The settings of images with the options that are given; other options are ignored."""
    names = {*names_of("data")}
    part = {name: value for name, value in values.items() if name in names}
    return search_config(part, SearchConfig(data=data or DataConfig())).data


TRAINING_OPTIONS = (
    "base_resolution",
    "input_size",
    "device",
    "latency_target",
    "metric_table",
    "seed",
)
"""Options of trainings of single networks, besides those of the recipe, images and limits."""


def training_config(values: Mapping[str, Any], config: SearchConfig) -> SearchConfig:
    """A config with the given options that training single networks needs; others are ignored.

    These are the recipe, the images, the input size, the seed, and the limits that choose a network
    where none is named. Single networks are trained without rounds, so that the lengths of rounds
    do not bound the number of epochs.

    Raises:
      UserError: as for `search_config`, or the settings ask for folds.
    """
    names = {*TRAINING_OPTIONS, *names_of("train", "data", "limits")}
    part = {name: value for name, value in values.items() if name in names}
    config = search_config(part, replace(config, round_epochs=None, first_elimination=None))
    if config.data.folds > 1:
        raise UserError(
            f"validation={config.data.validation} compares the finalists of a search: a single "
            "network takes a share, such as 0.2"
        )
    return config


def limits_of(values: Mapping[str, Any]) -> Limits:
    """The limits that are given."""
    names = {*names_of("limits")}
    part = {name: value for name, value in values.items() if name in names}
    return search_config(part, SearchConfig()).limits


def preset(name: str) -> SearchConfig:
    """The preset of this name; UserError if there is none."""
    if name not in PRESETS:
        raise UserError(
            f"no preset {name!r}{nearest(name, PRESETS)} (presets are {', '.join(PRESETS)}; a file "
            "of settings ends in .toml, .yaml or .yml)"
        )
    return PRESETS[name]()
