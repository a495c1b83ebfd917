"""`elite replay`: rules on learning curves, and the audit of a ledger."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.benchmarks.studies import curves as invented
from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import replay
from efficientnet_elite.search.audit import Audit, audit
from efficientnet_elite.search.driver import drive
from efficientnet_elite.search.ledger import FILE_NAME, Epoch, Ledger
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.replay import Curve, GroupResult
from efficientnet_elite.search.rules import RULES
from efficientnet_elite.search.summary import standings
from tests.support.command import elite
from tests.support.invented import Invented, ledger_of

HEADER = "model,epoch,validation_accuracy"


def text(curves, header=HEADER):
    rows = [
        f"{name},{epoch},{accuracy}"
        for name, accuracies in curves.items()
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    return "\n".join([header, *rows]) + "\n"


def read(content):
    return replay.read_curves(io.StringIO(content), "file.csv")


def invent(seed, *, models, epochs):
    return invented.invented_curves(
        "cosine",
        models=models,
        epochs=epochs,
        seed=seed,
        spread=2.5,
        noise=1,
        crossing=1,
        loss_tells=0.9,
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A CSV file of 12 invented networks, 40 epochs each."""
    path = tmp_path_factory.mktemp("curves") / "pool.csv"
    accuracies, losses = invent(1, models=12, epochs=40)
    with path.open("w") as file:
        print(HEADER + ",train_loss,params_m", file=file)
        for model, (own, told) in enumerate(zip(accuracies, losses, strict=True)):
            for epoch, (accuracy, loss) in enumerate(zip(own, told, strict=True), start=1):
                print(f"m{model},{epoch},{accuracy:.2f},{loss:.4f},1.5", file=file)
    return path


# -- reading -------------------------------------------------------------------------------------


def test_columns_by_name_rows_in_any_order():
    (curve,) = read("epoch,extra,validation_accuracy,model\n2,x,60.5,a\n1,y,50,a\n")
    assert curve == Curve("a", (50.0, 60.5), None)


def test_shares_become_points_and_percentages_stay():
    assert read(text({"a": [0.5, 1.0]}))[0].accuracies == (50.0, 100.0)
    assert read(text({"a": [0.5, 1.1]}))[0].accuracies == (0.5, 1.1)


def test_losses_are_used_where_they_are_complete():
    rows = "a,1,50,3.5\na,2,60,2.5\n"
    assert read(f"{HEADER},train_loss\n{rows}")[0].losses == (3.5, 2.5)
    assert read(f"{HEADER},train_loss\n{rows}b,1,50,\nb,2,60,1\n")[0].losses is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no column 'model'"),
        ("model,epoch\na,1\n", "names no column 'validation_accuracy'"),
        (f"{HEADER}\n", "no curve in it"),
        (f"{HEADER}\na,1,good\n", "line 2: validation_accuracy 'good' is no finite number"),
        (f"{HEADER}\na,1,nan\n", "line 2: validation_accuracy 'nan' is no finite number"),
        (f"{HEADER}\na,1\n", "line 2: validation_accuracy '' is no finite number"),
        (f"{HEADER}\na,1.5,50\n", "line 2: epoch '1.5' is no whole number"),
        (f"{HEADER}\na,0,50\n", "line 2: epoch '0' is no whole number"),
        (f"{HEADER}\na,1,50\na,3,50\n", "epoch 2 of a is missing"),
        (f"{HEADER}\na,1,50\na,1,60\n", "line 3: epoch 1 of a is there already"),
        (f"{HEADER},train_loss\na,1,50,inf\n", "line 2: train_loss 'inf' is no finite number"),
    ],
)
def test_files_that_cannot_be_read(content, message):
    with pytest.raises(UserError, match=message) as error:
        read(content)
    assert "\n" not in str(error.value)


def test_curves_of_different_lengths_are_cut_short_or_left_out():
    curves = read(text({"a": [10, 20, 30], "b": [10, 20]}))
    with pytest.raises(UserError, match="b has 2 epochs, a has 3: leave models out with --exclude"):
        replay.aligned(curves)
    with pytest.raises(UserError, match="epochs=3: b has 2"):
        replay.aligned(curves, 3)
    assert [curve.accuracies for curve in replay.aligned(curves, 2)] == [(10, 20), (10, 20)]
    assert replay.aligned(curves[:1]) == curves[:1]


# -- measuring -----------------------------------------------------------------------------------


def test_a_group_by_hand():
    """Halved after epochs 1 and 2; the last epoch's accuracy misleads, the best does not."""
    group = read(
        text({"a": [10, 20, 90, 90], "b": [40, 30, 80, 80], "c": [30, 35, 70, 70], "d": [5] * 4})
    )
    found = replay.player("last", 1)(group)
    assert found == GroupResult(
        "c", {"a": 1, "d": 1, "b": 2, "c": 4}, crowned=2, eliminations=2, close=0
    )
    result = replay.play_all("last", replay.player("last", 1), [group, group])
    assert (result.regret.mean, result.regret.error, result.near.mean) == (20, 0, 0)
    assert (result.search_epochs.mean, result.total_epochs.mean) == (1 + 1 + 2 + 2, 8)
    assert replay.player("best", 1)(group).chosen == "b"


def test_agreement_by_hand():
    """Of three rounds the averages rank right in one, the latest accuracies in two."""
    group = read(text({"a": [10, 30, 40], "b": [20, 20.5, 30]}))
    assert replay.agreement([group], 1) == pytest.approx((1 / 3, 2 / 3))


def test_groups_are_drawn_without_repetition_and_by_seed(pool):
    curves = read(pool.read_text())
    groups = replay.draw(curves, 20, 5, seed=3)
    assert groups == replay.draw(curves, 20, 5, seed=3) != replay.draw(curves, 20, 5, seed=4)
    assert {len({curve.model for curve in group}) for group in groups} == {5}
    with pytest.raises(UserError, match="group_size=13: there are 12 models"):
        replay.draw(curves, 1, 13, seed=0)


def test_the_future_is_not_looked_at(pool):
    """Whatever happens after the last cut, each rule crowns the same model."""
    curves = read(pool.read_text())
    group = replay.draw(curves, 1, 8, seed=0)[0]
    upside_down = [
        Curve(c.model, c.accuracies[:32] + tuple(100 - a for a in c.accuracies[32:]), c.losses)
        for c in group
    ]
    for rule in RULES:
        play = replay.player(rule)
        assert play(group) == play(upside_down)


def test_the_recommended_rule_finds_no_less_for_fewer_epochs():
    groups = []
    for seed in range(5):
        accuracies, losses = invent(seed, models=24, epochs=200)
        curves = [
            Curve(f"m{i}", tuple(own), tuple(told))
            for i, (own, told) in enumerate(zip(accuracies.tolist(), losses.tolist(), strict=True))
        ]
        groups += replay.draw(curves, 60, 8, seed)
    paper, race = (
        replay.play_all(name, replay.player(name), groups) for name in ("average", "recommended")
    )
    assert race.total_epochs.mean < 0.85 * paper.total_epochs.mean
    assert race.regret.mean < paper.regret.mean


# -- the command ---------------------------------------------------------------------------------


def test_json_csv_and_table_tell_the_same(pool):
    flags = (f"--curves={pool}", "--rules=average,recommended", "--groups=30", "--seed=0,1")
    done = elite("replay", *flags, "--format=json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["rule"] for row in rows] == ["average", "recommended"]
    # 40 epochs: eight to the 10th, four to the 20th, two to the 30th, one to the end.
    assert (rows[0]["search_epochs"], rows[0]["total_epochs"]) == (140, 150)
    assert rows[0]["regret"] >= 0 and 0 <= rows[0]["within_0_3"] <= 1
    assert rows[0]["P_avg"] == rows[1]["P_avg"] and rows[0]["regret_se"] > 0
    table = elite("replay", *flags).stdout
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["average", "recommended"]
    assert f"{rows[1]['regret']:.2f} ± {rows[1]['regret_se']:.2f}" in table
    found = list(csv.DictReader(io.StringIO(elite("replay", *flags, "--format=csv").stdout)))
    assert [float(row["regret"]) for row in found] == [row["regret"] for row in rows]


def test_one_group_has_no_standard_error(pool):
    done = elite("replay", f"--curves={pool}", "--groups=1", "--format=json")
    assert [row["regret_se"] for row in json.loads(done.stdout)] == [None] * len(RULES)


def test_models_epochs_and_losses_can_be_left_out(pool):
    flags = (f"--curves={pool}", "--rules=race", "--groups=5", "--group_size=2", "--format=json")

    def cost(*more):
        done = elite("replay", *flags, *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)[0]["total_epochs"]

    assert cost() >= 40 + 4
    assert cost("--notrain_loss") >= 40 + 7
    assert cost("--epochs=20") <= 20 + 10
    done = elite("replay", *flags, "--exclude=m1*,m0,m2,m3,m4,m5,m6,m7,m8")
    assert "group_size=2: there are 1 models" in done.stderr
    assert "leaves no model" in elite("replay", *flags, "--exclude=*").stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give either --curves=FILE.csv or --workdir=DIR"),
        (("--workdir=.", "--format=json"), "--format is for --curves"),
        (("--curves=nowhere.csv",), "nowhere.csv: No such file or directory"),
        (("--curves={pool}", "--rules=fastest"), "no rule 'fastest'"),
        (("--curves={pool}", "--seed=one"), "seed=one: use whole numbers"),
        (("--curves={pool}", "--seed="), "--seed= names none"),
        (("--curves={pool}", "--rules="), "--rules= names none"),
        (("--curves={pool}", "--group_size=13"), "group_size=13: there are 12 models"),
        (("--curves={pool}", "--round_epochs=41"), "round_epochs=41: the curves have 40 epochs"),
        (("--curves={pool}", "--epochs=41"), "epochs=41: m0 has 40"),
        (("--workdir=nowhere",), "no search in nowhere"),
    ],
)
def test_errors_are_one_line(tmp_path, pool, flags, message):
    done = elite("replay", *(flag.format(pool=pool) for flag in flags), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00model" * 50)
    done = elite("replay", f"--curves={tmp_path}/binary.csv")
    assert done.returncode == 1
    assert "is no CSV file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_imports_neither_tensorflow_nor_the_peers(pool):
    program = (
        "import sys; from efficientnet_elite.cli import main; main(['replay', '--help']);"
        f"main(['replay', '--curves={pool}', '--groups=2']);"
        "sys.exit(bool({'tensorflow', 'keras', 'ray', 'optuna'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--round_epochs" in done.stdout


# -- peers ---------------------------------------------------------------------------------------


def check(name, play, group):
    found = play(group)
    final = {curve.model: curve.accuracies[-1] for curve in group}
    longest = len(group[0].accuracies)
    assert found.chosen in final, name
    assert found.epochs[found.chosen] == longest
    assert found.epochs.keys() == final.keys()
    assert all(1 <= epochs <= longest for epochs in found.epochs.values())
    return found


def test_ray_tune_plays(pool):
    pytest.importorskip("ray.tune")
    from efficientnet_elite.search import peers

    group = replay.draw(read(pool.read_text()), 1, 8, seed=0)[0]
    played = peers.peer_players()
    halving = check("ASHA", played["Ray Tune ASHA 10/2"], group)
    assert min(halving.epochs.values()) == 10  # the first rung
    early = check("ASHA", played["Ray Tune ASHA 1/4"], group)
    assert sum(early.epochs.values()) < sum(halving.epochs.values()) < 8 * 40


def test_optuna_plays(pool):
    pytest.importorskip("optuna")
    from efficientnet_elite.search import peers

    group = replay.draw(read(pool.read_text()), 1, 8, seed=0)[0]
    played = {name: play for name, play in peers.peer_players().items() if "Optuna" in name}
    assert len(played) == 3
    for name, play in played.items():
        found = check(name, play, group)
        assert min(found.epochs.values()) >= 10
        assert found == play(group)  # nothing is left over from the group before


def test_peers_that_are_not_installed(monkeypatch):
    from efficientnet_elite.search import peers

    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'efficientnet-elite\[peers\]'"):
        peers.peer_players()


# -- invented curves -----------------------------------------------------------------------------


@pytest.mark.parametrize("losses", ["--train_loss", "--notrain_loss"])
@pytest.mark.parametrize("kind", invented.KINDS)
def test_invented_curves_are_what_replay_reads(capsys, kind, losses):
    arguments = ["curves", "--models=3", "--epochs=9", f"--kind={kind}", losses]
    assert command.parse(invented.FLAGS, arguments) == []
    invented.main()
    curves = read(capsys.readouterr().out)
    assert [len(curve.accuracies) for curve in curves] == [9] * 3
    assert (curves[0].losses is None) == (losses == "--notrain_loss")


# -- the audit -----------------------------------------------------------------------------------


def test_a_search_agrees_with_its_epochs_until_somebody_changes_them(searched, tmp_path):
    workdir = shutil.copytree(searched, tmp_path / "run")
    done = elite("replay", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.startswith("all ")
    with Ledger(workdir) as ledger:
        decision = next(d for own in ledger.decisions().values() for d in own)
    database = sqlite3.connect(workdir / FILE_NAME)
    with database:
        database.execute(
            "UPDATE epochs SET validation_accuracy = validation_accuracy / 2 WHERE candidate = ?",
            (decision.candidate,),
        )
    database.close()
    done = elite("replay", f"--workdir={workdir}")
    assert done.returncode == 1
    assert "decisions on record differ" in done.stdout
    assert decision.candidate in done.stdout


def test_an_audit_beside_a_running_search_is_of_one_moment(tmp_path, monkeypatch):
    config = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=6))
    with ledger_of(tmp_path, {0: "ab"}, config) as ledger, Ledger(tmp_path) as reader:

        def read_meanwhile():
            found = Ledger.epochs(reader)  # of what there is at first
            for name in ("0a", "0b"):
                for epoch in (1, 2):
                    ledger.record_epoch(Epoch(name, epoch, 0.5, 1.0, 1.0))
            ledger.record_decisions(0, standings(ledger)[0].decisions)
            return found

        monkeypatch.setattr(reader, "epochs", read_meanwhile)
        assert audit(read_record(reader)) == Audit(0, 1, None)
        monkeypatch.undo()
        assert audit(read_record(reader)) == Audit(2, 1, None)


def test_scores_of_older_versions_may_differ_in_their_last_bit(tmp_path):
    config = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=6))
    with ledger_of(tmp_path, {0: "ab"}, config) as ledger:
        for name, accuracy in (("0a", 0.5), ("0b", 0.3)):
            for epoch in (1, 2):
                ledger.record_epoch(Epoch(name, epoch, accuracy, 1.0, 1.0))
        first, second = standings(ledger)[0].decisions
        older = dataclasses.replace(first, score=math.nextafter(first.score, 1))
        ledger.record_decisions(0, [older, second])
        assert audit(read_record(ledger)).difference is None


def test_a_decision_that_nothing_supports(searched, tmp_path):
    workdir = shutil.copytree(searched, tmp_path / "run")
    with Ledger(workdir) as ledger:
        group, (decision, *_) = next(iter(ledger.decisions().items()))
        extra = next(d for d in ledger.decisions()[group] if not d.survives)
        ledger.record_decisions(group, [type(extra)(99, 3, extra.candidate, 0.5, 1, survives=True)])
        found = audit(read_record(ledger))
    assert decision.round == 1
    assert "round 99" in found.difference and found.difference.endswith("the epochs give nothing")


def test_a_continued_search_reads_its_ledger_once(tmp_path, monkeypatch):
    config = SearchConfig(round_epochs=2, rule="average", train=TrainConfig(epochs=6))
    reads = Counter()
    for name in ("epochs", "int8", "failures", "halts", "decisions", "repeats"):
        original = getattr(Ledger, name)

        def counted(ledger, name=name, original=original):
            reads[name] += 1
            return original(ledger)

        monkeypatch.setattr(Ledger, name, counted)

    class Stopped(Invented):
        def wait(self, on_event):
            raise KeyboardInterrupt

    with ledger_of(tmp_path, {0: "ab"}, config) as ledger:
        for name in ("0a", "0b"):
            ledger.record_epoch(Epoch(name, 1, 0.5, 1.0, 1.0))
        with pytest.raises(KeyboardInterrupt):
            drive(ledger, Stopped(), tmp_path, progress=False)
    assert set(reads.values()) == {1}
