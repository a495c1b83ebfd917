"""NASNet-A, AmoebaNet-A/B/C, PNASNet-5 and DARTS in their mobile settings for ImageNet.

Each network is a stack of searched cells: three groups of normal cells, with a reduction cell
before the second and the third group. A reduction cell doubles the filters. The width multiplier
scales the filters of the cells, rounded to even numbers; the first convolution keeps its 32 filters
except in DARTS. The depth multiplier scales the number of normal cells in each group, rounded up.

Sources: arXiv 1707.07012 (NASNet), 1802.01548 (AmoebaNet), 1712.00559 (PNASNet) and 1806.09055
(DARTS). Two of them do not agree with the printed counts: AmoebaNet-C has 19 % more MACs and DARTS
8 % fewer. Batch normalisation has the same settings as in all other families and not those of the
papers, because they belong to the training recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.networks.blocks import ActivationBlock, Block, Cell, Classifier, ConvBlock
from efficientnet_elite.networks.families.base import Family, scaled_down
from efficientnet_elite.networks.scaling import round_filters, round_repeats
from efficientnet_elite.networks.spec import ArchSpec

_GROUPS = 3  # groups of normal cells


@dataclass(frozen=True)
class CellNetwork:
    """A stack of cells in its published mobile setting.

    Attributes:
      name: of the family.
      normal: genotype of the normal cells, in the notation of `blocks.cells`.
      reduction: genotype of the reduction cells.
      repeats: normal cells in each group.
      filters: filters of the cells in the first group.
      reduction_replaces: whether a reduction cell takes the place of the first normal cell of its
        group; otherwise it stands before the group.
      darts: whether the network is built as DARTS is: a stem of three convolutions, and cells that
        always project both inputs. Otherwise it is built as NASNet is: a stem of one convolution
        and two reduction cells, and dropout before the classifier.
    """

    name: str
    normal: str
    reduction: str
    repeats: int
    filters: int
    reduction_replaces: bool = False
    darts: bool = False

    @property
    def operators(self) -> tuple[int, ...]:
        """Number of operators of each stage, as Eq. 2 of arXiv 2009.07409 counts them.

        These are the three operators of the stem, the cells and the top.
        """
        reduction = () if self.reduction_replaces else (1,)
        later_groups = (*reduction, self.repeats) * (_GROUPS - 1)
        return (1, 1, 1, self.repeats, *later_groups, 1)

    def build(
        self, name: str, width: float, depth: float, resolution: int, classes: int
    ) -> ArchSpec:
        """The spec of one network of the family, see `families.base.Build`."""
        filters = round_filters(self.filters, width, divisor=2)
        blocks = _darts_stem(filters) if self.darts else _nasnet_stem()
        outputs = [block.name for block in blocks if isinstance(block, ConvBlock)][-2:]
        for number, (stride, channels) in enumerate(self._cell_settings(filters, depth)):
            cell = Cell(
                f"cell{number}",
                genotype=self.normal if stride == 1 else self.reduction,
                filters=channels,
                stride=stride,
                previous=outputs[-2] if len(outputs) > 1 else None,
                project=self.darts,
            )
            blocks.append(cell)
            outputs.append(cell.name)
        if not self.darts:
            blocks.append(ActivationBlock("top_activation"))
        blocks.append(Classifier("predictions", classes, dropout=0.0 if self.darts else 0.5))
        return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))

    def _cell_settings(self, filters: int, depth: float) -> list[tuple[int, int]]:
        """(stride, filters) of each cell."""
        cells = [] if self.darts else [(2, max(2, filters // 4)), (2, max(2, filters // 2))]
        for group in range(_GROUPS):
            channels, normal_cells = filters << group, round_repeats(self.repeats, depth)
            if group > 0:
                cells.append((2, channels))
                normal_cells -= self.reduction_replaces
            cells += [(1, channels)] * normal_cells
        return cells


def _nasnet_stem() -> list[Block]:
    return [ConvBlock("stem", 32, kernel=3, stride=2, activation=None, padding="valid")]


def _darts_stem(filters: int) -> list[Block]:
    return [
        ConvBlock("stem0", filters // 2, kernel=3, stride=2, activation="relu"),
        ConvBlock("stem1", filters, kernel=3, stride=2, activation=None),
        ActivationBlock("stem1_activation"),
        ConvBlock("stem2", filters, kernel=3, stride=2, activation=None),
    ]


_PNASNET = "s5 1 + m3 1, s7 0 + m3 0, s5 0 + s3 0, s3 4 + m3 0, s3 1 + id 0 -> 2 3 4 5 6"

NETWORKS = (
    CellNetwork(
        "nasnet-a",
        "s5 0 + s3 1, s5 1 + s3 1, a3 0 + id 1, a3 1 + a3 1, s3 0 + id 0 -> 1 2 3 4 5 6",
        "s5 0 + s7 1, m3 0 + s7 1, a3 0 + s5 1, id 3 + a3 2, s3 2 + m3 0 -> 3 4 5 6",
        repeats=4,
        filters=44,
    ),
    CellNetwork(
        "amoebanet-a",
        "a3 0 + m3 0, s3 1 + id 1, id 0 + a3 1, s3 0 + s5 2, a3 5 + s3 0 -> 1 3 4 6",
        "s3 1 + a3 0, m3 0 + s7 2, m3 1 + m3 0, s3 4 + c7 0, a3 1 + s7 0 -> 2 3 4 5 6",
        repeats=4,
        filters=50,
    ),
    CellNetwork(
        "amoebanet-b",
        "c1 1 + m3 1, id 1 + s3 0, c1 1 + s3 0, c1 2 + id 2, a3 1 + c1 5 -> 0 3 4 6",
        "m2 0 + m3 0, id 2 + c3 1, s5 2 + m3 2, id 3 + s3 1, a3 4 + c1 3 -> 5 6",
        repeats=3,
        filters=62,
    ),
    CellNetwork(
        "amoebanet-c",
        "a3 0 + s3 0, id 0 + s3 0, a3 2 + s3 1, id 0 + s3 1, a3 3 + s3 0 -> 1 2 4 5 6",
        "m3 0 + m3 0, s7 2 + s3 0, s7 0 + m3 1, s5 4 + s5 4, m3 1 + s3 1 -> 0 2 3 4 5 6",
        repeats=4,
        filters=50,
    ),
    CellNetwork("pnasnet-5", _PNASNET, _PNASNET, repeats=3, filters=54, reduction_replaces=True),
    CellNetwork(  # from the second-order search; the network that the paper reports on ImageNet
        "darts-v2",
        "s3 1 + s3 0, s3 1 + s3 0, s3 0 + skip 1, skip 1 + d3 2 -> 2 3 4 5",
        "m3 1 + m3 0, skip 2 + m3 0, m3 1 + skip 2, skip 2 + m3 0 -> 2 3 4 5",
        repeats=4,
        filters=48,
        darts=True,
    ),
    CellNetwork(  # from the first-order search
        "darts-v1",
        "s3 0 + s3 1, skip 1 + s3 0, skip 1 + s3 0, s3 1 + skip 2 -> 2 3 4 5",
        "m3 1 + m3 0, skip 2 + m3 1, m3 1 + skip 2, skip 2 + a3 1 -> 2 3 4 5",
        repeats=4,
        filters=48,
        darts=True,
    ),
)

FAMILIES: tuple[Family, ...] = tuple(
    scaled_down(network.name, network.build, network.operators) for network in NETWORKS
)
