"""Remedies for a network whose accuracy int8 does not keep: what each does, and which to take.

The order is that of their cost: ``calibration`` costs nothing on the device, ``equalization``
neither, ``mixed`` leaves layers in float, which no microcontroller package takes, and ``qat`` needs
training. What is tried is judged on the validation part; the test part has no say in the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, layers
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.runtimes.runtime import Runner

from . import calibration, ladder, mixed, quantizer
from .post_training import Range
from .quantizer import Calibrated

if TYPE_CHECKING:
    import keras

NAMES = ("calibration", "equalization", "mixed", "qat")
DEFAULT = ("calibration", "equalization")
# Calibration images that the layers' harms are measured with.
_HARM_IMAGES = 16
# Fine-tuning takes so many epochs, but no fewer steps than these.
_QAT_EPOCHS, _QAT_STEPS = 10, 1200

# Images (N, height, width, channels) float32, pixel / 128 - 1, and their classes (N,).
Labelled = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """What may be tried, and with what.

    Attributes:
      remedies: some of `NAMES`; they are tried in the order of `NAMES`.
      validation: begins a pass over the images that judge.
      training: for ``qat``: begins a stream of training images (batch, height, width, channels),
        and says how many batches make an epoch.
    """

    remedies: tuple[str, ...]
    validation: Callable[[], Labelled]
    training: Callable[[], tuple[Iterator[Any], int]]


@dataclass(frozen=True)
class Quantization:
    """A way to int8.

    Attributes:
      model: the float network.
      calibrated: its float file and ranges.
      ranges: others than the measured ones.
      float_layers: layers that stay in float.
    """

    model: keras.Model
    calibrated: Calibrated
    ranges: Mapping[str, Range] = field(default_factory=dict)
    float_layers: tuple[str, ...] = ()

    def with_ranges(self, ranges: Mapping[str, Range]) -> Quantization:
        """The same with some ranges replaced."""
        return replace(self, ranges={**self.ranges, **ranges})

    def file(self, form: Format = INT8) -> bytes:
        """The content of the int8 file, with any interface."""
        operators = mixed.layer_operators(self.calibrated)
        kept = frozenset().union(*(operators[layer] for layer in self.float_layers))
        return quantizer.quantize(self.calibrated, ranges=self.ranges, keep_float=kept, form=form)

    def checked(self) -> bytes:
        """The int8 file's content; UserError where it is not sound."""
        content = self.file()
        classes = self.model.output_shape[-1]
        floats = bool(self.float_layers)
        inspect.check_pixel_classifier(inspect.read(content), classes, floats=floats)
        return content


@dataclass(frozen=True)
class Cure:
    """What held.

    Attributes:
      quantization: the way to int8 that held.
      needed: the accuracy that it had to have.
      attempts: all that was tried.
    """

    quantization: Quantization
    needed: float
    attempts: tuple[ladder.Attempt, ...]

    @property
    def plain(self) -> bool:
        """Whether no remedy was needed."""
        return len(self.attempts) == 1

    def record(self) -> dict[str, Any]:
        """For the sidecar: what was tried, which was taken, which layers are in float."""
        return {
            "judged_on": "validation",
            "needed_accuracy": self.needed,
            "taken": self.attempts[-1].trial,
            "float_layers": list(self.quantization.float_layers),
            "attempts": [asdict(attempt) for attempt in self.attempts],
        }


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of remedies in the order of their cost; UserError where one is unknown."""
    if unknown := sorted(set(names) - set(NAMES)):
        raise UserError(f"there is no remedy {unknown[0]!r}: choose from {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def find(
    model: keras.Model,
    images: np.ndarray,
    plan: Plan,
    max_drop: float,
    method: str = "minmax",
) -> Cure:
    """Looks for a way to int8 that costs no more than an accuracy.

    Args:
      model: float32, functional for all remedies but ``calibration`` and ``mixed``.
      images: for calibration (N, height, width, channels), float32, pixel / 128 - 1.
      plan: what may be tried.
      max_drop: percentage points of accuracy that int8 may lose against `model`.
      method: of `calibration.METHODS`: the one that was asked for.

    Raises:
      UserError: nothing held; the message says what each remedy gained.
    """
    in_float = accuracy(lambda x: np.asarray(model(x, training=False)), plan.validation())
    needed = in_float - max_drop / 100
    plain, rungs = ways(model, images, plan, method)
    climbed = ladder.climb(
        plain, rungs, lambda trial: accuracy(Runner(trial.checked()).run, plan.validation()), needed
    )
    if climbed.best is None or not climbed.holds:
        untried = [name for name in NAMES if name not in plan.remedies]
        hint = f"; not tried: {', '.join(untried)} (--remedies)" if untried else ""
        raise UserError(
            f"int8 gets less than {needed:.2%} of the validation images right, which is "
            f"{max_drop:g} points below the {in_float:.2%} of float: "
            f"{ladder.summary(climbed.attempts)}{hint}"
        )
    return Cure(climbed.best, needed, climbed.attempts)


def ways(
    model: keras.Model, images: np.ndarray, plan: Plan, method: str = "minmax"
) -> tuple[Quantization, list[tuple[str, ladder.Remedy[Quantization]]]]:
    """Plain int8, and the remedies of a plan, for `ladder.climb`; arguments as for `find`."""
    calibrated = quantizer.calibrate(model, images)
    plain = Quantization(model, calibrated, _chosen(calibrated, images, method))
    others = [name for name in calibration.METHODS if name != method]
    steps: dict[str, ladder.Remedy[Quantization]] = {
        "calibration": lambda best: _calibrations("calibration", best, images, others),
        "equalization": lambda best: _equalized(best, images, [method, *others]),
        "mixed": lambda best: _mixed(best, images),
        "qat": lambda best: _fine_tuned(best, images, plan),
    }

    return plain, [(name, steps[name]) for name in check_names(plan.remedies)]


def accuracy(infer: Callable[[np.ndarray], np.ndarray], labelled: Labelled) -> float:
    """Share of images whose greatest logit is their class's; UserError where there are none."""
    right = [infer(np.asarray(x)).argmax(-1) == np.asarray(y) for x, y in labelled]
    if not right:
        raise UserError("there are no validation images to judge int8 by")
    return float(np.concatenate(right).mean())


Trials = Iterator[tuple[str, Quantization]]


def _chosen(calibrated: Calibrated, images: np.ndarray, method: str) -> Mapping[str, Range]:
    # What was measured need not be imposed: the file stays the ordinary conversion's.
    return {} if method == "minmax" else calibration.ranges(calibrated, images, method)


def _calibrations(
    label: str, start: Quantization, images: np.ndarray, methods: Sequence[str]
) -> Trials:
    """The same network with other ranges; those that were empty are widened in all of them."""
    if dead := quantizer.revived({**start.calibrated.ranges, **start.ranges}):
        yield f"{label}: {len(dead)} empty ranges widened", start.with_ranges(dead)
    for method in methods:
        ranges = _chosen(start.calibrated, images, method)
        dead = quantizer.revived({**start.calibrated.ranges, **ranges})
        yield f"{label}: {method}", replace(start, ranges={**ranges, **dead})


def _equalized(best: Quantization, images: np.ndarray, methods: Sequence[str]) -> Trials:
    from . import equalization

    model = equalization.equalize(best.model, images)
    start = Quantization(model, quantizer.calibrate(model, images))
    yield from _calibrations("equalization", start, images, methods)


def _mixed(best: Quantization, images: np.ndarray) -> Trials:
    dead = quantizer.revived({**best.calibrated.ranges, **best.ranges})
    start = best.with_ranges(dead)
    ranked = mixed.noise_by_layer(start.calibrated, start.ranges, images[:_HARM_IMAGES])
    for chosen in mixed.float_layer_choices(ranked):
        trial = replace(start, float_layers=chosen)
        yield f"mixed: {len(chosen)} of {len(ranked)} layers in float", trial


def _fine_tuned(best: Quantization, images: np.ndarray, plan: Plan) -> Trials:
    from . import qat

    if inspect.ends_in_softmax(inspect.read(best.calibrated.content)):
        raise UserError("it trains logits, and the network gives probabilities")
    batches, steps = plan.training()
    steps = max(_QAT_EPOCHS * steps, _QAT_STEPS)
    model, learned = qat.fine_tune(best.model, batches, images, steps=steps)
    start = Quantization(model, quantizer.calibrate(model, images))
    ranges = by_tensor(start.calibrated, learned)
    dead = quantizer.revived({**start.calibrated.ranges, **ranges})
    yield "qat", replace(start, ranges={**ranges, **dead})


def by_tensor(calibrated: Calibrated, learned: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges by layer as ranges by tensor: that of the layer's last operator."""
    tensors = {
        layer: operator for operator in calibrated.operators for layer in layers.layers_of(operator)
    }
    named = {tensors[layer]: both for layer, both in learned.items() if layer in tensors}
    # The logits bear no layer's name.
    return named | {calibrated.operators[-1]: list(learned.values())[-1]}
