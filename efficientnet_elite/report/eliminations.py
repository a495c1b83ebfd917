"""The page's sections on the tournament: brackets, decisions, what other rules would have done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from efficientnet_elite.report import tables
from efficientnet_elite.report.bracket import Cut
from efficientnet_elite.report.comparison import Agreement, Choice
from efficientnet_elite.report.contents import Contents, Figures
from efficientnet_elite.report.cost import Repeat
from efficientnet_elite.report.figures import Figure
from efficientnet_elite.report.markup import Html, listed, missing, note, plural, tag
from efficientnet_elite.search.cuts import Decision
from efficientnet_elite.search.rules import find
from efficientnet_elite.search.summary import State
from efficientnet_elite.search.tournament import FINALISTS, Int8


def tournament(contents: Contents, figures: Figures) -> Html:
    """Brackets, and every decision with its reason."""
    title = tag("h2", "The tournament")
    cuts = contents.cuts
    if not cuts:
        alone = all(len(group.members) == 1 for group in contents.summary.groups)
        told = "No round has been decided yet."
        if alone:
            told = "Every candidate is alone in its group: there was nothing to decide."
        return tag("section", title, missing(told), _noise(contents) if contents.repeats else None)
    out = sum(len(cut.out) for cut in cuts)
    lead = (
        f"{plural(len(cuts), 'round')} decided, {plural(out, 'candidate')} out. In every group "
        "candidates are trained side by side and compared after each round; the worse ones leave, "
        "until one is left, the champion. They are ranked by a score, here in percent: "
        f"{_words(contents.rule, contents.score)}{_beyond(cuts)}. Those above the dashed line went "
        "on."
    )
    if any(not cut.out for cut in cuts):
        lead += " Rounds in which everybody did are not drawn."
    if contents.meta["config"]["select"] == "int8":
        lead += (
            f" Cuts among {FINALISTS} or fewer add what int8 gains or loses against the same "
            "weights in float32."
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


def _beyond(cuts: Sequence[Cut]) -> str:
    """A score that a reader may wonder about."""
    if not any(decision.score > 1 for cut in cuts for decision in cut.decisions):
        return ""
    return " (a train loss that is ahead of the accuracy can take it beyond 100)"


def _words(rule: str, score: str) -> str:
    words = find(rule).words.replace("accuracy", score)
    return words.replace("{epoch} epochs", "all epochs so far").format(epoch="the round")


_NOISE_EPOCHS = 3  # of a curve, for `rules.fluctuation` to see anything


def _noise(contents: Contents) -> Html:
    """What is known of the noise of a score, with the trainings that measured it."""
    repeats, measured = contents.repeats, contents.summary.noise
    if not repeats:
        return note(
            "Noise of a score: what another seed may change. It is estimated from the unrest of "
            "the curves, which tells the least it can be; ",
            tag("code", "--seeds"),
            " measures it.",
        )
    done = [repeat for repeat in repeats if repeat.score is not None]
    if measured is not None:
        told = (
            f"Noise of a score, measured: {100 * measured:.2f} points, by "
            f"{plural(len(done), 'training')} of "
            f"{plural(len({r.candidate for r in repeats}), 'network')} with different seeds"
        )
    elif contents.halts or all(r.score is not None or r.failure for r in repeats):
        told = "No two trainings of one network came to the first cut: noise is estimated"
    else:
        told = (
            f"The noise of a score is being measured: {len(done)} of {len(repeats)} trainings "
            "have come to the first cut"
        )
    columns: tuple[tables.Column, ...] = ("Network", "Group", "Seed", ("Score", "%"))
    head = tag("tr", *map(tables.column, columns), tables.words("What became of it"))
    return tag(
        "details",
        tag("summary", told),
        tables.framed(head, [_repeat(repeat) for repeat in repeats]),
        note(
            "The standard deviation of the score between trainings of a network, pooled over the "
            "networks, at the first cut: what another seed may change. A network's trainings are "
            "scored among themselves, not among the candidates of its group."
        ),
    )


def _repeat(repeat: Repeat) -> Html:
    if repeat.failure:
        told = f"failed: {repeat.failure}"
    elif repeat.score is None:
        told = "has not come to the first cut"
    else:
        told = f"measured after epoch {repeat.epoch}"
    cells = (
        str(repeat.group),
        f"+{repeat.seed}" if repeat.seed else "the candidate's",
        tables.share(repeat.score),
    )
    return tag(
        "tr",
        tag("td", repeat.candidate),
        *(tag("td", cell) for cell in cells),
        tag("td", told, class_="words"),
        class_="failed" if repeat.failure else None,
    )


def _close(contents: Contents) -> Html:
    """Which decisions another seed could have turned over."""
    cuts = contents.cuts
    close = [cut for cut in cuts if cut.close]
    if not close:
        early = contents.summary.noise is None and any(cut.epoch < _NOISE_EPOCHS for cut in cuts)
        return note(
            _put_off(cuts) or "No cut was found too close to call.",
            " From fewer than three epochs no noise can be estimated." if early else "",
        )
    rows = [
        tag(
            "li",
            f"group {cut.group}, round {cut.round}: ",
            listed([d.candidate for d in cut.kept if d.close]),
            " went on, ",
            listed([d.candidate for d in cut.out if d.close]),
            f" did not: {_gap(cut)} apart at the cut",
        )
        for cut in close
    ]
    return tag(
        "div",
        tag(
            "p",
            tag("b", f"Too close to call: {plural(len(close), 'cut')} of {len(cuts)}. "),
            "The gap is below the noise of a score, so that another seed could have decided "
            "otherwise. Take these candidates for equals. ",
            _put_off(cuts),
        ),
        tag("ul", *rows),
        class_="missing",
    )


def _put_off(cuts: Sequence[Cut]) -> str | None:
    """Rounds after which nobody had to leave because it was too close; None without any."""
    count = sum(not cut.out and any(d.close for d in cut.kept) for cut in cuts)
    if not count:
        return None
    return f"In {plural(count, 'round')} it was too close to call, and everybody stayed."


def _gap(cut: Cut) -> str:
    return "" if cut.gap is None else f"{100 * cut.gap:.2f} points"


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
    ("To the cut", "points"),
)


def _decisions(contents: Contents) -> Html:
    """Every decision with its reason, to be unfolded; int8 accuracies where there are any."""
    cuts, int8 = contents.cuts, contents.int8
    failed = {m.name for m in contents.summary.members if m.state is State.FAILED}
    columns = _COLUMNS + ((("int8", "validation, %"),) if int8 else ())
    head = tag("tr", *map(tables.column, columns), tables.words("Why"))
    rows = []
    for group, own in groupby(cuts, lambda cut: cut.group):
        title = tag("th", f"Group {group}", colspan=str(len(columns) + 1), scope="rowgroup")
        rows.append(tag("tr", title, class_="group"))
        for cut in own:
            rows += [_decision(cut, d, int8, d.candidate in failed) for d in cut.decisions]
    told = f"Every decision and its reason ({sum(len(cut.decisions) for cut in cuts)})"
    return tag("details", tag("summary", told), tables.framed(head, rows))


def _decision(cut: Cut, decision: Decision, int8: Int8, failed: bool) -> Html:
    scored = decision.score == decision.score
    result = int8.get(decision.candidate, {}).get(cut.epoch)
    cells = (
        f"{cut.round} ({cut.epoch})",
        str(decision.rank),
        tables.share(decision.score) if scored else tables.NONE,
        tables.NONE if (margin := cut.margin(decision)) is None else f"{100 * margin:+.2f}",
        *((tables.share(None if result is None else result.int8_accuracy),) if int8 else ()),
    )
    outcome = "goes on" if decision.survives else "out"
    return tag(
        "tr",
        tag("td", decision.candidate),
        *(tag("td", cell) for cell in cells),
        tag("td", f"{outcome}: {decision.reason}", class_="words"),
        class_=None if decision.survives else "out" if scored or not failed else "failed",
    )


def other_rules(contents: Contents) -> Html | None:
    """What the other rules would have decided at the same cuts; None where nobody has left."""
    if not contents.choices:
        return None
    pairs = contents.agreement[0].pairs
    columns: tuple[tables.Column, ...] = (
        "Rule",
        ("Same cut", f"of {contents.agreement[0].cuts}"),
        ("Other choices", "candidates"),
        *([("Right order", f"of {plural(pairs, 'pair')}")] if pairs else []),
    )
    head = tag(
        "tr", *map(tables.column, columns), tables.words("Champions it would have sent away")
    )
    return tag(
        "section",
        tag("h2", "What other rules would have decided"),
        tag(
            "p",
            "Each rule, asked at every cut of this search, with what was recorded until then, to "
            "let as many go on. Only champions are trained to the end: what a candidate that left "
            "would have reached is not known, so neither is whether another rule would have found "
            "a better champion. A champion that another rule would have sent away shows where the "
            "choice of rule mattered.",
            class_="lead",
        ),
        tables.framed(head, [_agreement(found) for found in contents.agreement]),
        note(
            f"Right order: of the {plural(pairs, 'pair')} of candidates that both went on, those "
            "that the rule ordered as they were in the last epoch that both have; equals are left "
            "out. All rules were given the same survivors, those of the rule that was used, and "
            "its cuts."
        )
        if pairs
        else None,
        _elsewhere(contents.choices),
    )


def _agreement(found: Agreement) -> Html:
    used = tag("small", " (used)") if found.used else None
    cells = (
        str(found.same),
        str(found.others),
        *([str(found.right)] if found.pairs else []),
    )
    dropped = listed(found.champions_dropped) if found.champions_dropped else "none"
    return tag(
        "tr",
        tag("th", found.rule, used, scope="row"),
        *(tag("td", cell) for cell in cells),
        tag("td", dropped, class_="words"),
        class_="won" if found.used else None,
    )


def _elsewhere(choices: Sequence[Choice]) -> Html | None:
    """Every cut that another rule would have made otherwise, to be unfolded."""
    different = [choice for choice in choices if choice.drops_instead]
    if not different:
        return None
    columns: tuple[tables.Column, ...] = ("Rule", "Group", ("Round", "after epoch"))
    head = tag(
        "tr",
        *map(tables.column, columns),
        tables.words("Would have kept"),
        tables.words("and sent away"),
    )
    rows = [
        tag(
            "tr",
            tag("td", choice.rule),
            tag("td", str(choice.group)),
            tag("td", f"{choice.round} ({choice.epoch})"),
            tag("td", listed(choice.keeps_instead), class_="words"),
            tag("td", listed(choice.drops_instead), class_="words"),
        )
        for choice in different
    ]
    told = f"The {plural(len(different), 'cut')} that another rule would have made otherwise"
    return tag("details", tag("summary", told), tables.framed(head, rows))
