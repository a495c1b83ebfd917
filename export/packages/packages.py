"""Packages for devices, made of exported champions or of any .tflite file with its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.formats import INT8, INTERFACES, WEIGHTS, Format
from efficientnet_elite.search.champions import read_champions

from . import android, ethos_u, micro, web


@dataclass(frozen=True)
class Package:
    """A written package.

    Attributes:
      name: of the network.
      folder: where it is.
      model_bytes: flash memory or disk that the network takes.
      arena_bytes: of a microcontroller package: working memory that TFLM needs; on an Ethos-U its
        SRAM.
      cycles: of an inference on an Ethos-U, as Vela estimates them.
    """

    name: str
    folder: Path
    model_bytes: int
    arena_bytes: int | None = None
    cycles: float | None = None


# The format of each target's model.
TARGETS = {"micro": INT8, "android": Format("int8", "uint8"), "ethos-u": INT8, "web": INT8}

# What an export puts between a network's name and ".tflite".
_FORMAT = re.compile(rf"(\.({'|'.join(WEIGHTS)}))?(\.({'|'.join(INTERFACES)}))?$")


def of_champions(
    workdir: Path,
    target: str,
    *,
    names: Sequence[str] = (),
    accelerator: str = ethos_u.ACCELERATOR,
    formats: Sequence[Format] = (),
    progress: bool = True,
    **asked: Any,
) -> list[Package]:
    """Packages of a search's champions, in ``export/NAME/TARGET``.

    Champions whose export is missing or out of date, lacks the format or is not as asked for, are
    exported first (`export_champions`).

    Args:
      workdir: of a search that has come to its end.
      target: one of `TARGETS`.
      names: champions; all by default.
      accelerator: for ``ethos-u``, one of `ethos_u.ACCELERATORS`.
      formats: to export to beside the target's.
      progress: show progress bars.
      **asked: fields of `workdir.Settings` that are to have these values.

    Raises:
      UserError: a champion cannot be exported, or the target cannot run it.
    """
    from efficientnet_elite.export import (
        workdir as export_workdir,  # brings TensorFlow, which a file alone does not need
    )

    form = TARGETS[target]
    export_workdir.export_champions(
        workdir, names=names, again=False, formats=(*formats, form), progress=progress, **asked
    )
    packages = []
    for name in (entry["name"] for entry in read_champions(workdir)):
        if not names or name in names:
            model = workdir / export_workdir.FOLDER / name / f"{name}.{form.name}.tflite"
            packages.append(of_file(model, target, accelerator=accelerator))
    return packages


def of_file(
    model: Path,
    target: str,
    *,
    labels: Path | None = None,
    out_dir: Path | None = None,
    accelerator: str = ethos_u.ACCELERATOR,
) -> Package:
    """Package of a .tflite file.

    Args:
      model: the file, of the target's format. A sidecar beside it, as an export writes it, tells
        the crop; without one the whole centred square of an image is taken.
      target: one of `TARGETS`.
      labels: a line a class; ``labels.txt`` beside the model by default.
      out_dir: of the package; a folder named like the target beside the model by default.
      accelerator: for ``ethos-u``, one of `ethos_u.ACCELERATORS`.

    Raises:
      UserError: a file is missing or wrong, or the target cannot run the model.
    """
    name = _FORMAT.sub("", model.name.removesuffix(".tflite"))
    folder = out_dir or model.parent / target
    content = inspect.load(model)
    names = _labels(labels or model.with_name("labels.txt"))
    if folder.resolve() == model.parent.resolve():
        raise UserError(f"{folder} is the model's own folder: name another one for the package")
    try:
        last = inspect.last_operator(inspect.read(content))
        if last == "SOFTMAX" and target in ("micro", "android"):
            raise UserError(
                "the package computes softmax by itself: export it with --output=logits"
            )
        if last == "LOGISTIC" and target != "ethos-u":
            raise UserError("it ends in a sigmoid, and the package would apply softmax to that")
        sidecar = _sidecar(model.with_name(f"{name}.json"))
        crop = sidecar.get("details", {}).get("crop_fraction", 1.0)
        if target == "android":
            size = android.write(
                content, name=name, labels=names, out_dir=folder, crop_fraction=crop
            )
            return Package(name, folder, size)
        if target == "ethos-u":
            report = ethos_u.write(
                content, name=name, labels=names, out_dir=folder, accelerator=accelerator
            )
            size = (folder / f"{name}.vela.tflite").stat().st_size
            return Package(name, folder, size, round(report.sram_bytes), report.cycles)
        if target == "web":
            size = web.write(
                content,
                name=name,
                file=model.name,
                labels=names,
                out_dir=folder,
                crop_fraction=crop,
            )
            return Package(name, folder, size)
        if kept := (sidecar.get("int8_remedies") or {}).get("float_layers"):
            raise UserError(
                f"{', '.join(kept)} stayed in float to keep the accuracy, and a microcontroller "
                "needs int8 throughout: export again with --remedies=calibration,equalization,qat"
            )
        arena = micro.write(content, name=name, labels=names, out_dir=folder, crop_fraction=crop)
        return Package(name, folder, len(content), arena)
    except UserError as error:
        raise UserError(f"no {target} package of {model}: {error}") from error


def _labels(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path} is missing: name the file with the labels")
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8: save it as that") from None


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path} is damaged: export the model again") from error
