"""Runs the same images in every installed runtime, each in its own process, and compares results.

Each runtime is compared with the one that uses the same arithmetic. In int8 the kernels of LiteRT
can differ from each other by several steps of the output although all are correct. TFLM is
therefore compared not with XNNPACK but with LiteRT's reference kernels, whose code it shares.
"""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, rewrite
from efficientnet_elite.export.packages import ethos_u, targets, web
from efficientnet_elite.export.pixel_rule import ELITE, PixelRule
from efficientnet_elite.training.scores import score_predictions

from . import compiled_c, fitness, isolated, litert_js, runtime, tflm
from .isolated import Arrays

REFERENCE = "LiteRT reference kernels"
XNNPACK = "LiteRT XNNPACK"
# In float, a runtime may differ from the reference kernels by this share of the logits' range.
TOLERANCE = 1e-4
# The same for runtimes that run XNNPACK's code and are compared with XNNPACK.
XNNPACK_TOLERANCE = 1e-5
# Greatest size of the images and a runtime's logits in float32; a few copies of them are in memory.
_ARRAY_BYTES = 256 << 20
# Share of a runtime's time limit in which it may begin images; the rest is for its start and the
# last image.
_RUNNING_SHARE = 0.8


def _fits_all(_: inspect.Contents) -> str | None:
    return None


@dataclass(frozen=True)
class Runtime:
    """A program that runs .tflite files, called from Python.

    Attributes:
      name, description: see `registry.Entry`.
      module: name of the Python module that must be importable.
      package: name of its distribution, whose version is reported.
      load: ``module:function`` that takes a file's content and `options` and returns a runner. A
        runner has ``infer`` (from one image in the input tensor's type to the output's elements),
        ``output`` (a `runtime.Interface`), and, if it knows how many bytes of memory it uses,
        ``used``. The function is called in a child process, which imports only modules that are
        installed or in PYTHONPATH.
      install: the command that installs it.
      reference: name of the runtime that it is compared with, which uses the same arithmetic; None
        for a runtime that serves as reference.
      steps: by how many steps an int8 output may differ from the reference; None if any difference
        is acceptable.
      tolerance: by what share of the range of the logits it may differ if it computes in float.
      takes: input types that it supports; empty for all.
      reads_metadata: whether it normalises pixels itself, by the file's metadata.
      unfit: function from the contents of a model to the reason why this runtime cannot run or
        should not be compared on it; None if there is no reason.
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
    reads_metadata: bool = False
    unfit: Callable[[inspect.Contents], str | None] = _fits_all
    options: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it is not available on this machine; None if it is available."""
        return None if _importable(self.module) else f"not installed: {self.install}"

    def version(self) -> str:
        """Version of the installed package."""
        return version(self.package)

    def run_images(self, model: bytes, images: np.ndarray, timeout: float) -> Arrays:
        """Runs as many images as the time allows.

        Args:
          model: content of a .tflite file.
          images: (N, height, width, channels) float32, what the network takes for the pixels.
          timeout: time limit in seconds.

        Returns:
          ``logits`` (images run, ...), ``seconds`` of each inference, and ``memory`` in bytes.

        Raises:
          UserError: the runtime cannot run the model, crashes or exceeds the time limit.
        """
        return isolated.call(
            _run_in_child,
            self.child_arguments(model, images, _RUNNING_SHARE * timeout),
            timeout=timeout,
        )

    def child_arguments(self, model: bytes, images: np.ndarray, seconds: float) -> dict[str, Any]:
        """Arguments of the child process, which begins images for so many seconds."""
        return {
            "model": np.frombuffer(model, np.uint8),
            "images": images,
            "module": self.module,
            "load": self.load,
            "options": json.dumps(dict(self.options)),
            "time": seconds,
        }


class LiteRtJs:
    """LiteRT.js in headless Chromium, which isolates the model from this process.

    Attributes:
      name, description, reference, steps, tolerance, takes: see `Runtime`.
    """

    name = "LiteRT.js"
    description = "WebAssembly in headless Chromium"
    reference = XNNPACK
    steps = 0
    tolerance = XNNPACK_TOLERANCE
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
        # Packages for the web hold the file with a batch of one, too.
        jobs = [(rewrite.with_batch_of_one(model), runtime.quantize_images(images, image))]
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
        unfit=fitness.unfit_for_reference if name == REFERENCE else _fits_all,
        options={"kernels": kernels},
    )


RUNTIMES: dict[str, Runtime | LiteRtJs | compiled_c.CompiledC] = registry.table(
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
        tolerance=XNNPACK_TOLERANCE,
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
        unfit=fitness.unfit_for_tflm,
    ),
    compiled_c.HOST,
    *compiled_c.EMULATED.values(),
    Runtime(
        "MediaPipe Tasks",
        "the library that classifies images in Android apps; it runs XNNPACK",
        module="mediapipe.tasks.python",
        package="mediapipe",
        load=f"{runtime.__name__}:MediaPipeRunner",
        install="pip install mediapipe",
        reference=XNNPACK,
        steps=0,
        tolerance=XNNPACK_TOLERANCE,
        takes=("UINT8", "FLOAT32"),
        reads_metadata=True,
        unfit=fitness.unfit_for_mediapipe,
    ),
    LiteRtJs(),
)


@dataclass(frozen=True)
class Row:
    """The result of one runtime; it has no measurements if `skipped` or `error` is given.

    Attributes:
      runtime, version: name of the runtime and version of its package.
      skipped: why it was not tried.
      error: why it could not run the model.
      reference: name of the runtime that it is compared with.
      difference: greatest difference between a logit and that of the reference, in `unit`.
      unit: ``steps`` for an integer output, otherwise ``logits``.
      agrees: whether the difference is within the tolerance; None if it is not checked.
      images: how many images it ran within its time limit.
      accuracy: top-1 accuracy on these images, from 0 to 1; mIoU for segmentation networks.
      median_ms: median time of one inference in milliseconds.
      memory_bytes: growth of the process from loading and running the model; for TFLM and C
        the arena, for WebAssembly the whole memory, for an Ethos-U the SRAM.
      instructions: median number of instructions of one inference, where an emulator counts them.
      flash_bytes: bytes of code and constants of the whole program, where an emulator runs it.
      code_bytes: those of code alone.
      stack_bytes: the most bytes of the stack that it used.
      arena_peak_bytes: the most bytes of the arena that it was seen to use.
      cycles: for an Ethos-U, Vela's estimate of the cycles of one inference; nothing is run.
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
    instructions: float | None = None
    flash_bytes: int | None = None
    code_bytes: int | None = None
    stack_bytes: int | None = None
    arena_peak_bytes: int | None = None
    cycles: float | None = None

    @property
    def passed(self) -> bool:
        """Whether this runtime neither failed nor differs too much from its reference."""
        return self.error is None and self.agrees is not False


def unfit(name: str, contents: inspect.Contents) -> str | None:
    """Why a runtime cannot run this model or be compared on it; None if it can."""
    chosen, input_type = RUNTIMES[name], contents.inputs[0].type
    if chosen.takes and input_type not in chosen.takes:
        types, io = " or ".join(chosen.takes), chosen.takes[0].lower()
        return f"it takes {types} images, but this model {input_type}: export with --io={io}"
    return chosen.unfit(contents)


def most_images(contents: inspect.Contents) -> int:
    """The greatest number of images whose inputs and outputs fit into memory together."""
    (image,), (logits,) = contents.inputs, contents.outputs
    return max(1, _ARRAY_BYTES // max(1, 4 * (math.prod(image.shape) + math.prod(logits.shape))))


def verify(
    model: bytes,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    rule: PixelRule = ELITE,
    runtimes: Sequence[str] | None = None,
    timeout: float = isolated.TIMEOUT_SECONDS,
) -> Iterator[Row]:
    """Runs a model in all runtimes, one after the other.

    Args:
      model: content of a .tflite file, one image in and logits out.
      images: (N, height, width, channels) float32, pixel / 128 - 1.
      labels: their classes (N,) or masks (N, height, width), integers.
      rule: which numbers the network takes for pixels.
      runtimes: names of `RUNTIMES`, with each reference before the runtimes compared with it; all
        by default.
      timeout: time limit of each runtime in seconds. Images that it cannot run in that time are
        left out; if it can run none, it has failed.

    Yields:
      One row for each runtime, also if it crashes.
    """
    contents = inspect.read(model)
    references = {entry.reference for entry in RUNTIMES.values()}
    reference_answers: dict[str, Arrays] = {}
    failed: set[str] = set()
    for name in RUNTIMES if runtimes is None else runtimes:
        chosen = RUNTIMES[name]
        if reason := chosen.missing() or unfit(name, contents):
            yield Row(name, skipped=reason)
            continue
        content = model
        if isinstance(chosen, Runtime) and chosen.reads_metadata:
            if not rule.uniform:
                yield Row(name, skipped="it cannot normalise each channel by numbers of its own")
                continue
            content = runtime.described(model, rule)
            if rule != ELITE:  # it rounds other rules in its own way
                chosen = replace(chosen, tolerance=TOLERANCE)
        row: dict[str, Any] = {"runtime": name, "version": chosen.version()}
        try:
            answer = chosen.run_images(content, rule.values(images), timeout)
        except UserError as error:
            failed.add(name)
            yield Row(**row, error=str(error))
            continue
        if chosen.reference in failed:
            reason = f"{chosen.reference} failed, so there is nothing to compare the results with"
            yield Row(**row, error=reason)
            continue
        if name in references:
            reference_answers[name] = answer
        yield Row(
            **row,
            **_comparison(answer, chosen, reference_answers.get(chosen.reference or ""), contents),
            images=len(answer["logits"]),
            accuracy=_accuracy(answer["logits"], labels, contents),
            median_ms=_median(answer, "seconds", 1000),
            memory_bytes=int(answer["memory"]),
            instructions=_median(answer, "instructions"),
            flash_bytes=_bytes(answer, "code", "constants"),
            code_bytes=_bytes(answer, "code"),
            stack_bytes=_bytes(answer, "stack"),
            arena_peak_bytes=_bytes(answer, "arena_peak"),
        )


def _accuracy(outputs: np.ndarray, labels: np.ndarray, contents: inspect.Contents) -> float:
    """The score of the images that were run, which come first."""
    scores = inspect.two_classes(outputs, inspect.last_operator(contents) == "LOGISTIC")
    return score_predictions(scores.argmax(-1), labels[: len(scores)], scores.shape[-1])


def _median(answer: Arrays, key: str, unit: float = 1) -> float | None:
    """The median of what was measured for each image; None if it was not measured."""
    return float(np.median(answer[key])) * unit if key in answer else None


def _bytes(answer: Arrays, *parts: str) -> int | None:
    """The sum of these parts of memory; None if they were not measured."""
    return int(sum(answer[part] for part in parts)) if parts[0] in answer else None


def compile_for_npu(model: bytes) -> Row:
    """Compiles the model for an Ethos-U with Vela, and returns the result as a row."""
    name = f"Vela {targets.ACCELERATOR}"
    if not ethos_u.available():
        return Row(name, skipped=f"not installed: {ethos_u.INSTALL}")
    if (input_type := inspect.read(model).inputs[0].type) != "INT8":
        return Row(name, skipped=f"it compiles INT8 models, but this one is {input_type}")
    row: dict[str, Any] = {"runtime": name, "version": version("ethos-u-vela")}
    try:
        _, report = ethos_u.compile_model(model)
    except UserError as error:
        return Row(**row, error=str(error))
    return Row(**row, cycles=report.cycles, memory_bytes=round(report.sram_bytes))


def _comparison(
    answer: Arrays,
    chosen: Runtime | LiteRtJs | compiled_c.CompiledC,
    reference: Arrays | None,
    contents: inspect.Contents,
) -> dict[str, Any]:
    """Compares the logits of a runtime and its reference on the images that both have run."""
    if reference is None:
        return {}
    logits, expected = answer["logits"], reference["logits"]
    count = min(len(logits), len(expected))
    difference, unit = float(np.abs(logits[:count] - expected[:count]).max()), "logits"
    limit = chosen.tolerance * float(np.ptp(expected))
    step = inspect.output_step(contents)
    if step:
        # Logits are integer multiples of the step, except for float32 rounding.
        difference, unit, limit = float(round(difference / step)), "steps", chosen.steps or 0
    # Runtimes round int16, and activations quantized during inference, in different ways.
    rounds_differently = inspect.has_hybrid_operators(contents) or any(
        t.type == "INT16" for t in contents.tensors
    )
    is_checked = not rounds_differently and not (step and chosen.steps is None)
    return {
        "reference": chosen.reference,
        "difference": difference,
        "unit": unit,
        "agrees": difference <= limit if is_checked else None,
    }


def _run_in_child(arguments: Arrays) -> Arrays:
    """Runs in the child process: loads the model and runs at least one image until time is up."""
    # Imported before memory is measured, so that the libraries do not count as the model's.
    import_module(str(arguments["module"]))
    load = registry.resolve(str(arguments["load"]))
    model, images = arguments["model"].tobytes(), arguments["images"]
    (interface,), _ = runtime.interfaces(inspect.read(model))
    # Images are quantized one by one; all at once would take more memory than the model.
    (first,) = runtime.quantize_images(images[:1], interface)
    before = isolated.fresh_memory()
    runner = load(model, **json.loads(str(arguments["options"])))
    runner.infer(first)
    growth = isolated.memory("VmHWM") - before
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


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
