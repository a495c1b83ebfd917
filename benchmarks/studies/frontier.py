"""Lists what small networks cost on a microcontroller (docs/frontier.md).

    python -m benchmarks.studies.frontier --base_resolution=96 --classes=10 --format=markdown

No network is trained, converted or run: parameters and multiply-accumulates are counted, and the
instructions on Cortex-M4, M55, A53 and A76, the arena and the size of the int8 file are the
estimates that limits use (`elite models --metrics=cortex_m4_instructions,arena_bytes,size_bytes`).
Arguments are names of networks; by default eLite9, its variants, and networks of other families.
"""

from __future__ import annotations

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.device import costs
from efficientnet_elite.device.instructions import CORES
from efficientnet_elite.networks.names import spec_by_name

FLAGS = flags.FlagValues()
command.define_network_size(FLAGS)
command.define_format(FLAGS)

NETWORKS = (
    "elite9",
    "elite9-relu6",
    "elite9-nose",
    "elite9-relu6-nose",
    "elite9-relu6-nose-k3",
    "elite9-relu6-nose-m16",
    "elite9-relu6-nose-stem4",
    "elite9-relu6-nose-k3-stem4",
    "elite9-mcu",
    "elite9-mcu-stem4",
    "elite-w4d3r1-relu6-nose-k3-stem4",
    "elite-w3d4r1-relu6-nose-k3-stem4",
    "elite-w3d4r1-mcu-stem4",
    "mobilenetv1-w4d4r1",
    "mobilenetv2-0.35",
    "mobilenetv2-0.35-stem4",
    "mobilenetv2-w4d4r1-stem4",
    "mobilenetv3-small-minimalistic",
    "mobilenetv4-conv-small-0.35",
    "mobilenetv4-conv-small-0.5",
    "mobilenetv4-conv-small-w3d1r1",
    "mobilenetv4-conv-small",
    "mobilenetv4-conv-small-stem4",
)
"""eLite9 and its variants, larger ones that compute about as much, and other small networks."""

_OTHERS = [core for name, core in CORES.items() if name != "m4"]
_HEADS = (
    *("network", "params M", "MACs M", "M4 instructions M", "a MAC"),
    *(f"{core.name.upper()} M" for core in _OTHERS),
    *("arena kB", "int8 kB"),
)


def cells(name: str) -> list[str]:
    """The figures of one network, in the order of the headings."""
    spec = spec_by_name(name, classes=FLAGS.classes, base_resolution=FLAGS.base_resolution)
    instructions = costs.of(spec, "cortex_m4_instructions")
    return [
        name,
        f"{spec.params / 1e6:.3f}",
        f"{spec.macs / 1e6:.2f}",
        f"{instructions / 1e6:.1f}",
        f"{instructions / spec.macs:.2f}",
        *(f"{costs.of(spec, core.metric) / 1e6:.2f}" for core in _OTHERS),
        f"{costs.of(spec, 'arena_bytes') / 1e3:.0f}",
        f"{costs.of(spec, 'size_bytes') / 1e3:.0f}",
    ]


def main(networks: list[str]) -> None:
    """Prints a line for each network."""
    rows = [cells(name) for name in networks or NETWORKS]
    print(tables.text(FLAGS.format, _HEADS, rows), end="")


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
