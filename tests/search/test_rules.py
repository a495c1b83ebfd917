"""Rules of elimination on invented curves."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import replace
from math import inf
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_elite.cli import common, search
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.recipes import PRESETS
from efficientnet_elite.search import rules
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.outlook import least_epochs
from efficientnet_elite.search.rules import RULES, fluctuation
from efficientnet_elite.search.schedule import Schedule, make_schedule, with_rule_defaults
from efficientnet_elite.search.tournament import standing

RACE = RULES["race"]


def test_scores_by_hand():
    curves = [[0.1, 0.5, 0.3], [0.2, 0.2, 0.4]]
    assert RULES["average"].scores(curves, None) == pytest.approx([0.3, 0.8 / 3])
    assert RULES["last"].scores(curves, None) == [0.3, 0.4]
    assert RULES["best"].scores(curves, None) == [0.5, 0.4]
    assert RACE.scores(curves, None) == pytest.approx([0.5, 0.3])


def test_every_rule_is_found_by_its_name():
    assert [rules.find_rule(name).name for name in RULES] == list(RULES)
    assert rules.find_rule("recommended") is RULES[rules.RECOMMENDED]
    with pytest.raises(UserError, match=r"no rule 'fastest': use average, .* or recommended"):
        rules.find_rule("fastest")


def test_presets_use_the_recommended_rule_and_the_papers_its_own():
    assert SearchConfig().rule == rules.RECOMMENDED
    chosen = {name: preset().rule for name, preset in PRESETS.items()}
    assert chosen.pop("paper") == "average"
    assert set(chosen.values()) == {rules.RECOMMENDED}


# -- noise ---------------------------------------------------------------------------------------


def test_fluctuation_is_the_deviation_of_an_epoch():
    noise = random.Random(0)
    curves = [[0.01 * e + noise.gauss(0, 0.03) for e in range(10)] for _ in range(100)]
    assert fluctuation(curves) == pytest.approx(0.03, rel=0.1)


def test_fluctuation_sees_neither_a_rise_nor_a_collapse_nor_the_far_past():
    rise = [0.1 * e for e in range(10)]
    assert fluctuation([rise, rise]) == pytest.approx(0, abs=1e-12)
    assert fluctuation([rise, [*rise[:5], 0.0, *rise[6:]]]) == pytest.approx(0, abs=1e-12)
    assert fluctuation([[0.9, 0.1] * 20 + rise]) == pytest.approx(0, abs=1e-12)
    assert fluctuation([[0.1, 0.9], [0.5]]) == 0


def test_an_average_and_a_best_are_less_noisy_than_an_epoch():
    curves = [[0.5, 0.6] * 8] * 2
    error = RULES["last"].noise(curves, losses=True)
    assert error > 0
    assert RULES["average"].noise(curves, losses=True) == pytest.approx(error / 4)
    noise = random.Random(0)
    bests = [max(noise.gauss(0, 1) for _ in range(10)) for _ in range(10000)]
    best = RULES["best"].noise(curves, losses=True)
    assert best == pytest.approx(error * stdev(bests), rel=0.03)
    assert RACE.noise(curves, losses=True) == best
    assert RACE.noise(curves, losses=False) == error


def test_a_bend_that_all_curves_share_is_no_noise():
    bend = [1 - 0.5**e for e in range(5)]
    assert fluctuation([bend, bend, bend]) > 0.05
    assert fluctuation([bend, bend, bend], bent=True) == pytest.approx(0, abs=1e-12)
    noise = random.Random(0)
    curves = [[b + noise.gauss(0, 0.03) for b in bend] for _ in range(300)]
    assert fluctuation(curves, bent=True) == pytest.approx(0.03, rel=0.15)


def test_a_decision_is_never_surer_than_the_number_of_images_allows():
    steady = [[0.6] * 8, [0.6] * 8]
    for rule in RULES.values():
        assert rule.noise(steady, losses=True) == 0
        expected = (0.6 * 0.4 / 360) ** 0.5
        assert rule.on(360).noise(steady, losses=True) == pytest.approx(expected)
        assert rule.on(inf).noise(steady, losses=True) == 0


# -- the race ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("round_epochs", "first", "epochs", "losses", "eliminations"),
    [
        (2, None, 200, True, [4, 6, 8, 10]),
        (2, None, 200, False, [7, 9, 12, 16]),
        (4, None, 120, True, [8, 12, 16, 20]),
        (4, None, 120, False, [14, 19, 25, 33]),
        (1, None, 9, False, [3, 4, 5, 7]),
        (2, 3, 10, True, [3, 5, 7, 9]),
        (1, 1, 3, True, [1, 2, 3, 3]),
        (2, None, 10, True, [4, 6, 8, 10]),
        (3, 5, 40, False, [5, 8, 11, 15]),
    ],
)
def test_eliminations_of_the_race(round_epochs, first, epochs, losses, eliminations):
    found = [
        RACE.elimination_epoch(n, round_epochs, epochs, losses=losses, first=first)
        for n in range(1, 5)
    ]
    assert found == eliminations


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("losses", [True, False])
def test_every_parameter_of_a_rule_changes_the_search(rule, losses):
    """No two lengths of rounds mean the same eliminations, and so with every other parameter."""
    found = {}
    for name in RULES[rule].parameters:
        for value in range(1, 21):
            schedule = make_schedule(rule, 200, **{name: value})
            epochs = [schedule.elimination_epoch(n, losses=losses) for n in (1, 2, 3)]
            assert found.setdefault((name, *epochs), value) == value


def test_a_parameter_without_effect_is_refused():
    assert "first_elimination" in RACE.parameters
    with pytest.raises(UserError, match="first_elimination has no effect under the rule average"):
        make_schedule("average", 10, 2, first_elimination=3)
    assert make_schedule("average", 40).round_epochs == 10
    assert make_schedule("race", 40).round_epochs == 2
    assert make_schedule("race", 1).round_epochs == 1


def test_the_fewer_the_images_the_more_the_losses_count():
    accuracies = [[0.50, 0.55, 0.60], [0.48, 0.53, 0.58]]
    losses = [[1.0, 0.9, 0.80], [0.9, 0.8, 0.70]]  # the second is worse in accuracy alone
    gaps = [
        one - other
        for one, other in (RACE.on(n).scores(accuracies, losses) for n in (inf, 10**5, 10**3, 30))
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx(0.02) and gaps[-1] < 0


def test_nobody_is_eliminated_before_something_is_learned():
    schedule = Schedule(2, 20, "race", images=100, waits=True)
    scores = {name: [value] * 20 for name, value in zip("abcd", (0.6, 0.5, 0.4, 0.3), strict=True)}
    losses = {name: [2.0] * 8 + [1.0] * 12 for name in "abcd"}
    found = standing(list("abcd"), scores, schedule, losses=losses)
    survivors = {d.epoch: d.survivors for d in found.decisions}
    assert survivors[4] == survivors[6] == survivors[8] == 4
    assert min(epoch for epoch, left in survivors.items() if left < 4) == 10
    impatient = standing(list("abcd"), scores, replace(schedule, waits=False), losses=losses)
    assert impatient.decisions[0].survivors < 4


def test_longer_trainings_have_longer_rounds():
    assert make_schedule("race", 60) == Schedule(2, 60, "race")
    assert make_schedule("race", 200) == Schedule(3, 200, "race")
    assert make_schedule("race", 350) == Schedule(5, 350, "race")
    assert make_schedule("race", 150, 2) == Schedule(2, 150, "race")  # as asked for
    assert make_schedule("race", 90) == Schedule(2, 90, "race")
    halving = make_schedule("halving", 100)
    assert [halving.elimination_epoch(n) for n in range(1, 7)] == [3, 6, 12, 24, 48, 96]


def test_a_train_loss_speaks_in_accuracies():
    """Two points a tenfold loss, in all curves; the second candidate's accuracy has slipped."""
    losses = [[1.0, 0.1, 0.01], [1.0, 0.1, 0.01]]
    straight = [50.0, 52.0, 54.0]
    assert RACE.scores([straight, straight], losses) == pytest.approx([54, 54])
    first, second = RACE.scores([straight, [50.0, 52.0, 48.0]], losses)
    assert first > second > 48


@pytest.mark.parametrize(
    "losses",
    [
        [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]],  # rises with the accuracy: overfitting, or worse
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        [[3.0, 2.0, float("nan")], [3.0, 2.0, 1.0]],
        [[3.0, 2.0], [3.0, 2.0, 1.0]],
    ],
)
def test_a_train_loss_that_says_nothing_is_not_heard(losses):
    curves = [[0.1, 0.2, 0.3], [0.1, 0.2, 0.25]]
    assert RACE.scores(curves, losses) == RACE.scores(curves, None)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=4, max_size=4),
        min_size=2,
        max_size=9,
    )
)
def test_shares_and_percentages_score_alike(curves):
    shares = [[accuracy for accuracy, _ in curve] for curve in curves]
    losses = [[loss for _, loss in curve] for curve in curves]
    percent = [[100 * accuracy for accuracy in curve] for curve in shares]
    for rule in RULES.values():
        scores = rule.scores(shares, losses)
        assert [100 * s for s in scores] == pytest.approx(rule.scores(percent, losses), abs=1e-6)


def test_who_is_too_close_to_call_stays_but_not_forever():
    def keep(ranked, error, number, size, losses=True):
        return RACE.keep(ranked, error, number, size, losses=losses)

    assert keep([0.9, 0.8, 0.5, 0.4], 0.1, 1, 4) == 2
    assert keep([0.9, 0.5, 0.49, 0.4], 0.1, 1, 4) == 3
    assert keep([0.9, 0.5, 0.49], 0.1, 1, 4) == 2  # somebody leaves, unless two are left
    assert keep([0.5, 0.49], 0.1, 2, 4) == 2
    assert [keep([0.5, 0.49], 0.1, number, 4) for number in (4, 5)] == [2, 1]
    assert [keep([0.5, 0.49], 0.1, number, 4, losses=False) for number in (8, 9)] == [2, 1]


def test_a_level_follows_the_upper_edge_of_a_curve():
    assert rules.level([0.5]) == 0.5
    assert rules.level([0.1, 0.4, 0.2, 0.5]) == pytest.approx((0.4 + 0.5) / 2)
    rise = [0.01 * epoch for epoch in range(20)]
    collapsed = [*rise[:15], 0.0, *rise[16:]]
    assert rules.level(collapsed) == pytest.approx(rules.level(rise), abs=0.002)


def test_without_losses_the_steadier_of_two_wins_over_one_lucky_epoch():
    steady = [0.4 + 0.01 * epoch for epoch in range(12)]
    lucky = [*(0.3 + 0.01 * epoch for epoch in range(11)), 0.55]
    assert max(lucky) > max(steady)
    table = standing("ab", {"a": lucky, "b": steady}, Schedule(2, 12, "race"))
    assert table.champion == "b"


def test_a_race_of_equals_ends_and_says_that_it_was_close():
    wave = [0.5, 0.6] * 20
    scores = dict.fromkeys("abcd", wave)
    table = standing("abcd", scores, Schedule(2, 40, "race"))
    assert table.champion == "a"
    assert {d.round for d in table.decisions} == set(range(1, 9))  # the last epoch's is the last
    assert all(d.close for d in table.decisions if d.candidate in "bc")
    assert "too close to call" in decision_text(table.decisions[1])
    clear = {"a": [0.1 * e for e in range(40)], "b": [0.05 * e for e in range(40)]}
    (first, second) = standing("ab", clear, Schedule(2, 40, "race")).decisions
    assert (first.candidate, first.close, second.close) == ("a", False, False)
    assert "too close" not in decision_text(first)


@given(
    st.sampled_from(list(RULES)),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 20),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_rule_comes_to_an_end_within_its_forecast(
    rule, size, round_epochs, more, losses, chance
):
    epochs = round_epochs + more
    schedule = Schedule(round_epochs, epochs, rule)
    members = [f"m{i}" for i in range(size)]
    scores: dict[str, list[float]] = {name: [] for name in members}
    told: dict[str, list[float]] = {name: [] for name in members}
    seen: list[str] = []
    while True:
        table = standing(members, scores, schedule, losses=told if losses else None)
        decisions = [repr(decision) for decision in table.decisions]
        assert decisions[: len(seen)] == seen, "a decision has changed"
        seen = decisions
        if not table.pending:
            break
        name = chance.choice(table.pending).candidate
        scores[name].append(chance.choice([0.25, 0.5, 0.75]))
        told[name].append(chance.choice([0.1, 1.0, 2.0]))
    trained = sum(map(len, scores.values()))
    planned = least_epochs([size], schedule, losses=losses)
    assert len(scores[table.champion]) == epochs
    if rule == "race":
        looks = (size - 1).bit_length() + (3 if losses else 7)
        last = RACE.elimination_epoch(max(looks, 1), round_epochs, epochs, losses=losses)
        assert planned <= trained <= epochs + (size - 1) * last
    else:
        assert trained == planned


@pytest.mark.parametrize(
    ("flags", "eliminations"),
    [
        (["--config=quick"], [3, 5, 7, 9, 10]),
        (["--config=paper", "--epochs=35"], [10, 20, 30, 35]),
        (["--config=quick", "--rule=average"], [3, 6, 9, 10]),
        (["--config=quick", "--round_epochs=1"], [2, 3, 4, 5]),
        (["--config=paper", "--epochs=10", "--rule=race"], [4, 6, 8, 10]),
    ],
)
def test_presets_and_flags_decide_when_eliminations_are(flags, eliminations):
    values = deepcopy(search.FLAGS)
    for name in values:  # other tests in this process may have parsed them, too
        values[name].unparse()
    values(["elite search", *flags, "--workdir=unused"])
    config = with_rule_defaults(common.search_request(values, []).config)
    schedule = make_schedule(
        config.rule, config.train.epochs, config.round_epochs, config.first_elimination
    )
    rounds = range(1, len(eliminations) + 1)
    assert [schedule.elimination_epoch(number) for number in rounds] == eliminations
