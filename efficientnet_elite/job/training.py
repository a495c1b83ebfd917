"""Networks trained by name, each with several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import starts
from efficientnet_elite.job.settings import setting_types
from efficientnet_elite.networks.names import fits, spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.starts import (
    Start,
    announce,
    check_unchanged,
    from_scratch,
    load_start,
    refused,
)
from efficientnet_elite.search.workdir import (
    cache_path,
    checkpoint_path,
    has_checkpoints,
    lock,
    write_json,
)

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData


@dataclass(frozen=True)
class Training:
    """A network that was trained.

    Attributes:
      network: its name, with ``@PIXELS`` where it was given.
      resolution: side of its input in pixels.
      params, macs: its numbers of parameters and multiply-accumulates.
      score: what the accuracies are: ``top-1``, or ``mIoU`` of segmentation networks.
      test_accuracies: of the averaged weights on the test part, 0..1, one for each seed.
      checkpoints: files of these trainings.
      start: name, SHA-256, licence and origin of the pretrained weights that it started from; None
        for random weights.
    """

    network: str
    resolution: int
    params: int
    macs: int
    score: str
    test_accuracies: tuple[float, ...]
    checkpoints: tuple[Path, ...]
    start: Mapping[str, str] | None = None


def check_networks(names: Sequence[str], base_resolution: int) -> None:
    """UserError if a name is unknown or its network cannot be built for this input size."""
    if not names:
        raise UserError("name networks, such as elite9 or elite9@96 (`elite models` lists them)")
    for name in names:
        network_spec(name, base_resolution)


def train(
    names: Sequence[str],
    workdir: Path,
    config: SearchConfig,
    *,
    given: Collection[str] | None = None,
    seeds: int = 1,
    progress: bool = True,
    on_message: Callable[[str], None] = lambda text: None,
) -> tuple[Training, ...]:
    """Trains networks by name; the same call continues trainings that were interrupted.

    Args:
      names: such as ``elite9`` or, for another input size, ``elite9@96``.
      workdir: gets the checkpoints and the results, ``train.json``.
      config: recipe, images, input size and the first seed; its other settings are ignored.
      given: dotted names of the settings that the user gave himself; by default all. Where networks
        start from pretrained weights, the others are replaced by those that suit them (`starts`).
      seeds: each network is trained with so many seeds.
      progress: whether to show progress bars on stderr.
      on_message: gets a line about each thing that a user should know.

    Raises:
      UserError: an unknown network, or a work directory with trainings of other settings or images.
    """
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.training.start import selection_for

    check_networks(names, config.base_resolution)
    given = [*setting_types()] if given is None else given
    with lock(workdir):
        recorded, kinds = _Recorded.read(workdir), starts.kinds_of_networks(names)
        if recorded is None:
            if hint := starts.install_hint(config.train.pretrained, kinds):
                on_message(hint)
            config = starts.begun(config, given, kinds)
        else:
            config = starts.continued(config, given, recorded.config(config), kinds, workdir)
        source = load_start(config.train)
        sides = [network_spec(name, config.base_resolution).resolution for name in names]
        images = data_lib.load(
            config.data,
            max_side=max(config.base_resolution, *sides) * 3 // 2,
            cache_dir=cache_path(workdir),
            progress=progress,
        )
        specs = {n: network_spec(n, config.base_resolution, images.num_classes) for n in names}
        if recorded is None:
            config = starts.fitted(config, given, images.sizes["train"])
        else:
            check_unchanged(source, recorded.start, workdir)
        start = (
            None
            if source is None
            else Start.of(source, refused(source, specs.values(), selection_for))
        )
        _check_settings(workdir, recorded, _settings(config, images, start))
        if start is not None:
            announce(start, len(specs), on_message)
        trainings = []
        for name, spec in specs.items():
            trainings.append(_train(name, spec, workdir, config, images, start, seeds, progress))
            write_json(workdir / "train.json", [_record(training) for training in trainings])
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

    from efficientnet_elite.training.trainer import Trainer

    origin = None if start is None else start.of_network(spec.name)
    recipe = config.train
    if start is not None and origin is None:
        recipe, images = from_scratch(recipe, images)
    accuracies, checkpoints = [], []
    for seed in range(config.seed, config.seed + seeds):
        label = f"{name}-seed{seed}"
        checkpoint = checkpoint_path(workdir, label)
        trainer = Trainer(
            spec,
            recipe,
            images,
            base_resolution=config.base_resolution,
            seed=seed,
            checkpoint=checkpoint,
        )
        with tqdm(
            total=recipe.epochs, initial=trainer.epochs_done, desc=label, disable=not progress
        ) as bar:
            trainer.run(recipe.epochs, lambda epoch, bar=bar: bar.update())  # type: ignore[misc]
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


def _record(training: Training) -> dict[str, Any]:
    names = ("network", "resolution", "params", "macs", "test_accuracies", "start")
    return {name: getattr(training, name) for name in names}


# -- the settings of a work directory ------------------------------------------------------------


@dataclass(frozen=True)
class _Recorded:
    """The settings that the trainings in a work directory were begun with.

    Attributes:
      settings: as `_settings` gives them; those that did not exist then are missing.
    """

    settings: Mapping[str, Any]

    @classmethod
    def read(cls, workdir: Path) -> _Recorded | None:
        """Those of a work directory; None where nothing has been trained there.

        UserError where there are checkpoints without settings.
        """
        path = workdir / _SETTINGS_FILE
        if path.is_file():
            return cls(json.loads(path.read_text()))
        if has_checkpoints(workdir):
            raise UserError(f"{workdir} holds other trainings: use another --workdir")
        return None

    @property
    def start(self) -> Start | None:
        """What the networks started from; None for random weights."""
        return Start.recorded(self.settings.get("start"))

    def config(self, asked: SearchConfig) -> SearchConfig:
        """The settings that are asked for now, with the recorded recipe."""
        names = {f.name for f in fields(TrainConfig)}
        train = {name: v for name, v in self.settings["train"].items() if name in names}
        pipeline = self.settings.get("pipeline", {})
        data = replace(asked.data, min_area=pipeline.get("min_area", asked.data.min_area))
        return replace(asked, train=TrainConfig(**train), data=data)


_SETTINGS_FILE = "train_settings.json"


def _settings(config: SearchConfig, images: ImageData, start: Start | None) -> dict[str, Any]:
    """What has to be the same when trainings are continued, as JSON has it."""
    return {
        "train": asdict(config.train),
        "base_resolution": config.base_resolution,
        "images": images.fingerprint,
        # A setting of the pipeline that is None did not exist in earlier versions.
        "pipeline": {k: v for k, v in asdict(images.pipeline).items() if v is not None},
        # Which networks start from it depends on those that are trained.
        "start": None if start is None else start.of_network(""),
    }


def _check_settings(workdir: Path, recorded: _Recorded | None, settings: dict[str, Any]) -> None:
    """Writes the settings of new trainings; UserError where begun ones have others."""
    path = workdir / _SETTINGS_FILE
    if recorded is None:
        write_json(path, settings)
        return
    # Settings that did not exist in the version that began the trainings are at their defaults.
    before = {"start": None, **recorded.settings}
    before["train"] = asdict(TrainConfig()) | before["train"]
    if json.loads(json.dumps(settings)) != before:
        raise UserError(
            f"{workdir} holds trainings of other images or settings ({path.name}): "
            "use the same to continue them, or another --workdir"
        )


def network_spec(name: str, base_resolution: int, classes: int = 1000) -> ArchSpec:
    """A network by its name, for the number of pixels after its @ if there is one."""
    network, at, pixels = name.partition("@")
    if not at:
        return spec_by_name(network, classes=classes, base_resolution=base_resolution)
    if not pixels.isdecimal() or int(pixels) < 8:
        raise UserError(f"{name}: write NETWORK@PIXELS with at least 8 pixels, such as elite9@96")
    side = int(pixels)
    spec = spec_by_name(network, classes=classes).resized((side, side, 3))
    if not fits(spec):
        raise UserError(f"{network} cannot be made for {side} x {side} pixels: try others")
    return spec
