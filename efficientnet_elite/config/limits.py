"""Limits of the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite

from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import documented


@documented
@dataclass(frozen=True)
class Limits:
    """The most that a candidate may cost on the device; None sets no limit.

    Candidates that exceed a limit are excluded before training. Thousands are of 1000 (kB, not
    KiB). `device.costs.METRICS` describes the metric of each limit. ``others`` are limits, by name,
    on metrics that were added to that table.
    """

    params_m: float | None = None
    macs_m: float | None = None
    peak_kb: float | None = None
    size_kb: float | None = None
    arena_kb: float | None = None
    patched_arena_kb: float | None = None
    cortex_m4_instructions_m: float | None = None
    cortex_m55_instructions_m: float | None = None
    cortex_a53_instructions_m: float | None = None
    cortex_a76_instructions_m: float | None = None
    tflm_arena_kb: float | None = None
    latency_ms: float | None = None
    ethos_u_cycles_m: float | None = None
    others: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, value in self.by_name().items():
            if value is not None and not (isfinite(value) and value > 0):
                raise UserError(f"max_{name}={value}: must be a number above 0")

    @classmethod
    def of(cls, values: Mapping[str, float | None]) -> Limits:
        """Limits by their names, those of added metrics too; None: no limit."""
        names = {field.name for field in fields(cls)} - {"others"}
        built_in = {name: value for name, value in values.items() if name in names}
        others = {n: v for n, v in values.items() if n not in names and v is not None}
        return cls(**built_in, others=others or None)

    def by_name(self) -> dict[str, float | None]:
        """All limits by name, the names of added metrics last."""
        values = dict(vars(self))
        return values | (values.pop("others") or {})
