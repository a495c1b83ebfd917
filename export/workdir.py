"""Exports the networks of a work directory into its folder ``export``.

These are the champions of a search, or the networks that `elite train` has trained by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import (
    AUTO,
    CALIBRATION_IMAGES,
    DataConfig,
    InputSize,
    SearchConfig,
)
from efficientnet_elite.data.channels import for_network
from efficientnet_elite.data.decode import UnreadableImage, decode, pixels_of, read_file
from efficientnet_elite.data.folder import scan_unlabelled
from efficientnet_elite.data.geometry import center_box, crop_and_resize
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import run
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.starts import from_scratch, start_of_candidate
from efficientnet_elite.search.trainings import (
    holds_trainings,
    networks,
    read_settings,
    read_trained,
)
from efficientnet_elite.search.workdir import cache_path, checkpoint_path, lock
from efficientnet_elite.training.loading import load_averaged

from . import beside, keras_file, predictions
from . import formats as formats_lib
from .champion import Exported, export_model
from .formats import Format
from .int8 import remedies as remedies_lib
from .int8.choices import default_remedies
from .int8.convert import with_output
from .patches import request as patch_request


@dataclass(frozen=True)
class Settings:
    """How networks are exported; the sidecar of an export holds its settings.

    Attributes:
      calibration_images: size of the representative data set, taken in turn from all classes.
      method: calibration method, one of `choices.CALIBRATIONS`.
      output: the last layer of the networks in the files, one of `choices.OUTPUTS`.
      max_accuracy_drop: see `export_model`.
      remedies: names of `choices.REMEDIES`, which are tried if the accuracy drops by more; they
        are ignored for segmentation networks.
      unknown_precision: wanted share of right answers, 0..1, among those that are not taken for
        unknown; None for no such answers, or for `confidence.PRECISION` with `unknown`.
      unknown: folder of images of none of the classes, by which that threshold is chosen, too.
      patches, max_arena_kb, arena: how the first layers of the int8 file run patch by patch, see
        `patches.request.request`.
    """

    calibration_images: int = CALIBRATION_IMAGES
    method: str = AUTO
    output: str = "logits"
    max_accuracy_drop: float | None = None
    remedies: tuple[str, ...] = default_remedies()
    unknown_precision: float | None = None
    unknown: str | None = None
    patches: str = patch_request.NONE
    max_arena_kb: float | None = None
    arena: str = patch_request.TFLM


def is_segmentation(workdir: Path) -> bool:
    """Whether a work directory holds segmentation networks; UserError if it holds none at all."""
    if holds_trainings(workdir):
        return any(entry["score"] == "mIoU" for entry in read_trained(workdir))
    with Ledger(workdir) as ledger:
        # Ledgers of older versions have no score; all of them are from classifiers.
        return ledger.meta()["data"].get("score") == "mIoU"


def export_networks(
    workdir: Path,
    *,
    names: Sequence[str] = (),
    again: bool = True,
    formats: Sequence[Format] = (),
    data: DataConfig | None = None,
    trusted: Collection[str] = (),
    progress: bool = True,
    **given: Any,
) -> list[Exported]:
    """Exports champions or trained networks; the files of each are verified before written.

    Args:
      workdir: work directory of a finished search, or of networks that were trained by name.
      names: names of the networks to export; all by default. A network that was trained by name
        stands for its trainings with all seeds.
      again: if true, all of them are exported, with the given and otherwise default settings. If
        false, an export that is intact and already has the given settings and formats is left as it
        is; any other is repeated with the settings and formats of its sidecar, in which the given
        settings replace older ones and the given formats are added.
      formats: further formats besides float32 and int8.
      data: where the images of trainings are now; None for where they were.
      trusted: modules that may be imported to build a user's own models.
      progress: whether to show progress bars.
      **given: values of fields of `Settings`.

    Returns:
      The exports that this call made.

    Raises:
      UserError: an unknown network, other images, remedies for segmentation, or exports that failed
        (raised after all others have been exported).
    """
    if "remedies" in given:
        given["remedies"] = remedies_lib.check_names(given["remedies"])
        if given["remedies"] and is_segmentation(workdir):
            raise UserError(
                "remedies need top-1 accuracy, which segmentation networks do not have: leave "
                "--remedies out"
            )
    for name in ("unknown_precision", "unknown"):
        if given.get(name) is not None and is_segmentation(workdir):
            raise UserError(
                f"segmentation networks give each pixel a class of theirs: leave --{name} out"
            )
    chosen = select(workdir, names)
    pending = []
    for entry in chosen:
        before, exported_formats = (
            (Settings(), set()) if again else _last_export(workdir, entry["name"])
        )
        settings, wanted = replace(before, **given), exported_formats | set(formats)
        if (
            again
            or (settings, wanted) != (before, exported_formats)
            or not _is_sound(workdir, entry)
        ):
            pending.append((entry, settings, formats_lib.others(wanted)))
    if not pending:
        return []
    exports, failures = [], []
    with lock(workdir), _recorded(workdir, data, trusted, progress) as record:
        for entry, settings, others in pending:
            try:
                exported = _export(workdir, entry, record, settings, others)
            except UserError as error:
                failures.append(str(error))
                continue
            record.done(exported)
            exports.append(exported)
    if failures:
        raise UserError("; ".join(failures))
    return exports


def select(workdir: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """The `networks` of these names; all if there are none. UserError where there is no such."""
    entries = networks(workdir)
    known = {entry[key] for entry in entries for key in ("name", "network") if key in entry}
    if unknown := set(names) - known:
        if holds_trainings(workdir):
            raise UserError(f"{workdir} has no trained network {min(unknown)}: see train.json")
        raise UserError(f"{workdir} has no champion {min(unknown)}: see champions.json")
    return [e for e in entries if not names or {e["name"], e.get("network")} & set(names)]


@dataclass(frozen=True)
class _Record:
    """What a work directory says about its networks.

    Attributes:
      kind: what they are, ``champion`` or ``training``: where the sidecar keeps their entry.
      config: settings of the search or the trainings.
      data: the images.
      start: what a network started from, by its entry; None for random weights.
      done: called with each finished export.
      trusted: modules that may be imported to build a user's own models.
    """

    kind: str
    config: SearchConfig
    data: data_lib.ImageData
    start: Callable[[dict[str, Any]], dict[str, Any] | None]
    done: Callable[[Exported], None]
    trusted: Collection[str] = ()


@contextmanager
def _recorded(
    workdir: Path, data: DataConfig | None, trusted: Collection[str], progress: bool
) -> Iterator[_Record]:
    """The record of a work directory; UserError where the images have changed."""
    if not holds_trainings(workdir):
        with Ledger(workdir) as ledger:
            config, images = run.recorded(ledger, trusted=trusted, progress=progress)
            meta = ledger.meta()
            yield _Record(
                "champion",
                config,
                images,
                lambda entry: start_of_candidate(meta, entry["name"]),
                lambda done: ledger.record_timing("export", done.name, done.seconds),
                trusted,
            )
        return
    recorded = read_settings(workdir)
    if data is None and not recorded.names_images:
        raise UserError(f"{workdir} does not say which images it was trained with: give --dataset")
    config = recorded.config
    if data is not None:
        config = replace(config, data=for_network(data, config.data.input_channels))
    images = data_lib.load(
        config.data,
        max_side=recorded.max_side,
        cache_dir=cache_path(workdir),
        progress=progress,
    )
    if images.fingerprint != recorded.fingerprint:
        raise UserError(
            f"the images of {images.name} are not those that the networks in {workdir} were "
            "trained with: restore them, or say with --dataset where they are"
        )
    yield _Record(
        "training",
        config,
        images,
        lambda entry: entry["start"],
        lambda exported: None,
        trusted,
    )


def _export(
    workdir: Path,
    entry: dict[str, Any],
    record: _Record,
    settings: Settings,
    formats: Sequence[Format],
) -> Exported:
    name, config, data = entry["name"], record.config, record.data
    checkpoint = checkpoint_path(workdir, _training(entry))
    recipe = config.train
    model, spec, epochs = load_averaged(checkpoint, record.trusted)
    if _training(entry) != name:
        recipe, spec = replace(recipe, epochs=config.final_epochs), replace(spec, name=name)
    sizes = {"resolution": spec.size, "base_resolution": config.base_resolution}
    images, indices = data_lib.calibration_images(
        data, **sizes, count=settings.calibration_images, seed=config.seed
    )
    size, start = config.train.batch_size, record.start(entry)

    def part(name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        batches = data_lib.eval_batches(data, name, **sizes, batch_size=size)
        return ((x.numpy(), y.numpy()) for x, y in batches)

    def training() -> tuple[Iterator[Any], int]:
        stream, steps = data_lib.train_batches(
            data, resolution=spec.size, batch_size=size, seed=config.seed
        )
        return (images for images, _ in stream), steps

    fraction = data.pipeline.crop_fraction(spec.size, config.base_resolution)
    return export_model(
        with_output(model, settings.output),
        keras_file=keras_file.of_model(model),
        name=name,
        out_dir=workdir / beside.FOLDER,
        labels=data.labels,
        calibration_images=images,
        test_batches=part("test"),
        details={
            record.kind: entry,
            "spec": json.loads(spec.to_json()),
            "epochs": epochs,
            "start": start,
            "checkpoint_sha256": _digest(checkpoint),
            "dataset": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "parts": data.sizes,
                "class_counts": {
                    part: None if counts is None else counts.tolist()
                    for part in data.parts
                    for counts in [data.class_counts(part)]
                },
            },
            "train": asdict(
                recipe
                if start is not None or recipe.pretrained is None
                else from_scratch(recipe, data)[0]
            ),
            "crop_fraction": fraction,
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
        else remedies_lib.RemedyPlan(settings.remedies, lambda: part("validation"), training),
        # Of segmentation networks the sidecar has the IoU of each class.
        predicted=None
        if data.masks
        else predictions.Images(
            batches=part,
            names=data.names,
            unknown=partial(_unknown, folder, fraction, spec.size, data.channels)
            if (folder := settings.unknown)
            else tuple,
        ),
        wanted_precision=settings.unknown_precision,
        patches=patch_request.request(settings.patches, settings.max_arena_kb, settings.arena),
    )


def _unknown(folder: str, fraction: float, size: InputSize, channels: int) -> Iterator[np.ndarray]:
    """The images of a folder as a network sees them, one at a time; unreadable ones are left out.

    UserError where none can be read.
    """
    read = 0
    for example in scan_unlabelled(Path(folder), "--unknown"):
        try:
            pixels = decode(read_file(Path(folder, example.name)), channels=channels)
        except UnreadableImage:
            continue
        read += 1
        box = center_box((pixels.shape[0], pixels.shape[1]), fraction, size)
        seen = pixels_of(crop_and_resize(pixels, box, size))
        yield (seen.astype(np.float32) / 128 - 1)[None]
    if not read:
        raise UserError(f"{folder} has no readable image: give another folder as --unknown")


def read_sidecars(workdir: Path) -> list[dict[str, Any]]:
    """Sidecars of all exported networks, in the order of ``champions.json`` or ``train.json``."""
    paths = [_sidecar_path(workdir, entry["name"]) for entry in networks(workdir)]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _sidecar_path(workdir: Path, name: str) -> Path:
    return workdir / beside.FOLDER / name / f"{name}.json"


# Errors from reading a sidecar that is missing, damaged or from another version.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _last_export(workdir: Path, name: str) -> tuple[Settings, set[Format]]:
    """Settings and formats of a network's last export; the defaults if there was none."""
    try:
        sidecar = json.loads(_sidecar_path(workdir, name).read_text(encoding="utf-8"))
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


def _training(entry: dict[str, Any]) -> str:
    """Name of the checkpoint of a network: its own, or that of a champion's final training."""
    return str(entry.get("training", entry["name"]))


def _is_sound(workdir: Path, entry: dict[str, Any]) -> bool:
    """Whether the checkpoint and the files still have the hashes in the sidecar."""
    path = _sidecar_path(workdir, entry["name"])
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        digests = {
            checkpoint_path(workdir, _training(entry)): sidecar["details"]["checkpoint_sha256"]
        }
        sidecar["details"]["crop_fraction"], sidecar["int8_layers"]  # KeyError for older versions
        made = [*sidecar["files"].values(), *([sidecar["keras"]] if sidecar.get("keras") else [])]
        digests |= {path.with_name(f["file"]): f["sha256"] for f in made}
        return all(_digest(path) == digest for path, digest in digests.items())
    except _UNUSABLE:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
