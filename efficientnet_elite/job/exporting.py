"""Exports: champions, trained networks, a .keras file, packages of these or of a .tflite file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite.config import AUTO, CALIBRATION_IMAGES, InputSize
from efficientnet_elite.data.channels import for_network
from efficientnet_elite.data.geometry import base_side
from efficientnet_elite.data.listing import read_labels
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import beside
from efficientnet_elite.export.int8 import choices
from efficientnet_elite.export.packages.targets import TARGETS
from efficientnet_elite.export.patches import request as patch_request
from efficientnet_elite.job import settings, value_types
from efficientnet_elite.report import card
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.trainings import holds_trainings, read_settings

if TYPE_CHECKING:
    from efficientnet_elite.export.from_keras import Images
    from efficientnet_elite.export.packages.packages import Package

# Option to the field of `export.workdir.Settings` that it sets.
_SETTINGS = {
    "calibration_images": "calibration_images",
    "calibration": "method",
    "max_accuracy_drop": "max_accuracy_drop",
    "remedies": "remedies",
    "output": "output",
    "unknown_precision": "unknown_precision",
    "unknown": "unknown",
}
_FILE = {"model", "labels", "out"}
_PACKAGE = {"target", "accelerator"}
_PATCHES = {"patches", "max_arena_kb"}
_IMAGES = {"base_resolution", *settings.names_of("data")}
# Options that make sense without images.
_WITHOUT_IMAGES = {*_FILE, *_PACKAGE, "input", "output", "formats", "io"}
OPTIONS = {"workdir", "trust", *_WITHOUT_IMAGES, *_IMAGES, *_SETTINGS, *_PATCHES}

_LISTS = {"formats": ("float32", "int8"), "io": ("int8",)}


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
      sidecars: contents of the JSON files beside the exported networks (docs/export.md): names,
        files, accuracies, sizes. Empty where a .tflite file was packed.
      packages: packages for a target; empty where none was asked for.
    """

    sidecars: tuple[Mapping[str, Any], ...] = ()
    packages: tuple[Package, ...] = ()


# Option to its type, and to the only values that it may have.
_TYPES = {
    "remedies": tuple[str, ...],
    "trust": tuple[str, ...],
    "calibration_images": int,
    "max_accuracy_drop": float,
    "unknown_precision": float,
    "unknown": str,
    "seed": int,
    "base_resolution": value_types.SIZE,
}
_CHOICES: Mapping[str, Iterable[str]] = {
    "target": TARGETS,
    "calibration": choices.CALIBRATIONS,
    "output": choices.OUTPUTS,
    "input": choices.INPUTS,
}
_LEAST = {"calibration_images": 1, "max_accuracy_drop": 0}


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with values of the types that they have; UserError where one is wrong."""
    values: dict[str, Any] = {name: _list(options, name) for name in _LISTS}
    for name, value in options.items():
        if name in _TYPES:
            values[name] = value = value_types.checked(value, _TYPES[name], name)
        if name in _CHOICES and value not in tuple(_CHOICES[name]):
            allowed = " or ".join(_CHOICES[name])
            raise UserError(f"{name}={value_types.shorten(value)}: use {allowed}")
        if name in _LEAST and not value >= _LEAST[name]:  # NaN neither
            raise UserError(f"{name}={value}: must be at least {_LEAST[name]}")
    precision = options.get("unknown_precision")
    if precision is not None and not 0 < precision <= 1:
        raise UserError(f"unknown_precision={precision:g}: must be above 0 and at most 1")
    if options.get("unknown"):  # it is recorded, and the current directory may change
        values["unknown"] = str(Path(options["unknown"]).expanduser().absolute())
    return {**options, **values}


def _patches(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `patches.request.request`; none where nothing is asked for."""
    if not _PATCHES & options.keys():
        return {}
    target = TARGETS.get(options.get("target", ""))
    patches = value_types.checked(options.get("patches", patch_request.NONE), str, "patches")
    most = options.get("max_arena_kb")
    asked = {
        "patches": patches,
        "max_arena_kb": None if most is None else value_types.checked(most, float, "max_arena_kb"),
        "arena": (target.arena if target else "") or patch_request.TFLM,
    }
    if patch_request.request(*asked.values()) and target and not target.arena:
        names = " or ".join(name for name, entry in TARGETS.items() if entry.arena)
        raise UserError(f"patches save memory on microcontrollers: use --target={names}")
    return asked


def needs_tensorflow(names: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Checks what can be checked at once, and returns whether the export needs TensorFlow here.

    Raises:
      UserError: options contradict one another, would change nothing, or name no file or search.
    """
    given = options.keys()
    if bool(options.get("workdir")) == bool(options.get("model")):
        raise UserError("name the --workdir of a search or training, or a file as --model")
    if options.get("target") not in ("ethos-u", "micro"):
        _refuse(given & {"accelerator"}, "belongs to --target=ethos-u or micro")
    if options.get("target"):
        _refuse(given & {"layers"}, "shows what is exported without --target")
        if options.get("output", "logits") != "logits":
            raise UserError("packages take logits: leave --output=softmax out")
    _patches(options)
    if options.get("model"):
        _refuse(given & {"trust"}, "belongs to --workdir: no other file can name code")
    else:
        _refuse(given & _FILE, "belongs to --model")
        _refuse(given & {"base_resolution", "input"}, "belongs to a .keras file")
        workdir = Path(options["workdir"]).expanduser()
        if not holds_trainings(workdir):
            _refuse(given & _IMAGES, "belongs to a .keras file or to trainings")
            with Ledger(workdir):
                return True
        if "dataset" not in given:
            _refuse(given & _IMAGES, "belongs to --dataset")
        return True
    if names:
        raise UserError(f"unexpected argument {names[0]!r}: --model has no networks to name")
    _refuse(given & {"unknown", "unknown_precision"}, "belongs to --workdir")
    if _is_keras(options):
        if options.get("dataset") is None:
            _refuse(given - _WITHOUT_IMAGES, "needs images, which --dataset names")
        # A SavedModel is described in TensorFlow's own format.
        return options.get("dataset") is not None or Path(options["model"]).expanduser().is_dir()
    if not options.get("target"):
        raise UserError("--model is a file already: say what to make of it with --target")
    _refuse(
        given - _FILE - _PACKAGE - _PATCHES - {"input"},
        "has no effect on a file that is packed as it is",
    )
    return False


def export(
    names: Sequence[str], options: Mapping[str, Any], *, progress: bool = True
) -> ExportResult:
    """Exports or packs networks of a work directory, a .keras file or a .tflite file.

    Args:
      names: champions of the search, or networks that were trained by name; all by default.
      options: those of `OPTIONS` that are given, by the names of the flags.
      progress: whether to show progress bars on stderr.

    Raises:
      UserError: options contradict one another, a file is missing or damaged, or a check of an
        export failed.
    """
    needs_tensorflow(names, options)
    options = _checked(options)
    if not options.get("model"):
        return _export_workdir(names, options, progress)
    if _is_keras(options):
        return _export_keras(Path(options["model"]).expanduser(), options)
    from efficientnet_elite.export.packages import packages

    labels, out = (_path(options.get(name)) for name in ("labels", "out"))
    package = packages.of_file(
        Path(options["model"]).expanduser(),
        options["target"],
        labels=labels,
        takes=options.get("input"),
        out_dir=out,
        patches=patch_request.request(*asked.values()) if (asked := _patches(options)) else None,
        **_accelerator(options),
    )
    return ExportResult(packages=(package,))


def _export_workdir(
    names: Sequence[str], options: Mapping[str, Any], progress: bool
) -> ExportResult:
    from efficientnet_elite.export import formats
    from efficientnet_elite.export import workdir as export_workdir
    from efficientnet_elite.export.packages import packages

    workdir = Path(options["workdir"]).expanduser()
    asked = {field: options[name] for name, field in _SETTINGS.items() if name in options}
    asked |= {"trusted": options.get("trust", ()), **_patches(options)}
    asked |= {"names": names, "formats": formats.parse(options["formats"], options["io"])}
    if options.get("dataset") is not None:
        asked["data"] = settings.data_config(options, read_settings(workdir).config.data)
    if options.get("target"):
        written = packages.of_workdir(
            workdir, options["target"], progress=progress, **_accelerator(options), **asked
        )
        card.write_all(workdir)
        return ExportResult(packages=tuple(written))
    export_workdir.export_networks(workdir, progress=progress, **asked)
    card.write_all(workdir)
    return ExportResult(sidecars=tuple(export_workdir.read_sidecars(workdir)))


def _export_keras(path: Path, options: Mapping[str, Any]) -> ExportResult:
    """Exports a .keras file, and packs it where there is a target."""
    from efficientnet_elite.export import formats, from_keras, keras_file
    from efficientnet_elite.export.packages import packages

    target = options.get("target")
    shape = keras_file.check(path)
    asked = formats.parse(options["formats"], options["io"])
    if target and (form := TARGETS[target].format) not in asked:
        asked = tuple(other for other in (*asked, form) if other != formats.INT8)
    details: dict[str, Any] = {}
    if options.get("dataset") is None:
        if target or {"int8", "int16x8"} & set(options["formats"]):
            raise UserError(
                "int8 needs a representative data set: name it with --dataset, or make float "
                "files alone, such as --formats=float32,float16"
            )
        images, labels = None, _labels(options.get("labels"))
    else:
        images, labels, details = _images(_cropped_alike(path, shape, options), shape)
    out = _path(options.get("out"))
    request = from_keras.Request(
        name=re.sub(r"^\.|[^\w.@-]", "_", path.stem),
        out_dir=str(out or path.parent / beside.FOLDER),
        labels=labels,
        takes=options.get("input"),
        output=options.get("output", "logits"),
        formats=asked,
        method=options.get("calibration", AUTO),
        max_accuracy_drop=options.get("max_accuracy_drop"),
        remedies=_remedies(path, options),
        details=details,
        **_patches(options),
    )
    sidecar = from_keras.export_file(path, request, images)
    card.write(Path(request.out_dir, request.name), sidecar)
    if not target:
        return ExportResult(sidecars=(sidecar,))
    file = sidecar["files"][TARGETS[target].format.name]["file"]
    model = Path(request.out_dir, request.name, file)
    package = packages.of_file(model, target, **_accelerator(options))
    return ExportResult(sidecars=(sidecar,), packages=(package,))


def _remedies(path: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The remedies to try; none for a SavedModel, which has no layers that they could change."""
    if not path.is_dir():
        return tuple(options.get("remedies", choices.default_remedies()))
    if options.get("remedies"):
        raise UserError("remedies change Keras layers, and a SavedModel has none: leave them out")
    return ()


def _cropped_alike(
    path: Path, shape: tuple[int, ...], options: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Options by which images are cropped as at an earlier export, if a sidecar tells of one."""
    if path.is_dir() or options.get("base_resolution") or options.get("center_crop") is not None:
        return options
    sidecar = beside.checked_sidecar(path, path.read_bytes())
    if "crop_fraction" not in beside.details(path, sidecar):
        return options
    fraction = beside.crop_fraction(path, sidecar)
    if fraction == 1:
        return {**options, "center_crop": False}
    return {**options, "base_resolution": base_side(min(shape[:2]), fraction)}


def _images(
    options: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[Images, tuple[str, ...], dict[str, Any]]:
    """Images for a .keras file, the names of the classes, and the sidecar's entry on the images."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.export.from_keras import Images

    size, channels = InputSize(*shape[:2]), shape[2]
    base = InputSize.of(options.get("base_resolution") or size)
    seed = options.get("seed", 0)
    config = for_network(settings.data_config(options), channels)
    data = data_lib.load(config, max_side=base.stored_side)
    if data.masks:
        raise UserError(f".keras files are exported as classifiers, and {data.name} has masks")
    sizes = {"resolution": size, "base_resolution": base}

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        batches = data_lib.eval_batches(data, name, batch_size=64, **sizes)
        images, classes = zip(*((_pixels(x.numpy()), y.numpy()) for x, y in batches), strict=True)
        return np.concatenate(images), np.concatenate(classes)

    calibration, indices = data_lib.calibration_images(
        data, **sizes, count=options.get("calibration_images", CALIBRATION_IMAGES), seed=seed
    )
    validation = part("validation") if "max_accuracy_drop" in options else _no_images(shape)
    details = {
        "dataset": {"name": data.name, "fingerprint": data.fingerprint},
        "crop_fraction": data.pipeline.crop_fraction(size, base),
        "calibration": {
            "method": options.get("calibration", AUTO),
            "part": "train",
            "seed": seed,
            "indices": indices.tolist(),
        },
    }
    return Images(_pixels(calibration), *validation, *part("test")), tuple(data.labels), details


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.rint((images + 1) * 128).astype(np.uint8)


def _no_images(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((0, *shape), np.uint8), np.empty(0, np.int64)


def _labels(path: str | Path | None) -> tuple[str, ...]:
    if path is None:
        raise UserError("give --labels=FILE, a file with a line for each class, or --dataset")
    return tuple(read_labels(Path(path).expanduser()))


def _is_keras(options: Mapping[str, Any]) -> bool:
    from efficientnet_elite.export import keras_file

    path = Path(options["model"]).expanduser()
    return path.suffix in keras_file.SUFFIXES or path.is_dir()


def _path(value: str | Path | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _list(options: Mapping[str, Any], name: str) -> list[str]:
    """A list of names, which may also be given as one text with commas."""
    return list(value_types.checked(options.get(name, _LISTS[name]), tuple[str, ...], name))


def _accelerator(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"accelerator": options["accelerator"]} if "accelerator" in options else {}


def _refuse(names: Iterable[str], why: str) -> None:
    """UserError where an option was given that would change nothing."""
    if names := set(names):
        raise UserError(f"--{min(names)} {why}: leave it out")
