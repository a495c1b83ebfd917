"""The Python interface: `search`, `load`, `train`, `evaluate`, `predict`, `export`.

Keyword arguments have the names and the defaults of the command line's flags; docs/api.md shows
them at work. An unknown one raises TypeError, which names the nearest one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientnet_elite.config import RAY_PATIENCE, EngineConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import request, settings, value_types
from efficientnet_elite.job.arguments import default_workdir, split
from efficientnet_elite.job.evaluation import Evaluation
from efficientnet_elite.job.exporting import ExportResult
from efficientnet_elite.job.results import Search, load
from efficientnet_elite.job.run import SearchResult
from efficientnet_elite.job.training import Training
from efficientnet_elite.search.ledger import reading

if TYPE_CHECKING:
    from efficientnet_elite.job.prediction import Prediction

__all__ = ["Search", "evaluate", "export", "load", "predict", "search", "train"]

_LOG = logging.getLogger("efficientnet_elite")


@reading()
def search(
    *,
    workdir: str | Path | None = None,
    config: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    backend: str = "tensorflow",
    ray_address: str | None = None,
    ray_patience: float = RAY_PATIENCE,
    memory_gb: float | None = None,
    export: bool = True,
    progress: bool = True,
    on_message: Callable[[str], None] = _LOG.warning,
    **options: Any,
) -> SearchResult:
    """Runs a search from images to verified champions and a report, or continues one.

    Args:
      workdir: the work directory; by default ``runs/NAME-DATE``, as for ``elite search``.
      config: ``auto``, ``quick``, ``paper`` or a file of settings, see docs/configuration.md. By
        default ``auto`` for images of the user and ``quick`` for data sets that are built in.
      engine, workers, backend, ray_address, ray_patience, memory_gb: where and by what candidates
        are trained, see `EngineConfig`.
      export: whether to export, benchmark and report when the search is finished.
      progress: whether to show progress bars on stderr.
      on_message: gets a line about each thing that a user should know while it goes on; by default
        the logger ``efficientnet_elite``.
      **options: the flags of ``elite search``, such as ``dataset``, ``epochs``, ``max_size_kb``.

    Raises:
      TypeError: an option has an unknown name.
      UserError: an option, a file or an image is wrong; the message says what to do.
      ExportError: some champions could not be exported; its ``result`` has the others.
    """
    from efficientnet_elite.job import run

    known = settings.options()
    others = ("workdir", "config", "export", "progress", "on_message")
    engines = ("engine", "workers", "backend", "ray_address", "ray_patience", "memory_gb")
    settings.check_names(options, [*known, *others, *engines], "search")
    asked = request.search_request(options, config)
    if asked.message:
        on_message(asked.message)
    if workdir is None:
        workdir = default_workdir("search", (), {**options, "config": config})
        on_message(f"work directory: {workdir}")
    return run.search(
        asked.config,
        _folder(workdir),
        given=asked.given,
        automatic=asked.automatic,
        engine=EngineConfig(
            engine, _count("workers", workers), backend, ray_address, ray_patience, memory_gb
        ),
        export=export,
        progress=progress,
        on_message=on_message,
        on_skipped=lambda image: on_message(f"skipped {image.path}: {image.reason}"),
    )


def train(
    *networks: str,
    workdir: str | Path | None = None,
    config: str | Path | None = None,
    seeds: int = 1,
    export: bool | None = None,
    progress: bool = True,
    on_message: Callable[[str], None] = _LOG.warning,
    **options: Any,
) -> tuple[Training, ...]:
    """Trains networks by name, each with several seeds, and evaluates them on the test part.

    Args:
      *networks: names, such as ``elite9`` or, for another input size, ``elite9@96``, and the folder
        of a data set. Without names, the largest network within the limits is trained.
      workdir: gets checkpoints and results; the same call continues trainings. By default
        ``runs/NAME-DATE``, as for ``elite train``.
      config: as for `search`.
      seeds: trainings of each network, with seeds from ``seed`` on.
      export: whether to export and verify the networks; by default where it is a single one with
        one seed.
      progress: whether to show progress bars on stderr.
      on_message: as for `search`.
      **options: the flags of ``elite train``, such as ``dataset``, ``epochs``, ``max_size_kb``.

    Raises:
      TypeError: an option has an unknown name.
      UserError: a name, an option or an image is wrong, or ``workdir`` holds other trainings.
    """
    from efficientnet_elite.job import training

    known = [*settings.names_of("train", "data", "limits"), *settings.TRAINING_OPTIONS]
    others = ("workdir", "config", "seeds", "export", "progress", "on_message")
    settings.check_names(options, [*known, *others], "train")
    for name in networks:
        value_types.checked(name, str, "a network's name")
    if (seeds := _count("seeds", seeds) or 0) < 1:
        raise UserError(f"seeds={seeds}: must be at least 1")
    names, dataset = split(networks, options.get("dataset"))
    options = {**options, "dataset": dataset}
    asked = request.training_request(options, config)
    if asked.message:
        on_message(asked.message)
    training.check_request(names, asked, has_data_set=dataset is not None)
    if workdir is None:
        about = {**options, "config": config, "seeds": seeds}
        workdir = default_workdir("train", names, about)
        on_message(f"work directory: {workdir}")
    return training.train(
        names,
        _folder(workdir),
        asked.config,
        given=asked.given,
        automatic=asked.automatic,
        seeds=seeds,
        export=export,
        progress=progress,
        on_message=on_message,
    )


@reading()
def evaluate(
    *paths: str | Path,
    workdir: str | Path | None = None,
    base_resolution: int | str | None = None,
    input: str | None = None,
    trust: Sequence[str] = (),
    progress: bool = True,
    **options: Any,
) -> tuple[Evaluation, ...]:
    """Accuracy on the test part of .npz checkpoints, .tflite and .keras files.

    Args:
      *paths: the files.
      workdir: of a search that gives images, split and crop.
      base_resolution: input size in pixels at resolution coefficient 1, which sets the centre crop;
        by default the largest network's own.
      input: pixel values that .tflite and .keras files take, see ``elite evaluate --help``; needed
        only where the files do not say it.
      trust: Python modules that may run where a checkpoint or work directory names them.
      progress: whether to show progress bars on stderr.
      **options: the other flags of ``elite evaluate``, such as ``dataset`` and ``seed``.

    Raises:
      TypeError: an option has an unknown name.
      UserError: a file is missing, damaged or of a network for other classes.
    """
    from efficientnet_elite.job import evaluation, prediction

    others = ("workdir", "base_resolution", "input", "trust", "progress")
    settings.check_names(options, [*settings.names_of("data"), *others], "evaluate")
    evaluation.check_images(workdir, {**options, "base_resolution": base_resolution})
    return evaluation.evaluate(
        [Path(path).expanduser().absolute() for path in paths],
        workdir=None if workdir is None else _folder(workdir),
        data=settings.data_config(options),
        base_resolution=None
        if base_resolution is None
        else value_types.checked(base_resolution, value_types.SIZE, "base_resolution"),
        takes=prediction.checked_input(input),
        trusted=trust,
        progress=progress,
    )


@reading()
def predict(
    model: str | Path,
    *images: str | Path,
    top: int = 1,
    labels: str | Path | None = None,
    input: str | None = None,
    save: str | Path | None = None,
    on_skipped: Callable[[str, str], None] = lambda image, reason: _LOG.warning(
        "skipped %s: %s", image, reason
    ),
) -> list[Prediction]:
    """What a trained network says about images.

    Args:
      model: a .tflite or .keras file, or the work directory of a search or training.
      *images: image files and folders of images.
      top: number of classes in a prediction.
      labels: file of the names of the classes; by default those that lie beside the model.
      input: range of the pixels that the network takes, see ``elite predict --help``; needed only
        where neither sidecar nor metadata say it.
      save: folder that gets each picture with its answer drawn.
      on_skipped: gets the path of an image that cannot be read, and the reason; by default the
        logger ``efficientnet_elite`` does.

    Returns:
      A prediction for each image that could be read, in the order of the images.

    Raises:
      UserError: a file is missing, damaged or no classifier, or its input has to be said.
    """
    from efficientnet_elite.job import prediction

    paths = prediction.find_images([str(image) for image in images])
    classifier = prediction.load(
        Path(model).expanduser(),
        takes=input,
        labels=None if labels is None else Path(labels).expanduser(),
    )
    folder = None if save is None else Path(save).expanduser()
    count = _count("top", top) or 0
    return list(
        prediction.predict(classifier, paths, top=count, save=folder, on_skipped=on_skipped)
    )


@reading()
def export(*names: str, progress: bool = True, **options: Any) -> ExportResult:
    """Exports champions of a search or a .keras file, or makes packages for a target.

    Args:
      *names: champions of the search in ``workdir``; all by default.
      progress: whether to show progress bars on stderr.
      **options: the flags of ``elite export``: ``workdir`` or ``model``, and for instance
        ``target``, ``formats``, ``max_accuracy_drop``.

    Raises:
      TypeError: an option has an unknown name.
      UserError: options contradict one another, a file is missing or damaged, or a check of an
        export failed.
    """
    from efficientnet_elite.job import exporting

    settings.check_names(options, [*exporting.OPTIONS, "progress"], "export")
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("workdir"):
        given["workdir"] = _folder(given["workdir"])
    return exporting.export(names, given, progress=progress)


def _count(name: str, value: Any) -> int | None:
    """A whole number, or None where none is given; UserError for other values."""
    return None if value is None else value_types.checked(value, int, name)


def _folder(path: str | Path) -> Path:
    """A work directory, absolute: the current directory may change while a search runs.

    Raises:
      UserError: the path is empty, as of an unset variable, or there is a file of that name.
    """
    if not str(path):
        raise UserError("workdir is empty: name the work directory")
    folder = Path(path).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: workdir names a folder")
    return folder
