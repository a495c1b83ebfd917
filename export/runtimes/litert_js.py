"""Runs models with LiteRT.js in headless Chromium, with the same code as the web package's page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export.packages import web

from . import browser
from .isolated import TIMEOUT_SECONDS

_PAGE = ("verify.html", "verify.js", "network.js")


@dataclass(frozen=True)
class Outcome:
    """The results of one model.

    Attributes:
      outputs: (N, elements), in the type of the model's output, not dequantized.
      seconds: (N,), duration of the inference of each image.
      memory_bytes: memory of the whole WebAssembly module, which is at least about 18 MB.
    """

    outputs: np.ndarray
    seconds: np.ndarray
    memory_bytes: int


def missing() -> str | None:
    """What is missing to run LiteRT.js here, as a message; None if nothing is.

    The first call may download LiteRT.js.
    """
    if browser.program() is None:
        return "not installed: Chromium or Chrome"
    try:
        web.runtime_files()
    except UserError as error:
        return str(error)
    return None


def run(
    models: Sequence[tuple[bytes, np.ndarray]], *, timeout: float = TIMEOUT_SECONDS
) -> list[Outcome | UserError]:
    """Runs models in one browser, one after the other.

    Args:
      models: contents of .tflite files, each with its images (N, height, width, channels) in the
        type of its input: int8, uint8 or float32.
      timeout: seconds for all models together.

    Returns:
      For each model its results, or an error if it cannot be run.

    Raises:
      UserError: LiteRT.js cannot be downloaded, or the browser did not answer.
    """
    descriptions = []
    served = {**web.runtime_files(), **web.page_files(_PAGE)}
    for number, (model, images) in enumerate(models):
        name, data = f"{number}.tflite", f"{number}.bin"
        served |= {name: model, data: images.tobytes()}
        kind = {"type": images.dtype.name, "count": len(images)}
        descriptions.append({"model": name, "images": data, **kind})
    served["jobs.json"] = json.dumps(descriptions).encode()
    answer = browser.ask(served, "verify.html", timeout=timeout, isolated=True)
    # The answer is one line of JSON, then the bytes of all outputs: masks as text would be long.
    head, _, outputs = answer.partition(b"\n")
    answers = json.loads(head)
    if len(answers) != len(models):
        raise UserError(f"LiteRT.js cannot be loaded: {answers}")
    ends = np.cumsum([answer.get("bytes", 0) for answer in answers])
    return [
        _outcome(answer, outputs[end - answer.get("bytes", 0) : end])
        for answer, end in zip(answers, ends, strict=True)
    ]


def _outcome(answer: dict[str, Any], outputs: bytes) -> Outcome | UserError:
    if "error" in answer:
        return UserError(f"LiteRT.js cannot run the model: {' '.join(answer['error'].split())}")
    seconds = np.array(answer["milliseconds"], np.float64) / 1000
    values = np.frombuffer(outputs, answer["type"]).reshape(len(seconds), -1)
    return Outcome(values, seconds, int(answer["memory"]))
