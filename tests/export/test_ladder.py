"""The order in which remedies for int8 are tried, and exports that need them."""

from __future__ import annotations

import json
import shutil
from itertools import repeat
from pathlib import Path

import keras
import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import champion, formats, inspect
from efficientnet_elite.export.int8 import calibration, choices, convert, ladder, remedies
from efficientnet_elite.export.packages import packages
from efficientnet_elite.export.runtimes import runtime
from efficientnet_elite.export.workdir import export_networks
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec
from tests.support import networks
from tests.support.uneven import SIDE, logits, spec, wide

SCORES = {"plain": 0.5, "a1": 0.4, "a2": 0.6, "b1": 0.6, "b2": 0.9, "c1": 0.95}


def invented_remedies(*names: str, seen: list[str]):
    """Invented remedies of two trials each; `seen` gets what each started from."""

    def remedy(name: str):
        def trials(best: str):
            seen.append(best)
            return [(f"{name}{i}", f"{name}{i}") for i in (1, 2) if f"{name}{i}" in SCORES]

        return name, trials

    return [remedy(name) for name in names]


@pytest.mark.parametrize(
    ("needed", "tried", "best"),
    [
        (0.5, ["plain"], "plain"),
        (0.6, ["plain", "a1", "a2"], "a2"),
        (0.9, ["plain", "a1", "a2", "b1", "b2"], "b2"),
        (0.95, ["plain", "a1", "a2", "b1", "b2", "c1"], "c1"),
    ],
)
def test_trials_end_at_the_first_that_is_accurate_enough(needed, tried, best):
    seen: list[str] = []
    result = ladder.try_remedies(
        "plain", invented_remedies("a", "b", "c", seen=seen), SCORES.__getitem__, needed
    )
    assert [attempt.trial for attempt in result.attempts] == tried
    assert (result.best, result.accuracy, result.accurate_enough) == (best, SCORES[best], True)
    assert seen == ["plain", "a2", "b2"][: len(seen)]  # each builds on the best so far


def test_each_trial_records_what_it_gained():
    result = ladder.try_remedies(
        "plain", invented_remedies("a", "b", seen=[]), SCORES.__getitem__, 0.99
    )
    assert not result.accurate_enough
    assert result.best == "b2"
    gained = [attempt.gained for attempt in result.attempts]
    assert gained == [None, *(pytest.approx(value) for value in (-10, 10, 0, 30))]
    line = ladder.summary(result.attempts)
    assert line == "plain 50.00%, a2 60.00% (+10.00 points), b2 90.00% (+30.00 points)"


def test_a_remedy_gains_over_the_best_of_the_remedies_before_it():
    scores = {"plain": 0.5, "x1": 0.6, "x2": 0.61, "y1": 0.5, "y2": 0.62}
    remedies_ = [(name, lambda best, n=name: [(f"{n}{i}",) * 2 for i in (1, 2)]) for name in "xy"]
    result = ladder.try_remedies("plain", remedies_, scores.__getitem__, 0.9)
    line = ladder.summary(result.attempts)
    assert line == "plain 50.00%, x2 61.00% (+11.00 points), y2 62.00% (+1.00 points)"


def test_what_cannot_be_made_is_a_line_and_not_the_end():
    def score(trial: str) -> float:
        if trial == "plain":
            raise UserError("a scale is degenerate")
        return SCORES[trial]

    def unsuitable(best: str):
        raise UserError("a layer is used twice")

    remedies_ = [("x", unsuitable), *invented_remedies("a", seen=(seen := []))]
    result = ladder.try_remedies("plain", remedies_, score, 0.6)
    assert result.best == "a2"
    assert seen == ["plain"]
    assert [attempt.fault for attempt in result.attempts] == [
        "a scale is degenerate",
        "a layer is used twice",
        None,
        None,
    ]
    assert "plain failed (a scale is degenerate)" in ladder.summary(result.attempts)


def test_unknown_remedies_are_refused_and_known_ones_ordered():
    assert remedies.check_names(["qat", "calibration"]) == ("calibration", "qat")
    with pytest.raises(UserError, match="no remedy 'magic': choose from calibration, equal"):
        remedies.check_names(["magic"])


# -- exports -------------------------------------------------------------------------------------


def teacher_labels(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Classes that the float network gets right, all of them."""
    return logits(model, images).argmax(-1)


def export(model: keras.Model, images: np.ndarray, out_dir, names, max_drop: float = 1.0):
    labelled = [(images, teacher_labels(model, images))]
    plan = remedies.RemedyPlan(tuple(names), lambda: labelled, lambda: (repeat(images), 3))
    return champion.export_model(
        model,
        name="net",
        out_dir=out_dir,
        labels=list("abcd"),
        calibration_images=images,
        test_batches=labelled,
        details={},
        max_accuracy_drop=max_drop,
        plan=plan,
        method="minmax",  # which leaves most to mend
    )


def varied(net: ArchSpec, count: int = 64) -> np.ndarray:
    """Images that differ more from each other than noise does."""
    random = np.random.default_rng(1)
    coarse = random.uniform(-1, 0.99, (count, 4, 4, 3))
    return np.kron(coarse, np.ones((1, SIDE // 4, SIDE // 4, 1))).astype(np.float32)


def blown_up() -> tuple[keras.Model, np.ndarray]:
    """A network that plain int8 destroys and equalisation repairs."""
    net = spec("relu6")
    model, images = build(net), varied(net)
    networks.normalise(model, images)
    scales = np.logspace(-1.5, 1.5, 5).astype(np.float32)
    for block in "ab":
        norm = model.get_layer(f"{block}_project_bn")
        norm.gamma.assign(norm.gamma * scales)
    for reader in ("b_expand_conv", "top_conv"):
        kernel = model.get_layer(reader).kernel
        kernel.assign(kernel / scales[:, None])
    return model, images


@pytest.mark.slow
def test_an_export_takes_the_cheapest_sufficient_remedy(tmp_path):
    model, images = blown_up()
    exported = export(model, images, tmp_path, choices.default_remedies(), max_drop=2.0)
    record = json.loads(exported.sidecar_path.read_text())["int8_remedies"]
    assert record["taken"] == record["attempts"][-1]["trial"] == "equalization: minmax"
    assert record["needed_accuracy"] == 0.98
    assert exported.remedy == record["taken"]
    tried = [attempt["remedy"] for attempt in record["attempts"]]
    assert tried == ["plain", "calibration", "calibration", "equalization"]
    accuracies = [attempt["accuracy"] for attempt in record["attempts"]]
    assert max(accuracies[:-1]) < 0.98 <= accuracies[-1] == exported.int8_accuracy
    inspect.check_pixel_classifier(inspect.read(exported.int8_path.read_bytes()), 4)
    # The float file is the network's own.
    np.testing.assert_allclose(
        runtime.run(exported.float_path, images), logits(model, images), rtol=1e-3, atol=1e-3
    )


@pytest.mark.slow
def test_an_export_without_need_of_remedies_is_the_ordinary_one(tmp_path):
    model, images = wide(spec("relu6"), 0.0)
    ordinary = champion.convert.to_tflite(model, calibration=images)
    # Of eight images of noise one may change its class.
    exported = export(model, images, tmp_path, choices.REMEDIES, max_drop=25)
    record = json.loads(exported.sidecar_path.read_text())["int8_remedies"]
    assert [attempt["trial"] for attempt in record["attempts"]] == ["plain"]
    assert exported.int8_path.read_bytes() == ordinary
    assert exported.remedy is None


@pytest.mark.slow
def test_an_export_that_nothing_saves_says_what_each_gained(tmp_path):
    model, images = blown_up()
    with pytest.raises(UserError) as error:
        export(model, images, tmp_path, ["calibration"])
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(
        "export of net failed: int8 classifies less than 99.00% of the validation"
    )
    assert "plain " in message and "calibration: " in message and "points)" in message
    assert message.endswith("not tried: equalization, mixed, qat (--remedies)")
    assert list(tmp_path.iterdir()) == []


def test_layers_in_float_are_marked_and_refused_for_microcontrollers(tmp_path):
    model, images = blown_up()
    exported = export(model, images, tmp_path, ["mixed"])
    record = json.loads(exported.sidecar_path.read_text())["int8_remedies"]
    assert record["taken"].startswith("mixed: ")
    assert record["float_layers"]
    assert exported.int8_accuracy >= 0.99
    with pytest.raises(UserError) as error:
        packages.of_file(exported.int8_path, "micro")
    assert f"{record['float_layers'][0]}" in str(error.value)
    assert "stayed in float to keep the accuracy, and a microcontroller needs" in str(error.value)
    assert not (exported.int8_path.parent / "micro").exists()


@pytest.mark.slow
def test_a_dead_squeeze_layer_is_repaired(tmp_path):
    net = spec("relu", squeeze=3)
    model, images = build(net), varied(net)
    networks.normalise(model, images)
    model.get_layer("a_se_reduce").bias.assign([-100.0] * 3)
    exported = export(model, images, tmp_path, ["calibration"], max_drop=5)
    attempts = json.loads(exported.sidecar_path.read_text())["int8_remedies"]["attempts"]
    assert "degenerate scale" in attempts[0]["fault"]
    assert attempts[-1]["trial"] == "calibration: 2 empty ranges widened"
    assert exported.int8_accuracy >= 0.95


@pytest.mark.slow
def test_fine_tuning_is_the_last_resort(tmp_path):
    model, images = blown_up()
    with pytest.raises(UserError, match=r"qat \d+\.\d+%"):
        export(model, images, tmp_path, ["qat"])


@pytest.mark.slow
def test_a_search_is_exported_by_its_validation_part(searched, tmp_path, capsys):
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    name = json.loads((workdir / "champions.json").read_text())[-1]["name"]
    impossible = {"max_accuracy_drop": -200.0, "remedies": ["qat", "calibration"]}
    with pytest.raises(
        UserError, match=f"^export of {name} failed: int8 classifies less than"
    ) as refused:
        export_networks(workdir, names=[name], **impossible)
    message = str(refused.value)
    assert all(word in message for word in ("plain ", "calibration: ", "qat "))
    assert message.endswith("not tried: equalization, mixed (--remedies)")
    assert not (workdir / "export").exists()

    command = ["export", f"--workdir={workdir}", name]
    assert cli.main([*command, "--max_accuracy_drop=100"]) == 0
    sidecar = json.loads((workdir / "export" / name / f"{name}.json").read_text())
    record = sidecar["int8_remedies"]
    assert [attempt["trial"] for attempt in record["attempts"]] == ["plain"]
    assert cli.main([*command, "--max_accuracy_drop=100", "--remedies=prayer"]) == 1
    assert "there is no remedy 'prayer'" in capsys.readouterr().err


# -- work done once ------------------------------------------------------------------------------


def counted(monkeypatch, module, name: str, calls: list[str]) -> None:
    """Notes each call of a module's function, which goes on to do what it does."""
    function = getattr(module, name)

    def noting(*arguments, **options):
        calls.append(name)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, noting)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Traces, conversions of a traced model, and passes over the representative data set."""
    found: list[str] = []
    counted(monkeypatch, convert, "_saved", found)
    counted(monkeypatch, convert, "_convert", found)
    counted(monkeypatch, calibration.layers, "activations", found)
    return found


ONCE = ["_convert", "_saved", "activations"]


@pytest.mark.slow
@pytest.mark.parametrize("method", calibration.METHODS)
def test_a_method_of_calibration_costs_no_second_conversion(tmp_path, calls, method):
    model, images = wide(spec("relu6"), 0.0)
    labelled = [(images, teacher_labels(model, images))]
    forms = (formats.Format("int8", "uint8"), formats.Format("int16x8"))
    champion.export_model(
        model,
        name="net",
        out_dir=tmp_path,
        labels=list("abcd"),
        calibration_images=images,
        test_batches=labelled,
        details={},
        formats=forms,
        method=method,
    )
    assert sorted(calls) == ONCE


@pytest.mark.slow
def test_remedies_that_leave_the_weights_cost_no_second_conversion(tmp_path, calls):
    model, images = blown_up()
    exported = export(model, images, tmp_path, ["calibration", "mixed"], max_drop=10.0)
    record = json.loads(exported.sidecar_path.read_text())["int8_remedies"]
    tried = {attempt["remedy"] for attempt in record["attempts"]}
    assert tried == {"plain", "calibration", "mixed"}
    assert sorted(calls) == ONCE


@pytest.mark.slow
def test_a_network_with_other_weights_is_converted_once_more(tmp_path, calls):
    model, images = blown_up()
    with pytest.raises(UserError, match="not tried"):  # all trials of both remedies are made
        export(model, images, tmp_path, ["calibration", "equalization"], max_drop=-1.0)
    assert sorted(calls) == sorted(ONCE * 2)
