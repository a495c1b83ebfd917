"""The champions of a search's work directory, exported one by one into its folder ``export``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite import search
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.ledger import Ledger
from efficientnet_elite.training import CALIBRATION_IMAGES, load_averaged
from efficientnet_elite.workdir import champions_path, checkpoint_path, lock

from . import remedies as remedies_lib
from .champion import Exported, export_model
from .formats import Format
from .heads import with_output

FOLDER = "export"


def champions(workdir: Path) -> list[dict[str, Any]]:
    """Entries of ``champions.json``; UserError where there are none yet."""
    path = champions_path(workdir)
    try:
        return [{**entry, "name": str(entry["name"])} for entry in json.loads(path.read_text())]
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: let `elite search --workdir={workdir}` come to its end first"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: run `elite search` again") from error


def give_masks(workdir: Path) -> bool:
    """Whether a search's networks give each pixel a class; UserError where there is no search."""
    with Ledger(workdir) as ledger:
        # Ledgers of older versions do not name the score: theirs are of classifiers.
        return ledger.meta()["data"].get("score") == "mIoU"


def export_champions(
    workdir: Path,
    *,
    names: Sequence[str] = (),
    again: bool = True,
    calibration_images: int = CALIBRATION_IMAGES,
    max_accuracy_drop: float | None = None,
    output: str = "logits",
    method: str = "minmax",
    formats: Sequence[Format] = (),
    remedies: Sequence[str] | None = None,
    progress: bool = True,
) -> list[Exported]:
    """Exports and verifies champions; each is written as soon as it has passed.

    Args:
      workdir: of a search that has come to its end.
      names: champions to export; all by default.
      again: whether to repeat exports that are up to date.
      calibration_images: training images that set the int8 ranges, in turn from all classes.
      max_accuracy_drop, formats: see `export_model`.
      output: what the files give, of `heads.OUTPUTS`.
      method: how the calibration images choose the ranges, of `calibration.METHODS`.
      remedies: names of those to try where int8 drops by more, see `remedies.NAMES`; None for
        `remedies.DEFAULT`. For networks that give masks there are none.
      progress: show progress bars.

    Returns:
      what was exported now.

    Raises:
      UserError: champions that failed, after all others have been exported.
    """
    names_of_remedies = remedies_lib.check_names(
        remedies_lib.DEFAULT if remedies is None else remedies
    )
    if remedies and give_masks(workdir):
        raise UserError(
            "remedies are judged by the share of images that are right, which networks for masks "
            "do not have: leave --remedies out"
        )
    chosen = champions(workdir)
    if unknown := set(names) - {entry["name"] for entry in chosen}:
        raise UserError(f"{min(unknown)} is no champion of {workdir}: see champions.json")
    chosen = [entry for entry in chosen if not names or entry["name"] in names]
    pending = [e for e in chosen if again or not _is_current(workdir, e["name"], formats)]
    if not pending:
        return []
    done, failures = [], []
    with lock(workdir), Ledger(workdir) as ledger:
        config, data = search.recorded(ledger, progress=progress)
        for entry in pending:
            try:
                exported = _export(
                    workdir,
                    entry,
                    config,
                    data,
                    calibration_images,
                    names_of_remedies,
                    max_accuracy_drop=max_accuracy_drop,
                    output=output,
                    method=method,
                    formats=formats,
                )
            except UserError as error:
                failures.append(str(error))
                continue
            ledger.record_timing("export", exported.name, exported.seconds)
            done.append(exported)
    if failures:
        raise UserError("; ".join(failures))
    return done


def _export(
    workdir: Path,
    entry: dict[str, Any],
    config: SearchConfig,
    data: data_lib.ImageData,
    calibration_images: int,
    remedies: tuple[str, ...],
    output: str,
    method: str,
    **options: Any,
) -> Exported:
    name = entry["name"]
    checkpoint = checkpoint_path(workdir, name)
    model, spec, epochs = load_averaged(checkpoint)
    sizes = {"resolution": spec.resolution, "base_resolution": config.base_resolution}
    images, indices = data_lib.calibration_images(
        data, **sizes, count=calibration_images, seed=config.seed
    )
    size = config.train.batch_size
    batches = data_lib.eval_batches(data, "test", **sizes, batch_size=size)

    def validation() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        judges = data_lib.eval_batches(data, "validation", **sizes, batch_size=size)
        return ((x.numpy(), y.numpy()) for x, y in judges)

    def training() -> tuple[Iterator[Any], int]:
        stream, steps = data_lib.train_batches(
            data, resolution=spec.resolution, batch_size=size, seed=config.seed
        )
        return (images for images, _ in stream), steps

    return export_model(
        with_output(model, output),
        name=name,
        out_dir=workdir / FOLDER,
        labels=data.labels,
        calibration=images,
        test_batches=((x.numpy(), y.numpy()) for x, y in batches),
        details={
            "champion": entry,
            "spec": json.loads(spec.to_json()),
            "epochs": epochs,
            "checkpoint_sha256": _digest(checkpoint),
            "dataset": {"name": data.name, "fingerprint": data.fingerprint},
            "crop_fraction": data.pipeline.crop_fraction(spec.resolution, config.base_resolution),
            "calibration": {
                "method": method,
                "part": "train",
                "seed": config.seed,
                "indices": indices.tolist(),
            },
        },
        method=method,
        # Remedies are judged by the share of images that are right.
        plan=None if data.masks else remedies_lib.Plan(remedies, validation, training),
        **options,
    )


def read_sidecars(workdir: Path) -> list[dict[str, Any]]:
    """Sidecars of all exported champions, in the order of ``champions.json``."""
    paths = [workdir / FOLDER / e["name"] / f"{e['name']}.json" for e in champions(workdir)]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def _is_current(workdir: Path, name: str, formats: Sequence[Format]) -> bool:
    """Whether checkpoint and files are those that the sidecar vouches for, and none lacks."""
    folder = workdir / FOLDER / name
    try:
        sidecar = json.loads((folder / f"{name}.json").read_text())
        digests = {checkpoint_path(workdir, name): sidecar["details"]["checkpoint_sha256"]}
        sidecar["details"]["crop_fraction"], sidecar["int8_layers"]  # not of an older version
        digests |= {folder / f["file"]: f["sha256"] for f in sidecar["files"].values()}
        complete = {form.name for form in formats} <= sidecar["files"].keys()
        return complete and all(_digest(path) == digest for path, digest in digests.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
