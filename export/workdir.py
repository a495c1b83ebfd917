"""Exports the champions of a search into the folder ``export`` of its work directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import CALIBRATION_IMAGES, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import run
from efficientnet_elite.search.champions import read_champions
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.starts import start_of_candidate
from efficientnet_elite.search.workdir import checkpoint_path, lock
from efficientnet_elite.training.trainer import load_averaged

from . import formats as formats_lib
from .champion import Exported, export_model
from .formats import Format
from .int8 import remedies as remedies_lib
from .int8.choices import default_remedies
from .int8.convert import with_output

FOLDER = "export"


@dataclass(frozen=True)
class Settings:
    """How champions are exported; the sidecar of an export holds its settings.

    Attributes:
      calibration_images: size of the representative data set, taken in turn from all classes.
      method: calibration method, a name of `choices.CALIBRATION_METHODS`.
      output: the last layer of the networks in the files, one of `choices.OUTPUTS`.
      max_accuracy_drop: see `export_model`.
      remedies: names of `choices.REMEDIES`, which are tried if the accuracy drops by more; they
        are ignored for segmentation networks.
    """

    calibration_images: int = CALIBRATION_IMAGES
    method: str = "minmax"
    output: str = "logits"
    max_accuracy_drop: float | None = None
    remedies: tuple[str, ...] = default_remedies()


def is_segmentation(workdir: Path) -> bool:
    """Whether a work directory holds a segmentation search; UserError if it holds no search."""
    with Ledger(workdir) as ledger:
        # Ledgers of older versions have no score; all of them are from classifiers.
        return ledger.meta()["data"].get("score") == "mIoU"


def export_champions(
    workdir: Path,
    *,
    names: Sequence[str] = (),
    again: bool = True,
    formats: Sequence[Format] = (),
    progress: bool = True,
    **given: Any,
) -> list[Exported]:
    """Exports champions; the files of each are verified before they are written.

    Args:
      workdir: work directory of a finished search.
      names: names of the champions to export; all by default.
      again: if true, all of them are exported, with the given and otherwise default settings. If
        false, an export that is intact and already has the given settings and formats is left as it
        is; any other is repeated with the settings and formats of its sidecar, in which the given
        settings replace older ones and the given formats are added.
      formats: further formats besides float32 and int8.
      progress: whether to show progress bars.
      **given: values of fields of `Settings`.

    Returns:
      The exports that this call made.

    Raises:
      UserError: an unknown champion, remedies for a segmentation search, or exports that failed
        (raised after all others have been exported).
    """
    if "remedies" in given:
        given["remedies"] = remedies_lib.check_names(given["remedies"])
        if given["remedies"] and is_segmentation(workdir):
            raise UserError(
                "remedies need top-1 accuracy, which segmentation networks do not have: leave "
                "--remedies out"
            )
    champions = read_champions(workdir)
    if unknown := set(names) - {entry["name"] for entry in champions}:
        raise UserError(f"{workdir} has no champion {min(unknown)}: see champions.json")
    pending = []
    for entry in (entry for entry in champions if not names or entry["name"] in names):
        before, exported_formats = (
            (Settings(), set()) if again else _last_export(workdir, entry["name"])
        )
        settings, wanted = replace(before, **given), exported_formats | set(formats)
        if (
            again
            or (settings, wanted) != (before, exported_formats)
            or not _is_sound(workdir, entry["name"])
        ):
            pending.append((entry, settings, formats_lib.others(wanted)))
    if not pending:
        return []
    exports, failures = [], []
    with lock(workdir), Ledger(workdir) as ledger:
        config, data = run.recorded(ledger, progress=progress)
        meta = ledger.meta()
        for entry, settings, others in pending:
            try:
                start = start_of_candidate(meta, entry["name"])
                exported = _export(workdir, entry, start, config, data, settings, others)
            except UserError as error:
                failures.append(str(error))
                continue
            ledger.record_timing("export", exported.name, exported.seconds)
            exports.append(exported)
    if failures:
        raise UserError("; ".join(failures))
    return exports


def _export(
    workdir: Path,
    entry: dict[str, Any],
    start: dict[str, Any] | None,
    config: SearchConfig,
    data: data_lib.ImageData,
    settings: Settings,
    formats: Sequence[Format],
) -> Exported:
    name = entry["name"]
    checkpoint = checkpoint_path(workdir, name)
    model, spec, epochs = load_averaged(checkpoint)
    sizes = {"resolution": spec.resolution, "base_resolution": config.base_resolution}
    images, indices = data_lib.calibration_images(
        data, **sizes, count=settings.calibration_images, seed=config.seed
    )
    size = config.train.batch_size
    test_batches = data_lib.eval_batches(data, "test", **sizes, batch_size=size)

    def validation() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        batches = data_lib.eval_batches(data, "validation", **sizes, batch_size=size)
        return ((x.numpy(), y.numpy()) for x, y in batches)

    def training() -> tuple[Iterator[Any], int]:
        stream, steps = data_lib.train_batches(
            data, resolution=spec.resolution, batch_size=size, seed=config.seed
        )
        return (images for images, _ in stream), steps

    return export_model(
        with_output(model, settings.output),
        name=name,
        out_dir=workdir / FOLDER,
        labels=data.labels,
        calibration_images=images,
        test_batches=((x.numpy(), y.numpy()) for x, y in test_batches),
        details={
            "champion": entry,
            "spec": json.loads(spec.to_json()),
            "epochs": epochs,
            "start": start,
            "checkpoint_sha256": _digest(checkpoint),
            "dataset": {"name": data.name, "fingerprint": data.fingerprint},
            "crop_fraction": data.pipeline.crop_fraction(spec.resolution, config.base_resolution),
            "settings": asdict(settings),
            "calibration": {
                "method": settings.method,
                "part": "train",
                "seed": config.seed,
                "indices": indices.tolist(),
            },
        },
        max_accuracy_drop=settings.max_accuracy_drop,
        formats=formats,
        method=settings.method,
        # Remedies need top-1 accuracy, which segmentation networks do not have.
        plan=None
        if data.masks
        else remedies_lib.RemedyPlan(settings.remedies, validation, training),
    )


def read_sidecars(workdir: Path) -> list[dict[str, Any]]:
    """Sidecars of all exported champions, in the order of ``champions.json``."""
    paths = [_sidecar_path(workdir, entry["name"]) for entry in read_champions(workdir)]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def _sidecar_path(workdir: Path, name: str) -> Path:
    return workdir / FOLDER / name / f"{name}.json"


# Errors from reading a sidecar that is missing, damaged or from another version.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _last_export(workdir: Path, name: str) -> tuple[Settings, set[Format]]:
    """Settings and formats of a champion's last export; the defaults if there was none."""
    try:
        sidecar = json.loads(_sidecar_path(workdir, name).read_text())
        details, exported_formats = (
            sidecar["details"],
            set(map(formats_lib.from_name, sidecar["files"])),
        )
        if "settings" in details:
            settings = Settings(**details["settings"])
            return replace(settings, remedies=tuple(settings.remedies)), exported_formats
        calibration = details["calibration"]  # older versions record no more
        count, method = len(calibration["indices"]), calibration.get("method", "minmax")
        return Settings(calibration_images=count, method=method), exported_formats
    except _UNUSABLE:
        return Settings(), set()


def _is_sound(workdir: Path, name: str) -> bool:
    """Whether the checkpoint and the files still have the hashes in the sidecar."""
    path = _sidecar_path(workdir, name)
    try:
        sidecar = json.loads(path.read_text())
        digests = {checkpoint_path(workdir, name): sidecar["details"]["checkpoint_sha256"]}
        sidecar["details"]["crop_fraction"], sidecar["int8_layers"]  # KeyError for older versions
        digests |= {path.with_name(f["file"]): f["sha256"] for f in sidecar["files"].values()}
        return all(_digest(path) == digest for path, digest in digests.items())
    except _UNUSABLE:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
