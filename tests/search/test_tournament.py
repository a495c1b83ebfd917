"""The tournament on invented scores."""

from __future__ import annotations

from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientnet_elite.search import tournament
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.outlook import least_epochs
from efficientnet_elite.search.rules import survivors_of
from efficientnet_elite.search.schedule import Schedule
from efficientnet_elite.search.tournament import Pending, standing

SCHEDULE = Schedule(round_epochs=2, epochs=10)


def flat(**accuracies):
    """The same accuracy in each of the ten epochs."""
    return {name: [value] * 10 for name, value in accuracies.items()}


def rounds(result):
    """Round to (who went on, who left), by rank."""
    found: dict[int, tuple[list[str], list[str]]] = {}
    for decision in result.decisions:
        stay, leave = found.setdefault(decision.round, ([], []))
        (stay if decision.survives else leave).append(decision.candidate)
    return {number: ("".join(stay), "".join(leave)) for number, (stay, leave) in found.items()}


def test_eight_four_two_one():
    scores = flat(a=0.1, b=0.8, c=0.3, d=0.6, e=0.5, f=0.4, g=0.7, h=0.2)
    result = standing("abcdefgh", scores, SCHEDULE)
    assert rounds(result) == {1: ("bgde", "fcha"), 2: ("bg", "de"), 3: ("b", "g")}
    assert [d.epoch for d in result.decisions] == [2] * 8 + [4] * 4 + [6] * 2
    assert [d.rank for d in result.decisions] == [*range(1, 9), *range(1, 5), 1, 2]
    assert result.champion == "b"
    assert result.pending == ()
    assert result.decisions[0].score == pytest.approx(0.8)


def test_the_middle_one_survives_in_odd_groups():
    scores = flat(a=0.7, b=0.6, c=0.5, d=0.4, e=0.3, f=0.2, g=0.1)
    assert rounds(standing("abcdefg", scores, SCHEDULE)) == {
        1: ("abcd", "efg"), 2: ("ab", "cd"), 3: ("a", "b")
    }  # fmt: skip
    assert rounds(standing("abc", scores, SCHEDULE)) == {1: ("ab", "c"), 2: ("a", "b")}
    assert [survivors_of(n) for n in range(7)] == [0, 1, 1, 2, 2, 3, 3]


def test_the_average_from_the_first_epoch_ranks():
    """Not the latest epoch, nor the round's own: b leads both at epoch 4, a the average."""
    scores = {"a": [0.6, 0.6, 0.4, 0.4], "b": [0.1, 0.1, 0.7, 0.7], "c": [0.5, 0.5, 0.4, 0.4]}
    result = standing("abc", scores, Schedule(round_epochs=4, epochs=8))
    assert rounds(result) == {1: ("ac", "b")}
    assert [d.score for d in result.decisions] == pytest.approx([0.5, 0.45, 0.4])


def test_later_scores_are_not_looked_at_before_their_round():
    scores = {"a": [0.2, 0.2] + [1.0] * 8, "b": [0.3, 0.3] + [0.0] * 8}
    assert standing("ab", scores, SCHEDULE).champion == "b"


@pytest.mark.parametrize(
    ("a", "b", "members", "winner"),
    [
        ([0.25, 0.75], [0.75, 0.25], "ba", "a"),  # equal averages: the higher latest epoch
        ([0.5, 0.5], [0.5, 0.5], "ab", "a"),  # equal in that too: who is named first
        ([0.5, 0.5], [0.5, 0.5], "ba", "b"),
    ],
)
def test_ties(a, b, members, winner):
    assert standing(members, {"a": a, "b": b}, SCHEDULE).champion == winner


@given(st.permutations(range(30, 40)), st.sampled_from(["average", "best"]))
def test_no_tie_is_decided_by_the_last_bit(right, rule):
    """Of 97 images as many right over ten epochs, in another order: the latest epoch decides."""
    scores = {"a": [n / 97 for n in range(30, 40)], "b": [n / 97 for n in right]}
    result = standing("ab", scores, Schedule(10, 20, rule))
    a, b = (d.score for d in sorted(result.decisions, key=lambda d: d.candidate))
    assert a == b
    assert result.champion == "a"  # which ends with the best of its epochs, and is named first


def test_a_group_of_one_needs_no_round():
    before = standing("a", {}, SCHEDULE)
    assert (before.champion, before.decisions) == ("a", ())
    assert before.pending == (Pending("a", 10),)
    after = standing("a", flat(a=0.1), SCHEDULE)
    assert (after.champion, after.pending) == ("a", ())


def test_an_empty_group():
    assert standing("", {}, SCHEDULE) == tournament.Standing((), (), (), None)


def test_the_end_of_training_ends_the_tournament():
    """Rounds of four end at 4, 8 and 10; in the last of them only the best of three survives."""
    schedule = Schedule(round_epochs=4, epochs=10)
    names = "abcdefghi"
    scores = {name: [1 - 0.1 * i] * 10 for i, name in enumerate(names)}
    result = standing(names, scores, schedule)
    assert rounds(result) == {1: ("abcde", "fghi"), 2: ("abc", "de"), 3: ("a", "bc")}
    assert [d.epoch for d in result.decisions if d.round == 3] == [10] * 3
    assert standing("abc", scores, Schedule(5, 5)).champion == "a"


def test_what_is_to_be_trained_next():
    scores = {"a": [0.5, 0.5], "b": [0.4]}
    assert standing("abc", scores, SCHEDULE).pending == (Pending("b", 2), Pending("c", 2))
    assert standing("abc", scores, SCHEDULE).champion is None
    scores |= {"b": [0.4, 0.4], "c": [0.3, 0.3]}
    result = standing("abc", scores, SCHEDULE)
    assert result.survivors == ("a", "b")
    assert result.pending == (Pending("a", 4), Pending("b", 4))


def test_who_fails_leaves_in_the_round_it_cannot_finish():
    scores = {"a": [0.5] * 4, "b": [0.4] * 4, "c": [0.9] * 3, "d": [0.1] * 2}
    result = standing("abcd", scores, SCHEDULE, failed={"c": "diverged"})
    assert rounds(result) == {1: ("ca", "bd"), 2: ("a", "c")}
    last = result.decisions[-1]
    assert (last.candidate, last.rank, decision_text(last)) == ("c", 2, "failed: diverged")
    assert isnan(last.score)
    assert result.champion == "a"


def test_failing_late_does_not_rewrite_earlier_decisions():
    scores = {"a": [0.5] * 2, "b": [0.4] * 2, "c": [0.3] * 2}
    before = standing("abc", scores, SCHEDULE)
    after = standing("abc", scores, SCHEDULE, failed={"b": "diverged"})
    assert after.decisions[: len(before.decisions)] == before.decisions
    # c, eliminated already, does not come back; its own failure would change nothing either.
    assert after.pending == (Pending("a", 4),)
    assert standing("abc", scores, SCHEDULE, failed={"c": "diverged"}) == before


def test_the_runner_up_takes_over_from_a_champion_that_fails():
    scores = flat(a=0.9, b=0.8, c=0.7, d=0.6)
    scores = {name: values[: {"a": 7, "b": 4}.get(name, 2)] for name, values in scores.items()}
    before = standing("abcd", scores, SCHEDULE)
    result = standing("abcd", scores, SCHEDULE, failed={"a": "diverged"})
    assert (result.champion, result.survivors) == ("b", ("b",))
    assert result.pending == (Pending("b", 10),)  # on from where it left
    assert result.decisions[: len(before.decisions)] == before.decisions
    heir, gone = result.decisions[len(before.decisions) :]
    assert (heir.candidate, heir.survives, heir.score) == ("b", True, pytest.approx(0.8))
    assert decision_text(heir) == "takes over, ranked 2 of 2 in round 2: a failed: diverged"
    assert (gone.candidate, gone.survives, decision_text(gone)) == ("a", False, "failed: diverged")
    assert {(d.round, d.epoch) for d in (heir, gone)} == {(3, 7)}
    # It fails in its turn: who left a round earlier comes next, and what was decided stands.
    later = standing("abcd", scores, SCHEDULE, failed={"a": "diverged", "b": "diverged"})
    assert later.champion == "c"
    decided = [repr(decision) for decision in result.decisions]
    assert [repr(decision) for decision in later.decisions][: len(decided)] == decided
    nobody = standing("abcd", scores, SCHEDULE, failed=dict.fromkeys("abcd", "diverged"))
    assert (nobody.champion, nobody.survivors, nobody.pending) == (None, (), ())
    # One that fails after its last epoch has been trained to the end.
    assert standing("ab", flat(a=0.5, b=0.1), SCHEDULE, failed={"a": "late"}).champion == "a"


def test_all_finalists_fail_at_once():
    scores = {name: [0.9 - 0.1 * place] * 2 for place, name in enumerate("abcd")}
    result = standing("abcd", scores, SCHEDULE, failed={"a": "diverged", "b": "diverged"})
    assert (result.champion, result.pending) == ("c", (Pending("c", 10),))
    assert (
        decision_text(result.decisions[-1])
        == "takes over, ranked 3 of 4 in round 1: all others failed"
    )


@pytest.mark.parametrize("epochs", [2, 6])
def test_a_tie_is_too_close_to_call(epochs):
    """Also where noise is not known, or none is seen."""
    result = standing("ab", flat(a=0.5, b=0.5), Schedule(epochs, 10))
    assert all(decision.close for decision in result.decisions)
    assert decision_text(result.decisions[0]).endswith("; too close to call: a tie")


def test_everybody_fails():
    result = standing("ab", {}, SCHEDULE, failed={"a": "diverged", "b": "out of memory"})
    assert (result.champion, result.pending) == (None, ())
    assert [(d.candidate, d.survives) for d in result.decisions] == [("a", False), ("b", False)]
    assert standing("a", {}, SCHEDULE, failed={"a": "diverged"}).champion is None


@pytest.mark.parametrize(("round_epochs", "epochs"), [(0, 5), (6, 5), (-1, 5)])
def test_impossible_schedules(round_epochs, epochs):
    with pytest.raises(ValueError, match="does not hold"):
        Schedule(round_epochs, epochs)


@pytest.mark.parametrize(
    ("sizes", "schedule", "epochs"),
    [
        ([4], Schedule(10, 350), 4 * 10 + 2 * 10 + 330),
        ([1, 0], Schedule(10, 350), 350),
        ([8], Schedule(2, 10), 8 * 2 + 4 * 2 + 2 * 2 + 4),
        ([3], Schedule(4, 6), 3 * 4 + 2 * 2),
        ([2, 2, 5, 7, 6, 9, 8, 7, 9, 9], Schedule(10, 350), 4430),
    ],
)
def test_forecast_by_hand(sizes, schedule, epochs):
    """The last are the paper's groups: 64 x 10 for the first round, and so on."""
    assert least_epochs(sizes, schedule) == epochs


# -- properties ----------------------------------------------------------------------------------


NO_FINALISTS = st.just(None)
FINALISTS = st.sampled_from([None, 1])


@st.composite
def contests(draw, finalist_seeds=NO_FINALISTS):
    """Groups, a schedule, everybody's accuracies, and who fails after how many epochs."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3), label="sizes")
    epochs = draw(st.integers(1, 8), label="epochs")
    schedule = Schedule(
        draw(st.integers(1, epochs), label="round_epochs"),
        epochs,
        finalist_seed=draw(finalist_seeds, label="finalist_seed"),
    )
    groups = [[f"{g}{i}" for i in range(size)] for g, size in enumerate(sizes)]
    # Few values: ties are to be common.
    curve = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=epochs, max_size=epochs)
    names = [name for group in groups for name in group]
    names += [f"{name}-seed1" for name in names if schedule.finalist_seed]
    curves = {name: draw(curve) for name in names}
    failing = draw(
        st.dictionaries(st.sampled_from(names), st.integers(0, epochs - 1), max_size=4),
        label="failing",
    )
    return groups, schedule, curves, failing


def compete(groups, schedule, curves, failing, pick):
    """Trains what the groups ask for, one epoch at a time, in the order that `pick` likes."""
    scores: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    seen: list[list[str]] = [[]] * len(groups)
    while True:
        standings = [standing(group, scores, schedule, failed=failed) for group in groups]
        for i, now in enumerate(standings):
            decisions = [repr(decision) for decision in now.decisions]  # NaN equals NaN as text
            assert decisions[: len(seen[i])] == seen[i], "a decision has changed"
            seen[i] = decisions
        jobs = [job for now in standings for job in now.pending]
        if not jobs:
            return standings, scores
        name = pick(jobs).training
        done = scores.setdefault(name, [])
        if failing.get(name) == len(done):
            failed[name] = "diverged"
        else:
            done.append(curves[name][len(done)])


@given(contests())
def test_a_whole_tournament(contest):
    groups, schedule, curves, _ = contest
    standings, scores = compete(groups, schedule, curves, {}, pick=lambda jobs: jobs[0])
    assert sum(map(len, scores.values())) == least_epochs([len(g) for g in groups], schedule)
    for group, result in zip(groups, standings, strict=True):
        assert result.champion in group
        assert len(scores[result.champion]) == schedule.epochs
        leaving = [d.candidate for d in result.decisions if not d.survives]
        assert sorted([*leaving, result.champion]) == group
        for decision in result.decisions:
            curve = curves[decision.candidate][: decision.epoch]
            assert decision.score == pytest.approx(sum(curve) / len(curve))


@given(contests(FINALISTS), st.randoms(use_true_random=False))
def test_the_order_of_training_and_other_groups_change_nothing(contest, random):
    groups, schedule, curves, failing = contest
    straight, _ = compete(groups, schedule, curves, failing, pick=lambda jobs: jobs[0])
    shuffled, scores = compete(groups, schedule, curves, failing, pick=random.choice)
    assert repr(straight) == repr(shuffled)
    for group, result in zip(groups, straight, strict=True):
        (alone,), _ = compete([group], schedule, curves, failing, pick=lambda jobs: jobs[-1])
        assert repr(alone) == repr(result)
        assert result.champion is None or len(scores[result.champion]) == schedule.epochs
        gone = {d.candidate for d in result.decisions if decision_text(d).startswith("failed")}
        assert gone <= failing.keys()


@given(contests(FINALISTS))
def test_failures_are_the_only_reason_to_have_no_champion(contest):
    groups, schedule, curves, failing = contest
    standings, _ = compete(groups, schedule, curves, failing, pick=lambda jobs: jobs[0])
    for group, result in zip(groups, standings, strict=True):
        assert result.champion is not None or set(group) <= failing.keys()
