"""Every kind of network and deployment variant, in int8 and in float, in the runtimes of devices.

Scaled down and untrained, with the statistics of noise: what is tested are operators and their
arithmetic, not accuracy. All runtimes share this process: the files are ours.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from networks import noise, normalise

from efficientnet_elite import models
from efficientnet_elite.export import convert, formats, inspect, verify
from efficientnet_elite.families import FAMILIES, variants

# A family of each kind: others have the same operators. (Untrained at this width MnasNet-A1 has a
# dead squeeze layer, which the export refuses.)
KINDS = (
    *("elite", "tinynet", "mobilenetv1", "mobilenetv2", "ecamobilenetv2"),
    *("mobilenetv3-small", "mobilenetv3-small-minimalistic", "mnasnet-b1", "ghostnet"),
    *("shufflenet-g3", "squeezenet-1.1", "peleenet", "espnetv2", "condensenet-cifar"),
    *("nasnet-a", "darts-v2", "proxylessnas-mobile", "fbnet-c"),
)
VARIANTS = ("elite-relu6", "elite-relu", "elite-hard_swish", "elite-nose", "elite-relu6-nose")
RUNTIMES = (verify.REFERENCE, verify.XNNPACK, "TFLM", "MediaPipe Tasks")
UINT8 = formats.Format("int8", "uint8")
SIDE = 32


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS, *VARIANTS])
def test_int8_and_float_agree_in_every_runtime(name):
    base, variant = variants.parse(name)
    spec = variant.apply(FAMILIES[base].build(base, 0.25, 0.2, SIDE, 5))
    images = noise(spec)
    model = models.build(spec)
    normalise(model, images)
    forms = [formats.FLOAT32, formats.INT8]
    if verify.RUNTIMES["MediaPipe Tasks"].missing() is None:
        forms.append(UINT8)  # it takes no int8
    for form, content in zip(forms, convert.to_tflite_formats(model, images, forms), strict=True):
        check(form, content, images)
    keras.backend.clear_session()


def check(form: formats.Format, content: bytes, images: np.ndarray) -> None:
    """Each runtime that is installed and takes the format, against whose kernels it shares."""
    if form == formats.INT8:
        inspect.check_full_int8(inspect.read(content))
    (image,) = inspect.read(content).inputs
    answers = {}
    for name in RUNTIMES:
        chosen = verify.RUNTIMES[name]
        if chosen.missing() or (chosen.takes and image.type not in chosen.takes):
            continue
        question = {"model": np.frombuffer(content, np.uint8), "images": images[:3]}
        answers[name] = verify._measure({**question, "runtime": np.array(name)})
        compared = verify._comparison(answers[name], chosen, answers.get(chosen.reference))
        assert compared.get("agrees") is not False, (form.name, name, compared)
    assert np.isfinite(answers[verify.XNNPACK]["logits"]).all()


def test_every_family_is_of_a_kind_that_is_tested():
    def module(name: str) -> str:
        return FAMILIES[name].build.__module__

    assert {module(name) for name in FAMILIES} == {module(name) for name in KINDS}
