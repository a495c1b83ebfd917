"""Variants of networks for deployment: other activations, kernels, channels or stem, no gates.

Suffixes of the name tell the variant, in this order:

========================================  ======================================================
``-swish -hard_swish -relu6 -relu``       this activation everywhere
``-nose``                                 no squeeze-excite and no channel attention
``-k5 -k3``                               no depthwise kernel larger than 5x5 or 3x3
``-m8 -m16``                              channels in multiples of 8 or 16
``-stem4``                                a 4x4 stem of stride 4
========================================  ======================================================

``-mcu`` is short for ``-relu6-nose-k3-m16``: ``elite9-relu6-nose``, ``elite9-mcu-stem4``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks import activations
from efficientnet_elite.networks.blocks import (
    Block,
    Classifier,
    ConvBlock,
    MBConv,
    UniversalBottleneck,
)
from efficientnet_elite.networks.spec import ArchSpec

KERNELS = (5, 3)
MULTIPLES = (8, 16)
PATCH = 4  # side and stride of a stem that reads patches

_MCU = "-mcu"


@dataclass(frozen=True)
class Variant:
    """How a network differs from the published one.

    Attributes:
      activation: one of `activations.variants`, which replaces every activation of the network
        except those that end a gate; None to keep the activations of the network.
      squeeze_excite: whether squeeze-excite and efficient channel attention are kept.
      kernel: the largest side that a depthwise kernel may have, one of `KERNELS`; larger ones get
        it. None to keep the kernels.
      multiple: the channels of convolutions are the nearest multiples of this number; one of
        `MULTIPLES`. Halves go to the even multiple, so that networks do not grow on average. None
        to keep the channels.
      stem: `PATCH` for a stem that reads patches of that side, one beside the other; the first
        block of stride 2 then gets stride 1, so that later maps keep their size. None to keep the
        stem.
    """

    activation: str | None = None
    squeeze_excite: bool = True
    kernel: int | None = None
    multiple: int | None = None
    stem: int | None = None

    @property
    def suffix(self) -> str:
        """The end of the names of this variant; empty for the published network."""
        stem = f"-stem{self.stem}" if self.stem else ""
        if replace(self, stem=None) == MCU:
            return _MCU + stem
        return (
            (f"-{self.activation}" if self.activation else "")
            + ("" if self.squeeze_excite else "-nose")
            + (f"-k{self.kernel}" if self.kernel else "")
            + (f"-m{self.multiple}" if self.multiple else "")
            + stem
        )

    @property
    def changes(self) -> dict[str, Any]:
        """The attributes that differ from those of the published network."""
        plain = vars(Variant())
        return {name: value for name, value in vars(self).items() if value != plain[name]}

    def apply(self, spec: ArchSpec) -> ArchSpec:
        """This variant of a network; its name gets the suffix.

        Raises:
          UserError: the network has no stem that could be replaced, or channels that cannot be
            chosen freely.
        """
        blocks = spec.blocks
        if self.stem:
            blocks = _with_patches(spec, self.stem)
        changed = [self._changed_block(spec, block) for block in blocks]
        blocks = _with_the_same_sums(spec.blocks, changed)
        return replace(spec, name=spec.name + self.suffix, blocks=blocks)

    def in_effect(self, specs: Sequence[ArchSpec]) -> Variant:
        """This variant without what changes none of some networks."""
        variant = self
        plain = vars(Variant())
        for name in self.changes:
            without = replace(variant, **{name: plain[name]})
            if all(_used(without.apply(spec)) == _used(variant.apply(spec)) for spec in specs):
                variant = without
        return variant

    def _changed_block(self, spec: ArchSpec, block: Block) -> Block:
        changes: dict[str, Any] = {}
        kernels = self._attributes(spec, block, "kernel", block.depthwise_kernels)
        counts = self._attributes(spec, block, "multiple", block.channel_counts)
        for field in fields(block):
            value = getattr(block, field.name)
            if self.activation and field.name.endswith("activation") and value is not None:
                changes[field.name] = self.activation
            elif not self.squeeze_excite and field.name in ("squeeze", "attention"):
                changes[field.name] = None
            elif self.kernel and field.name in kernels and value is not None:
                changes[field.name] = min(value, self.kernel)
            elif self.multiple and field.name in counts and value is not None:
                steps = max(1, round(value / self.multiple))  # halves to even
                changes[field.name] = steps * self.multiple
        return replace(block, **changes)

    def _attributes(
        self, spec: ArchSpec, block: Block, change: str, names: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        """Names of a block's attributes that a change is about, if it is asked for."""
        if getattr(self, change) is None:
            return ()
        if names is None:
            raise UserError(
                f"{spec.name} has blocks of kind {type(block).__name__}, which have no variant "
                f"{replace(Variant(), **{change: getattr(self, change)}).suffix}: name other "
                "networks"
            )
        return names


def _used(spec: ArchSpec) -> tuple[Block, ...]:
    """The blocks of a network, equal for networks that compute the same."""
    return tuple(
        replace(block, activation="")
        if isinstance(block, Classifier) and not block.hidden
        else block
        for block in spec.blocks
    )


MCU = Variant("relu6", squeeze_excite=False, kernel=3, multiple=16)
"""What microcontrollers compute well: its suffix is ``-mcu``."""


def _with_patches(spec: ArchSpec, side: int) -> tuple[Block, ...]:
    """The blocks of a network with a stem that reads patches, see `Variant.stem`."""
    stem, *rest = spec.blocks
    strided = next((b for b in rest if getattr(b, "stride", None) != 1), None)
    if (
        not isinstance(stem, ConvBlock)
        or (stem.kernel, stem.stride, stem.padding) != (3, 2, "same")
        or getattr(strided, "stride", None) != 2
    ):
        raise UserError(
            f"{spec.name} does not begin with a 3x3 convolution of stride 2 and a later block of "
            f"stride 2, which a {side}x{side} stem of stride {side} replaces: name other networks"
        )
    patches = replace(stem, kernel=side, stride=side)
    return patches, *(replace(b, stride=1) if b is strided else b for b in rest)  # type: ignore[call-arg]


def _with_the_same_sums(blocks: Sequence[Block], changed: Sequence[Block]) -> tuple[Block, ...]:
    """The changed blocks, which add their inputs to their outputs only where they did before.

    Other channels or strides may give input and output the same shape.
    """
    kept = [changed[0]]
    for before, after in zip(pairwise(blocks), pairwise(changed), strict=True):
        block = after[1]
        if isinstance(block, MBConv | UniversalBottleneck) and _adds(*after) and not _adds(*before):
            block = replace(block, residual=False)
        kept.append(block)
    return tuple(kept)


def _adds(reads: Block, block: Block) -> bool:
    """Whether a block adds the output of the block that it reads."""
    same = getattr(reads, "filters", None) == getattr(block, "filters", None)
    return same and getattr(block, "stride", None) == 1


def split_variant(name: str) -> tuple[str, Variant]:
    """Splits the name of a network or pool into the name without suffix and the variant."""
    names = "|".join(map(re.escape, activations.variants()))
    kernels, multiples = ("|".join(map(str, values)) for values in (KERNELS, MULTIPLES))
    match = re.fullmatch(
        rf"(?P<base>.+?)(?:(?P<mcu>{_MCU})|(-(?P<activation>{names}))?(?P<nose>-nose)?"
        rf"(-k(?P<kernel>{kernels}))?(-m(?P<multiple>{multiples}))?)(-stem(?P<stem>{PATCH}))?",
        name,
    )
    if match is None:
        return name, Variant()
    stem = int(match["stem"]) if match["stem"] else None
    if match["mcu"]:
        return match["base"], replace(MCU, stem=stem)
    return match["base"], Variant(
        activation=match["activation"],
        squeeze_excite=match["nose"] is None,
        kernel=int(match["kernel"]) if match["kernel"] else None,
        multiple=int(match["multiple"]) if match["multiple"] else None,
        stem=stem,
    )
