"""LiteRT.js in headless Chromium, with the code that the web package's page runs."""

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
    """What a model gave.

    Attributes:
      outputs: (N, elements) as the model's output has them, not dequantized.
      seconds: (N,), of each image.
      memory_bytes: of the whole WebAssembly module, whose least is about 18 MB.
    """

    outputs: np.ndarray
    seconds: np.ndarray
    memory_bytes: int


def missing() -> str | None:
    """Why nothing can be run here; None where it can. The first call may fetch LiteRT.js."""
    if browser.program() is None:
        return "not installed: Chromium or Chrome"
    try:
        web.runtime_files()
    except UserError as error:
        return str(error)
    return None


def run(
    jobs: Sequence[tuple[bytes, np.ndarray]], *, timeout: float = TIMEOUT_SECONDS
) -> list[Outcome | UserError]:
    """Runs models in one browser, one after the other.

    Args:
      jobs: contents of .tflite files, each with its images (N, height, width, channels) as its
        input wants them: int8, uint8 or float32.
      timeout: seconds for all of them.

    Returns:
      An outcome or the reason why there is none, a job.

    Raises:
      UserError: LiteRT.js cannot be fetched, or the browser did not answer.
    """
    described = []
    served = {**web.runtime_files(), **web.page_files(_PAGE)}
    for number, (model, images) in enumerate(jobs):
        name, data = f"{number}.tflite", f"{number}.bin"
        served |= {name: model, data: images.tobytes()}
        kind = {"type": images.dtype.name, "count": len(images)}
        described.append({"model": name, "images": data, **kind})
    served["jobs.json"] = json.dumps(described).encode()
    answer = browser.ask(served, "verify.html", timeout=timeout, isolated=True)
    # A line of JSON, then all outputs as they are: masks would be long as text.
    head, _, outputs = answer.partition(b"\n")
    answers = json.loads(head)
    if len(answers) != len(jobs):
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
