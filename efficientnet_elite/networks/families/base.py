"""What a family is: a backbone with its scaling, its published settings and its pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from efficientnet_elite.networks.scaling import Coefficients, derive_coefficients, round_resolution
from efficientnet_elite.networks.spec import ArchSpec

IMAGENET_RESOLUTION = 224

# (name, width, depth, input side in pixels, classes) to a spec.
Build = Callable[[str, float, float, int, int], ArchSpec]


@dataclass(frozen=True)
class Setting:
    """One network of a family: scaling coefficients and input side in pixels."""

    width: float = 1.0
    depth: float = 1.0
    resolution: int = IMAGENET_RESOLUTION


@dataclass(frozen=True)
class Family:
    """A backbone with the coefficients that its pool combines.

    Attributes:
      name: of its pool, lower case; its networks' names start with it.
      build: (name, width, depth, resolution, classes) to a spec.
      coefficients: each width is combined with each depth and resolution; None for a family whose
        pool are its published settings.
      published: name to published setting, at the resolution it was published for.
      members: indices (from 1) of width, depth and resolution coefficients, to the name of that
        network; all are also called ``name-w1d2r3``.
      resolutions: input sides in pixels for a base resolution; by default the coefficients times
        the base, rounded up.
      groups: default number of cost groups, in each resolution where ``grouped_by_resolution``;
        None for one to about six candidates.
    """

    name: str
    build: Build
    coefficients: Coefficients | None
    published: Mapping[str, Setting] = field(default_factory=dict)
    members: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    resolutions: Callable[[int], tuple[int, ...]] | None = None
    groups: int | None = None
    grouped_by_resolution: bool = False

    def sides(self, base: int) -> tuple[int, ...]:
        """Input sides in pixels of the pool, one a resolution coefficient or published setting."""
        if self.resolutions is not None:
            return self.resolutions(base)
        if self.coefficients is None:
            return tuple(_side(setting, base) for setting in self.published.values())
        return tuple(round_resolution(base, r) for r in self.coefficients.resolution)

    def pool(self, base: int) -> Iterator[tuple[str, Setting]]:
        """Names and settings of all candidates, heaviest coefficients first.

        At a small base several coefficients may round to the same side; each side then appears
        once, under its first coefficient.
        """
        if self.coefficients is None:
            yield from self._published(base)
        sides = self.sides(base)
        for (w, d, r), setting in self._combinations(base):
            if sides.index(setting.resolution) == r - 1:
                yield self.members.get((w, d, r), self._indexed(w, d, r)), setting

    def settings(self, base: int) -> dict[str, Setting]:
        """Everything that has a name: published settings, members, and all by their indices."""
        combined = dict(self._combinations(base))
        indexed = {self._indexed(*indices): setting for indices, setting in combined.items()}
        members = {name: combined[indices] for indices, name in self.members.items()}
        return {**dict(self._published(base)), **members, **indexed}

    def _combinations(self, base: int) -> Iterator[tuple[tuple[int, int, int], Setting]]:
        """Indices and settings of each width with each depth and resolution."""
        if self.coefficients is None:
            return
        for (r, side), (w, width), (d, depth) in product(
            enumerate(self.sides(base), start=1),
            enumerate(self.coefficients.width, start=1),
            enumerate(self.coefficients.depth, start=1),
        ):
            yield (w, d, r), Setting(width, depth, side)

    def _indexed(self, width: int, depth: int, resolution: int) -> str:
        return f"{self.name}-w{width}d{depth}r{resolution}"

    def _published(self, base: int) -> Iterator[tuple[str, Setting]]:
        for name, setting in self.published.items():
            yield name, Setting(setting.width, setting.depth, _side(setting, base))


def _side(setting: Setting, base: int) -> int:
    return round_resolution(base, setting.resolution / IMAGENET_RESOLUTION)


def scaled_down(
    name: str,
    build: Build,
    repeats: Sequence[int],
    published: Mapping[str, Setting] | None = None,
) -> Family:
    """A family whose pool comes of Eqs. 2-3 of arXiv 2009.07409, from its own operator counts.

    Args:
      name: of the family, and of its network at coefficients 1.
      build: see `Family`.
      repeats: operators a stage, stem and top included.
      published: further published settings, such as other widths.
    """
    derived = derive_coefficients(repeats)
    return Family(
        name=name,
        build=build,
        # Four digits, as Table 3 prints them.
        coefficients=Coefficients(
            width=tuple(round(w, 4) for w in derived.width),
            depth=derived.depth,
            resolution=tuple(round(r, 4) for r in derived.resolution),
        ),
        published=published or {},
        members={(1, 1, 1): name},
    )
