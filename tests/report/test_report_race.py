"""The report on the tournament: brackets, decisions, what other rules would have decided."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from efficientnet_elite import report
from efficientnet_elite.report import comparison, eliminations
from efficientnet_elite.report.bracket import bracket
from efficientnet_elite.search import rules
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.ledger import Ledger
from tests.support.reports import group_of, noisy, rounds_of, search, texts, unillustrated

# -- rounds and brackets ---------------------------------------------------------------------------


def test_cuts_by_hand(tmp_path):
    search(tmp_path, groups=1, size=3)
    first, second = rounds_of(group_of(tmp_path))
    # Later candidates learn faster: scores 0.4, 0.65, 0.733 after the first epoch.
    assert [round(d.score, 3) for d in first.decisions] == [0.733, 0.65, 0.4]
    assert [
        len(first.surviving),
        len(first.eliminated),
        len(second.surviving),
        len(second.eliminated),
    ] == [2, 1, 1, 1]
    assert first.gap == pytest.approx(0.25)
    assert [first.margin(d) for d in first.decisions] == pytest.approx([1 / 3, 0.25, -0.25])
    assert (second.round, second.epoch) == (2, 2)


def test_a_failure_makes_no_gap(tmp_path):
    search(tmp_path, groups=1, size=2, budget=1)
    with Ledger(tmp_path) as ledger:
        failed = next(c.name for c in ledger.candidates() if not ledger.scores().get(c.name))
        ledger.record_failure(failed, 1, "diverged")
    (cut,) = rounds_of(group_of(tmp_path))
    assert (cut.gap, cut.close) == (None, False)
    assert [cut.margin(d) for d in cut.decisions] == [None, None]
    drawn = texts(bracket(group_of(tmp_path), [cut]))
    assert "failed" in drawn


def test_a_bracket(tmp_path):
    search(tmp_path, groups=1, size=15, epochs=12, accuracy=noisy)
    group = group_of(tmp_path)
    figure = bracket(group, rounds_of(group))
    found = texts(figure)
    assert [t for t in found if t.startswith("Round")] == [f"Round {i}" for i in (1, 2, 3, 4)]
    assert "Champion" in found
    for decision in group.decisions:
        assert f"{100 * decision.score:.2f}" in found
    assert found.count(group.champion) == 5
    assert all(name in figure.svg for name in ("var(--accent)", "aria-label"))
    told = ElementTree.fromstring(figure.svg).attrib["aria-label"]
    assert f"Champion: {group.champion}" in told


def test_no_bracket_before_a_decision(tmp_path):
    search(tmp_path, groups=2, size=2, budget=1)
    assert bracket(group_of(tmp_path), rounds_of(group_of(tmp_path))) is None
    assert "No round has been decided yet" in unillustrated(tmp_path).text


def test_too_close_to_call_is_told(tmp_path):
    search(tmp_path, groups=1, size=9, epochs=8, rule="last", accuracy=noisy)
    group = group_of(tmp_path)
    decided = rounds_of(group)
    # Round 1 is an exact tie; noise shows from epoch 3 on.
    assert [cut.round for cut in decided if cut.close] == [1, 3, 4]
    assert len({d.score for d in decided[0].decisions if d.rank in (5, 6)}) == 1
    page = unillustrated(tmp_path)
    assert "Too close to call: 3 eliminations of 4" in page.text
    assert "group 0, round 4: " in page.text
    assert texts(bracket(group, decided)).count("too close to call") == 3
    assert all(decision_text(decision) in page.text for decision in group.decisions)


def test_rounds_in_which_everybody_went_on_are_left_out(tmp_path):
    search(tmp_path, groups=1, size=5)
    contents = report.gather(tmp_path)
    first, *others = contents.rounds
    near = tuple(replace(decision, survives=True, close=True) for decision in first.decisions)
    idle = replace(first, surviving=near, eliminated=())
    drawn = texts(bracket(group_of(tmp_path), [idle, *others]))
    assert [t for t in drawn if t.startswith("Round")] == ["Round 2", "Round 3"]
    remark = "Rounds after which all candidates went on are not drawn"
    assert remark not in eliminations.tournament(contents, report.draw(contents))
    contents = replace(contents, rounds=[idle, *others])
    told = eliminations.tournament(contents, report.draw(contents))
    assert remark in told
    assert "After 1 round it was too close to call, and all candidates went on." in told
    assert "No elimination was too close" not in told


def test_nothing_was_too_close(tmp_path):
    search(tmp_path, groups=1, size=9, epochs=8)
    assert "No elimination was too close to call" in unillustrated(tmp_path).text


# -- other rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", rules.RULES)
def test_a_rule_agrees_with_itself(tmp_path, rule):
    search(tmp_path, groups=2, size=7, epochs=12, rule=rule, accuracy=noisy)
    contents = report.gather(tmp_path)
    assert contents.rule == rule
    (own,) = [a for a in contents.agreement if a.used]
    assert own.rule == rule
    assert own.eliminations > 2
    assert (own.same, own.others, own.champions_eliminated) == (own.eliminations, 0, ())


def test_another_rule_by_hand(tmp_path):
    # After one epoch all rules see the same; after two, the average and the last value disagree.
    curves = ((0.9, 0.2, 0.2, 0.2), (0.3, 0.7, 0.9, 0.9), (0.1, 0.1, 0.1, 0.1))
    names = [m.name for m in _members(tmp_path, curves)]
    contents = report.gather(tmp_path)
    first, second = [c for c in contents.choices if c.rule == "last"]
    assert (first.keeps_instead, first.eliminates_instead) == ((), ())
    assert (first.pairs, first.right) == (1, 0)  # the first leads, and is behind an epoch later
    assert (second.keeps_instead, second.eliminates_instead) == ((names[1],), (names[0],))
    assert second.pairs == 0
    last = next(a for a in contents.agreement if a.rule == "last")
    assert (last.eliminations, last.same, last.others) == (2, 1, 1)
    assert last.champions_eliminated == (names[0],)
    page = unillustrated(tmp_path)
    assert "1 elimination that another rule would have decided otherwise" in page.text


def _members(workdir, curves):
    search(workdir, groups=1, size=3, accuracy=lambda place, epoch: curves[place][epoch - 1])
    with Ledger(workdir) as ledger:
        return ledger.candidates()


def test_nothing_to_compare_before_the_first_cut(tmp_path):
    search(tmp_path, budget=1)
    assert comparison.choices(report.gather(tmp_path).rounds, {}, None) == []
    assert "What other rules" not in unillustrated(tmp_path).text


def test_candidates_that_end_as_equals_have_no_order(tmp_path):
    _members(tmp_path, ((0.9, 0.8, 0.8, 0.8), (0.5, 0.8, 0.9, 0.9), (0.1, 0.1, 0.1, 0.1)))
    assert {choice.pairs for choice in report.gather(tmp_path).choices} == {0}
    assert "Right order" not in unillustrated(tmp_path).text


def test_nothing_to_decide_in_groups_of_one(tmp_path):
    search(tmp_path, groups=2, size=1)
    page = unillustrated(tmp_path)
    assert "Every candidate is alone in its group: there was nothing to decide." in page.text
    assert "each without a rival" not in page.text  # said of what has been exported
