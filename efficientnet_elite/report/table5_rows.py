"""Table 5 of arXiv 2009.07409: what it prints, and what the same networks count here.

The paper's own rows count all weights, batch normalisation's moving statistics included; the rows
that it cites count trainable weights, as their papers do. Each is compared with its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks import ops
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec


@dataclass(frozen=True)
class Row:
    """A row as printed; nothing in it was measured by this project.

    Attributes:
      title: the network, as the paper calls it.
      params: in millions, with the printed digits.
      macs: "Flops" in millions, with the printed digits.
      top1: accuracy on ImageNet's validation images in percent.
      gpu_hours: of the search; None where the paper prints none.
      network: its name here (`networks.names.spec_by_name`); None if it cannot be counted.
      note: why the printed and the counted figures differ, or why there is no count.
    """

    title: str
    params: str
    macs: str
    top1: float
    gpu_hours: int | None = None
    network: str | None = None
    note: str = ""

    @property
    def own(self) -> bool:
        """Whether it is one of the paper's two families, rather than a network it cites."""
        return self.title.startswith(("eLite", "HF"))


@dataclass(frozen=True)
class Comparison:
    """A row with the counts of its network; None where there are none.

    Attributes:
      params: weights, counted as the row's own publication does.
      macs: multiply-accumulates of one image.
    """

    row: Row
    params: int | None
    macs: int | None

    @property
    def params_difference(self) -> float | None:
        """Counted over printed, less 1; None where the printed digits agree or nothing counts."""
        return _difference(self.row.params, self.params)

    @property
    def macs_difference(self) -> float | None:
        """As `params_difference`."""
        return _difference(self.row.macs, self.macs)

    @property
    def difference(self) -> str:
        """Both differences as text; ``none`` where the printed digits agree, empty uncounted."""
        if self.params is None:
            return ""
        named = (("params", self.params_difference), ("MACs", self.macs_difference))
        parts = [f"{name} {100 * share:+.1f} %" for name, share in named if share is not None]
        return ", ".join(parts) or "none"


def _difference(printed: str, counted: int | None) -> float | None:
    if counted is None:
        return None
    unit = 10.0 ** -len(printed.partition(".")[2])
    # Papers round, cut or round up: all of them stay within one unit of the last digit.
    if abs(counted / 1e6 - float(printed)) < unit:
        return None
    return counted / 1e6 / float(printed) - 1


def trainable_params(spec: ArchSpec) -> int:
    """Weights without the moving statistics of batch normalisation."""
    return sum(
        node.params // 2 if isinstance(node.op, ops.BatchNorm) else node.params
        for node in spec.graph.nodes
    )


def compare() -> list[Comparison]:
    """Counts the networks of all `ROWS`."""
    return [_compare(row) for row in ROWS]


def _compare(row: Row) -> Comparison:
    if row.network is None:
        return Comparison(row, None, None)
    spec = spec_by_name(row.network)
    return Comparison(row, spec.params if row.own else trainable_params(spec), spec.macs)


_GREEDY = "the genotypes of GreedyNAS' networks without channel gates are not public"

ROWS: tuple[Row, ...] = (
    Row("eLite0", "5.33", "385.81", 76.89, None, "elite0"),
    Row("eLite1", "4.74", "362.62", 76.62, None, "elite1"),
    Row("eLite2", "4.42", "313.86", 76.14, 150, "elite2"),
    Row("eLite3", "3.78", "296.88", 75.65, 130, "elite3"),
    Row(
        "eLite4",
        "3.17",
        "231.88",
        74.41,
        110,
        "elite4",
        "printed is HF1's figure; its MACs are those of (w2, d3, r2), not of the printed label "
        "(w2, d3, r1), and Figure 1 shows it at 3.53 M",
    ),
    Row("eLite5", "2.68", "206.72", 73.33, 110, "elite5"),
    Row("eLite6", "2.52", "181.32", 72.23, 100, "elite6"),
    Row("eLite7", "2.18", "127.99", 70.18, 90, "elite7"),
    Row("eLite8", "1.6", "114.52", 68.8, 100, "elite8"),
    Row("eLite9", "1.34", "74.56", 65.46, 80, "elite9"),
    Row("HF0", "3.81", "383.49", 76.46, 100, "hf0"),
    Row("HF1", "3.17", "296.37", 75.08, 100, "hf1"),
    Row("HF2", "2.77", "246.86", 73.51, 100, "hf2"),
    Row("HF3", "3.44", "92.29", 70.32, 40, "hf3"),
    Row("HF4", "2.98", "65.55", 67.95, 40, "hf4"),
    Row("HF5", "2.77", "62.66", 66.76, 70, "hf5"),
    Row(
        "Mnas-small",
        "1.9",
        "65.1",
        64.9,
        40000,
        None,
        "its architecture was not released: the public mnasnet-small is another network (2.03 M, "
        "68.3 M MACs)",
    ),
    Row("MobileNetV3 small 0.75", "2", "44", 65.4, None, "mobilenetv3-small-0.75"),
    Row("GhostNet 0.5x", "2.6", "42", 66.2, None, "ghostnet-0.5"),
    Row("MobileNetV3 small 1.0", "2.5", "56", 67.4, None, "mobilenetv3-small"),
    Row("MobileNet", "4.24", "569", 70.6, None, "mobilenetv1"),
    Row(
        "CondenseNet (G=C=8)",
        "2.9",
        "274",
        71.0,
        None,
        "condensenet-g8",
        "its authors' meter also counts activations, pools and biases, and all of the classifier",
    ),
    Row(
        "MobileNetV2",
        "3.4",
        "300",
        72.0,
        None,
        "mobilenetv2",
        "its authors leave batch normalisation out (3.47 M), and the digit is cut",
    ),
    Row(
        "ECA-Net",
        "3.4",
        "319",
        72.56,
        None,
        "ecamobilenetv2",
        "its paper prints 3.34, in units of 2^20; the MACs are not explained: the network is "
        "MobileNetV2 with 31 further weights",
    ),
    Row("PeleeNet", "2.8", "508", 72.6, None, "peleenet"),
    Row(
        "DARTS",
        "4.9",
        "595",
        73.1,
        288,
        "darts-v2",
        "those of its paper's first version, which no released genotype has; the final one prints "
        "4.7 M and 574 M for the genotype counted here, and why its MACs are 8 % higher is not "
        "explained",
    ),
    Row("MobileNetV3 large 0.75", "4", "155", 73.3, None, "mobilenetv3-large-0.75"),
    Row(
        "ShuffleNet 2x (g=3)",
        "5.2",
        "524",
        73.7,
        None,
        "shufflenet-g3-2",
        "printed so in PeleeNet's paper; ShuffleNet's authors state 5.4 M",
    ),
    Row("GhostNet 1.0x", "5.2", "141", 73.9, None, "ghostnet"),
    Row(
        "NASNet-A",
        "5.3",
        "508",
        74.0,
        48000,
        "nasnet-a",
        "its own paper prints 564 M; 508 M is PeleeNet's figure",
    ),
    Row("AmoebaNet-B", "5.3", "555", 74.0, 75600, "amoebanet-b"),
    Row("PNASNet", "5.1", "588", 74.2, 3600, "pnasnet-5"),
    Row("GreedyNAS (latency)", "4.1", "324", 74.39, None, None, _GREEDY),
    Row("AmoebaNet-A", "5.1", "555", 74.5, 75600, "amoebanet-a"),
    Row("Proxyless", "4", "320", 74.6, 200, "proxylessnas-mobile"),
    Row("GreedyNAS (Flops)", "3.8", "320", 74.85, None, None, _GREEDY),
    Row(
        "FBNet-C",
        "5.5",
        "375",
        74.9,
        216,
        "fbnet-c",
        "without a 1x1 convolution in front of blocks of expansion 1; with one 385.0 M",
    ),
    Row(
        "MnasNet-A1",
        "3.9",
        "315",
        75.2,
        40000,
        "mnasnet-a1",
        "its own paper prints 312 M; 315 M stands in its authors' table of widths, which counts "
        "1 to 2 % more throughout",
    ),
    Row(
        "MobileNetV3 large 1.0",
        "5.4",
        "219",
        74.9,
        None,
        "mobilenetv3-large",
        "as its own paper prints; its authors' code states 217 M. (Its own paper's accuracy is "
        "75.2 %.)",
    ),
    Row(
        "AmoebaNet-C",
        "6.4",
        "570",
        75.7,
        75600,
        "amoebanet-c",
        "not explained: its own paper prints 570 M too, though the parameters agree",
    ),
    Row(
        "GhostNet 1.3x",
        "7.3",
        "226",
        75.7,
        None,
        "ghostnet-1.3",
        "printed without the classifier (225.7 M)",
    ),
    Row("EfficientNet-B0", "5.3", "390", 77.3, None, "efficientnet-b0", "0.39 G, rounded"),
)
