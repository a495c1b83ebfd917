"""Tables of the tournament, of its noise and of its cost."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from efficientnet_elite.report.columns import Columns, Table, joined, of_epoch, table
from efficientnet_elite.report.contents import Contents
from efficientnet_elite.report.cost import Training
from efficientnet_elite.search.decisions import decision_text
from efficientnet_elite.search.noise import Repeat


def eliminations(contents: Contents) -> Table:
    """One row for each elimination."""
    columns: Columns = {
        "group": ("cost group", "group"),
        "round": ("number of the round, from 1", "round"),
        "epoch": ("epoch after which the elimination took place", "epoch"),
        "went_on": ("number of candidates that went on", lambda decided: len(decided.surviving)),
        "eliminated": ("number of candidates that left", lambda decided: len(decided.eliminated)),
        "gap": (
            "score of the last candidate that went on minus that of the first that left",
            "gap",
        ),
        "too_close_to_call": ("whether the gap is below the noise of a score", "close"),
    }
    return table(
        "eliminations", "An elimination, which ends a round of a group.", columns, contents.rounds
    )


def decisions(contents: Contents) -> Table:
    """Every decision."""

    def in_int8(field: str) -> Callable[[Any], float | None]:
        def get(pair: Any) -> float | None:
            result = contents.int8.get(pair[1].candidate, {}).get(pair[0].epoch)
            return None if result is None else getattr(result, field)

        return get

    columns: Columns = {
        "group": ("cost group", lambda pair: pair[0].group),
        "round": ("number of the round, from 1", lambda pair: pair[0].round),
        "epoch": ("epoch after which the elimination took place", lambda pair: pair[0].epoch),
        "candidate": ("name of the candidate", lambda pair: pair[1].candidate),
        "rank": ("rank in the round, from 1", lambda pair: pair[1].rank),
        "score": (
            "score by the rule of elimination; none where training failed",
            lambda pair: pair[1].score if pair[1].scored else None,
        ),
        "margin": (
            "score minus that of the first candidate that left, or of the last that went on",
            lambda pair: pair[0].margin(pair[1]),
        ),
        "survives": ("whether it goes on", lambda pair: pair[1].survives),
        "too_close_to_call": (
            "whether the margin is below the noise of a score",
            lambda pair: pair[1].close,
        ),
        "noise": (
            "standard deviation of a score between seeds, as assumed; none where not recorded",
            lambda pair: pair[1].noise,
        ),
        "trainings": (
            "number of trainings with other seeds that the score is the mean of; none where it is "
            "that of one",
            lambda pair: pair[1].trainings,
        ),
        "cause": (
            "ranked, failed, late (no score when time was up) or successor (of a failed champion)",
            lambda pair: str(pair[1].cause),
        ),
        "int8_accuracy": (
            "int8 accuracy after this epoch on the validation part; none where it was not measured "
            "or the network has no int8 form",
            in_int8("int8_accuracy"),
        ),
        "float_accuracy": (
            "float32 accuracy of the same weights on the same images",
            in_int8("float_accuracy"),
        ),
        "reason": ("the decision in words", lambda pair: decision_text(pair[1])),
    }
    pairs = [(decided, d) for decided in contents.rounds for d in decided.decisions]
    return table("decisions", "What an elimination decided about a candidate.", columns, pairs)


def rules(contents: Contents) -> Table:
    """How far the rules agree."""
    columns: Columns = {
        "rule": ("name of the rule of elimination", "rule"),
        "used": ("whether the search used this rule", "used"),
        "eliminations": ("number of eliminations to which the rule was applied", "eliminations"),
        "same": ("number of these that would have had the same survivors", "same"),
        "other_choices": (
            "number of candidates that went on and that it would have eliminated",
            "others",
        ),
        "champions_eliminated": (
            "names of the champions among them",
            joined("champions_eliminated"),
        ),
        "pairs": (
            "number of pairs of candidates that both went on and were trained further",
            "pairs",
        ),
        "pairs_right": (
            "number of these that it ranked in the order of their later accuracy",
            "right",
        ),
    }
    about = "A rule of elimination, applied at every elimination of this search."
    return table("rules", about, columns, contents.agreement)


def rule_choices(contents: Contents) -> Table:
    """What other rules would have decided at each elimination."""
    columns: Columns = {
        "rule": ("name of the rule of elimination", "rule"),
        "group": ("cost group", "group"),
        "round": ("number of the round, from 1", "round"),
        "epoch": ("epoch after which the elimination took place", "epoch"),
        "keeps_instead": ("candidates that left and would have gone on", joined("keeps_instead")),
        "eliminates_instead": (
            "candidates that went on and would have left",
            joined("eliminates_instead"),
        ),
        "pairs": ("as in the table rules, for this elimination", "pairs"),
        "pairs_right": ("as in the table rules, for this elimination", "right"),
    }
    about = "What a rule would have decided at an elimination with the same number of survivors."
    return table("rule_choices", about, columns, contents.choices)


def noise(contents: Contents) -> Table:
    """Trainings with several seeds."""
    columns: Columns = {
        "training": ("name of the candidate, or of its repeat", "name"),
        "candidate": ("the candidate that was trained", "candidate"),
        "group": ("cost group of the candidate", "group"),
        "seed": ("number added to the seed of the search; 0 for the candidate itself", "seed"),
        "epoch": ("epoch of the first elimination, after which scores are compared", "epoch"),
        "score": ("score after that epoch; none before", "score"),
        "failure": ("why training failed; none where it did not", "failure"),
    }
    about = "A training that measures the noise of a score (--seeds)."
    return table("noise", about, columns, contents.trainings)


def repeat_curves(contents: Contents) -> Table:
    """Learning curves of repeats, which are no candidates."""
    columns: Columns = {
        "repeat": ("name of the repeat", lambda pair: pair[0].name),
        "candidate": ("the candidate that was trained", lambda pair: pair[0].candidate),
        "seed": ("number added to the seed of the search", lambda pair: pair[0].seed),
        **of_epoch(itemgetter(1)),
        "seconds": ("seconds of training and validation", lambda pair: pair[1].seconds),
    }
    repeats: list[Training | Repeat] = [t for t in contents.trainings if t.seed]
    repeats += contents.further
    pairs = [(repeat, e) for repeat in repeats for e in contents.epochs.get(repeat.name, ())]
    about = (
        "An epoch of a repeat, a further training of a candidate that measures the noise, or of a "
        "finalist; or of the final training of a champion, with seed 0."
    )
    return table("repeat_curves", about, columns, pairs)


def halts(contents: Contents) -> Table:
    """What was ended early to keep a budget in hours."""
    columns: Columns = {
        "group": ("cost group", lambda pair: pair[0]),
        "round": (
            "round in which the tournament was ended early; none if it was not",
            lambda pair: pair[1].round,
        ),
        "epoch": (
            "epoch from which the scores of that round were taken",
            lambda pair: pair[1].epoch,
        ),
        "champion_epochs": (
            "epochs after which the training of the champion ended; none if it was not shortened",
            lambda pair: pair[1].end,
        ),
    }
    about = "A group that was ended early to keep a budget in hours."
    return table("halts", about, columns, sorted(contents.halts.items()))


def forecast(contents: Contents) -> Table:
    """Forecast of the whole search."""
    columns: Columns = {
        "unit": (
            "epochs, or seconds of training and graph building of all workers together",
            "unit",
        ),
        "least": ("lower end of the forecast before the first epoch", "least"),
        "most": ("upper end of that forecast", "most"),
        "budget": ("budget of the search; none where there was none", "budget"),
        "spent": ("actual cost so far", "spent"),
        "left": ("expected further cost; none where it is not known", "left"),
        "clock": (
            "seconds that the runs of the search took, which a budget in hours limits",
            "clock",
        ),
        "verdict": (
            "whether the actual cost is within, above or below the forecast; none if not known yet",
            "verdict",
        ),
    }
    return table(
        "forecast",
        "The forecast before the search and the actual cost so far.",
        columns,
        contents.forecast_checks,
    )


def costs(contents: Contents) -> Table:
    """Forecast and actual cost by group."""
    columns: Columns = {
        "group": ("cost group; none for all groups together", "group"),
        "candidates": ("number of candidates in the tournament", "candidates"),
        "repeats": ("number of repeats, which measure the noise; included in the cost", "repeats"),
        "epochs_least": ("lower end of the forecast of epochs", "epochs_forecast.least"),
        "epochs_most": ("upper end of it", "epochs_forecast.most"),
        "epochs_trained": ("epochs trained so far", "epochs_trained"),
        "epochs_left": ("epochs still to be trained", "epochs_left"),
        "epochs_off": (
            "epochs trained and left, divided by the middle of the forecast, minus 1",
            "epochs_off",
        ),
        "work_least": (
            "MACs of one image, summed over the forecast epochs, if the cheapest candidates go on",
            "work_forecast.least",
        ),
        "work_most": ("the same if the costliest candidates go on", "work_forecast.most"),
        "work_trained": ("MACs of one image, summed over the epochs trained", "work_trained"),
        "work_off": (
            "work trained, divided by the middle of the forecast, minus 1; none before the end",
            "work_off",
        ),
        "seconds": ("seconds of training and validation", "seconds"),
    }
    return table("costs", "Forecast and actual cost of a group.", columns, contents.costs)


def times(contents: Contents) -> Table:
    """Time by phase of the work."""
    columns: Columns = {
        "phase": ("phase of the search", lambda pair: pair[0]),
        "seconds": ("seconds spent in it", lambda pair: pair[1]),
    }
    return table("times", "Where the time went.", columns, contents.summary.seconds.items())
