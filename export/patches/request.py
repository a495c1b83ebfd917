"""What `elite export --patches` asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

from efficientnet_elite.device.patch_choice import MOST_PATCHES
from efficientnet_elite.errors import UserError

NONE, AUTO = "none", "auto"
TFLM, C = "TFLM", "C"  # whose arena is planned


@dataclass(frozen=True)
class Request:
    """How a file is to be patched.

    Attributes:
      grid: rows and columns of patches; None to choose them.
      max_arena_kb: the most that the arena may take, in kB of 1000 bytes, where they are chosen.
      arena: whose arena that is, `TFLM`, or `C` for generated code.
    """

    grid: tuple[int, int] | None
    max_arena_kb: float | None = None
    arena: str = TFLM


def request(text: str, max_arena_kb: float | None = None, arena: str = TFLM) -> Request | None:
    """What ``--patches`` asks for; None for no patches. UserError where it makes no sense.

    Args:
      text: ``none``, ``auto``, or rows and columns such as ``4x3``.
      max_arena_kb: see `Request`; only for ``auto``, which needs it.
      arena: see `Request`.
    """
    if text != AUTO and max_arena_kb is not None:
        raise UserError("--max_arena_kb belongs to --patches=auto: leave it out")
    if text == NONE:
        return None
    if text == AUTO:
        if max_arena_kb is None:
            raise UserError("--patches=auto needs --max_arena_kb: say how large the arena may be")
        if not 0 < max_arena_kb < inf:
            raise UserError(f"max_arena_kb={max_arena_kb:g}: must be a number above 0")
        return Request(None, max_arena_kb, arena)
    match = re.fullmatch(r"(\d{1,3})x(\d{1,3})", text)
    grid = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 2 <= grid[0] * grid[1] <= MOST_PATCHES:
        raise UserError(
            f"patches={text}: use auto, none, or rows and columns such as 4x4, at most "
            f"{MOST_PATCHES} patches"
        )
    return Request(grid, None, arena)
