"""Sections of the page on the tournament: brackets, decisions, and the other rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from efficientnet_elite.report import tables
from efficientnet_elite.report.comparison import Agreement, Choice
from efficientnet_elite.report.contents import Contents, Figures
from efficientnet_elite.report.cost import Training
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.markup import Html, listed, missing, note, plural, tag
from efficientnet_elite.search.decisions import DecidedRound, Decision, decision_text
from efficientnet_elite.search.rules import find_rule
from efficientnet_elite.search.summary import State
from efficientnet_elite.search.tournament import INT8_CANDIDATES, Int8


def tournament(contents: Contents, figures: Figures) -> Html:
    """Brackets, and every decision with its reason."""
    title = tag("h2", "The tournament")
    rounds = contents.rounds
    if not rounds:
        text = "No round has been decided yet."
        if all(len(group.members) == 1 for group in contents.summary.groups):
            text = "Every candidate is alone in its group: there was nothing to decide."
        return tag(
            "section", title, missing(text), _noise(contents) if contents.trainings else None
        )
    eliminated = sum(len(decided.eliminated) for decided in rounds)
    lead = (
        f"The search had {plural(len(rounds), 'round')} and eliminated "
        f"{plural(eliminated, 'candidate')}. The candidates of a group are trained side by side. "
        "After each round they are ranked and the worst are eliminated, until only the champion is "
        f"left. Their score is: {_score_words(contents.rule, contents.judged_by)}, in "
        f"percent{_beyond(rounds)}. Candidates above the dashed line went on."
    )
    if any(not decided.eliminated for decided in rounds):
        lead += " Rounds after which all candidates went on are not drawn."
    if contents.meta["config"]["select"] == "int8":
        lead += (
            f" When {INT8_CANDIDATES} candidates or fewer are left, the int8 accuracy minus the "
            "float32 accuracy of the same weights is added to the score."
        )
    return tag(
        "section",
        title,
        tag("p", lead, class_="lead"),
        _close(contents),
        _noise(contents),
        tag("div", *(_bracket(n, f) for n, f in figures.brackets.items()), class_="brackets"),
        _decisions(contents),
    )


def _beyond(rounds: Sequence[DecidedRound]) -> str:
    """An explanation of scores above 100 %, where there are any."""
    if not any(decision.score > 1 for decided in rounds for decision in decided.decisions):
        return ""
    return " (it can exceed 100 where the training loss is lower than the accuracies suggest)"


def _score_words(rule: str, score: str) -> str:
    words = find_rule(rule).words.replace("accuracy", score)
    return words.replace("{epoch} epochs", "all epochs so far").format(epoch="the round")


_NOISE_EPOCHS = 3  # epochs of a curve that `rules.fluctuation` needs


def _noise(contents: Contents) -> Html:
    """The noise of a score, with the trainings that measured it."""
    trainings, measured = contents.trainings, contents.summary.noise
    if not trainings:
        return note(
            "The noise of a score is the standard deviation between trainings with different "
            "seeds. Here it is estimated from the fluctuation of the learning curves, which gives "
            "a lower bound. With ",
            tag("code", "--seeds"),
            " it is measured.",
        )
    done = [training for training in trainings if training.score is not None]
    if measured is not None:
        text = (
            f"Noise of a score, measured: {100 * measured:.2f} points, by "
            f"{plural(len(done), 'training')} of "
            f"{plural(len({t.candidate for t in trainings}), 'network')} with different seeds"
        )
    elif contents.halts or all(t.score is not None or t.failure for t in trainings):
        text = (
            "No two trainings of one network reached the first elimination: the noise is estimated"
        )
    else:
        text = (
            f"The noise of a score is being measured: {len(done)} of {len(trainings)} trainings "
            "have reached the first elimination"
        )
    columns: tuple[tables.Column, ...] = ("Network", "Group", "Seed", ("Score", "%"))
    head = tag("tr", *map(tables.column, columns), tables.words("State"))
    return tag(
        "details",
        tag("summary", text),
        tables.framed(head, [_training(training) for training in trainings]),
        note(
            "The noise is the standard deviation of the score between trainings of one network "
            "with different seeds, at the first elimination, pooled over the networks. The "
            "trainings of a network are scored among themselves, not among the candidates of its "
            "group."
        ),
    )


def _training(training: Training) -> Html:
    if training.failure:
        text = f"failed: {training.failure}"
    elif training.score is None:
        text = "has not reached the first elimination"
    else:
        text = f"measured after epoch {training.epoch}"
    cells = (
        str(training.group),
        f"+{training.seed}" if training.seed else "the candidate's",
        tables.share(training.score),
    )
    return tag(
        "tr",
        tag("td", training.candidate),
        *(tag("td", cell) for cell in cells),
        tag("td", text, class_="words"),
        class_="failed" if training.failure else None,
    )


def _close(contents: Contents) -> Html:
    """Eliminations that another seed could have decided otherwise."""
    rounds = contents.rounds
    close = [decided for decided in rounds if decided.close]
    if not close:
        no_noise = contents.summary.noise is None and any(r.epoch < _NOISE_EPOCHS for r in rounds)
        return note(
            _put_off(rounds) or "No elimination was too close to call.",
            " The noise cannot be estimated from fewer than three epochs." if no_noise else "",
        )
    rows = [
        tag(
            "li",
            f"group {decided.group}, round {decided.round}: ",
            listed([d.candidate for d in decided.surviving if d.close]),
            " went on, ",
            listed([d.candidate for d in decided.eliminated if d.close]),
            f" left{_gap(decided)}",
        )
        for decided in close
    ]
    return tag(
        "div",
        tag(
            "p",
            tag("b", f"Too close to call: {plural(len(close), 'elimination')} of {len(rounds)}. "),
            "The gap is below the noise of a score, so that another seed could have decided "
            "otherwise. Treat these candidates as equally good. ",
            _put_off(rounds),
        ),
        tag("ul", *rows),
        class_="missing",
    )


def _put_off(rounds: Sequence[DecidedRound]) -> str | None:
    """A sentence on rounds that were too close to call for anyone to leave; None without any."""
    count = sum(not r.eliminated and any(d.close for d in r.surviving) for r in rounds)
    if not count:
        return None
    return f"After {plural(count, 'round')} it was too close to call, and all candidates went on."


def _gap(decided: DecidedRound) -> str:
    return "" if decided.gap is None else f"; the gap is {100 * decided.gap:.2f} points"


def _bracket(number: int, figure: Figure) -> Html:
    width = f"width:{figure.width * 4 / 3:.0f}px"  # CSS has 96 pixels to an inch of 72 points
    return tag(
        "figure",
        tag("h3", f"Group {number}"),
        tag("div", tag("div", Html(figure.svg), style=width), class_="scroll"),
    )


_COLUMNS: tuple[tables.Column, ...] = (
    "Candidate",
    ("Round", "after epoch"),
    "Rank",
    ("Score", "%"),
    ("Margin", "points"),
)


def _decisions(contents: Contents) -> Html:
    """Every decision with its reason, to be unfolded; int8 accuracies where there are any."""
    rounds, int8 = contents.rounds, contents.int8
    failed = {m.name for m in contents.summary.members if m.state is State.FAILED}
    columns = _COLUMNS + ((("int8", "validation, %"),) if int8 else ())
    head = tag("tr", *map(tables.column, columns), tables.words("Reason"))
    rows = []
    for group, of_group in groupby(rounds, lambda decided: decided.group):
        title = tag("th", f"Group {group}", colspan=str(len(columns) + 1), scope="rowgroup")
        rows.append(tag("tr", title, class_="group"))
        for decided in of_group:
            rows += [
                _decision(decided, d, int8, failed=d.candidate in failed) for d in decided.decisions
            ]
    count = sum(len(decided.decisions) for decided in rounds)
    text = f"Every decision and its reason ({count})"
    return tag("details", tag("summary", text), tables.framed(head, rows))


def _decision(decided: DecidedRound, decision: Decision, int8: Int8, *, failed: bool) -> Html:
    result = int8.get(decision.candidate, {}).get(decided.epoch)
    margin = decided.margin(decision)
    cells = (
        f"{decided.round} ({decided.epoch})",
        str(decision.rank),
        tables.share(decision.score) if decision.scored else tables.NONE,
        tables.NONE if margin is None else f"{100 * margin:+.2f}",
        *((tables.share(None if result is None else result.int8_accuracy),) if int8 else ()),
    )
    outcome = "goes on" if decision.survives else "eliminated"
    state = None if decision.survives else "out" if decision.scored or not failed else "failed"
    return tag(
        "tr",
        tag("td", decision.candidate),
        *(tag("td", cell) for cell in cells),
        tag("td", f"{outcome}: {decision_text(decision)}", class_="words"),
        class_=state,
    )


def other_rules(contents: Contents) -> Html | None:
    """What the other rules would have decided; None if no candidate has been eliminated."""
    if not contents.choices:
        return None
    pairs = contents.agreement[0].pairs
    columns: tuple[tables.Column, ...] = (
        "Rule",
        ("Same survivors", f"of {plural(contents.agreement[0].eliminations, 'elimination')}"),
        ("Other choices", "candidates"),
        *([("Right order", f"of {plural(pairs, 'pair')}")] if pairs else []),
    )
    head = tag(
        "tr", *map(tables.column, columns), tables.words("Champions it would have eliminated")
    )
    return tag(
        "section",
        tag("h2", "What other rules would have decided"),
        tag(
            "p",
            "At every elimination of this search, each rule ranks the candidates by the epochs "
            "recorded until then, and the same number of candidates go on. Only champions are "
            "trained to the end. It is therefore unknown how good an eliminated candidate would "
            "have become, and whether another rule would have found a better champion. The choice "
            "of rule mattered where another rule would have eliminated a champion.",
            class_="lead",
        ),
        tables.framed(head, [_agreement(agreement) for agreement in contents.agreement]),
        note(
            f"Right order: how many of the {plural(pairs, 'pair')} of candidates that both went on "
            "the rule ranked in the order of their accuracy in the last epoch that both have. "
            "Pairs of equal accuracy are left out. All rules are applied to the eliminations and "
            "the survivors of the rule that was used."
        )
        if pairs
        else None,
        _elsewhere(contents.choices),
    )


def _agreement(agreement: Agreement) -> Html:
    used = tag("small", " (used)") if agreement.used else None
    cells = (
        str(agreement.same),
        str(agreement.others),
        *([str(agreement.right)] if agreement.pairs else []),
    )
    eliminated = (
        listed(agreement.champions_eliminated) if agreement.champions_eliminated else "none"
    )
    return tag(
        "tr",
        tag("th", agreement.rule, used, scope="row"),
        *(tag("td", cell) for cell in cells),
        tag("td", eliminated, class_="words"),
        class_="won" if agreement.used else None,
    )


def _elsewhere(choices: Sequence[Choice]) -> Html | None:
    """Every elimination that another rule would have decided otherwise, to be unfolded."""
    different = [choice for choice in choices if choice.eliminates_instead]
    if not different:
        return None
    columns: tuple[tables.Column, ...] = ("Rule", "Group", ("Round", "after epoch"))
    head = tag(
        "tr",
        *map(tables.column, columns),
        tables.words("Would have kept"),
        tables.words("and eliminated"),
    )
    rows = [
        tag(
            "tr",
            tag("td", choice.rule),
            tag("td", str(choice.group)),
            tag("td", f"{choice.round} ({choice.epoch})"),
            tag("td", listed(choice.keeps_instead), class_="words"),
            tag("td", listed(choice.eliminates_instead), class_="words"),
        )
        for choice in different
    ]
    text = f"{plural(len(different), 'elimination')} that another rule would have decided otherwise"
    return tag("details", tag("summary", text), tables.framed(head, rows))
