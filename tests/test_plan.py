"""`--config=auto`: each choice is a pure function; facts are gathered without loading images."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from efficientnet_elite import cli
from efficientnet_elite.cli import search
from efficientnet_elite.config import DataConfig, Limits, SearchConfig
from efficientnet_elite.data import sides
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import arguments, automatic, plan, request, starts
from efficientnet_elite.job.recipes import FINE_TUNING_STEPS, FROM_SCRATCH, FROM_SCRATCH_STEPS
from efficientnet_elite.search.budget import Pace, TrainingCost, forecast
from efficientnet_elite.search.schedule import Schedule

SCHEDULE = Schedule(round_epochs=3, epochs=60, rule="race", first_elimination=6)
DOCUMENT = Path(__file__).parents[1] / "docs" / "auto.md"


def photographs(folder: Path, classes: int = 2, each: int = 4, size=(50, 70)) -> Path:
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            colour = (40 * number, 100 * label, 7)
            Image.new("RGB", size, colour).save(folder / f"class{label}" / f"{number}.png")
    return folder


# -- the choices -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "expected"),
    [(None, 96), (500, 96), (100, 96), (95, 88), (64, 64), (28, 32), (1, 32)],
)
def test_the_input_is_what_the_images_have(side, expected):
    assert plan.base_resolution(side, lambda tried: 5, 4) == expected


@pytest.mark.parametrize(
    ("side", "most", "expected"), [(500, 96, 96), (500, 79, 64), (70, 50, 48), (500, 5, 96)]
)
def test_limits_ask_for_a_smaller_input(side, most, expected):
    """Where none is small enough it stays, and the search says that nothing fits."""
    assert plan.base_resolution(side, lambda tried: 4 * (tried <= most), 4) == expected


def test_the_side_with_most_networks_where_none_has_enough():
    counts = {96: 0, 80: 1, 64: 2, 48: 2, 32: 1}
    assert plan.base_resolution(None, lambda side: counts[side], 4) == 64
    assert plan.base_resolution(None, lambda side: counts[side], 1) == 80


@given(st.integers(1, 10**7))
def test_a_set_fills_batches(images):
    size = plan.batch_size(images)
    assert size in (4, 8, 16, 32)
    assert size == 4 or images >= 4 * size
    assert size == 32 or images < 8 * size


def test_steps_count_rather_than_epochs():
    assert plan.steps(320, 32, pretrained=True) == FINE_TUNING_STEPS
    assert plan.steps(32000, 32, pretrained=True) == 10 * 1000
    assert plan.steps(320, 32, pretrained=False) == FROM_SCRATCH_STEPS
    assert plan.steps(32000, 32, pretrained=False) == 30 * 1000


@pytest.mark.parametrize(
    ("cores", "gigabytes", "gpus", "expected"),
    [(2, 8.0, 0, 2), (1, 64.0, 0, None), (16, 8.0, 0, 4), (64, 256.0, 0, 8), (8, 64.0, 1, None)],
)
def test_workers_have_a_core_and_memory_each(cores, gigabytes, gpus, expected):
    assert plan.workers(cores, gigabytes, gpus) == expected


def test_workers_have_some_candidates_each():
    assert plan.workers(8, 64.0, 0, 9) == 3
    assert plan.workers(2, 64.0, 0, 9) == 2
    assert plan.workers(8, 64.0, 0, 5) is None


def test_the_network_is_the_largest():
    assert plan.network({"a": (3.0, 9.0), "b": (5.0, 1.0), "c": (5.0, 2.0)}) == "c"


def groups_of(costs: list[float]) -> dict[int, list[list[TrainingCost]]]:
    """Twelve candidates, in one to three groups."""
    all_costs = [TrainingCost(cost, 10.0) for cost in costs]
    return {n: [all_costs[i * 12 // n : (i + 1) * 12 // n] for i in range(n)] for n in (1, 2, 3)}


def test_a_race_is_as_large_as_the_budget():
    costs = groups_of([6.0] * 4 + [4.0] * 4 + [2.0] * 4)
    whole = plan.race(costs, SCHEDULE, float("inf"))
    assert (whole.groups, whole.candidates, whole.epochs) == (3, 12, 60)
    assert plan.race(costs, SCHEDULE, 1000.0).candidates < 12
    alone = plan.race(costs, SCHEDULE, 400.0)
    assert (alone.groups, alone.candidates, alone.epochs) == (1, 1, 60)
    shorter = plan.race(costs, SCHEDULE, 100.0)
    assert (shorter.groups, shorter.candidates, shorter.epochs) == (1, 1, 15)
    assert plan.race(costs, SCHEDULE, 1.0).epochs == 1
    assert plan.race(costs, SCHEDULE, 800.0, workers=2).candidates > alone.candidates


@given(st.lists(st.floats(0.1, 100.0), min_size=12, max_size=12), st.floats(10.0, 1e5))
def test_a_race_keeps_its_budget(costs, budget):
    options = groups_of(sorted(costs, reverse=True))
    race = plan.race(options, SCHEDULE, budget)
    dearest = [members[: race.candidates // race.groups] for members in options[race.groups]]
    shortest = replace(SCHEDULE, round_epochs=2)
    if race.epochs == SCHEDULE.epochs:
        assert forecast(dearest, shortest).most <= budget
    else:
        assert (race.groups, race.candidates) == (1, 1)
        assert race.epochs == 1 or 10.0 + race.epochs * max(costs) <= budget


def test_what_the_user_gave_bounds_the_races():
    assert plan.races(groups=5) == [(5, 4), (5, 3), (5, 2), (5, 1)]
    assert plan.races(candidates=10) == [(3, 4), (2, 5), (1, 10)]
    assert plan.races(groups=2, candidates=9) == [(2, 5)]
    costs = groups_of([5.0] * 12)
    race = plan.race(costs, SCHEDULE, 1e6, considered=plan.races(groups=2))
    assert (race.groups, race.candidates) == (2, 8)


# -- their application -----------------------------------------------------------------------------


def test_sides_are_read_without_decoding(tmp_path, monkeypatch):
    root = photographs(tmp_path / "photos")
    (root / "class0" / "note.txt").write_text("no image")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert sides.of_data_set(DataConfig(dataset=f"folder:{root}")) == 50
    assert sides.of_data_set(DataConfig(dataset="digits")) is None
    with pytest.raises(UserError, match="does not exist"):
        sides.of_data_set(DataConfig(dataset=f"folder:{tmp_path / 'none'}"))


def asked(folder: Path, **options) -> request.Request:
    return request.search_request({"dataset": f"folder:{folder}", **options})


def test_the_default_depends_on_the_data_set(tmp_path):
    mine = asked(tmp_path)
    assert mine.automatic and mine.config.pool == "elite-relu6-nose"
    assert request.search_request({"dataset": "tfds:cifar10"}).automatic
    digits = request.search_request({})
    assert not digits.automatic and digits.config.base_resolution == 32
    assert not request.search_request({"dataset": f"folder:{tmp_path}"}, "quick").automatic
    file = tmp_path / "mine.toml"
    file.write_text('base = "auto"\ngroups = 2\n')
    of_file = request.search_request({}, file)
    assert of_file.automatic and "groups" in of_file.given


def test_images_and_limits_give_the_input(tmp_path):
    mine = asked(photographs(tmp_path / "photos", size=(90, 70)))
    assert automatic.sized(mine.config, mine.given, 4).base_resolution == 64
    small = replace(mine.config, limits=Limits(arena_kb=100))
    side = automatic.sized(small, mine.given, 4).base_resolution
    assert side < 64
    given_side = asked(tmp_path / "photos", base_resolution=80)
    assert automatic.sized(given_side.config, given_side.given, 4).base_resolution == 80
    measured = replace(mine.config, limits=Limits(latency_ms=0.001))  # measured later
    assert automatic.sized(measured, mine.given, 4).base_resolution == 64


class Images:
    """What is asked of a data set."""

    num_classes = 5
    sizes = {"train": 320}  # noqa: RUF012


def fitted(config: SearchConfig, given_names=frozenset(), epoch=0.0, per_mac=1e-7, build=10.0):
    return automatic.fitted_search(
        config, given_names, Images(), measure=pytest.fail,  # type: ignore[arg-type]
        pace_of=lambda config: Pace(epoch, per_mac, build),
    )  # fmt: skip


def test_a_search_fits_images_and_machine(tmp_path):
    mine = asked(tmp_path, pretrained="none")
    begun = starts.begun(mine.config, mine.given, starts.kinds_of_pool(mine.config.pool))
    fast = fitted(begun, mine.given, per_mac=1e-9)
    assert (fast.groups, fast.max_candidates) == (3, 12)
    assert fast.train.epochs == 120 and fast.train.batch_size == 32
    assert fast.train.warmup_epochs == 6 and fast.first_elimination == 12
    assert fast.train.optimizer == "adamw"
    slow = fitted(begun, mine.given, per_mac=1e-7)
    assert 1 <= slow.max_candidates < 12
    very_slow = fitted(begun, mine.given, per_mac=1e-6)
    assert very_slow.max_candidates == 1 and very_slow.train.epochs < 120
    assert very_slow.round_epochs <= very_slow.train.epochs


def test_what_the_user_gives_stays(tmp_path):
    mine = asked(tmp_path, pretrained="none", epochs=7, batch_size=8, groups=2, max_candidates=5,
                 learning_rate=0.5)  # fmt: skip
    begun = starts.begun(mine.config, mine.given, starts.kinds_of_pool(mine.config.pool))
    found = fitted(begun, mine.given, per_mac=1e-9)
    assert (found.train.epochs, found.train.batch_size) == (7, 8)
    assert (found.groups, found.max_candidates) == (2, 5)
    assert found.train.learning_rate == 0.5
    assert found.train.ema == FROM_SCRATCH["train.ema"]
    no_budget = asked(tmp_path, budget_epochs=100)
    assert no_budget.config.budget_hours is None


def test_another_optimizer_has_its_own_rate(tmp_path):
    mine = asked(tmp_path, optimizer="rmsprop").config.train
    default = SearchConfig().train
    assert (mine.learning_rate, mine.weight_decay) == (default.learning_rate, default.weight_decay)
    assert mine.ema == FROM_SCRATCH["train.ema"]


def test_a_continued_search_keeps_what_was_chosen(tmp_path):
    mine = asked(tmp_path, pretrained="none", seed=3)
    kinds = starts.kinds_of_pool(mine.config.pool)
    recorded = fitted(starts.begun(mine.config, mine.given, kinds), mine.given, per_mac=1e-7)
    again = starts.continued(
        mine.config, mine.given, recorded, kinds, tmp_path, automatic=mine.automatic
    )
    assert again == recorded
    other = asked(tmp_path, pretrained="none", seed=4)
    again = starts.continued(other.config, other.given, recorded, kinds, tmp_path, automatic=True)
    assert again == replace(recorded, seed=4, data=replace(recorded.data, seed=4))


def test_random_weights_get_light_augmentation_unless_told_otherwise(tmp_path):
    kinds = starts.kinds_of_pool("elite")

    def begun(kinds=kinds, **options):
        mine = asked(tmp_path, **options)
        return starts.begun(mine.config, mine.given, kinds).data.augment

    assert begun(pretrained="none") == "light"
    assert begun(pretrained="lite0") is None
    assert begun(pretrained="none", augment="none") is None
    assert begun(pretrained="lite0", augment="light") == "light"
    assert begun(starts.kinds_of_pool("segmentation"), pretrained="none") is None


def test_minutes_are_hours(tmp_path):
    assert asked(tmp_path).config.budget_hours == 0.5
    assert asked(tmp_path, budget_minutes=15).config.budget_hours == 0.25
    with pytest.raises(UserError, match="is given twice"):
        asked(tmp_path, budget_minutes=15, budget_hours=1.0)


def test_a_network_within_the_limits():
    config = replace(SearchConfig(pool="elite-relu6-nose"), base_resolution=96)

    def best(config):
        return automatic.best_network(config, 5, pytest.fail)

    pretrained = replace(config, train=replace(config.train, pretrained="lite0"))
    assert best(pretrained) == "elite0-relu6-nose"
    assert best(config) == "elite5-relu6-nose"
    assert best(replace(config, limits=Limits(size_kb=5000))) == "elite0-relu6-nose"
    assert best(replace(config, limits=Limits(size_kb=800))) == "elite9-relu6-nose"
    with pytest.raises(UserError, match="no candidate is within the limits"):
        best(replace(config, limits=Limits(size_kb=8)))


# -- what is printed and documented ----------------------------------------------------------------


def test_every_line_of_the_plan_names_its_flags(tmp_path):
    config = asked(tmp_path).config
    lines = plan.lines(
        config,
        images=320,
        classes=5,
        networks=plan.networks_of_search(config),
        last=plan.time_of_search(config, 2),
    )
    assert len(lines) == 5
    known = {*search.FLAGS}
    for line in lines:
        flags = line.rpartition("(")[2].rstrip(")").split(", ")
        assert flags and all(flag.removeprefix("--") in known for flag in flags), line
    assert "steps of 32 images" in lines[3]
    assert "at most 30 min 00 s, 2 workers" in lines[4]


def test_the_document_gives_every_reason():
    text = " ".join(DOCUMENT.read_text().split())
    for choice in plan.CHOICES.values():
        assert choice.description in text and choice.reason in text
        assert all(f"`--{flag}`" in text for flag in choice.flags)


# -- arguments and work directories ----------------------------------------------------------------


def test_arguments_are_networks_and_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos")
    assert arguments.split(["photos"], None) == ((), "folder:photos")
    assert arguments.split(["elite9@96", "./photos"], None) == (("elite9@96",), "folder:./photos")
    assert arguments.split(["tfds:x", "elite9"], None) == (("elite9",), "tfds:x")
    assert arguments.split(["photos"], "digits") == (("photos",), "digits")
    assert arguments.split(["resnet50"], None) == (("resnet50",), None)
    with pytest.raises(UserError, match="name a single data set"):
        arguments.split(["photos", "digits"], None)
    with pytest.raises(UserError, match=r"a/b does not exist: give a folder"):
        arguments.split(["a/b"], None)
    (tmp_path / "elite9").mkdir()
    with pytest.raises(UserError, match=r"elite9 is a network and a folder: write \./elite9"):
        arguments.split(["elite9"], None)
    (tmp_path / "digits").mkdir()
    with pytest.raises(UserError, match=r"digits is a data set and a folder"):
        arguments.split(["digits"], None)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"notes.txt is a file: give a folder"):
        arguments.split(["notes.txt"], None)


def test_a_work_directory_a_request_and_day(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monday, tuesday = date(2030, 1, 7), date(2030, 1, 8)

    def made(command="search", today=monday, **options):
        options = {"dataset": "folder:my photos/", "seed": None, **options}
        return str(arguments.default_workdir(command, (), options, today=today))

    first = made()
    assert first == "runs/my_photos-2030-01-07"
    assert made() == made(dataset=f"folder:{tmp_path}/my photos") == first
    assert made(seed=1) == "runs/my_photos-2030-01-07-2"
    assert made("train") == "runs/my_photos-2030-01-07-3"
    assert made(seed=1) == "runs/my_photos-2030-01-07-2"
    assert made(today=tuesday) == "runs/my_photos-2030-01-08"
    assert made(dataset="tfds:a/b:1.0").startswith("runs/b_1.0-2030")
    assert made(dataset=None).startswith("runs/digits-2030")
    held = json.loads(Path(first, "request.json").read_text())
    assert held["options"]["dataset"] == f"folder:{tmp_path / 'my photos'}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["search", "nowhere"], "nowhere does not exist: give a folder that contains one folder"),
        (["search", "digits", "more"], "unexpected argument 'more'"),
        (["search", "digits", "--dataset=digits"], "unexpected argument 'digits'"),
        (["train"], "or a folder of photographs"),
        (["train", "elite9", "--max_size_kb=9"], "--max_size_kb chooses a network"),
    ],
)
def test_wrong_commands_leave_nothing_behind(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
