"""What a user asks for: settings, and which of them he gave himself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientnet_elite.config import AUTO, SearchConfig
from efficientnet_elite.data.choices import SOURCES
from efficientnet_elite.job import config_file, device_choice, settings
from efficientnet_elite.job.recipes import FROM_SCRATCH, OF_THE_OPTIMIZER, QUICK


@dataclass(frozen=True)
class Request:
    """Settings from a preset or a file, and from flags or keyword arguments.

    Attributes:
      config: all settings.
      given: dotted names of those that stand in the file, or have a flag or keyword argument. All
        others may be replaced by a recipe that suits pretrained weights (`starts`).
      automatic: whether the others are chosen by `plan`: the preset ``auto``.
      message: what ``--device`` chose, a line for users; None without a device.
    """

    config: SearchConfig
    given: frozenset[str]
    automatic: bool = False
    message: str | None = None


def search_request(options: Mapping[str, Any], config: str | Path | None = None) -> Request:
    """The settings of a search.

    Args:
      options: values by the names of flags; None for those that are not given.
      config: a preset or a file of settings; None for the preset that suits the data set: ``auto``
        for images of the user, ``quick`` for those that are built in.

    Raises:
      UserError: a setting or the file is wrong.
    """
    if config is None:
        config = AUTO if _is_of_user(options.get("dataset")) else QUICK
    named = config_file.named_config(config)
    in_file = config_file.names_in(config)
    device = options.get("device")
    options = device_choice.expanded(options, named, in_file)
    given = in_file | settings.given_fields(options)
    automatic = config_file.base_of(config) == AUTO
    asked = settings.search_config(options, named)
    message = None if device is None else device_choice.announcement(device, asked)
    return _suited(Request(asked, given, automatic, message))


def _is_of_user(dataset: Any) -> bool:
    """Whether a data set holds the user's own images; one that does not exist is named later."""
    name = str(dataset).partition(":")[0]
    return name in SOURCES and SOURCES[name].of_user


def training_request(options: Mapping[str, Any], config: str | Path | None = None) -> Request:
    """The settings of trainings of single networks, see `settings.training_config`."""
    request = search_request({"dataset": options.get("dataset")}, config)
    device = options.get("device")
    options = device_choice.expanded(options, request.config, request.given)
    request = _suited(
        replace(
            request,
            config=settings.training_config(options, request.config),
            given=request.given | settings.given_fields(options),
        )
    )
    if device is None:
        return request
    return replace(request, message=device_choice.announcement(device, request.config))


def _suited(request: Request) -> Request:
    """Without the learning rate and its like of ``auto`` where the user chose another optimizer."""
    if not request.automatic or (request.config.train.optimizer == FROM_SCRATCH["train.optimizer"]):
        return request
    default = SearchConfig()
    names = (name for name in OF_THE_OPTIMIZER if name not in request.given)
    values = {name: settings.value_of(default, name) for name in names}
    return replace(request, config=settings.with_values(request.config, values))
