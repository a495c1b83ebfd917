"""Makes packages for targets from exported champions, or from any .tflite file and its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect
from efficientnet_elite.export.formats import INTERFACES, WEIGHTS, Format
from efficientnet_elite.search.champions import read_champions

from . import android, ethos_u, micro, origin, web
from .targets import ACCELERATOR, TARGETS, Package, Source, Target

# What an export puts between a network's name and ".tflite".
_FORMAT = re.compile(rf"(\.({'|'.join(WEIGHTS)}))?(\.({'|'.join(INTERFACES)}))?$")


def of_champions(
    workdir: Path,
    target: str,
    *,
    names: Sequence[str] = (),
    accelerator: str = ACCELERATOR,
    formats: Sequence[Format] = (),
    progress: bool = True,
    **given: Any,
) -> list[Package]:
    """Makes packages from the champions of a search, in ``export/NAME/TARGET``.

    A champion is exported first if its export is missing, out of date, lacks the target's format or
    has other settings than the given ones (see `export_champions`).

    Args:
      workdir: work directory of a finished search.
      target: a name of `targets.TARGETS`.
      names: names of champions; all by default.
      accelerator: for ``ethos-u``, one of `ethos_u.ACCELERATORS`.
      formats: further formats to export, besides that of the target.
      progress: whether to show progress bars.
      **given: values of fields of `export.workdir.Settings`.

    Raises:
      UserError: a champion cannot be exported, or the target cannot run it.
    """
    from efficientnet_elite.export import (
        workdir as export_workdir,  # it imports TensorFlow, which `of_file` does not need
    )

    form = TARGETS[target].format
    export_workdir.export_champions(
        workdir, names=names, again=False, formats=(*formats, form), progress=progress, **given
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
    accelerator: str = ACCELERATOR,
) -> Package:
    """Makes a package from a .tflite file.

    Args:
      model: path of the file, which has the target's format. The crop fraction comes from the
        sidecar in the same folder; without a sidecar it is 1, the whole centred square.
      target: a name of `targets.TARGETS`.
      labels: path of the labels, one line for each class; by default ``labels.txt`` in the folder
        of the model.
      out_dir: folder of the package; by default a folder named after the target, in the folder of
        the model.
      accelerator: for ``ethos-u``, one of `ethos_u.ACCELERATORS`.

    Raises:
      UserError: a file is missing or wrong, or the target cannot run the model.
    """
    name = _FORMAT.sub("", model.name.removesuffix(".tflite"))
    folder = out_dir or model.parent / target
    content = inspect.load(model)
    names = _labels(labels or model.with_name("labels.txt"))
    if folder.resolve() == model.parent.resolve():
        raise UserError(f"{folder} is the folder of the model: choose another one for the package")
    entry = TARGETS[target]
    try:
        _check_output(content, entry)
        sidecar = _sidecar(model.with_name(f"{name}.json"))
        source = Source(
            content=content,
            file=model.name,
            name=name,
            labels=names,
            folder=folder,
            crop_fraction=sidecar.get("details", {}).get("crop_fraction", 1.0),
            float_layers=tuple((sidecar.get("int8_remedies") or {}).get("float_layers") or ()),
            accelerator=accelerator,
        )
        package: Package = registry.resolve(entry.write)(source)
        if start := sidecar.get("details", {}).get("start"):
            files.replace_all({folder / origin.FILE_NAME: origin.file_content(name, start)})
        return package
    except UserError as error:
        raise UserError(f"no {target} package of {model}: {error}") from error


def _check_output(content: bytes, target: Target) -> None:
    """UserError if a network ends in a softmax or sigmoid, and the target does not accept it."""
    last = inspect.last_operator(inspect.read(content))
    if last == "SOFTMAX" and not target.takes_softmax:
        raise UserError(
            "the network ends in a softmax, but the package applies softmax itself: export it with "
            "--output=logits"
        )
    if last == "LOGISTIC" and not target.takes_sigmoid:
        raise UserError(
            "the network ends in a sigmoid, and the package would apply softmax to its output: "
            "use a network that ends in logits"
        )


def write_android(source: Source) -> Package:
    """Writes a package for Android; see `Target.write`."""
    size = android.write_android_package(
        source.content,
        name=source.name,
        labels=source.labels,
        out_dir=source.folder,
        crop_fraction=source.crop_fraction,
    )
    return Package(source.name, source.folder, size)


def write_ethos_u(source: Source) -> Package:
    """Writes a package for an Ethos-U; see `Target.write`."""
    report = ethos_u.write_ethos_u_package(
        source.content,
        name=source.name,
        labels=source.labels,
        out_dir=source.folder,
        accelerator=source.accelerator,
    )
    size = (source.folder / f"{source.name}.vela.tflite").stat().st_size
    return Package(source.name, source.folder, size, round(report.sram_bytes), report.cycles)


def write_web(source: Source) -> Package:
    """Writes a package for browsers; see `Target.write`."""
    size = web.write_web_package(
        source.content,
        name=source.name,
        file=source.file,
        labels=source.labels,
        out_dir=source.folder,
        crop_fraction=source.crop_fraction,
    )
    return Package(source.name, source.folder, size)


def write_micro(source: Source) -> Package:
    """Writes a package for microcontrollers; see `Target.write`."""
    if source.float_layers:
        raise UserError(
            f"{', '.join(source.float_layers)} stayed in float to keep the accuracy, and a "
            "microcontroller needs int8 throughout: export again with "
            "--remedies=calibration,equalization,qat"
        )
    arena = micro.write_micro_package(
        source.content,
        name=source.name,
        labels=source.labels,
        out_dir=source.folder,
        crop_fraction=source.crop_fraction,
    )
    return Package(source.name, source.folder, len(source.content), arena)


def _labels(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path} is missing: give the path of a file with one label on each line")
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it in that encoding") from None


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path} is damaged: export the model again") from error
