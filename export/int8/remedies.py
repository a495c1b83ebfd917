"""Remedies for networks that lose accuracy in int8: the trials of each, and the choice of one.

Remedies are tried in the order of `choices.REMEDIES`, the cheap ones first, until a trial is
accurate enough on the validation part. The test part plays no role in the choice. All trials that
leave the weights unchanged share one trace, one conversion to float and one calibration.
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
from .choices import REMEDIES
from .post_training import Range
from .ranges import CalibratedNetwork

if TYPE_CHECKING:
    import keras

# How many images of the representative data set the noise of single layers is measured with.
_NOISE_IMAGES = 16
# Fine-tuning lasts this many epochs, but at least this many steps.
_QAT_EPOCHS, _QAT_MIN_STEPS = 10, 1200

# Images (N, height, width, channels) float32, pixel / 128 - 1, and their classes (N,).
Labelled = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class RemedyPlan:
    """Which remedies may be tried, and the images for them.

    Attributes:
      remedies: names of `choices.REMEDIES`; they are tried in the order of that table.
      validation: starts a pass over the images on which the accuracy of trials is measured.
      training: used by ``qat``; starts an endless stream of training images (batch, height, width,
        channels), and returns it with the number of batches in an epoch.
    """

    remedies: tuple[str, ...]
    validation: Callable[[], Labelled]
    training: Callable[[], tuple[Iterator[Any], int]]


@dataclass(frozen=True)
class Quantization:
    """How a network is turned into an int8 file.

    Attributes:
      model: the float network.
      calibrated: the float file of that network and the ranges of its activations.
      ranges: tensor's name to a range that replaces the calibrated one.
      float_layers: names of the layers that stay in float.
    """

    model: keras.Model
    calibrated: CalibratedNetwork
    ranges: Mapping[str, Range] = field(default_factory=dict)
    float_layers: tuple[str, ...] = ()

    def with_ranges(self, ranges: Mapping[str, Range]) -> Quantization:
        """A copy in which some tensors have other ranges."""
        return replace(self, ranges={**self.ranges, **ranges})

    def with_method(self, method: str) -> Quantization:
        """A copy with the ranges of another calibration method, of which empty ones are widened."""
        calibrated = replace(self.calibrated, method=method)
        return replace(self, calibrated=calibrated, ranges={}).widened()

    def widened(self) -> Quantization:
        """A copy whose empty ranges are widened."""
        return self.with_ranges(self.replacements())

    def replacements(self) -> dict[str, Range]:
        """What replaces empty ranges, see `quantizer.widen_empty_ranges`."""
        return quantizer.widen_empty_ranges({**self.calibrated.ranges, **self.ranges})

    def file(self, form: Format = INT8) -> bytes:
        """The content of the int8 file, with the input and output types of a format."""
        operators = mixed.layer_operators(self.calibrated)
        float_operators = frozenset().union(*(operators[layer] for layer in self.float_layers))
        return quantizer.quantize(
            self.calibrated, ranges=self.ranges, keep_float=float_operators, form=form
        )

    def checked_file(self) -> bytes:
        """The int8 file's content; UserError if `inspect.check_pixel_classifier` rejects it."""
        content = self.file()
        classes = self.model.output_shape[-1]
        floats = bool(self.float_layers)
        inspect.check_pixel_classifier(inspect.read(content), classes, floats=floats)
        return content


@dataclass(frozen=True)
class RemedyResult:
    """The first quantization that was accurate enough.

    Attributes:
      quantization: the quantization itself.
      needed: the accuracy on the validation part that it had to reach.
      attempts: all trials in order; the last one is this quantization.
    """

    quantization: Quantization
    needed: float
    attempts: tuple[ladder.Attempt, ...]

    @property
    def plain(self) -> bool:
        """Whether no remedy was needed."""
        return len(self.attempts) == 1

    def record(self) -> dict[str, Any]:
        """The sidecar's entry: all trials, the chosen one, and the layers in float."""
        return {
            "judged_on": "validation",
            "needed_accuracy": self.needed,
            "taken": self.attempts[-1].trial,
            "float_layers": list(self.quantization.float_layers),
            "attempts": [asdict(attempt) for attempt in self.attempts],
        }


@dataclass(frozen=True)
class Context:
    """What remedies need in addition to the best quantization so far.

    Attributes:
      images: the representative data set (N, height, width, channels), float32, pixel / 128 - 1.
      plan: see `RemedyPlan`.
      method: the calibration method that the user chose, one of `choices.CALIBRATIONS`.
    """

    images: np.ndarray
    plan: RemedyPlan
    method: str


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Sorts names of remedies in the order of `choices.REMEDIES`; UserError if one is unknown."""
    if unknown := sorted(set(names) - set(REMEDIES)):
        raise UserError(f"there is no remedy {unknown[0]!r}: choose from {', '.join(REMEDIES)}")
    return tuple(name for name in REMEDIES if name in names)


def find_accurate(
    model: keras.Model,
    calibrated: CalibratedNetwork,
    context: Context,
    max_drop: float,
) -> RemedyResult:
    """Tries plain int8 and then the remedies until the accuracy drop is within its limit.

    Args:
      model: the float32 network; a functional Keras model, except that ``calibration`` and
        ``mixed`` work with any model.
      calibrated: its float file.
      context: the images, and the remedies that may be tried.
      max_drop: how many percentage points of accuracy int8 may lose against `model`.

    Raises:
      UserError: no trial was accurate enough; the message lists what each remedy gained.
    """
    plan = context.plan
    float_accuracy = accuracy(lambda x: np.asarray(model(x, training=False)), plan.validation())
    needed = float_accuracy - max_drop / 100
    plain, named_remedies = trials_of(model, calibrated, context)
    result = ladder.try_remedies(
        plain,
        named_remedies,
        lambda trial: accuracy(Runner(trial.checked_file()).run, plan.validation()),
        needed,
    )
    if result.best is None or not result.accurate_enough:
        untried = [name for name in REMEDIES if name not in plan.remedies]
        hint = f"; not tried: {', '.join(untried)} (--remedies)" if untried else ""
        raise UserError(
            f"int8 classifies less than {needed:.2%} of the validation images correctly, which is "
            f"{max_drop:g} points below the {float_accuracy:.2%} of float32: "
            f"{ladder.summary(result.attempts)}{hint}"
        )
    return RemedyResult(result.best, needed, result.attempts)


def trials_of(
    model: keras.Model, calibrated: CalibratedNetwork, context: Context
) -> tuple[Quantization, list[tuple[str, ladder.Remedy[Quantization]]]]:
    """Plain int8 and the named remedies of a plan, which are arguments of `ladder.try_remedies`.

    The arguments are those of `find_accurate`.
    """
    plain = Quantization(model, calibrated)
    named_remedies: list[tuple[str, ladder.Remedy[Quantization]]] = []
    for name in check_names(context.plan.remedies):
        trials = registry.resolve(REMEDIES[name].trials)
        named_remedies.append((name, partial(trials, context=context)))
    return plain, named_remedies


def accuracy(infer: Callable[[np.ndarray], np.ndarray], labelled: Labelled) -> float:
    """Top-1 accuracy: share of correctly classified images; UserError if there are no images."""
    correct = [infer(np.asarray(x)).argmax(-1) == np.asarray(y) for x, y in labelled]
    if not correct:
        raise UserError("there are no validation images to measure the accuracy of int8 on")
    return float(np.concatenate(correct).mean())


Trials = Iterator[tuple[str, Quantization]]


def calibration_trials(best: Quantization, context: Context) -> Trials:
    """Widens empty ranges, then takes the ranges of the other calibration methods."""
    del context
    if empty := best.replacements():
        yield f"calibration: {len(empty)} empty ranges widened", best.widened()
    for method in best.calibrated.methods[1:]:
        yield f"calibration: {method}", best.with_method(method)


def equalization_trials(best: Quantization, context: Context) -> Trials:
    """Equalizes the ranges of the channels, and tries each calibration method on the result."""
    from . import equalization

    model = equalization.equalize(best.model, context.images)
    start = Quantization(model, quantizer.calibrate(model, context.images, context.method))
    for method in start.calibrated.methods:
        yield f"equalization: {method}", start.with_method(method)


def mixed_trials(best: Quantization, context: Context) -> Trials:
    """Leaves more and more layers in float, beginning with those that lose most in int8."""
    start = best.widened()
    ranked = mixed.noise_by_layer(start.calibrated, start.ranges, context.images[:_NOISE_IMAGES])
    for float_layers in mixed.float_layer_choices(ranked):
        trial = replace(start, float_layers=float_layers)
        yield f"mixed: {len(float_layers)} of {len(ranked)} layers in float", trial


def fine_tuning_trials(best: Quantization, context: Context) -> Trials:
    """Fine-tunes the network with quantization-aware training, and uses the ranges it learned."""
    from . import qat

    if inspect.ends_in_softmax(best.calibrated.contents):
        raise UserError(
            "quantization-aware training needs logits, but this network ends in a softmax: "
            "export it with --output=logits"
        )
    batches, steps_per_epoch = context.plan.training()
    steps = max(_QAT_EPOCHS * steps_per_epoch, _QAT_MIN_STEPS)
    model, learned = qat.fine_tune(best.model, batches, context.images, steps=steps)
    # The rounded network was trained; the float one is no reference any more.
    calibrated = quantizer.calibrate(model, context.images, "minmax", others=False).plain
    yield "qat", Quantization(model, calibrated, ranges_by_tensor(calibrated, learned)).widened()


def ranges_by_tensor(
    calibrated: CalibratedNetwork, learned: Mapping[str, Range]
) -> dict[str, Range]:
    """Turns ranges by layer into ranges by tensor: the output of each layer's last operator."""
    tensors = {
        layer: operator for operator in calibrated.operators for layer in layers.layers_of(operator)
    }
    ranges = {tensors[layer]: ends for layer, ends in learned.items() if layer in tensors}
    # The name of the logits' tensor contains no layer's name.
    return ranges | {calibrated.operators[-1]: list(learned.values())[-1]}
