"""Weights for every network of a pool, made once: each learns from one pretrained network."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from efficientnet_elite.config import AUTO_CHANNELS, NONE, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import starts, training
from efficientnet_elite.job.settings import setting_types, with_values
from efficientnet_elite.job.training import Training
from efficientnet_elite.networks.pretrained.folders import RECORD, Origin, file_of
from efficientnet_elite.networks.pretrained.matching import is_same_network
from efficientnet_elite.networks.pretrained.sources import load_source
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights, save, sha256_of_arrays
from efficientnet_elite.search.starts import refused
from efficientnet_elite.search.workdir import write_json


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network whose weights are in the folder.

    Attributes:
      network: its name.
      file: of its weights, in the normal form.
      training: how it was trained; None for the source's own network, which is taken as it is.
    """

    network: str
    file: Path
    training: Training | None


def pretrain(
    config: SearchConfig,
    workdir: Path,
    *,
    given: Collection[str] | None = None,
    classes: int = 10,
    progress: bool = True,
    on_message: Callable[[str], None] = lambda text: None,
) -> tuple[PretrainedNetwork, ...]:
    """Distils pretrained weights into every network of a pool; the same call continues.

    Every network selects its channels from the source and is trained on the images as in
    `training.train`, with labels and distillation. The folder can then be named as pretrained
    weights: each network starts from its own file.

    Args:
      config: pool, limits, recipe, images, input size and seed. Its rounds are ignored.
      workdir: gets ``NETWORK.npz`` for each network, ``pretrained.json``, and checkpoints.
      given: dotted names of the settings that the user gave himself; by default all.
      classes: number of classes that the networks are to have later; limits depend on it.
      progress: whether to show progress bars on stderr.
      on_message: gets a line about each thing that a user should know.

    Raises:
      UserError: there is nothing to learn from, no network can, or see `training.train`.
    """
    from efficientnet_elite.export.measure import Measurer
    from efficientnet_elite.search.run import choose

    given = {*(setting_types() if given is None else given)} - {"round_epochs", "first_elimination"}
    config = replace(config, round_epochs=None, first_elimination=None)
    if "max_candidates" not in given:  # a preset's number is for searches
        config = replace(config, max_candidates=None)
    if config.data.channels == AUTO_CHANNELS:  # weights for colours can start grey networks, too
        config = with_values(config, {"data.channels": "3"})
    kinds = starts.kinds_of_pool(config.pool)
    asked = config.train.pretrained
    name = starts.source_name(training.recorded_weights(workdir) if asked is None else asked, kinds)
    if name == NONE:
        raise UserError(
            "there is nothing to learn from: name pretrained weights with --pretrained "
            "(`elite weights` lists them)"
        )
    config = with_values(config, {"train.pretrained": name})
    source = load_source(name)
    chosen = choose(config, classes, Measurer(workdir / "metrics", config.metric_table))
    if chosen.excluded:
        on_message(f"{len(chosen.excluded)} networks are over a limit and left out")
    specs = {candidate.name: candidate.spec for candidate in chosen.candidates}
    if unfit := refused(source, specs.values()):
        on_message(f"cannot learn from {name} and are left out: {', '.join(unfit)}")
    specs = {network: spec for network, spec in specs.items() if network not in unfit}
    if not specs:
        raise UserError(f"no network of pool {config.pool} can learn from {name}")
    whole = [n for n, spec in specs.items() if is_same_network(source.for_network(spec).spec, spec)]
    made_from = Origin(name, source.sha256, source.licence, config.data.dataset)
    found: dict[str, PretrainedNetwork] = {}

    def keep(trained: Training) -> None:
        found[trained.network] = _keep(trained, made_from, workdir)

    if names := [network for network in specs if network not in whole]:
        training.train(
            names,
            workdir,
            config,
            given=given,
            progress=progress,
            on_message=on_message,
            on_trained=keep,
        )
    for network in whole:
        found[network] = _keep_whole(
            network, source.for_network(specs[network]), made_from, workdir
        )
    return tuple(found[network] for network in specs)


def _keep(trained: Training, made_from: Origin, workdir: Path) -> PretrainedNetwork:
    """Writes the averaged weights of a training, unless they have been written before."""
    file, checkpoint = file_of(workdir, trained.network), trained.checkpoints[0]
    if not file.is_file() or file.stat().st_mtime < checkpoint.stat().st_mtime:
        from efficientnet_elite.training.checkpoint_weights import read_checkpoint

        weights = read_checkpoint(checkpoint)
        save(
            replace(
                weights,
                name=trained.network,
                licence=made_from.licence,
                sha256=sha256_of_arrays(weights.arrays),
                origin=f"distilled from {made_from.source} on {made_from.dataset}",
            ),
            file,
        )
    write_json(workdir / RECORD, made_from.record())
    return PretrainedNetwork(trained.network, file, trained)


def _keep_whole(
    network: str, weights: PretrainedWeights, made_from: Origin, workdir: Path
) -> PretrainedNetwork:
    """Writes the source's own weights."""
    file = file_of(workdir, network)
    if not file.is_file():
        save(replace(weights, name=network), file)
    write_json(workdir / RECORD, made_from.record())
    return PretrainedNetwork(network, file, None)
