"""Runs the same images in every runtime that is installed, each in a process of its own.

A runtime is compared with the one that computes with the same arithmetic. In int8 the kernels of
LiteRT differ from each other by several steps of the output without any of them being wrong. So
XNNPACK is no reference for a microcontroller; LiteRT's reference kernels are, which TFLM shares.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import ethos_u, targets, web
from efficientnet_elite.training.scores import score_predictions

from . import isolated, litert_js, runtime, tflm
from .isolated import Arrays

REFERENCE = "LiteRT reference kernels"
XNNPACK = "LiteRT XNNPACK"
# Share of the range of the logits by which float runtimes may differ from the reference kernels,
TOLERANCE = 1e-4
# and from XNNPACK where they run its own code.
SAME_CODE = 1e-5
# Images and a runtime's logits in float32 take so many bytes at most; a few copies are in memory.
_ARRAY_BYTES = 256 << 20
# Share of a runtime's time in which it runs images; the rest is for its start and the last image.
_RUNNING = 0.8


def _fits_all(contents: inspect.Contents) -> str | None:
    del contents
    return None


@dataclass(frozen=True)
class Runtime:
    """A program that runs .tflite files, called from Python.

    Attributes:
      name, description: see `registry.Entry`.
      module: what must be importable for it.
      package: its distribution, of which the version is reported.
      load: ``module:function`` that makes a runner of a file's content and `options`. A runner has
        ``infer`` (one image as the input tensor takes it, to the output's elements) and ``output``
        (a `runtime.Interface`); also ``used``, where it knows the bytes of memory in use. It is
        called in a process of its own, which imports only what is installed or in PYTHONPATH.
      install: how to get it.
      reference: the runtime that computes with the same arithmetic; None for one that others are
        compared with.
      steps: by how many steps of an int8 output it may differ from that; None where no difference
        is a fault.
      tolerance: by what share of the range of the logits it may differ where it computes in float.
      takes: types of input that it can take; any where empty.
      unfit: contents of a model to why this runtime cannot be judged by it; None where it can.
      options: further arguments of `load`.
    """

    name: str
    description: str
    module: str
    package: str
    load: str
    install: str
    reference: str | None
    steps: int | None = None
    tolerance: float = TOLERANCE
    takes: tuple[str, ...] = ()
    unfit: Callable[[inspect.Contents], str | None] = _fits_all
    options: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot be tried here; None where it can."""
        return None if _importable(self.module) else f"not installed: {self.install}"

    def version(self) -> str:
        """Version of what is installed."""
        return version(self.package)

    def run_images(self, model: bytes, images: np.ndarray, timeout: float) -> Arrays:
        """Runs as many images as there is time for: ``logits``, ``seconds``, ``memory``.

        Args:
          model: content of a .tflite file.
          images: (N, height, width, channels) float32, pixel / 128 - 1.
          timeout: seconds.

        Raises:
          UserError: it cannot run the model, crashes or exceeds the time.
        """
        return isolated.call(
            _run_in_child, self.question(model, images, _RUNNING * timeout), timeout=timeout
        )

    def question(self, model: bytes, images: np.ndarray, seconds: float) -> dict[str, Any]:
        """What `run_images` hands to the child; the time in which images are begun, in seconds."""
        return {
            "model": np.frombuffer(model, np.uint8),
            "images": images,
            "module": self.module,
            "load": self.load,
            "options": json.dumps(dict(self.options)),
            "time": seconds,
        }


class LiteRtJs:
    """LiteRT.js in headless Chromium, which itself keeps the model apart from this process.

    Attributes:
      name, description, reference, steps, tolerance, takes: see `Runtime`.
    """

    name = "LiteRT.js"
    description = "WebAssembly in headless Chromium"
    reference = XNNPACK
    steps = 0
    tolerance = SAME_CODE
    takes = ("INT8", "UINT8", "FLOAT32")

    def missing(self) -> str | None:
        """See `Runtime.missing`."""
        return litert_js.missing()

    def version(self) -> str:
        """Version of the LiteRT.js that web packages contain."""
        return web.VERSION

    def unfit(self, contents: inspect.Contents) -> str | None:
        """See `Runtime`."""
        return _fits_all(contents)

    def run_images(self, model: bytes, images: np.ndarray, timeout: float) -> Arrays:
        """See `Runtime.run_images`."""
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


def _unfit_for_tflm(contents: inspect.Contents) -> str | None:
    if inspect.has_hybrid_operators(contents):
        return "it quantizes no activations as they come: --formats=int8"
    if any(tensor.type == "FLOAT16" for tensor in contents.tensors):
        return "it has no float16: --formats=float32"
    return None


def _unfit_for_reference(contents: inspect.Contents) -> str | None:
    """The kernel of SUM reads int8 as unsigned. TFLM's kernel, which is another one, does not."""
    summed = {
        contents.tensors[index].type
        for step in contents.steps
        if step.operator == "SUM"
        for index in step.outputs
    }
    if "INT8" in summed:
        return "its int8 SUM is wrong (github.com/google-ai-edge/LiteRT/issues/4079)"
    return None


def _litert(kernels: str) -> Runtime:
    name = f"LiteRT {kernels}"
    return Runtime(
        name,
        f"LiteRT's interpreter with its {kernels}",
        module="ai_edge_litert.interpreter",
        package="ai-edge-litert",
        load=f"{runtime.__name__}:Runner",
        install="pip install ai-edge-litert",
        reference=None if name == REFERENCE else REFERENCE,
        unfit=_unfit_for_reference if name == REFERENCE else _fits_all,
        options={"kernels": kernels},
    )


RUNTIMES: dict[str, Runtime | LiteRtJs] = registry.table(
    *(_litert(kernels) for kernels in reversed(runtime.KERNELS)),
    Runtime(
        "LiteRT CompiledModel",
        "LiteRT's newer interface, which runs XNNPACK",
        module="ai_edge_litert.compiled_model",
        package="ai-edge-litert",
        load=f"{runtime.__name__}:CompiledRunner",
        install="pip install 'ai-edge-litert>=2.1'",
        reference=XNNPACK,
        steps=0,
        tolerance=SAME_CODE,
    ),
    Runtime(
        "TFLM",
        "TensorFlow Lite for Microcontrollers",
        module="tflite_micro.python.tflite_micro.runtime",
        package="tflite-micro",
        load=f"{tflm.__name__}:Runner",
        install="pip install --pre tflite-micro",
        reference=REFERENCE,
        steps=2,
        unfit=_unfit_for_tflm,
    ),
    Runtime(
        "MediaPipe Tasks",
        "what Android apps classify images with; it runs XNNPACK",
        module="mediapipe.tasks.python",
        package="mediapipe",
        load=f"{runtime.__name__}:MediaPipeRunner",
        install="pip install mediapipe",
        reference=XNNPACK,
        steps=0,
        tolerance=SAME_CODE,
        takes=("UINT8", "FLOAT32"),
    ),
    LiteRtJs(),
)


@dataclass(frozen=True)
class Row:
    """What one runtime made of the model; without figures where `skipped` or `error` is given.

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
      memory_bytes: by how much the process grew through loading and running; of TFLM the arena, of
        WebAssembly the whole memory, of an Ethos-U the SRAM.
      cycles: of one inference on an Ethos-U, as Vela estimates them without running anything.
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
        """Whether this runtime neither failed nor differs too much from its reference."""
        return self.error is None and self.agrees is not False


def unfit(name: str, contents: inspect.Contents) -> str | None:
    """Why a runtime cannot be judged by its answer to this model; None where it can."""
    chosen, given = RUNTIMES[name], contents.inputs[0].type
    if chosen.takes and given not in chosen.takes:
        return f"it takes {' or '.join(chosen.takes)} images, this model {given}: --io=uint8"
    return chosen.unfit(contents)


def most_images(contents: inspect.Contents) -> int:
    """The number of images at which inputs and outputs together still fit into memory."""
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
      timeout: seconds that a runtime may take. Images that it has not run until then are left out;
        it fails where it has run none.

    Yields:
      A row a runtime; a crash is a row too.
    """
    contents = inspect.read(model)
    references = {each.reference for each in RUNTIMES.values()}
    reference_answers: dict[str, Arrays] = {}
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
            answer = chosen.run_images(model, images, timeout)
        except UserError as error:
            failed.add(name)
            yield Row(**row, error=str(error))
            continue
        if chosen.reference in failed:
            reason = f"{chosen.reference} fails: nothing vouches for what this gives"
            yield Row(**row, error=reason)
            continue
        if name in references:
            reference_answers[name] = answer
        yield Row(
            **row,
            **_comparison(answer, chosen, reference_answers.get(chosen.reference or ""), contents),
            images=len(answer["logits"]),
            accuracy=score_predictions(
                answer["logits"].argmax(-1),
                labels[: len(answer["logits"])],
                answer["logits"].shape[-1],
            ),
            median_ms=float(np.median(answer["seconds"])) * 1000,
            memory_bytes=int(answer["memory"]),
        )


def compile_for_npu(model: bytes) -> Row:
    """A row for Vela: whether it compiles the model for an Ethos-U, and to how many cycles."""
    name = f"Vela {targets.ACCELERATOR}"
    if not ethos_u.available():
        return Row(name, skipped=f"not installed: {ethos_u.INSTALL}")
    if (given := inspect.read(model).inputs[0].type) != "INT8":
        return Row(name, skipped=f"it compiles INT8 models, this one is {given}")
    row: dict[str, Any] = {"runtime": name, "version": version("ethos-u-vela")}
    try:
        _, report = ethos_u.compile_model(model)
    except UserError as error:
        return Row(**row, error=str(error))
    return Row(**row, cycles=report.cycles, memory_bytes=round(report.sram_bytes))


def _comparison(
    answer: Arrays,
    chosen: Runtime | LiteRtJs,
    reference: Arrays | None,
    contents: inspect.Contents,
) -> dict[str, Any]:
    """Compares a runtime's logits with its reference's, of the images that both have run."""
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
    free = inspect.has_hybrid_operators(contents) or any(
        t.type == "INT16" for t in contents.tensors
    )
    judged = not free and not (step and chosen.steps is None)
    return {
        "reference": chosen.reference,
        "difference": difference,
        "unit": unit,
        "agrees": difference <= limit if judged else None,
    }


def _run_in_child(arguments: Arrays) -> Arrays:
    """In the child: loads the model and runs images, one at least, until the time is over."""
    # Imported before memory is looked at: the runtime's libraries are no memory of the model's.
    import_module(str(arguments["module"]))
    load = registry.resolve(str(arguments["load"]))
    model, images = arguments["model"].tobytes(), arguments["images"]
    (interface,), _ = runtime.interfaces(inspect.read(model))
    # One by one: all at once would cost more memory than the model does.
    (first,) = runtime.quantize_images(images[:1], interface)
    before = _fresh_memory()
    runner = load(model, **json.loads(str(arguments["options"])))
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
    memory = runner.used() if hasattr(runner, "used") else growth
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
