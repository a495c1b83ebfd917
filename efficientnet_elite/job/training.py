"""Networks trained by name, each with several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientnet_elite.config import (
    AUTO_CHANNELS,
    WITHOUT_EFFECT,
    SearchConfig,
    SizeLike,
    TrainConfig,
    checked_size,
)
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.measure import Measurer
from efficientnet_elite.job import automatic as choices
from efficientnet_elite.job import plan, starts
from efficientnet_elite.job.finishing import finish
from efficientnet_elite.job.request import Request
from efficientnet_elite.job.settings import setting_types
from efficientnet_elite.networks.names import fits, spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.begun import check_policy
from efficientnet_elite.search.starts import (
    Start,
    announce,
    check_unchanged,
    from_scratch,
    load_start,
    refused,
)
from efficientnet_elite.search.trainings import (
    PLACE,
    begun_with,
    holds_trainings,
    label,
    results_path,
    settings_path,
    write_epochs,
)
from efficientnet_elite.search.workdir import (
    cache_path,
    checkpoint_path,
    has_checkpoints,
    lock,
    write_json,
)
from efficientnet_elite.training import class_weights
from efficientnet_elite.training.learning_rate import learning_rate

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData
    from efficientnet_elite.training.trainer import Trainer


@dataclass(frozen=True)
class Training:
    """A network that was trained.

    Attributes:
      network: its name, with ``@PIXELS`` or ``@HEIGHTxWIDTH`` where it was given.
      resolution: side of its input in pixels; a text such as ``96x128`` where it is not square.
      params, macs: its numbers of parameters and multiply-accumulates.
      score: what the accuracies are: ``top-1``, or ``mIoU`` of segmentation networks.
      test_accuracies: of the averaged weights on the test part, 0..1, one for each seed.
      checkpoints: files of these trainings.
      start: name, SHA-256, licence and origin of the pretrained weights that it started from; None
        for random weights.
    """

    network: str
    resolution: int | str
    params: int
    macs: int
    score: str
    test_accuracies: tuple[float, ...]
    checkpoints: tuple[Path, ...]
    start: Mapping[str, str] | None = None


def check_request(names: Sequence[str], asked: Request, *, has_data_set: bool) -> None:
    """Checks what can be checked before anything is loaded.

    Args:
      names: networks that are named.
      asked: the settings.
      has_data_set: whether a data set is named.

    Raises:
      UserError: a name is unknown or its network cannot be built for this input size, nothing is
        named, or a limit is given that chooses nothing.
    """
    if not names and not has_data_set:
        raise UserError(
            "name networks, such as elite9 or elite9@96 (`elite models` lists them), or a folder "
            "of photographs"
        )
    limits = [name for name, value in asked.config.limits.by_name().items() if value is not None]
    if names and limits:
        raise UserError(
            f"--max_{limits[0]} chooses a network where none is named: leave it out, or the names"
        )
    for name in names:
        network_spec(name, asked.config.base_resolution)


def train(
    names: Sequence[str],
    workdir: Path,
    config: SearchConfig,
    *,
    given: Collection[str] | None = None,
    automatic: bool = False,
    seeds: int = 1,
    export: bool | None = False,
    progress: bool = True,
    on_message: Callable[[str], None] = lambda text: None,
    on_trained: Callable[[Training], None] = lambda training: None,
    on_latencies: Callable[[str], None] = lambda text: None,
) -> tuple[Training, ...]:
    """Trains networks by name; the same call continues trainings that were interrupted.

    At the end it writes ``report.html`` and, beside exported files, model cards.

    Args:
      names: such as ``elite9`` or, for another input size, ``elite9@96``; none for the largest
        network of the config's pool that is within its limits.
      workdir: gets the checkpoints and the results, ``train.json`` and, with a row for each epoch,
        ``results.csv``.
      config: recipe, images, input size and the first seed, and for the choice of a network pool
        and limits; its other settings are ignored.
      given: dotted names of the settings that the user gave himself; by default all. Where networks
        start from pretrained weights, the others are replaced by those that suit them (`starts`).
      automatic: whether all settings that are not given are chosen by the images (`plan`).
      seeds: each network is trained with so many seeds.
      export: whether to export and verify the networks; None to do so where it is a single one with
        one seed.
      progress: whether to show progress bars on stderr.
      on_message: gets a line about each thing that a user should know.
      on_trained: gets each training as soon as its results are written, also one of an earlier
        call.
      on_latencies: gets the table of latencies as text if exported files were measured.

    Raises:
      UserError: an unknown network, or a work directory with trainings of other settings or images.
    """
    from efficientnet_elite import data as data_lib

    given = [*setting_types()] if given is None else given
    with lock(workdir):
        recorded = _Recorded.read(workdir)
        kinds = starts.kinds_of_networks(names) if names else starts.kinds_of_pool(config.pool)
        if recorded is None:
            if automatic:
                config = choices.sized(config, given, enough=1)
            if hint := starts.install_hint(config.train.pretrained, kinds):
                on_message(hint)
            config = starts.begun(config, given, kinds)
            config = starts.on_this_machine(config, on_message)
        else:
            before = recorded.config(config, automatic=automatic)
            config = starts.continued(config, given, before, kinds, workdir, automatic=automatic)
            config = replace(config, train=config.train.as_begun(before.train))
        source = load_start(config.train)
        sizes = [network_spec(name, config.base_resolution).size for name in names]
        max_side = max(size.stored_side for size in (config.base_size, *sizes))
        images = data_lib.load(
            config.data,
            max_side=max_side,
            cache_dir=cache_path(workdir),
            progress=progress,
        )
        config = replace(config, data=data_lib.decided(config.data, images))
        channels = config.data.input_channels
        if not names:
            measure = Measurer(workdir / "metrics", config.metric_table)
            names = [choices.best_network(config, images.num_classes, measure)]
        about = config.base_resolution, images.num_classes, channels
        specs = {
            name: network_spec(name, *about).reading_stages(config.reads_stages) for name in names
        }
        if recorded is None:
            if channels == 1 and "data.channels" not in given and not automatic:
                on_message(plan.GREY)
            fit = choices.fitted if automatic else starts.fitted
            config = fit(config, given, images.sizes["train"])
        else:
            check_unchanged(source, recorded.start, workdir)
        if hint := class_weights.check(config.train.class_weights, images):
            on_message(hint)
        start = None if source is None else Start.of(source, refused(source, specs.values()))
        _check_settings(workdir, recorded, _settings(config, images, max_side, start))
        if start is not None:
            announce(start, len(specs), on_message)
        if automatic:
            for line in plan.lines(
                config,
                images=images.sizes["train"],
                classes=images.num_classes,
                networks=f"{', '.join(names)} {plan.CHOICES['network'].hint}",
                last=("results", f"{workdir} (--workdir)"),
            ):
                on_message(line)
        records = _records(workdir)
        trainings = []
        for name, spec in specs.items():
            training = _finished(records.get(name), workdir, config.seed, seeds)
            if training is None:
                training = _train(name, spec, workdir, config, images, start, seeds, progress)
                records[name] = _record(training, config.seed)
                write_json(results_path(workdir), [*records.values()])
            trainings.append(training)
            on_trained(training)
    exported = []
    if export or (export is None and len(names) == seeds == 1):
        from efficientnet_elite.export import workdir as export_workdir

        exported = export_workdir.export_networks(workdir, again=False, progress=progress)
    finish(workdir, changed=bool(exported), on_message=on_message, on_latencies=on_latencies)
    return tuple(trainings)


def _train(
    name: str,
    spec: ArchSpec,
    workdir: Path,
    config: SearchConfig,
    images: ImageData,
    start: Start | None,
    seeds: int,
    progress: bool,
) -> Training:
    """Trains one network with all seeds."""
    from tqdm import tqdm

    from efficientnet_elite.data import steps_per_epoch
    from efficientnet_elite.training.trainer import Trainer

    origin = None if start is None else start.of_network(spec.name)
    recipe = config.train
    if start is not None and origin is None:
        recipe, images = from_scratch(recipe, images)
    steps = steps_per_epoch(images, recipe.batch_size)
    accuracies, checkpoints = [], []
    for seed in range(config.seed, config.seed + seeds):
        checkpoint = checkpoint_path(workdir, label(name, seed))
        trainer = Trainer(
            spec,
            recipe,
            images,
            base_resolution=config.base_resolution,
            seed=seed,
            checkpoint=checkpoint,
        )
        with tqdm(
            total=recipe.epochs,
            initial=trainer.epochs_done,
            desc=checkpoint.stem,
            disable=not progress,
        ) as bar:
            write_epochs(workdir, (name, seed), _rows(trainer, steps))
            while trainer.epochs_done < recipe.epochs:
                trainer.run(trainer.epochs_done + 1, lambda epoch: None)
                write_epochs(workdir, (name, seed), _rows(trainer, steps))
                bar.update()
        accuracies.append(trainer.accuracy("test"))
        checkpoints.append(checkpoint)
    return Training(
        network=name,
        resolution=spec.resolution,
        params=spec.params,
        macs=spec.macs,
        score="mIoU" if images.masks else "top-1",
        test_accuracies=tuple(accuracies),
        checkpoints=tuple(checkpoints),
        start=origin,
    )


def _rows(trainer: Trainer, steps: int) -> list[dict[str, Any]]:
    """The rows of ``results.csv`` for a training; the learning rate is that of the last step."""
    return [
        {
            **asdict(epoch),
            "learning_rate": learning_rate(trainer.config, epoch.epoch * steps - 1, steps),
        }
        for epoch in trainer.history
    ]


# -- results -------------------------------------------------------------------------------------

_RESULTS = ("network", "resolution", "params", "macs", "score", "test_accuracies", "start")


def _record(training: Training, seed: int) -> dict[str, Any]:
    seeds = range(seed, seed + len(training.test_accuracies))
    return {name: getattr(training, name) for name in _RESULTS} | {"seeds": [*seeds]}


def _records(workdir: Path) -> dict[str, dict[str, Any]]:
    """Network to its record, of the trainings in a work directory that are done."""
    path = results_path(workdir)
    if not path.is_file():
        return {}
    return {record["network"]: record for record in json.loads(path.read_text(encoding="utf-8"))}


def _finished(
    record: Mapping[str, Any] | None, workdir: Path, seed: int, seeds: int
) -> Training | None:
    """A training that is done, from its record; None where something of it is missing."""
    wanted = [*range(seed, seed + seeds)]
    # Earlier versions recorded neither the seeds nor the score.
    if record is None or not {*_RESULTS} <= record.keys() or record.get("seeds") != wanted:
        return None
    checkpoints = [checkpoint_path(workdir, label(record["network"], each)) for each in wanted]
    accuracies = tuple(record["test_accuracies"])
    if len(accuracies) != seeds or not all(path.is_file() for path in checkpoints):
        return None
    values = {name: record[name] for name in _RESULTS}
    return Training(**values | {"test_accuracies": accuracies, "checkpoints": tuple(checkpoints)})


# -- the settings of a work directory ------------------------------------------------------------


@dataclass(frozen=True)
class _Recorded:
    """The settings that the trainings in a work directory were begun with.

    Attributes:
      settings: as `_settings` gives them, see `search.trainings.begun_with`; one that did not exist
        then may be missing.
    """

    settings: Mapping[str, Any]

    @classmethod
    def read(cls, workdir: Path) -> _Recorded | None:
        """Those of a work directory; None where nothing has been trained there.

        UserError where there are checkpoints without settings.
        """
        if holds_trainings(workdir):
            return cls(begun_with(workdir))
        if has_checkpoints(workdir):
            raise UserError(f"{workdir} holds other trainings: use another --workdir")
        return None

    @property
    def start(self) -> Start | None:
        """What the networks started from; None for random weights."""
        return Start.recorded(self.settings.get("start"))

    def config(self, asked: SearchConfig, *, automatic: bool = False) -> SearchConfig:
        """The settings that are asked for now, with the recorded recipe.

        Args:
          asked: these settings.
          automatic: whether the recorded input size and augmentation stand, too.
        """
        names = {f.name for f in fields(TrainConfig)}
        train = {name: v for name, v in self.settings["train"].items() if name in names}
        pipeline = self.settings.get("pipeline", {})
        data = replace(asked.data, min_area=pipeline.get("min_area", asked.data.min_area))
        if automatic:
            data = replace(data, augment=self.settings.get("data", {}).get("augment"))
        if data.group_duplicates is None:  # the parts stay as they are
            split = self.settings.get("data", {}).get("group_duplicates", False)
            data = replace(data, group_duplicates=split)
        if data.channels == AUTO_CHANNELS:
            data = replace(data, channels=str(self.settings["channels"]))
        side = self.settings["base_resolution"] if automatic else asked.base_resolution
        return replace(
            asked,
            train=TrainConfig(**train),
            data=data,
            base_resolution=side,
            classifier_reads=self.settings["classifier_reads"],
        )


def recorded_weights(workdir: Path) -> str | None:
    """The setting ``pretrained`` of the trainings in a work directory; None where there are none.

    UserError where there are checkpoints without settings.
    """
    recorded = _Recorded.read(workdir)
    return None if recorded is None else recorded.settings["train"].get("pretrained")


def _settings(
    config: SearchConfig, images: ImageData, max_side: int, start: Start | None
) -> dict[str, Any]:
    """What has to be the same when trainings are continued, and `PLACE`, as JSON has it."""
    return {
        "data": asdict(config.data),
        "max_side": max_side,
        "seed": config.seed,
        "train": asdict(config.train),
        "base_resolution": config.base_resolution,
        "channels": images.channels,
        "classifier_reads": config.classifier_reads,
        "images": images.fingerprint,
        # A setting of the pipeline that is None did not exist in earlier versions.
        "pipeline": {k: v for k, v in asdict(images.pipeline).items() if v is not None},
        # Which networks start from it depends on those that are trained.
        "start": None if start is None else start.of_network(""),
    }


def _check_settings(workdir: Path, recorded: _Recorded | None, settings: dict[str, Any]) -> None:
    """Writes the settings of new trainings; UserError where begun ones have others."""
    path = settings_path(workdir)
    if recorded is None:
        write_json(path, settings)
        return
    # Settings that did not exist in the version that began the trainings are at their defaults.
    before = {"start": None, **recorded.settings}
    if before["start"] is not None:
        before["start"] = {"deviation": "", **before["start"]}
    kept = {name: settings["train"][name] for name in WITHOUT_EFFECT}
    before["train"] = before["train"] | kept
    policy = {k: v for k, v in settings["pipeline"].items() if k == "policy_sha256"}
    before["pipeline"] = policy | before.get("pipeline", {})
    check_policy(workdir, *(each["pipeline"].get("policy_sha256") for each in (before, settings)))
    place = {name: settings.pop(name) for name in PLACE}
    if json.loads(json.dumps(settings)) != {k: v for k, v in before.items() if k not in PLACE}:
        raise UserError(
            f"{workdir} holds trainings of other images or settings ({path.name}): "
            "use the same to continue them, or another --workdir"
        )
    write_json(path, {**settings, **place})  # the images may have moved


def network_spec(
    name: str, base_resolution: SizeLike, classes: int = 1000, channels: int = 3
) -> ArchSpec:
    """A network by its name, for the number of pixels after its @ if there is one."""
    network, at, pixels = name.partition("@")
    if not at:
        return spec_by_name(
            network, classes=classes, base_resolution=base_resolution, channels=channels
        )
    try:
        size = checked_size(pixels, network)
    except UserError as error:
        raise UserError(
            f"{name}: write NETWORK@PIXELS with at least 8 pixels, such as elite9@96 or "
            "elite9@96x128"
        ) from error
    if not size.is_square:
        return spec_by_name(f"{network}-{size}", classes=classes, channels=channels)
    spec = spec_by_name(network, classes=classes).resized((*size, channels))
    if not fits(spec):
        raise UserError(f"{network} cannot be made for {size} x {size} pixels: try others")
    return spec
