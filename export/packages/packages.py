"""Makes packages for targets from exported champions, or from any .tflite file and its labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data.listing import read_labels
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import (
    beside,
    files,
    inspect,
    metadata,
    pixel_rule,
    rewrite,
)
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.formats import Format
from efficientnet_elite.export.patches import patching
from efficientnet_elite.export.patches.request import Request as PatchRequest
from efficientnet_elite.export.pixel_rule import PixelRule
from efficientnet_elite.export.runtimes import tflm

from . import android, ethos_u, golden, micro, origin, web
from .c import package as c
from .names import identifier, plain
from .targets import ACCELERATOR, TARGETS, Package, Source


def of_workdir(
    workdir: Path,
    target: str,
    *,
    names: Sequence[str] = (),
    accelerator: str | None = None,
    formats: Sequence[Format] = (),
    data: DataConfig | None = None,
    trusted: Collection[str] = (),
    progress: bool = True,
    **given: Any,
) -> list[Package]:
    """Makes packages from the networks of a work directory, in ``export/NAME/TARGET``.

    A network is exported first if its export is missing, out of date, lacks the target's format or
    has other settings than the given ones (see `export_networks`).

    Args:
      workdir: work directory of a finished search, or of networks that were trained by name.
      target: a name of `targets.TARGETS`.
      names: names of networks; all by default.
      accelerator: for ``ethos-u`` and ``micro``, one of `ethos_u.ACCELERATORS`; None for the
        default of ``ethos-u``, and for no accelerator with ``micro``.
      formats: further formats to export, besides that of the target.
      data: where the images of trainings are now; None for where they were.
      trusted: modules that may be imported to build a user's own models.
      progress: whether to show progress bars.
      **given: values of fields of `export.workdir.Settings`.

    Raises:
      UserError: a network cannot be exported, or the target cannot run it.
    """
    from efficientnet_elite.export import (
        workdir as export_workdir,  # it imports TensorFlow, which `of_file` does not need
    )

    form = TARGETS[target].format
    export_workdir.export_networks(
        workdir,
        names=names,
        again=False,
        formats=(*formats, form),
        data=data,
        trusted=trusted,
        progress=progress,
        **given,
    )
    packages = []
    for name in (entry["name"] for entry in export_workdir.select(workdir, names)):
        model = workdir / beside.FOLDER / name / f"{name}.{form.name}.tflite"
        packages.append(of_file(model, target, accelerator=accelerator))
    return packages


def of_file(
    model: Path,
    target: str,
    *,
    labels: Path | None = None,
    takes: str | None = None,
    out_dir: Path | None = None,
    accelerator: str | None = None,
    patches: PatchRequest | None = None,
) -> Package:
    """Makes a package from a .tflite file, of an export here or from elsewhere.

    Args:
      model: path of the file, which has the target's format. The crop fraction comes from the
        sidecar in the same folder; without a sidecar it is 1, the largest centred crop.
      target: a name of `targets.TARGETS`.
      labels: path of the labels, one line for each class; by default ``labels.txt`` in the folder
        of the model, or the labels in the file's metadata.
      takes: the pixel values that it takes, a name of `choices.INPUTS`; None for what the file
        says, see `pixel_rule.of_file`.
      out_dir: folder of the package; by default a folder named after the target, in the folder of
        the model; that of a library lies in it and is named after the network.
      accelerator: for ``ethos-u`` and ``micro``, one of `ethos_u.ACCELERATORS`; None for the
        default of ``ethos-u``, and for no accelerator with ``micro``.
      patches: how the network's first layers run patch by patch in the package; None for the file
        as it is.

    Raises:
      UserError: a file is missing or wrong, or the target cannot run the model.
    """
    name = plain(beside.network_name(model))
    entry = TARGETS[target]
    folder = out_dir or model.parent / target
    if entry.named and out_dir is None:
        folder /= identifier(name)
    original = inspect.load(model)
    if folder.resolve() == model.parent.resolve():
        raise UserError(f"{folder} is the folder of the model: choose another one for the package")
    try:
        content = rewrite.with_batch_of_one(original)
        contents = inspect.read(content)
        inspect.check_own_operators(contents)
        sidecar = beside.sidecar_of(model)
        names = _labels(model, original, labels)
        rule, record, confidence = None, None, Confidence()
        if inspect.takes_image(contents):
            described = beside.checked_sidecar(model, original)
            exported = bool(described)
            rule = partial(pixel_rule.of_file, original, contents, takes=takes, exported=exported)
            confidence = _confidence(model, described, contents)
            record = described.get("patches") if entry.arena else None
        if patches is not None:
            patching_result = patching.patched(content, patches)
            content, record = patching_result.content, patching_result.record
        source = Source(
            content=content,
            file=plain(model.name),
            name=name,
            labels=names,
            folder=folder,
            export=model.parent,
            accuracy=golden.accuracy_sentence(sidecar),
            crop_fraction=beside.crop_fraction(model, sidecar),
            rule=rule,
            float_layers=beside.float_layers(model, sidecar),
            accelerator=accelerator,
            confidence=confidence,
        )
        package: Package = registry.resolve(entry.write)(source)
        if start := beside.details(model, sidecar).get("start"):
            files.replace_all({folder / origin.FILE_NAME: origin.file_content(name, start)})
        return replace(package, patches=record)
    except UserError as error:
        raise UserError(f"no {target} package of {model}: {error}") from error


def _labels(model: Path, content: bytes, given: Path | None) -> list[str]:
    """The given labels, those beside the file, or those in its metadata."""
    path = given or model.with_name("labels.txt")
    named = metadata.labels(content) if given is None and not path.exists() else None
    return named or read_labels(path)


def _confidence(model: Path, sidecar: Mapping[str, Any], contents: inspect.Contents) -> Confidence:
    """What a sidecar says of a classifier's answers, as `classifier.Classifier` applies it."""
    if inspect.gives_masks(contents):
        return Confidence()
    confidence = beside.confidence(model, sidecar)
    if inspect.last_operator(contents) == "LOGISTIC":  # sigmoids are not calibrated
        confidence = replace(confidence, temperature=1.0)
    return confidence


def write_android(source: Source) -> Package:
    """Writes a package for Android; see `Target.write`."""
    size = android.write_android_package(
        source.content,
        name=source.name,
        labels=source.labels,
        out_dir=source.folder,
        export=source.export,
        crop_fraction=source.crop_fraction,
        rule=_rule(source),
        confidence=source.confidence,
    )
    return Package(source.name, source.folder, size)


def write_ethos_u(source: Source) -> Package:
    """Writes a package for an Ethos-U; see `Target.write`."""
    _check_takes_pixels(source)
    report = ethos_u.write_ethos_u_package(
        source.content,
        name=source.name,
        labels=source.labels,
        out_dir=source.folder,
        accelerator=source.accelerator or ACCELERATOR,
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
        rule=_rule(source),
        confidence=source.confidence,
    )
    return Package(source.name, source.folder, size)


def write_c(source: Source) -> Package:
    """Writes a package in C; see `Target.write`."""
    _check_no_floats(source)
    _check_takes_pixels(source)
    written = c.write_c_package(source, _golden(source))
    return Package(source.name, source.folder, written.constant_bytes, written.arena_bytes)


def write_micro(source: Source) -> Package:
    """Writes a package for microcontrollers; see `Target.write`."""
    _check_no_floats(source)
    _check_takes_pixels(source)
    tflm.check()
    written = micro.write_micro_package(source, _golden(source))
    cycles = written.npu.cycles if written.npu else None
    return Package(source.name, source.folder, written.model_bytes, written.arena_bytes, cycles)


def _rule(source: Source) -> PixelRule:
    """The pixel rule of a network that takes an image; of others, the writers say what is wrong."""
    return pixel_rule.ELITE if source.rule is None else source.rule()


def _check_takes_pixels(source: Source) -> None:
    """UserError if an image is taken in another way than as pixel - 128 in int8."""
    contents = inspect.read(source.content)
    if source.rule is not None and contents.inputs[0].type == "INT8":
        pixel_rule.check_takes_pixels(contents.inputs[0], source.rule())


def _golden(source: Source) -> golden.Golden | None:
    """Images for the package; None for a network that cannot be checked with images."""
    contents = inspect.read(source.content)
    try:
        inspect.check_full_int8(contents)
        inspect.image_shape(contents)
    except UserError:
        return None
    return golden.of_model(source.content, source.export)


def _check_no_floats(source: Source) -> None:
    """UserError if layers stayed in float, which no microcontroller package can contain."""
    if source.float_layers:
        raise UserError(
            f"{', '.join(source.float_layers)} stayed in float to keep the accuracy, and a "
            "microcontroller needs int8 throughout: export again with "
            "--remedies=calibration,equalization,qat"
        )
