"""What child processes do in tests; light to import, as each of them imports it anew."""

from __future__ import annotations

import os
import time

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export.runtimes.isolated import Arrays


def crash(_: Arrays) -> Arrays:
    os.abort()


def hang(_: Arrays) -> Arrays:
    time.sleep(60)
    return {}


def greedy(_: Arrays) -> Arrays:
    return {"zeros": np.zeros(1 << 32, np.uint8)}


def refuse(_: Arrays) -> Arrays:
    raise UserError("no such thing")


def doubled(arguments: Arrays) -> Arrays:
    return {"text": np.array(str(arguments["text"]) * 2), "numbers": arguments["numbers"] * 2}
