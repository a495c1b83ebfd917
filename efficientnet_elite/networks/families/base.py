"""`Family`: a backbone with its scaling rules, its published networks and its pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from efficientnet_elite.config import InputSize, SizeLike
from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.blocks import UserModel
from efficientnet_elite.networks.scaling import Coefficients, derive_coefficients, round_resolution
from efficientnet_elite.networks.spec import ArchSpec

IMAGENET_RESOLUTION = 224

# Takes a name, a width multiplier, a depth multiplier, the input side in pixels and the number of
# classes; returns the spec of that network, for a square input. `Family.spec` gives it another one.
Build = Callable[[str, float, float, int, int], ArchSpec]


@dataclass(frozen=True)
class Setting:
    """One network of a family: width and depth multipliers, and the input size in pixels."""

    width: float = 1.0
    depth: float = 1.0
    resolution: SizeLike = IMAGENET_RESOLUTION

    @property
    def size(self) -> InputSize:
        """Height and width of the input in pixels."""
        return InputSize.of(self.resolution)


@dataclass(frozen=True)
class Family:
    """A backbone, and the networks of its pool.

    The pool combines every width with every depth and resolution coefficient. Each of these
    networks has a name such as ``elite-w1d2r3``, from the indices of its coefficients, counted from
    1. A family without coefficients has its published networks as pool.

    Attributes:
      name: of the pool, in lower case. The names of all networks of the family start with it.
      build: makes the spec of a network of the family.
      coefficients: width, depth and resolution coefficients; None for a family without.
      published: further published networks by name, with the resolution they were published for.
      members: names of networks of the pool that have a name of their own, by the indices of their
        width, depth and resolution coefficients.
      resolutions: gives the input sides in pixels for a base resolution; None for the coefficients
        times the base resolution, rounded up.
      side_step: the longer side of an input that is not square is a multiple of so many pixels.
      groups: default number of cost groups; None for one group for about six candidates.
      grouped_by_resolution: whether the candidates of each resolution form ``groups`` groups of
        their own.
    """

    name: str
    build: Build
    coefficients: Coefficients | None
    published: Mapping[str, Setting] = field(default_factory=dict)
    members: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    resolutions: Callable[[int], tuple[int, ...]] | None = None
    side_step: int = 1
    groups: int | None = None
    grouped_by_resolution: bool = False

    def spec(self, name: str, setting: Setting, classes: int) -> ArchSpec:
        """The spec of one network of the family, for RGB images of its setting's size.

        Raises:
          UserError: a user's model is asked for an input that is not square.
        """
        size = setting.size
        spec = self.build(name, setting.width, setting.depth, size.height, classes)
        if size.is_square:
            return spec
        if isinstance(spec.blocks[0], UserModel):
            raise UserError(
                f"models of {self.name} take square images, not {size}: give the input size as one "
                "number"
            )
        return spec.resized((*size, spec.input_shape[2]))

    def sizes(self, base: SizeLike) -> tuple[InputSize, ...]:
        """Input sizes at a base size, in the order of `sides`.

        The shorter side becomes what it would be in a square. The longer one follows from it by the
        aspect ratio of the base size, rounded to the nearest multiple of ``side_step``.
        """
        size = InputSize.of(base)
        return tuple(self._shaped_as(size, side) for side in self.sides(min(size)))

    def _shaped_as(self, size: InputSize, shorter: int) -> InputSize:
        """A size with this shorter side in pixels and the aspect ratio of another size."""
        step, (low, high) = self.side_step, sorted(size)
        longer = (2 * shorter * high + step * low) // (2 * step * low) * step  # halves round up
        longer = shorter if size.is_square else max(step, longer)
        return InputSize(*((shorter, longer) if size.height == low else (longer, shorter)))

    def sides(self, base: int) -> tuple[int, ...]:
        """Input sides in pixels at a base resolution, of square inputs.

        There is one for each resolution coefficient or, without coefficients, for each published
        network.
        """
        if self.resolutions is not None:
            return self.resolutions(base)
        if self.coefficients is None:
            return tuple(_scaled_side(setting, base) for setting in self.published.values())
        return tuple(round_resolution(base, r) for r in self.coefficients.resolution)

    def pool(self, base: SizeLike) -> Iterator[tuple[str, Setting]]:
        """Names and settings of all candidates at a base size, largest coefficients first.

        At a small base size, several coefficients may give the same size. Each size then appears
        once, with its first coefficient.
        """
        if self.coefficients is None:
            yield from self._published_settings(base)
        sizes = self.sizes(base)
        for (w, d, r), setting in self._combinations(base):
            if sizes.index(setting.size) == r - 1:
                yield self.members.get((w, d, r), self._indexed_name(w, d, r)), setting

    def settings(self, base: SizeLike) -> dict[str, Setting]:
        """Settings of all networks by name, at a base size.

        These are the published networks, the members, and all combinations by their indices.
        """
        combined = dict(self._combinations(base))
        indexed = {self._indexed_name(*indices): setting for indices, setting in combined.items()}
        members = {name: combined[indices] for indices, name in self.members.items()}
        return {**dict(self._published_settings(base)), **members, **indexed}

    def _combinations(self, base: SizeLike) -> Iterator[tuple[tuple[int, int, int], Setting]]:
        """Indices and settings of all combinations of width, depth and resolution."""
        if self.coefficients is None:
            return
        for (r, size), (w, width), (d, depth) in product(
            enumerate(self.sizes(base), start=1),
            enumerate(self.coefficients.width, start=1),
            enumerate(self.coefficients.depth, start=1),
        ):
            yield (w, d, r), Setting(width, depth, size.plain)

    def _indexed_name(self, width: int, depth: int, resolution: int) -> str:
        return f"{self.name}-w{width}d{depth}r{resolution}"

    def _published_settings(self, base: SizeLike) -> Iterator[tuple[str, Setting]]:
        size = InputSize.of(base)
        for name, setting in self.published.items():
            scaled = self._shaped_as(size, _scaled_side(setting, min(size)))
            yield name, Setting(setting.width, setting.depth, scaled.plain)


def _scaled_side(setting: Setting, base: int) -> int:
    """The side of a published setting, scaled from ImageNet's resolution to a base resolution."""
    return round_resolution(base, setting.size.height / IMAGENET_RESOLUTION)


def scaled_down(
    name: str,
    build: Build,
    repeats: Sequence[int],
    published: Mapping[str, Setting] | None = None,
) -> Family:
    """A family whose coefficients follow from its operators by Eqs. 2 and 3 of arXiv 2009.07409.

    Args:
      name: of the family, and of its network with all coefficients 1.
      build: see `Family`.
      repeats: number of operators of each stage, stem and top included.
      published: further published networks, such as those of other widths.
    """
    derived = derive_coefficients(repeats)
    return Family(
        name=name,
        build=build,
        # Rounded to four decimals, the most that Table 3 of the paper prints.
        coefficients=Coefficients(
            width=tuple(round(w, 4) for w in derived.width),
            depth=derived.depth,
            resolution=tuple(round(r, 4) for r in derived.resolution),
        ),
        published=published or {},
        members={(1, 1, 1): name},
    )
