"""The part of `elite export` that deals with Keras files, `--model=X.keras`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite.cli import common, tables
from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    from efficientnet_elite.export.from_keras import Images


def run(flags: Any) -> None:
    """Exports ``--model``, makes a package for ``--target``, and prints a line for each."""
    from efficientnet_elite.export import formats, from_keras, keras_file
    from efficientnet_elite.export.packages import packages
    from efficientnet_elite.export.packages.targets import TARGETS

    path = Path(flags.model).expanduser()
    side = keras_file.check(path)[0]
    asked = formats.parse(flags.formats, flags.io)
    if flags.target and (form := TARGETS[flags.target].format) not in asked:
        asked = tuple(other for other in (*asked, form) if other != formats.INT8)
    if flags.dataset is None:
        if flags.target or {"int8", "int16x8"} & set(flags.formats):
            raise UserError(
                "int8 needs a representative data set: name it with --dataset, or make float "
                "files alone, such as --formats=float32,float16"
            )
        images, labels = None, _labels(flags.labels)
        details: dict[str, Any] = {}
    else:
        common.quiet_tensorflow()
        images, labels, details = _images(flags, side)
    request = from_keras.Request(
        name=re.sub(r"^\.|[^\w.@-]", "_", path.stem),
        out_dir=str(Path(flags.out).expanduser() if flags.out else path.parent / "export"),
        labels=labels,
        takes=flags.input,
        output=flags.output,
        formats=asked,
        method=flags.calibration,
        max_accuracy_drop=flags.max_accuracy_drop,
        remedies=tuple(flags.remedies),
        details=details,
    )
    sidecar = from_keras.export_file(path, request, images)
    _show(sidecar, flags.layers)
    if flags.target:
        file = sidecar["files"][TARGETS[flags.target].format.name]["file"]
        model = Path(request.out_dir, request.name, file)
        package = packages.of_file(model, flags.target, accelerator=flags.accelerator)
        tables.show_packages([package])


def _labels(path: str | None) -> tuple[str, ...]:
    if path is None:
        raise UserError("give --labels=FILE, a file with a line for each class, or --dataset")
    try:
        return tuple(Path(path).expanduser().read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read: it must be a text file with a line for each class"
        ) from error


def _images(flags: Any, side: int) -> tuple[Images, tuple[str, ...], dict[str, Any]]:
    """Images for an export, their labels, and the details about them for the sidecar."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.export.from_keras import Images

    base = flags.base_resolution or side
    data = data_lib.load(common.data_config(flags, DataConfig()), max_side=base * 3 // 2)
    if data.masks:
        raise UserError(f".keras files are exported as classifiers, and {data.name} has masks")
    sizes = {"resolution": side, "base_resolution": base}

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        batches = data_lib.eval_batches(data, name, batch_size=64, **sizes)
        images, classes = zip(*((_pixels(x.numpy()), y.numpy()) for x, y in batches), strict=True)
        return np.concatenate(images), np.concatenate(classes)

    calibration, indices = data_lib.calibration_images(
        data, **sizes, count=flags.calibration_images, seed=flags.seed
    )
    validation = part("validation") if flags.max_accuracy_drop is not None else _none(side)
    details = {
        "dataset": {"name": data.name, "fingerprint": data.fingerprint},
        "crop_fraction": data.pipeline.crop_fraction(side, base),
        "calibration": {
            "method": flags.calibration,
            "part": "train",
            "seed": flags.seed,
            "indices": indices.tolist(),
        },
    }
    return Images(_pixels(calibration), *validation, *part("test")), tuple(data.labels), details


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.rint((images + 1) * 128).astype(np.uint8)


def _none(side: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((0, side, side, 3), np.uint8), np.empty(0, np.int64)


def _show(sidecar: dict[str, Any], layers: int) -> None:
    if "float_accuracy" in sidecar["verification"]:
        tables.show([sidecar], layers)
    else:  # made without images
        files = sidecar["files"].values()
        cells = [["file", "kB"], *([f["file"], f"{f['bytes'] / 1000:.0f}"] for f in files)]
        print(common.table(cells), end="")
    print(f"normalisation: {sidecar['details']['normalisation']['absorbed']}")
