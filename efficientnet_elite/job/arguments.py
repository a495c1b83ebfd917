"""What a user names without a flag: networks and a data set; and the work directory by default."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

from efficientnet_elite.data.choices import SOURCES
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.names import family_of_network
from efficientnet_elite.search.workdir import write_json

_FILES = ("csv", "npz")  # data sources that are files with this ending
DEFAULT_DATA_SET = "digits"  # of `DataConfig`

# -- networks and a data set -----------------------------------------------------------------------


def split(arguments: Sequence[str], dataset: str | None) -> tuple[tuple[str, ...], str | None]:
    """Networks and the data set among arguments.

    Args:
      arguments: names of networks, and at most one data set: a folder, or what ``--dataset`` takes.
      dataset: what ``--dataset`` gives; all arguments are then networks.

    Returns:
      The networks, and the data set as ``--dataset`` takes it; None where none is named.

    Raises:
      UserError: there are two data sets, or an argument is a network as well as a folder.
    """
    if dataset is not None:
        return tuple(arguments), dataset
    networks, datasets = [], []
    for argument in arguments:
        if is_network(argument):
            if Path(argument).is_dir():
                raise UserError(
                    f"{argument} is a network and a folder: write ./{argument} for the folder, or "
                    "name the data set with --dataset"
                )
            networks.append(argument)
        elif _is_data_set(argument):
            datasets.append(data_set(argument))
        else:
            networks.append(argument)  # of which the name is wrong, as will be said
    if len(datasets) > 1:
        raise UserError(f"{arguments[-1]}: name a single data set, not {len(datasets)}")
    return tuple(networks), datasets[0] if datasets else None


def is_network(name: str) -> bool:
    """Whether this is the name of a network, with or without ``@PIXELS``."""
    try:
        family_of_network(name.partition("@")[0])
    except UserError:
        return False
    return True


def _is_data_set(text: str) -> bool:
    return text.partition(":")[0] in SOURCES or "/" in text or Path(text).expanduser().exists()


def data_set(text: str) -> str:
    """A data set as ``--dataset`` takes it, from the path of a folder or file or from just that.

    Raises:
      UserError: there is no such folder or file, or the name has two meanings.
    """
    is_folder = Path(text).expanduser().is_dir()
    name = text.partition(":")[0]
    if name in SOURCES:
        if is_folder:
            raise UserError(
                f"{text} is a data set and a folder: write ./{text} for the folder, or "
                f"--dataset={text}"
            )
        return text
    if (source := Path(text).suffix.casefold().removeprefix(".")) in _FILES and not is_folder:
        return f"{source}:{text}"
    if not is_folder:
        problem = "is a file" if Path(text).expanduser().exists() else "does not exist"
        raise UserError(
            f"{text} {problem}: give a folder that contains one folder of images for each class"
        )
    return f"folder:{text}"


# -- the work directory ----------------------------------------------------------------------------

_REQUEST_FILE = "request.json"
_ROOT = Path("runs")


def default_workdir(
    command: str,
    networks: Sequence[str],
    options: Mapping[str, Any],
    *,
    today: date | None = None,
) -> Path:
    """The work directory where none is named: ``runs/NAME-DATE``.

    The same request on the same day gets the same one, so that it is continued; another request
    gets one with a number added. The directory is made and holds the request.

    Args:
      command: ``search`` or ``train``.
      networks: that are named.
      options: values by the names of flags; None for those that are not given.
      today: the date; by default that of today.
    """
    given = {name: value for name, value in options.items() if value is not None}
    dataset = str(given.get("dataset", DEFAULT_DATA_SET))
    source, _, argument = dataset.partition(":")
    if source in SOURCES and SOURCES[source].is_path:
        argument = str(Path(argument).expanduser().absolute())
        given["dataset"] = f"{source}:{argument}"
    request = {"command": command, "networks": list(networks), "options": given}
    request = json.loads(json.dumps(request, default=str))
    base = f"{_name(source, argument)}-{today or date.today():%Y-%m-%d}"
    for number in count(1):
        path = _ROOT / (base if number == 1 else f"{base}-{number}")
        if not path.exists():
            write_json(path / _REQUEST_FILE, request)
            return path
        if _read(path / _REQUEST_FILE) == request:
            return path
    raise AssertionError("unreachable")


def _name(source: str, argument: str) -> str:
    """A name for a folder, from that of a data set."""
    text = Path(argument).name if argument else source
    return re.sub(r"[^\w.-]+", "_", text).strip("._-") or source


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # made by hand, or damaged: another one is used
        return None
