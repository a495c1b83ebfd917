"""Which candidates of a pool a search trains: those within the device's limits, in cost groups.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from efficientnet_elite import costs, pools
from efficientnet_elite import limits as limits_lib
from efficientnet_elite.config import Limits
from efficientnet_elite.costs import METRICS, Measured
from efficientnet_elite.errors import UserError
from efficientnet_elite.limits import METRIC_OF
from efficientnet_elite.pools import Candidate
from efficientnet_elite.spec import ArchSpec

# (metric, networks) to the measured value of each, by name.
Measure = Callable[[str, Sequence[ArchSpec]], Mapping[str, float]]


@dataclass(frozen=True)
class Selection:
    """What is left of a pool.

    Attributes:
      candidates: those within the limits, with their groups.
      cut: name of each of the others to the reason.
      measured: what was measured for it.
    """

    candidates: tuple[Candidate, ...]
    cut: Mapping[str, str]
    measured: Measured


def cannot_measure(metric: str, specs: Sequence[ArchSpec]) -> Mapping[str, float]:
    """A `Measure` where there is none: UserError."""
    raise UserError(f"{metric} must be measured: it needs {METRICS[metric].needs}")


def select(
    pool: str,
    *,
    base_resolution: int,
    classes: int,
    groups: int | None = None,
    metrics: Sequence[str] = pools.METRICS,
    method: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    shown: Sequence[str] = (),
    measure: Measure = cannot_measure,
) -> Selection:
    """Cuts a pool to what the device allows and groups what is left.

    What can be computed is judged first: only candidates that pass are measured. Groups are those
    of the candidates left, so that all of them can be filled.

    Args:
      pool, base_resolution, classes, groups, metrics, method: see `pools`.
      limits: of the device.
      shown: further metrics to measure, where they must be.
      measure: how to measure what cannot be computed.

    Raises:
      UserError: nothing is left, see `limits.cut`; or something cannot be measured.
    """
    needed = costs.to_measure([*metrics, *limits_lib.ceilings(limits), *shown])
    found = pools.members(pool, base_resolution=base_resolution, classes=classes)
    costly = {field: None for field, metric in METRIC_OF.items() if metric in needed}
    cut = limits_lib.cut([c.spec for c in found], replace(limits, **costly))
    found = tuple(c for c in found if c.name not in cut)
    measured = {metric: measure(metric, [c.spec for c in found]) for metric in needed}
    cut |= limits_lib.cut([c.spec for c in found], limits, measured)
    found = tuple(c for c in found if c.name not in cut)
    options = {"groups": groups, "metrics": metrics, "method": method, "measured": measured}
    return Selection(pools.grouped(pool, found, **options), cut, measured)  # type: ignore[arg-type]
