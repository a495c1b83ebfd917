"""Cost metrics: what a network costs on a device, by name, for cost groups and limits.

Most metrics are computed from the spec, which takes about a millisecond. The others must be
measured and are passed as tables of values. docs/metrics.md compares estimates with measured
values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from efficientnet_elite import registry
from efficientnet_elite.device import instructions, memory, patch_choice
from efficientnet_elite.device.lowering import Program, lower
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec

# Measured costs: metric's name to candidate's name to value.
Measured = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Metric:
    """A number that a network costs.

    Attributes:
      name: the name by which it is chosen (``--group_by``, ``--metrics``).
      title: its name in tables and messages.
      unit: the unit in which it is shown.
      factor: number of base units (bytes, milliseconds or counts) in one `unit`.
      description: one sentence without a full stop, for help texts.
      of: function from a network's spec to the cost in base units; None if the metric can only be
        measured.
      limit: name of its limit (``--max_LIMIT``, given in `unit`); empty if it has none.
      measure: for a measured metric: function from the content of a .tflite file to the cost, or
        its name as ``module:function``; None if `export.measure` treats this metric specially.
      check: function that raises UserError if a tool for the measurement is not installed, or its
        name as ``module:function``; None if there is nothing to check.
      needs: for a measured metric: what the measurement needs, for messages.
    """

    name: str
    title: str
    unit: str
    factor: float
    description: str
    of: Callable[[ArchSpec], float] | None = None
    limit: str = ""
    measure: Callable[[bytes], float] | str | None = None
    check: Callable[[], None] | str | None = None
    needs: str = ""

    def text(self, value: float) -> str:
        """A value with its unit, such as ``1,312 kB`` or ``74.58 M``."""
        scaled = value / self.factor
        digits = 0 if scaled >= 1000 else 2 if scaled >= 10 else 3
        return f"{scaled:,.{digits}f} {self.unit}"


@cache
def _program(spec: ArchSpec) -> Program:
    try:
        return lower(spec.graph)
    except ValueError as error:
        raise UserError(
            f"the memory and size of {spec.name} cannot be estimated: {error}"
        ) from error


def _instructions(core: instructions.Core) -> Metric:
    def of(spec: ArchSpec) -> float:
        try:
            return instructions.estimate(_program(spec), core)
        except ValueError as error:
            reason = f"the instructions of {spec.name} cannot be estimated: {error}"
            raise UserError(reason) from error

    program = "of the network in C (elite export --target=c)" if core.in_c else "by LiteRT"
    return Metric(
        core.metric,
        f"{core.description} instructions",
        "M",
        1e6,
        f"Instructions of one inference {program} on a {core.description}, estimated",
        of,
        limit=f"{core.metric}_m",
    )


def _peak(spec: ArchSpec) -> float:
    return memory.peak_bytes(memory.activation_buffers(_program(spec)))


METRICS = registry.table(
    Metric(
        "params",
        "parameters",
        "M",
        1e6,
        "All weights, including the moving statistics of batch normalisation",
        lambda spec: spec.params,
        limit="params_m",
    ),
    Metric(
        "macs",
        "MACs",
        "M",
        1e6,
        "Multiply-accumulates of one inference",
        lambda spec: spec.macs,
        limit="macs_m",
    ),
    Metric(
        "peak_bytes",
        "peak activations",
        "kB",
        1e3,
        "The most int8 activations that are in memory at the same time, computed exactly",
        _peak,
        limit="peak_kb",
    ),
    Metric(
        "size_bytes",
        "size",
        "kB",
        1e3,
        "Size of the int8 .tflite file, estimated",
        lambda spec: memory.file_bytes(_program(spec)),
        limit="size_kb",
    ),
    Metric(
        "arena_bytes",
        "arena",
        "kB",
        1e3,
        "Memory (arena) that TFLM needs for activations on x86-64, estimated",
        lambda spec: memory.arena_bytes(_program(spec)),
        limit="arena_kb",
    ),
    Metric(
        "patched_arena_bytes",
        "arena, patched",
        "kB",
        1e3,
        "Memory (arena) that TFLM needs if the first layers run patch by patch (elite export "
        f"--patches) with at most {patch_choice.MOST_OVERHEAD:.0%} more MACs, estimated",
        lambda spec: patch_choice.arena_bytes(_program(spec)),
        limit="patched_arena_kb",
    ),
    *(_instructions(core) for core in instructions.CORES.values()),
    Metric(
        "tflm_arena_bytes",
        "TFLM arena",
        "kB",
        1e3,
        "Memory (arena) that TFLM itself reports for activations, measured",
        limit="tflm_arena_kb",
        measure="efficientnet_elite.export.runtimes.tflm:arena_bytes",
        check="efficientnet_elite.export.runtimes.tflm:check",
        needs="TFLM (pip install --pre tflite-micro)",
    ),
    Metric(
        "latency_ms",
        "latency",
        "ms",
        1.0,
        "Time of one inference, measured on this machine or taken from --metric_table",
        limit="latency_ms",
        needs="this machine or a metric table",
    ),
    Metric(
        "ethos_u_cycles",
        "Ethos-U cycles",
        "M",
        1e6,
        "Cycles of one inference on an Ethos-U55-128, as Vela estimates them",
        limit="ethos_u_cycles_m",
        measure="efficientnet_elite.export.packages.ethos_u:estimate_cycles",
        check="efficientnet_elite.export.packages.ethos_u:check_available",
        needs="Vela (pip install ethos-u-vela)",
    ),
)


def check(names: Iterable[str]) -> None:
    """UserError if a name is not that of a metric."""
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric {name!r}: choose among {', '.join(METRICS)}")


@cache
def _computed(cost: Callable[[ArchSpec], float], spec: ArchSpec) -> float:
    return cost(spec)


def to_measure(names: Iterable[str]) -> list[str]:
    """The names of those given metrics that must be measured, each once."""
    check(names)
    return [name for name in dict.fromkeys(names) if METRICS[name].of is None]


def of(spec: ArchSpec, name: str, measured: Measured = {}) -> float:  # noqa: B006 (never changed)
    """The cost of a network in the metric's base unit: bytes, milliseconds or a count.

    Args:
      spec: the network.
      name: name of the metric.
      measured: values of the metrics that must be measured.

    Raises:
      UserError: the metric is unknown, or it must be measured and has not been.
    """
    check([name])
    metric = METRICS[name]
    if metric.of is not None:
        return _computed(metric.of, spec)
    try:
        return measured[name][spec.name]
    except KeyError:
        raise UserError(
            f"{name} of {spec.name} has not been measured: it needs {metric.needs}"
        ) from None


def computed(spec: ArchSpec) -> dict[str, float]:
    """Every cost that can be computed for a network, in base units, in the order of `METRICS`.

    A network with an operation for which there is no estimate, such as a user's own model, has
    fewer of them.
    """
    known = {}
    for name, metric in METRICS.items():
        if metric.of is not None:
            with suppress(UserError):
                known[name] = _computed(metric.of, spec)
    return known
