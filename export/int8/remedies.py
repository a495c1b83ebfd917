"""Remedies for a network whose accuracy int8 does not keep: what each tries, which one is taken.

They are tried in the order of `choices.REMEDIES`, the cheap ones first. Trials are judged by the
validation part; the test part has no say in the choice. A network is traced, converted to float and
calibrated once for all trials that leave its weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, layers
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.runtimes.runtime import Runner

from . import ladder, mixed, quantizer
from .choices import CALIBRATION_METHODS, REMEDIES
from .post_training import Range
from .quantizer import CalibratedNetwork

if TYPE_CHECKING:
    import keras

# Images of the representative data set that the harm of int8 in single layers is measured with.
_HARM_IMAGES = 16
# Fine-tuning takes so many epochs, but no fewer steps than these.
_QAT_EPOCHS, _QAT_STEPS = 10, 1200

# Images (N, height, width, channels) float32, pixel / 128 - 1, and their classes (N,).
Labelled = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """Which remedies may be tried, and the images for them.

    Attributes:
      remedies: names of `choices.REMEDIES`; they are tried in the order of that table.
      validation: begins a pass over the images that trials are judged by.
      training: for ``qat``: begins a stream of training images (batch, height, width, channels),
        and says how many batches make an epoch.
    """

    remedies: tuple[str, ...]
    validation: Callable[[], Labelled]
    training: Callable[[], tuple[Iterator[Any], int]]


@dataclass(frozen=True)
class Quantization:
    """How a network is turned into an int8 file.

    Attributes:
      model: the float network.
      calibrated: its float file and the ranges of its activations.
      ranges: by tensor's name, in place of the extremes on the representative data set.
      float_layers: layers that stay in float.
    """

    model: keras.Model
    calibrated: CalibratedNetwork
    ranges: Mapping[str, Range] = field(default_factory=dict)
    float_layers: tuple[str, ...] = ()

    def with_ranges(self, ranges: Mapping[str, Range]) -> Quantization:
        """The same with other ranges of some tensors."""
        return replace(self, ranges={**self.ranges, **ranges})

    def file(self, form: Format = INT8) -> bytes:
        """The content of the int8 file, with any interface."""
        operators = mixed.layer_operators(self.calibrated)
        in_float = frozenset().union(*(operators[layer] for layer in self.float_layers))
        return quantizer.quantize(
            self.calibrated, ranges=self.ranges, keep_float=in_float, form=form
        )

    def checked(self) -> bytes:
        """The int8 file's content; UserError where it is not sound."""
        content = self.file()
        classes = self.model.output_shape[-1]
        floats = bool(self.float_layers)
        inspect.check_pixel_classifier(inspect.read(content), classes, floats=floats)
        return content


@dataclass(frozen=True)
class Cure:
    """The first quantization that was accurate enough.

    Attributes:
      quantization: see above.
      needed: the accuracy on the validation part that it had to have.
      attempts: all trials, this one last.
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


@dataclass(frozen=True)
class Context:
    """What remedies work with beside the best quantization so far.

    Attributes:
      images: the representative data set (N, height, width, channels), float32, pixel / 128 - 1.
      plan: see `Plan`.
      method: of `choices.CALIBRATION_METHODS`: the one that the user asked for.
    """

    images: np.ndarray
    plan: Plan
    method: str

    @property
    def methods(self) -> list[str]:
        """All methods of calibration, the one asked for first."""
        return [self.method, *(name for name in CALIBRATION_METHODS if name != self.method)]

    def calibrate(self, model: keras.Model) -> Quantization:
        """The start of trials with a network whose weights a remedy has changed."""
        return Quantization(model, quantizer.calibrate(model, self.images))


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of remedies in the order of their cost; UserError where one is unknown."""
    if unknown := sorted(set(names) - set(REMEDIES)):
        raise UserError(f"there is no remedy {unknown[0]!r}: choose from {', '.join(REMEDIES)}")
    return tuple(name for name in REMEDIES if name in names)


def find(
    model: keras.Model,
    calibrated: CalibratedNetwork,
    context: Context,
    max_drop: float,
) -> Cure:
    """Looks for an int8 file that costs no more than an accuracy drop.

    Args:
      model: float32, functional for all remedies but ``calibration`` and ``mixed``.
      calibrated: its float file, and ranges by all methods where ``calibration`` may be tried.
      context: images, and what may be tried.
      max_drop: percentage points of accuracy that int8 may lose against `model`.

    Raises:
      UserError: no trial was accurate enough; the message says what each remedy gained.
    """
    plan = context.plan
    in_float = accuracy(lambda x: np.asarray(model(x, training=False)), plan.validation())
    needed = in_float - max_drop / 100
    plain, rungs = trials_of(model, calibrated, context)
    climbed = ladder.climb(
        plain, rungs, lambda trial: accuracy(Runner(trial.checked()).run, plan.validation()), needed
    )
    if climbed.best is None or not climbed.holds:
        untried = [name for name in REMEDIES if name not in plan.remedies]
        hint = f"; not tried: {', '.join(untried)} (--remedies)" if untried else ""
        raise UserError(
            f"int8 gets less than {needed:.2%} of the validation images right, which is "
            f"{max_drop:g} points below the {in_float:.2%} of float: "
            f"{ladder.summary(climbed.attempts)}{hint}"
        )
    return Cure(climbed.best, needed, climbed.attempts)


def trials_of(
    model: keras.Model, calibrated: CalibratedNetwork, context: Context
) -> tuple[Quantization, list[tuple[str, ladder.Remedy[Quantization]]]]:
    """Plain int8, and the remedies of a plan, for `ladder.climb`; arguments as for `find`."""
    plain = Quantization(model, calibrated, _replaced(calibrated, context.method))
    rungs: list[tuple[str, ladder.Remedy[Quantization]]] = []
    for name in check_names(context.plan.remedies):
        trials = registry.resolve(REMEDIES[name].trials)
        rungs.append((name, partial(trials, context=context)))
    return plain, rungs


def accuracy(infer: Callable[[np.ndarray], np.ndarray], labelled: Labelled) -> float:
    """Share of images whose greatest logit is their class's; UserError where there are none."""
    right = [infer(np.asarray(x)).argmax(-1) == np.asarray(y) for x, y in labelled]
    if not right:
        raise UserError("there are no validation images to judge int8 by")
    return float(np.concatenate(right).mean())


Trials = Iterator[tuple[str, Quantization]]


def _replaced(calibrated: CalibratedNetwork, method: str) -> Mapping[str, Range]:
    """Ranges by a method, for `Quantization.ranges`; the extremes need not be replaced."""
    return {} if method == "minmax" else calibrated.ranges_by_method[method]


def calibration_trials(best: Quantization, context: Context) -> Trials:
    """The same network with ranges by the other methods of calibration."""
    yield from _by_methods("calibration", best, context.methods[1:])


def _by_methods(label: str, start: Quantization, methods: Sequence[str]) -> Trials:
    """A network with ranges by some methods; those that were empty are widened in all trials."""
    if widened := quantizer.revived({**start.calibrated.ranges, **start.ranges}):
        yield f"{label}: {len(widened)} empty ranges widened", start.with_ranges(widened)
    for method in methods:
        yield f"{label}: {method}", _widened(start, _replaced(start.calibrated, method))


def _widened(start: Quantization, ranges: Mapping[str, Range]) -> Quantization:
    """A network with these ranges in place of its extremes, the empty ones widened."""
    widened = quantizer.revived({**start.calibrated.ranges, **ranges})
    return replace(start, ranges={**ranges, **widened})


def equalization_trials(best: Quantization, context: Context) -> Trials:
    """The network with its channels scaled to like ranges, with each method of calibration."""
    from . import equalization

    start = context.calibrate(equalization.equalize(best.model, context.images))
    yield from _by_methods("equalization", start, context.methods)


def mixed_trials(best: Quantization, context: Context) -> Trials:
    """The same network with more and more of the layers in float that int8 harms most."""
    widened = quantizer.revived({**best.calibrated.ranges, **best.ranges})
    start = best.with_ranges(widened)
    ranked = mixed.noise_by_layer(start.calibrated, start.ranges, context.images[:_HARM_IMAGES])
    for layers_in_float in mixed.float_layer_choices(ranked):
        trial = replace(start, float_layers=layers_in_float)
        yield f"mixed: {len(layers_in_float)} of {len(ranked)} layers in float", trial


def fine_tuning_trials(best: Quantization, context: Context) -> Trials:
    """The network after quantization-aware training, with the ranges learned in it."""
    from . import qat

    if inspect.ends_in_softmax(inspect.read(best.calibrated.content)):
        raise UserError("it trains logits, and the network gives probabilities")
    batches, steps = context.plan.training()
    steps = max(_QAT_EPOCHS * steps, _QAT_STEPS)
    model, learned = qat.fine_tune(best.model, batches, context.images, steps=steps)
    start = context.calibrate(model)
    yield "qat", _widened(start, by_tensor(start.calibrated, learned))


def by_tensor(calibrated: CalibratedNetwork, learned: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges by layer as ranges by tensor: that of the layer's last operator."""
    tensors = {
        layer: operator for operator in calibrated.operators for layer in layers.layers_of(operator)
    }
    named = {tensors[layer]: both for layer, both in learned.items() if layer in tensors}
    # The tensor of the logits bears no layer's name.
    return named | {calibrated.operators[-1]: list(learned.values())[-1]}
