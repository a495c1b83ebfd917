"""Tables of the tournament, of its noise and of its cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from efficientnet_elite.report.columns import Columns, Table, joined, table
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.search.decisions import decision_text


def eliminations(contents: Contents) -> Table:
    """One row for each elimination."""
    columns: Columns = {
        "group": ("cost group", "group"),
        "round": ("from 1", "round"),
        "epoch": ("after which it was decided", "epoch"),
        "went_on": ("number of candidates that went on", lambda decided: len(decided.surviving)),
        "eliminated": ("number of candidates that left", lambda decided: len(decided.eliminated)),
        "gap": (
            "score of the last one that went on minus that of the first that left",
            "gap",
        ),
        "too_close_to_call": ("the gap is below the noise of a score", "close"),
    }
    return table("eliminations", "The end of a round of a group.", columns, contents.rounds)


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
            "by the rule of elimination; none where training failed",
            lambda pair: pair[1].score if pair[1].scored else None,
        ),
        "margin": (
            "score minus that of the first candidate that left, or of the last that went on",
            lambda pair: pair[0].margin(pair[1]),
        ),
        "survives": ("whether it goes on", lambda pair: pair[1].survives),
        "too_close_to_call": (
            "the margin is below the noise of a score",
            lambda pair: pair[1].close,
        ),
        "noise": (
            "standard deviation of a score between seeds that was assumed; none where not recorded",
            lambda pair: pair[1].noise,
        ),
        "cause": (
            "ranked, failed, late (no score when time was up) or successor (of a failed champion)",
            lambda pair: str(pair[1].cause),
        ),
        "int8_accuracy": (
            "of this epoch, on the validation part; none where it was not measured or the network "
            "has no int8 form",
            in_int8("int8_accuracy"),
        ),
        "float_accuracy": ("of the same weights on the same images", in_int8("float_accuracy")),
        "reason": ("the decision in words", lambda pair: decision_text(pair[1])),
    }
    pairs = [(decided, d) for decided in contents.rounds for d in decided.decisions]
    return table("decisions", "What an elimination decided about a candidate.", columns, pairs)


def rules(contents: Contents) -> Table:
    """How far the rules agree."""
    columns: Columns = {
        "rule": ("of elimination", "rule"),
        "used": ("whether the search was decided by it", "used"),
        "eliminations": ("number of eliminations that it was applied to", "eliminations"),
        "same": ("how many of them would have had the same survivors", "same"),
        "other_choices": ("candidates that went on and that it would have eliminated", "others"),
        "champions_eliminated": ("champions among them", joined("champions_eliminated")),
        "pairs": ("of candidates that both went on and could be compared later", "pairs"),
        "pairs_right": ("that it ordered as their accuracy was then", "right"),
    }
    about = "A rule of elimination, applied at every elimination of this search."
    return table("rules", about, columns, contents.agreement)


def rule_choices(contents: Contents) -> Table:
    """What other rules would have decided at each elimination."""
    columns: Columns = {
        "rule": ("of elimination", "rule"),
        "group": ("cost group", "group"),
        "round": ("from 1", "round"),
        "epoch": ("after which it was decided", "epoch"),
        "keeps_instead": ("who left and would have gone on", joined("keeps_instead")),
        "eliminates_instead": ("who went on and would have left", joined("eliminates_instead")),
        "pairs": ("see the table of rules", "pairs"),
        "pairs_right": ("see the table of rules", "right"),
    }
    about = "What a rule would have decided at an elimination, with as many going on."
    return table("rule_choices", about, columns, contents.choices)


def noise(contents: Contents) -> Table:
    """Trainings with several seeds."""
    columns: Columns = {
        "training": ("name of the candidate, or of its repeat", "name"),
        "candidate": ("the candidate that was trained", "candidate"),
        "group": ("the candidate's", "group"),
        "seed": ("added to the search's; 0: the candidate itself", "seed"),
        "epoch": ("of the first elimination, after which scores are compared", "epoch"),
        "score": ("of the accuracies up to then; none before", "score"),
        "failure": ("why it could not go on, if it could not", "failure"),
    }
    about = "A training that measures the noise of a score (--seeds)."
    return table("noise", about, columns, contents.trainings)


def repeat_curves(contents: Contents) -> Table:
    """Learning curves of repeats, which are no candidates."""
    columns: Columns = {
        "replica": ("its name", lambda pair: pair[0].name),
        "candidate": ("the candidate that was trained", lambda pair: pair[0].candidate),
        "seed": ("added to the search's", lambda pair: pair[0].seed),
        "epoch": ("from 1", lambda pair: pair[1].epoch),
        "validation_accuracy": (
            "of the averaged weights",
            lambda pair: pair[1].validation_accuracy,
        ),
        "train_loss": ("mean over the epoch's steps", lambda pair: pair[1].train_loss),
        "seconds": ("of training and validation", lambda pair: pair[1].seconds),
    }
    repeats = [training for training in contents.trainings if training.seed]
    pairs = [(repeat, e) for repeat in repeats for e in contents.epochs.get(repeat.name, ())]
    about = "An epoch of a repeat, a second training of a candidate that measures the noise."
    return table("replica_curves", about, columns, pairs)


def halts(contents: Contents) -> Table:
    """What was ended early to keep a budget in hours."""
    columns: Columns = {
        "group": ("cost group", lambda pair: pair[0]),
        "round": (
            "that ended the tournament early; none: it ended by itself",
            lambda pair: pair[1].round,
        ),
        "epoch": ("by whose scores that round was decided", lambda pair: pair[1].epoch),
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
        "unit": ("epochs, or seconds of training and graph building, all workers together", "unit"),
        "least": ("of the range that was forecast before the first epoch", "least"),
        "most": ("of that range", "most"),
        "budget": ("budget of the search; none where there was none", "budget"),
        "spent": ("recorded", "spent"),
        "left": ("still to come; none where not known", "left"),
        "clock": ("seconds that the search took in all, which a budget in hours is of", "clock"),
        "verdict": (
            "spent is within, above or below the range; none where that cannot be said yet",
            "verdict",
        ),
    }
    return table(
        "plan", "Forecast before the search, and what was spent.", columns, contents.forecast_checks
    )


def costs(contents: Contents) -> Table:
    """Forecast and actual cost by group."""
    columns: Columns = {
        "group": ("cost group; none: all of them together", "group"),
        "candidates": ("that took part", "candidates"),
        "replicas": ("repeats, which measure the noise; included in the cost", "repeats"),
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
    """Time by phase of the work."""
    columns: Columns = {
        "phase": ("of the work", lambda pair: pair[0]),
        "seconds": ("spent", lambda pair: pair[1]),
    }
    return table("times", "Where the time went.", columns, contents.summary.seconds.items())
