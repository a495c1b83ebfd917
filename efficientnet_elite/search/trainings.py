"""What a work directory of single trainings holds: settings, results, checkpoints.

`job.train` writes it. Exports read it, as they read the ledger of a search.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.config import BEFORE, LAST, InputSize, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.champions import read_champions
from efficientnet_elite.search.workdir import checkpoint_path, write_bytes

# The keys of the settings that say where images are found. A training goes on when they change, as
# long as the images are the same.
PLACE = ("data", "max_side", "seed")
_COLUMNS = ["network", "seed", "epoch", "train_loss", "validation_accuracy", "learning_rate"]


def settings_path(workdir: Path) -> Path:
    """Settings that the trainings were begun with."""
    return workdir / "train_settings.json"


def results_path(workdir: Path) -> Path:
    """One entry for each network that was trained to its end."""
    return workdir / "train.json"


def epochs_path(workdir: Path) -> Path:
    """A table with a row for each epoch of each training."""
    return workdir / "results.csv"


def label(network: str, seed: int) -> str:
    """Name of one training: of its checkpoint and its exports."""
    return f"{network}-seed{seed}"


def holds_trainings(workdir: Path) -> bool:
    """Whether networks were trained here by name, without a search."""
    return settings_path(workdir).is_file()


def networks(workdir: Path) -> list[dict[str, Any]]:
    """The networks of a work directory that can be exported, each with its ``name``.

    Raises:
      UserError: the search or the trainings have not come to their end.
    """
    return read_trained(workdir) if holds_trainings(workdir) else read_champions(workdir)


def read_trained(workdir: Path) -> list[dict[str, Any]]:
    """The trainings that are finished, each with the ``name`` of its checkpoint.

    Besides, an entry has ``network``, ``resolution``, ``params``, ``macs``, ``test_accuracy``,
    ``score`` and ``start``.

    Raises:
      UserError: none is finished, or the file is damaged.
    """
    path = results_path(workdir)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return [entry for record in records for entry in _entries(workdir, record)]
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: let `elite train --workdir={workdir}` come to its end first"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: run `elite train` again") from error


def _entries(workdir: Path, record: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """One entry for each seed of a network."""
    network, accuracies = str(record["network"]), record["test_accuracies"]
    # Earlier versions do not name the seeds, which follow one another.
    seeds = record.get("seeds") or _seeds(workdir, network)
    shared = {key: record[key] for key in ("resolution", "params", "macs")}
    for seed, accuracy in zip(seeds, accuracies, strict=False):
        yield {
            "name": label(network, seed),
            "network": network,
            **shared,
            "test_accuracy": accuracy,
            "score": record.get("score", "top-1"),
            "start": record.get("start"),
        }


def _seeds(workdir: Path, network: str) -> list[int]:
    name = re.compile(re.escape(network) + r"-seed(\d+)")
    stems = (path.stem for path in checkpoint_path(workdir, "x").parent.glob("*.npz"))
    return sorted(int(found[1]) for stem in stems if (found := name.fullmatch(stem)))


@dataclass(frozen=True)
class Recorded:
    """The settings of the trainings in a work directory.

    Attributes:
      config: recipe, input size, seed and images; its other settings mean nothing.
      max_side: side in pixels that the images are stored with.
      fingerprint: of the images.
      names_images: whether `config` says where the images are. Earlier versions did not.
    """

    config: SearchConfig
    max_side: int
    fingerprint: str
    names_images: bool


def begun_with(workdir: Path) -> dict[str, Any]:
    """The content of `settings_path`, and what all trainings had before a setting existed."""
    settings = json.loads(settings_path(workdir).read_text(encoding="utf-8"))
    train = {**asdict(TrainConfig()), **BEFORE, **settings["train"]}
    return {"channels": 3, "classifier_reads": LAST, **settings, "train": train}


def read_settings(workdir: Path) -> Recorded:
    """The settings of the trainings in a work directory; UserError if the file is damaged."""
    path = settings_path(workdir)
    entries = read_trained(workdir)
    try:
        settings = begun_with(workdir)
        bases = settings["base_resolution"], *(entry["resolution"] for entry in entries)
        known = {"train", "base_resolution", "seed", "data", "classifier_reads"} & settings.keys()
        values = {"group_by": SearchConfig().group_by, **{name: settings[name] for name in known}}
        values["data"] = {**values.get("data", {}), "channels": str(settings["channels"])}
        return Recorded(
            config=SearchConfig.from_dict(values),
            max_side=settings.get(
                "max_side", max(InputSize.of(base).stored_side for base in bases)
            ),
            fingerprint=settings["images"],
            names_images="data" in settings,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: restore it, or train again") from error


def write_epochs(workdir: Path, name: tuple[str, int], rows: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the rows of one training in the table of epochs, atomically.

    Args:
      workdir: the work directory; its `lock` is held.
      name: network and seed.
      rows: one for each epoch, with the columns ``epoch``, ``train_loss``,
        ``validation_accuracy`` and ``learning_rate``.
    """
    network, seed = name
    path = epochs_path(workdir)
    before = (
        list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        if path.is_file()
        else []
    )
    others = [
        row for row in before if (row.get("network"), row.get("seed")) != (network, str(seed))
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([*others, *({"network": network, "seed": seed, **row} for row in rows)])
    write_bytes(path, out.getvalue().encode())
