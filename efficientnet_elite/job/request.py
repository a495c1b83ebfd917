"""What a user asks for: settings, and which of them he gave himself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.job import config_file, settings


@dataclass(frozen=True)
class Request:
    """Settings from a preset or a file, and from flags or keyword arguments.

    Attributes:
      config: all settings.
      given: dotted names of those that stand in the file, or have a flag or keyword argument. All
        others may be replaced by a recipe that suits pretrained weights (`starts`).
    """

    config: SearchConfig
    given: frozenset[str]


def search_request(options: Mapping[str, Any], config: str | Path) -> Request:
    """The settings of a search.

    Args:
      options: values by the names of flags; None for those that are not given.
      config: a preset or a file of settings.

    Raises:
      UserError: a setting or the file is wrong.
    """
    named = config_file.named_config(config)
    given = config_file.names_in(config) | settings.given_fields(options)
    return Request(settings.search_config(options, named), given)


def training_request(options: Mapping[str, Any], config: str | Path) -> Request:
    """The settings of trainings of single networks, see `settings.training_config`."""
    request = search_request({}, config)
    return replace(
        request,
        config=settings.training_config(options, request.config),
        given=request.given | settings.given_fields(options),
    )
