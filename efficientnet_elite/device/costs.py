"""What a network costs on a device: metrics by name, for grouping and limits.

Most are computed from the spec in a millisecond; the others must be measured, and are given as
tables of values. docs/metrics.md says how far estimates are from the measured.

This module must not import TensorFlow or Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from efficientnet_elite.device import memory
from efficientnet_elite.device.lowering import Program, lower
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec

# Metric name to candidate name to value: what was measured.
Measured = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Metric:
    """A cost.

    Attributes:
      title: for people.
      unit: in which people read it, ``factor`` of what is stored.
      help: what it is.
      of: the cost of a spec; None where it can only be measured.
      needs: what a measured one needs.
    """

    title: str
    unit: str
    factor: float
    help: str
    of: Callable[[ArchSpec], float] | None = None
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
        raise UserError(f"{spec.name}: its memory and size cannot be estimated: {error}") from error


def _peak(spec: ArchSpec) -> float:
    return memory.peak_bytes(memory.activation_buffers(_program(spec)))


METRICS: dict[str, Metric] = {
    "params": Metric("parameters", "M", 1e6, "Weights, moving statistics included.",
                     lambda spec: spec.params),
    "macs": Metric("MACs", "M", 1e6, "Multiply-accumulates of one image.", lambda spec: spec.macs),
    "peak_bytes": Metric("peak activations", "kB", 1e3,
                         "Most bytes of int8 activations that live at once; exact.", _peak),
    "size_bytes": Metric("size", "kB", 1e3, "Size of the int8 file; estimated.",
                         lambda spec: memory.file_bytes(_program(spec))),
    "arena_bytes": Metric("arena", "kB", 1e3, "Arena of TFLM, as on x86-64; estimated.",
                          lambda spec: memory.arena_bytes(_program(spec))),
    "tflm_arena_bytes": Metric("TFLM arena", "kB", 1e3, "Arena by TFLM's own account; measured.",
                               needs="TFLM (pip install --pre tflite-micro)"),
    "latency_ms": Metric("latency", "ms", 1.0, "Milliseconds an image; measured here, or "
                         "--metric_table's.", needs="this machine or a metric table"),
    "ethos_u_cycles": Metric("Ethos-U cycles", "M", 1e6, "Cycles an image on an Ethos-U55-128 "
                             "by Vela's estimate.", needs="Vela (pip install ethos-u-vela)"),
}  # fmt: skip


def check(names: Iterable[str]) -> None:
    """UserError where a metric is not known."""
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric {name!r}: choose among {', '.join(METRICS)}")


@cache
def _computed(cost: Callable[[ArchSpec], float], spec: ArchSpec) -> float:
    return cost(spec)


def to_measure(names: Iterable[str]) -> list[str]:
    """Those of some metrics that cannot be computed."""
    check(names)
    return [name for name in dict.fromkeys(names) if METRICS[name].of is None]


def of(spec: ArchSpec, name: str, measured: Measured = {}) -> float:  # noqa: B006 (never changed)
    """A cost in its base unit: bytes, milliseconds, or a count.

    UserError where the metric is unknown, or measured and the table lacks it.
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
