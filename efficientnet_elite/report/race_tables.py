"""The tables of the tournament, its noise and its cost."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from efficientnet_elite.report.columns import Columns, Table, joined, table
from efficientnet_elite.report.contents import Contents


def cuts(contents: Contents) -> Table:
    """Rounds."""
    columns: Columns = {
        "group": ("cost group", "group"),
        "round": ("from 1", "round"),
        "epoch": ("after which it was decided", "epoch"),
        "went_on": ("candidates", lambda cut: len(cut.kept)),
        "out": ("candidates", lambda cut: len(cut.out)),
        "gap": ("score of the last who went on minus that of the first who left", "gap"),
        "too_close_to_call": ("the gap is below the noise of a score", "close"),
    }
    return table("cuts", "A round of a group.", columns, contents.cuts)


def decisions(contents: Contents) -> Table:
    """Every decision."""

    def in_int8(field: str) -> Callable[[Any], float | None]:
        def get(pair: Any) -> float | None:
            result = contents.int8.get(pair[1].candidate, {}).get(pair[0].epoch)
            return None if result is None else getattr(result, field)

        return get

    columns: Columns = {
        "group": ("cost group", lambda pair: pair[0].group),
        "round": ("from 1", lambda pair: pair[0].round),
        "epoch": ("after which it was decided", lambda pair: pair[0].epoch),
        "candidate": ("its name", lambda pair: pair[1].candidate),
        "rank": ("in the round, from 1", lambda pair: pair[1].rank),
        "score": (
            "of the rule of elimination; none where training failed",
            lambda pair: pair[1].score if isfinite(pair[1].score) else None,
        ),
        "margin": (
            "score minus that of the first who left, or of the last who went on",
            lambda pair: pair[0].margin(pair[1]),
        ),
        "survives": ("whether it goes on", lambda pair: pair[1].survives),
        "too_close_to_call": (
            "the margin is below the noise of a score",
            lambda pair: pair[1].close,
        ),
        "int8_accuracy": (
            "of this epoch, on the validation part; none where it was not measured or the network "
            "has no int8 form",
            in_int8("int8_accuracy"),
        ),
        "float_accuracy": ("of the same weights on the same images", in_int8("float_accuracy")),
        "reason": ("in words", lambda pair: pair[1].reason),
    }
    pairs = [(cut, decision) for cut in contents.cuts for decision in cut.decisions]
    return table("decisions", "What a round decided about a candidate.", columns, pairs)


def rules(contents: Contents) -> Table:
    """How far the rules agree."""
    columns: Columns = {
        "rule": ("of elimination", "rule"),
        "used": ("whether the search was decided by it", "used"),
        "cuts": ("at which it was asked", "cuts"),
        "same_cuts": ("at which the same candidates would have gone on", "same"),
        "other_choices": ("candidates that went on and that it would have sent away", "others"),
        "champions_dropped": ("champions among them", joined("champions_dropped")),
        "pairs": ("of candidates that both went on and could be compared later", "pairs"),
        "pairs_right": ("that it ordered as their accuracy was then", "right"),
    }
    about = "A rule of elimination, asked at every cut of this search."
    return table("rules", about, columns, contents.agreement)


def rule_choices(contents: Contents) -> Table:
    """What other rules would have decided, cut by cut."""
    columns: Columns = {
        "rule": ("of elimination", "rule"),
        "group": ("cost group", "group"),
        "round": ("from 1", "round"),
        "epoch": ("after which it was decided", "epoch"),
        "keeps_instead": ("who left and would have gone on", joined("keeps_instead")),
        "drops_instead": ("who went on and would have left", joined("drops_instead")),
        "pairs": ("see the table of rules", "pairs"),
        "pairs_right": ("see the table of rules", "right"),
    }
    about = "What a rule would have decided at a cut, with as many going on."
    return table("rule_choices", about, columns, contents.choices)


def noise(contents: Contents) -> Table:
    """Trainings with several seeds."""
    columns: Columns = {
        "training": ("name of the candidate, or of its replica", "name"),
        "candidate": ("whose network it is", "candidate"),
        "group": ("the candidate's", "group"),
        "seed": ("added to the search's; 0: the candidate itself", "seed"),
        "epoch": ("the first cut, after which scores are compared", "epoch"),
        "score": ("of the accuracies up to then; none before", "score"),
        "failure": ("why it could not go on, if it could not", "failure"),
    }
    about = "A training that measures the noise of a score (--seeds)."
    return table("noise", about, columns, contents.repeats)


def replica_curves(contents: Contents) -> Table:
    """The curves of replicas, which are no candidates."""
    columns: Columns = {
        "replica": ("its name", lambda pair: pair[0].name),
        "candidate": ("whose network it is", lambda pair: pair[0].candidate),
        "seed": ("added to the search's", lambda pair: pair[0].seed),
        "epoch": ("from 1", lambda pair: pair[1].epoch),
        "validation_accuracy": (
            "of the averaged weights",
            lambda pair: pair[1].validation_accuracy,
        ),
        "train_loss": ("mean over the epoch's steps", lambda pair: pair[1].train_loss),
        "seconds": ("of training and validation", lambda pair: pair[1].seconds),
    }
    replicas = [repeat for repeat in contents.repeats if repeat.seed]
    pairs = [(replica, e) for replica in replicas for e in contents.epochs.get(replica.name, ())]
    about = "An epoch of a replica, a further training that measures the noise."
    return table("replica_curves", about, columns, pairs)


def halts(contents: Contents) -> Table:
    """What a budget in hours has cut short."""
    columns: Columns = {
        "group": ("cost group", lambda pair: pair[0]),
        "round": (
            "that ended the race, whoever was left; none: it ended by itself",
            lambda pair: pair[1].round,
        ),
        "epoch": ("whose scores that round went by", lambda pair: pair[1].epoch),
        "champion_epochs": (
            "after which its training ended; none: it was not shortened",
            lambda pair: pair[1].end,
        ),
    }
    about = "A group that was ended early because time was up."
    return table("halts", about, columns, sorted(contents.halts.items()))


def plan(contents: Contents) -> Table:
    """Forecast of the whole search."""
    columns: Columns = {
        "of": ("epochs, or seconds of training and graph building, all workers' together", "of"),
        "least": ("of the range that was forecast before the first epoch", "least"),
        "most": ("of that range", "most"),
        "budget": ("that was to be kept; none where there was none", "budget"),
        "spent": ("recorded", "spent"),
        "left": ("still to come; none where not known", "left"),
        "clock": ("seconds that the search took in all, which a budget in hours is of", "clock"),
        "verdict": (
            "spent is within, above or below the range; none where that cannot be said yet",
            "verdict",
        ),
    }
    return table("plan", "What was forecast, against what came.", columns, contents.plan)


def costs(contents: Contents) -> Table:
    """Forecast and actual cost by group."""
    columns: Columns = {
        "group": ("cost group; none: all of them together", "group"),
        "candidates": ("that took part", "candidates"),
        "replicas": ("further trainings, which measure the noise; counted in", "replicas"),
        "epochs_least": ("forecast before the first one", "epochs_planned.least"),
        "epochs_most": ("the same", "epochs_planned.most"),
        "epochs_trained": ("recorded", "epochs_trained"),
        "epochs_left": ("still to be trained", "epochs_left"),
        "epochs_off": (
            "trained and left, relative to the middle of the forecast, minus 1",
            "epochs_off",
        ),
        "work_least": (
            "MACs of one image, summed over the forecast epochs: the cheapest go on",
            "work_planned.least",
        ),
        "work_most": ("the same: the costliest go on", "work_planned.most"),
        "work_trained": ("the same, recorded", "work_trained"),
        "work_off": (
            "trained relative to the middle of the forecast, minus 1; at the end",
            "work_off",
        ),
        "seconds": ("of training and validation", "seconds"),
    }
    return table("costs", "Forecast and actual cost of a group.", columns, contents.costs)


def times(contents: Contents) -> Table:
    """Phases."""
    columns: Columns = {
        "phase": ("of the work", lambda pair: pair[0]),
        "seconds": ("spent", lambda pair: pair[1]),
    }
    return table("times", "Where the time went.", columns, contents.summary.seconds.items())
