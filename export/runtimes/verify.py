"""The same images through every runtime that is installed, each in a process of its own.

A runtime is compared with the one whose arithmetic it shares. In int8 the kernels of LiteRT differ
from each other by several steps of the output without any of them being wrong, so XNNPACK is no
yardstick for a microcontroller; the reference kernels, which TFLM has in common with LiteRT, are.

The child processes import this module: it must not import TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import ethos_u, web
from efficientnet_elite.training.scores import score

from . import isolated, litert_js, runtime, tflm
from .isolated import Arrays

REFERENCE = "LiteRT reference kernels"
XNNPACK = "LiteRT XNNPACK"
# Float runtimes must agree with the reference kernels to this share of the range of the logits ...
TOLERANCE = 1e-4
# ... and those that run XNNPACK's own code with XNNPACK.
SAME_CODE = 1e-5
# Of images and a runtime's logits in float32, of which a few copies are in memory at a time.
_ARRAY_BYTES = 256 << 20
# Of a runtime's time, in which it runs images; the rest is for starting it and for the last one.
_RUNNING = 0.8


@dataclass(frozen=True)
class Runtime:
    """A way to run a .tflite file.

    Attributes:
      module: what must be importable for it.
      package: its distribution, whose version is reported.
      load: makes a runner (``input``, ``output``, ``infer``) of a file's content.
      reference: the runtime whose arithmetic it shares, where it is not the reference itself.
      steps: by how many steps of an int8 output it may differ from that; None where any difference
        is legitimate.
      tolerance: by what share of the range of the logits it may differ where it computes in float.
      install: how to get it.
      takes: types of input that it can take; any where empty.
    """

    module: str
    package: str
    load: Callable[[bytes], Any]
    reference: str | None
    steps: int | None
    install: str
    takes: tuple[str, ...] = ()
    tolerance: float = TOLERANCE

    def missing(self) -> str | None:
        """Why it cannot be tried here; None where it can."""
        return None if _importable(self.module) else f"not installed: {self.install}"

    def version(self) -> str:
        """Of what is installed."""
        return version(self.package)

    def measure(self, name: str, model: bytes, images: np.ndarray, timeout: float) -> Arrays:
        """Runs images, as many as there is time for: ``logits``, ``seconds``, ``memory``.

        UserError where it cannot run the model, crashes or exceeds the time, in seconds.
        """
        question = {"model": np.frombuffer(model, np.uint8), "images": images, "runtime": name}
        return isolated.call(_measure, {**question, "time": _RUNNING * timeout}, timeout=timeout)


class LiteRtJs:
    """LiteRT.js in headless Chromium, which keeps the model apart from this process by itself.

    Attributes:
      reference, steps, takes, tolerance: as of `Runtime`.
    """

    reference = XNNPACK
    steps = 0
    tolerance = SAME_CODE
    takes = ("INT8", "UINT8", "FLOAT32")

    def missing(self) -> str | None:
        """As `Runtime.missing`."""
        return litert_js.missing()

    def version(self) -> str:
        """Of the LiteRT.js that a web package has too."""
        return web.VERSION

    def measure(self, name: str, model: bytes, images: np.ndarray, timeout: float) -> Arrays:
        """As `Runtime.measure`."""
        contents = inspect.read(model)
        (image,), (logits,) = runtime.interfaces(contents)
        jobs = [(model, runtime.quantize_images(images, image))]
        (outcome,) = litert_js.run(jobs, timeout=timeout)
        if isinstance(outcome, UserError):
            raise outcome
        return {
            "logits": runtime.dequantize_outputs(outcome.outputs, logits).reshape(
                -1, *logits.shape[1:]
            ),
            "seconds": outcome.seconds,
            "memory": np.array(outcome.memory_bytes),
        }


RUNTIMES: dict[str, Runtime | LiteRtJs] = {
    **{
        f"LiteRT {kernels}": Runtime(
            "ai_edge_litert.interpreter",
            "ai-edge-litert",
            partial(runtime.Runner, kernels=kernels),
            None if f"LiteRT {kernels}" == REFERENCE else REFERENCE,
            None,
            "pip install ai-edge-litert",
        )
        for kernels in reversed(runtime.KERNELS)
    },
    "LiteRT CompiledModel": Runtime(
        "ai_edge_litert.compiled_model",
        "ai-edge-litert",
        runtime.CompiledRunner,
        XNNPACK,
        0,
        "pip install 'ai-edge-litert>=2.1'",
        tolerance=SAME_CODE,
    ),
    "TFLM": Runtime(
        "tflite_micro.python.tflite_micro.runtime",
        "tflite-micro",
        tflm.Runner,
        REFERENCE,
        2,
        "pip install --pre tflite-micro",
    ),
    "MediaPipe Tasks": Runtime(
        "mediapipe.tasks.python",
        "mediapipe",
        runtime.MediaPipeRunner,
        XNNPACK,
        0,
        "pip install mediapipe",
        ("UINT8", "FLOAT32"),
        SAME_CODE,
    ),
    "LiteRT.js": LiteRtJs(),
}


_REFERENCES = {chosen.reference for chosen in RUNTIMES.values()}


@dataclass(frozen=True)
class Row:
    """What one runtime made of the model; without figures where it is `skipped` or has an `error`.

    Attributes:
      runtime, version: its name, and its package's.
      skipped: why it was not tried.
      error: why it could not run the model.
      reference: the runtime it is compared with.
      difference: greatest difference of a logit from the reference's, in `unit`.
      unit: ``steps`` of an integer output, or ``logits``.
      agrees: whether the difference is within what the two may differ by.
      images: how many it managed in its time.
      accuracy: share of these that it gets right; of masks the mIoU.
      median_ms: of one inference, in milliseconds.
      memory_bytes: growth of the process through loading and running; TFLM's arena; WebAssembly's
        whole memory; SRAM on an Ethos-U.
      cycles: of one inference on an Ethos-U, as Vela estimates them; it runs nothing.
    """

    runtime: str
    version: str | None = None
    skipped: str | None = None
    error: str | None = None
    reference: str | None = None
    difference: float | None = None
    unit: str | None = None
    agrees: bool | None = None
    images: int | None = None
    accuracy: float | None = None
    median_ms: float | None = None
    memory_bytes: int | None = None
    cycles: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the model in this runtime."""
        return self.error is None and self.agrees is not False


def unfit(name: str, contents: inspect.Contents) -> str | None:
    """Why a runtime's answer to this model would say nothing about it; None where it does."""
    takes, given = RUNTIMES[name].takes, contents.inputs[0].type
    if takes and given not in takes:
        return f"it takes {' or '.join(takes)} images, this model {given}: --io=uint8"
    if name == "TFLM" and inspect.has_hybrid(contents):
        return "it quantizes no activations as they come: --formats=int8"
    if name == "TFLM" and any(tensor.type == "FLOAT16" for tensor in contents.tensors):
        return "it has no float16: --formats=float32"
    # It reads what it sums as unsigned. TFLM, whose kernel is another one, does not.
    summed = {
        contents.tensors[index].type
        for step in contents.steps
        if step.operator == "SUM"
        for index in step.outputs
    }
    if name == REFERENCE and "INT8" in summed:
        return "its int8 SUM is wrong (github.com/google-ai-edge/LiteRT/issues/4079)"
    return None


def most_images(contents: inspect.Contents) -> int:
    """Of how many images inputs and outputs together stay small."""
    (image,), (logits,) = contents.inputs, contents.outputs
    return max(1, _ARRAY_BYTES // max(1, 4 * (math.prod(image.shape) + math.prod(logits.shape))))


def verify(
    model: bytes,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    runtimes: Sequence[str] | None = None,
    timeout: float = isolated.TIMEOUT_SECONDS,
) -> Iterator[Row]:
    """Runs a model in all runtimes, one after the other.

    Args:
      model: content of a .tflite file, one image in and logits out.
      images: (N, height, width, channels) float32, pixel / 128 - 1.
      labels: their classes (N,) or masks (N, height, width), integers.
      runtimes: names of `RUNTIMES`, a reference before those compared with it; all by default.
      timeout: seconds that a runtime may take. What it has not managed until then is left out; with
        no image at all it fails.

    Yields:
      A row a runtime; a crash is a row too.
    """
    contents = inspect.read(model)
    done: dict[str, Arrays] = {}  # of those that others are compared with
    failed: set[str] = set()
    for name in RUNTIMES if runtimes is None else runtimes:
        chosen = RUNTIMES[name]
        if reason := chosen.missing():
            yield Row(name, skipped=reason)
            continue
        if reason := unfit(name, contents):
            yield Row(name, skipped=reason)
            continue
        row: dict[str, Any] = {"runtime": name, "version": chosen.version()}
        try:
            answer = chosen.measure(name, model, images, timeout)
        except UserError as error:
            failed.add(name)
            yield Row(**row, error=str(error))
            continue
        if chosen.reference in failed:
            reason = f"{chosen.reference} fails: nothing vouches for what this gives"
            yield Row(**row, error=reason)
            continue
        if name in _REFERENCES:
            done[name] = answer
        yield Row(
            **row,
            **_comparison(answer, chosen, done.get(chosen.reference or ""), contents),
            images=len(answer["logits"]),
            accuracy=score(
                answer["logits"].argmax(-1),
                labels[: len(answer["logits"])],
                answer["logits"].shape[-1],
            ),
            median_ms=float(np.median(answer["seconds"])) * 1000,
            memory_bytes=int(answer["memory"]),
        )


def compile_for_npu(model: bytes) -> Row:
    """Vela's row: whether it compiles the model for an Ethos-U, and to how many cycles."""
    name = f"Vela {ethos_u.ACCELERATOR}"
    if not ethos_u.available():
        return Row(name, skipped=f"not installed: {ethos_u.INSTALL}")
    if (given := inspect.read(model).inputs[0].type) != "INT8":
        return Row(name, skipped=f"it compiles INT8 models, this one is {given}")
    row: dict[str, Any] = {"runtime": name, "version": version("ethos-u-vela")}
    try:
        _, report = ethos_u.compiled(model)
    except UserError as error:
        return Row(**row, error=str(error))
    return Row(**row, cycles=report.cycles, memory_bytes=round(report.sram_bytes))


def _comparison(
    answer: Arrays,
    chosen: Runtime | LiteRtJs,
    reference: Arrays | None,
    contents: inspect.Contents,
) -> dict[str, Any]:
    """Compares the logits of the images that both managed."""
    if reference is None:
        return {}
    logits, expected = answer["logits"], reference["logits"]
    both = min(len(logits), len(expected))
    difference, unit = float(np.abs(logits[:both] - expected[:both]).max()), "logits"
    limit = chosen.tolerance * float(np.ptp(expected))
    step = inspect.output_step(contents)
    if step:
        # Logits are multiples of the step in float32: whole ones but for rounding.
        difference, unit, limit = float(round(difference / step)), "steps", chosen.steps or 0
    # No two runtimes round alike on 16 bit, and on activations that are quantized as they come.
    free = inspect.has_hybrid(contents) or any(t.type == "INT16" for t in contents.tensors)
    judged = not free and not (step and chosen.steps is None)
    return {
        "reference": chosen.reference,
        "difference": difference,
        "unit": unit,
        "agrees": difference <= limit if judged else None,
    }


def _measure(arguments: Arrays) -> Arrays:
    """In the child: loads the model and runs images, one at least, until the time is over."""
    chosen = RUNTIMES[str(arguments["runtime"])]
    assert isinstance(chosen, Runtime)  # the others need no child of ours
    import_module(chosen.module)  # its libraries are no memory of the model's
    model, images = arguments["model"].tobytes(), arguments["images"]
    (interface,), _ = runtime.interfaces(inspect.read(model))
    # One by one: all at once would cost more memory than the model does.
    (first,) = runtime.quantize_images(images[:1], interface)
    before = _fresh_memory()
    runner = chosen.load(model)
    runner.infer(first)
    growth = _memory("VmHWM") - before
    outputs, seconds, end = [], [], time.monotonic() + float(arguments["time"])
    for number in range(len(images)):
        (image,) = runtime.quantize_images(images[number : number + 1], interface)
        start = time.perf_counter()
        output = runner.infer(image)
        seconds.append(time.perf_counter() - start)
        outputs.append(output)
        if time.monotonic() > end:
            break
    memory = runner.used() if isinstance(runner, tflm.Runner) else growth
    return {
        "logits": runtime.dequantize_outputs(np.stack(outputs), runner.output),
        "seconds": np.array(seconds),
        "memory": np.array(memory),
    }


def _fresh_memory() -> int:
    """Resident bytes of this process now, from which its greatest use counts anew."""
    with contextlib.suppress(OSError):  # some containers forbid it
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(key: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at their greatest (VmHWM)."""
    # Not getrusage: its maximum begins with what the parent had before this program started.
    (line,) = re.findall(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) * 1024


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False
