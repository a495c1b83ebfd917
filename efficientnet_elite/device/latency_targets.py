"""Processors whose latency can stand in cost groups, and the cost metric that stands for it."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite import registry
from efficientnet_elite.device.instructions import CORES
from efficientnet_elite.errors import UserError


@dataclass(frozen=True)
class LatencyTarget:
    """Where latency counts.

    Attributes:
      name, description: see `registry.Entry`.
      metric: the cost metric by which candidates are grouped in place of their MACs.
    """

    name: str
    description: str
    metric: str


X86 = "x86"
LATENCY_TARGETS = registry.table(
    *(
        LatencyTarget(
            core.name,
            f"instructions {'of the network in C' if core.in_c else 'of LiteRT'} on a "
            f"{core.description}, estimated (docs/{'firmware' if core.in_c else 'boards'}.md)",
            core.metric,
        )
        for core in CORES.values()
    ),
    LatencyTarget(X86, "latencies measured on this machine, which must be an x86-64", "latency_ms"),
    LatencyTarget("table", "latencies measured on a device, from --metric_table", "latency_ms"),
)


def latency_target(name: str) -> LatencyTarget:
    """A target by its name; UserError for processors of which nothing is known."""
    if name not in LATENCY_TARGETS:
        raise UserError(
            f"latency_target={name}: there is no estimate for it. There are "
            f"{registry.described(LATENCY_TARGETS.values())}. For another processor, measure there "
            "(`elite boards`), and pass the file to --metric_table with --latency_target=table"
        )
    return LATENCY_TARGETS[name]
