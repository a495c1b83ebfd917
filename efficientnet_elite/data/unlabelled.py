"""Adds the images of a folder, without labels, to a data set: `DataConfig.unlabelled`."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from . import folder
from .assembly import NOTES, fingerprint, printable
from .cache import Add
from .decode import Pixels, decode, read_file
from .encoded import EncodedPicture
from .listing import digest
from .parts import ImageData, IndexedPart, SkippedImage
from .picture import Picture
from .store import ImageStore, decode_all


def with_unlabelled(data: ImageData, path: str, max_side: int | None) -> ImageData:
    """Returns a data set with the images of a folder as its unlabelled images.

    They are cached together with the images of the data set. Its fingerprint then depends on them,
    too.

    Args:
      data: the data set.
      path: the folder; images may be in subfolders, the names of which mean nothing.
      max_side: images whose shorter side is longer are shrunk to it; None: never.

    Raises:
      UserError: the folder is missing, or contains no readable image.
    """
    root = Path(path).expanduser()
    examples = folder.scan_unlabelled(root)

    def fill_cache(add: Add) -> dict[str, Any]:
        digests = [""] * len(examples)

        def read_once(i: int) -> Pixels:
            encoded = read_file(root / examples[i].name)
            digests[i] = digest(encoded)
            return decode(encoded, max_side, data.channels)

        unreadable = decode_all(
            range(len(examples)), read_once, add, total=len(examples), progress=data.cache.progress
        )
        return {"unreadable": unreadable, "digests": digests}

    key = [NOTES, max_side, [astuple(example) for example in examples]]
    cached = data.cache.keep("unlabelled", fill_cache, key=key)
    unreadable = dict(cached.notes["unreadable"])
    readable = [i for i in range(len(examples)) if i not in unreadable]
    if not readable:
        raise UserError(f"{root} has no readable image: put images without labels into it")

    def picture(k: int, quick: bool) -> Picture:
        return EncodedPicture(read_file(root / examples[readable[k]].name), quick, data.channels)

    store = ImageStore(cached, picture, max_side)
    count = len(readable)
    digests = cached.notes["digests"]
    return replace(
        data,
        unlabelled=IndexedPart(store, np.zeros(count, np.int32), np.arange(count, dtype=np.int64)),
        skipped=(
            *data.skipped,
            *(
                SkippedImage(f"unlabelled: {printable(examples[i].name)}", reason)
                for i, reason in sorted(unreadable.items())
            ),
        ),
        fingerprint=fingerprint(
            data.labels, [(data.fingerprint,), *((digests[i],) for i in readable)]
        ),
    )
