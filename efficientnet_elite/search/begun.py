"""Whether a search that was begun may be continued with the settings that are asked for now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from efficientnet_elite.config import AUTO_CHANNELS, WITHOUT_EFFECT, SearchConfig
from efficientnet_elite.data.choices import SOURCES
from efficientnet_elite.device.instructions import CORES
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.schedule import with_rule_defaults

# Settings that a search may be continued with at other values: no score depends on them.
_CHANGES_NOTHING = (
    "data.cache_gb",
    "data.data_dir",
    *(f"train.{name}" for name in WITHOUT_EFFECT),
)
# Those that say where the images lie. The fingerprint tells whether they are the same images.
_PLACES = ("data.dataset", "data.unlabelled", "data.labels")


def check_settings(ledger: Ledger, asked: SearchConfig) -> None:
    """UserError where a setting on which scores depend is not that of the search.

    Args:
      ledger: the ledger of the search.
      asked: the settings that are asked for now.
    """
    # Settings that the version which began the search did not have are at their defaults.
    meta = ledger.meta()
    recorded = with_rule_defaults(SearchConfig.from_dict(meta["config"]))
    config = with_rule_defaults(as_begun(asked, recorded))
    for core in CORES.values():
        before_groups = f"{core.metric}_m" not in meta["config"].get("limits", {})
        if before_groups and config.group_by == ("params", core.metric):
            # A device with this core chose no groups in the version that began it.
            config = replace(config, group_by=recorded.group_by)
    for name in ("round_epochs", "first_elimination"):
        if getattr(asked, name) is None:  # the defaults of the version that began it stand
            config = replace(config, **{name: getattr(recorded, name)})
    if _is_asked_as_before(config, recorded, meta):
        config = replace(
            config,
            round_epochs=recorded.round_epochs,
            first_elimination=recorded.first_elimination,
        )
    for key, (old, new) in differences(asdict(recorded), asdict(config)).items():
        if key in _CHANGES_NOTHING or _is_moved(key, old, new):
            continue
        raise UserError(
            f"{ledger.path.parent} holds a search with {key}={old}, not {new}: "
            "use the same settings to continue it, or another --workdir"
        )


def check_policy(workdir: Path, recorded: str | None, now: str | None) -> None:
    """UserError where the policy's file that ``augment`` names has changed.

    Args:
      workdir: of a search or trainings that are continued.
      recorded: SHA-256 of the file when they began; None where there was none, or where a version
        began them that did not record it.
      now: that of the file now; None where there is none.
    """
    if None not in (recorded, now) and recorded != now:
        raise UserError(
            f"the policy that --augment names has changed since {workdir} was started: restore "
            "its file, or use another --workdir"
        )


def as_begun(asked: SearchConfig, recorded: SearchConfig) -> SearchConfig:
    """The settings with what they leave open as in the search.

    These are the split, the channels, the precision and the determinism.
    """
    data, split = asked.data, recorded.data.group_duplicates
    if data.group_duplicates is None or (data.group_duplicates and split is None):
        data = replace(data, group_duplicates=split)
    if data.channels == AUTO_CHANNELS:
        data = replace(data, channels=recorded.data.channels)
    return replace(asked, data=data, train=asked.train.as_begun(recorded.train))


def _is_moved(name: str, old: Any, new: Any) -> bool:
    """Whether two values of a setting may name the same files at two places."""
    if name == "data.dataset":
        source = old.partition(":")[0]
        return source == new.partition(":")[0] and source in SOURCES and SOURCES[source].is_path
    return name in _PLACES and None not in (old, new)


def record_place(ledger: Ledger, config: SearchConfig) -> None:
    """Records where the images of a search lie now, once they are known to be the same."""
    recorded = ledger.meta()["config"]
    names = [name.removeprefix("data.") for name in _PLACES]
    data = recorded["data"] | {name: getattr(config.data, name) for name in names}
    if any(data[name] != recorded["data"].get(name) for name in names):
        ledger.replace_meta("config", {**recorded, "data": data})


def _is_asked_as_before(
    config: SearchConfig, recorded: SearchConfig, meta: Mapping[str, Any]
) -> bool:
    """Whether rounds are asked for by the number that the command had which began the search.

    Under the rule race a ledger of format 4 had another number for the same eliminations, which
    its migration keeps.
    """
    return (
        config.rule == recorded.rule
        and config.first_elimination is None
        and config.round_epochs == meta.get("round_epochs_of_format_4")
    )


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Dotted names of the values that differ, each with the old and the new one."""
    different: dict[str, tuple[Any, Any]] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            different |= differences(before, after, f"{prefix}{key}.")
        elif before != after:
            different[prefix + key] = (before, after)
    return dict(sorted(different.items()))
