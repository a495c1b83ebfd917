"""Every kind of family and deployment variant, in int8 and in float, in the runtimes of devices.

Scaled down and untrained, with the statistics of noise: what is tested are operators and their
arithmetic, not accuracy. The runtimes share this process: the files are ours.
"""

from __future__ import annotations

import warnings
from itertools import product

import keras
import numpy as np
import pytest

from efficientnet_elite.export import formats, inspect
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.runtimes import isolated, verify
from efficientnet_elite.networks import activations
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES, segmentation, variants
from efficientnet_elite.networks.spec import ArchSpec
from tests.support.networks import KINDS_OF_FAMILIES, noise, normalise

SIDE, CLASSES = 32, 5
WIDTH, DEPTH = 0.25, 0.2
# eLite's own activation is the first.
VARIANTS = [
    f"elite{variants.Variant(activation, gates).suffix}"
    for activation, gates in product((None, *activations.variants()[1:]), (True, False))
    if (activation, gates) != (None, True)
]
# One of each family; the others differ in their depth.
MASKS = ("espnet-3", "espnetv2-seg", "lraspp-mobilenetv3-small")
# Of the others LiteRT's builtin kernels may differ from all, and CompiledModel is XNNPACK again.
RUNTIMES = (verify.REFERENCE, verify.XNNPACK, "TFLM", "MediaPipe Tasks", "LiteRT.js")
UINT8 = formats.Format("int8", "uint8")  # MediaPipe takes no int8
FLOAT_TOLERANCE = 1e-5  # of the logits' range, where kernels are the same


def small(name: str) -> ArchSpec:
    """The smallest network of a family or variant that has each of its blocks."""
    if name in MASKS:
        return segmentation.FAMILIES[name].build(name, WIDTH, DEPTH, SIDE, CLASSES)
    base, variant = variants.split_variant(name)
    family = FAMILIES[base]
    # EfficientNet's dropout goes by its published names.
    known = base if family.coefficients else next(iter(family.published))
    return variant.apply(family.build(known, WIDTH, DEPTH, SIDE, CLASSES))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS_OF_FAMILIES, *VARIANTS, *MASKS])
def test_int8_and_float_agree_in_every_runtime(name):
    missing = {name: verify.RUNTIMES[name].missing() for name in RUNTIMES}
    for runtime, reason in missing.items():
        if reason:
            warnings.warn(f"{runtime} is not tested: {reason}", stacklevel=1)
    spec = small(name)
    images = np.floor(noise(spec) * 128) / 128  # pixels, which is what MediaPipe takes
    model = build(spec, seed=0)
    give_live_activations(model)
    normalise(model, images)
    forms = [formats.FLOAT32, formats.INT8]
    if not missing["MediaPipe Tasks"]:
        forms.append(UINT8)
    contents = convert.to_tflite_formats(model, images, forms)
    keras.backend.clear_session()
    for form, content in zip(forms, contents, strict=True):
        check(content, form, images[:3], [name for name in RUNTIMES if not missing[name]])


def give_live_activations(model: keras.Model) -> None:
    """Untrained, a few ReLUs of a squeeze layer may never be positive; the export refuses that."""
    for layer in model.layers:
        if layer.name.endswith("_se_reduce"):
            layer.bias.assign(np.full(layer.bias.shape, 3, np.float32))


def check(content: bytes, form: formats.Format, images: np.ndarray, installed: list[str]) -> None:
    """Each runtime that takes the format agrees with the one whose arithmetic it has."""
    contents = inspect.read(content)
    if form == formats.INT8:
        inspect.check_full_int8(contents)
    answers: dict[str, isolated.Arrays] = {}
    for name in installed:
        if verify.unfit(name, contents):
            continue
        chosen = verify.RUNTIMES[name]
        answers[name] = measured(name, content, images)
        reference = answers.get(chosen.reference or "")
        compared = verify._comparison(answers[name], chosen, reference, contents)
        assert compared.get("agrees") is not False, (form.name, name, compared)
        if chosen.steps == 0 and compared["unit"] == "logits":
            limit = FLOAT_TOLERANCE * np.ptp(answers[verify.XNNPACK]["logits"])
            assert compared["difference"] <= limit, (form.name, name, compared)
    logits = answers[verify.XNNPACK]["logits"]
    assert np.isfinite(logits).all()
    assert len(np.unique(logits)) > 1


def measured(name: str, content: bytes, images: np.ndarray) -> isolated.Arrays:
    """As `verify.Runtime.run_images`, but in this process where the runtime runs in any."""
    chosen = verify.RUNTIMES[name]
    if isinstance(chosen, verify.Runtime):
        arguments = chosen.child_arguments(content, images, isolated.TIMEOUT_SECONDS)
        return verify._run_in_child({key: np.asarray(value) for key, value in arguments.items()})
    return chosen.run_images(content, images, isolated.TIMEOUT_SECONDS)
