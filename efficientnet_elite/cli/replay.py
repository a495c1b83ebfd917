"""Replays rules of elimination. Nothing is trained.

With --curves, rules are compared on recorded learning curves of complete trainings, from which
groups are drawn at random. For each rule the table shows these means with their standard errors:
- regret: final accuracy of the best model of a group minus that of its champion, in points;
- within 0.3: share of groups with a regret of at most 0.3 points;
- search epochs: epochs that a group was trained for until its champion was known;
- total epochs: the same with the champion's complete training.

The curves are a CSV file with a header and a row for each epoch. Its columns are model, epoch (from
1), validation_accuracy (in percent, or 0..1 if no value is above 1) and optionally train_loss;
other columns are ignored. All models must have been trained for the same number of epochs.

  elite replay --curves=curves.csv --rules=average,last,recommended --group_size=8

With --workdir, all decisions of a search are computed again from the epochs in its ledger. If they
differ from the recorded ones, the first difference is printed and the exit status is 1.

  elite replay --workdir=runs/digits
"""

from __future__ import annotations

import csv
import sys
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import settings
from efficientnet_elite.search import replay, rules
from efficientnet_elite.search.audit import audit
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.record import read_record
from efficientnet_elite.search.replay import Curve, Mean, RuleResult

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    "curves", None, "CSV file of learning curves on which rules are compared.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "workdir", None, "Work directory of the search to audit.", flag_values=FLAGS
)
absl_flags.DEFINE_list(
    "rules",
    [*rules.RULES],
    f"Rules to replay: {', '.join(rules.RULES)}, or recommended, which is {rules.RECOMMENDED}.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "groups", 120, "Number of groups that are drawn.", lower_bound=1, flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "group_size", 8, "Number of models in a group.", lower_bound=2, flag_values=FLAGS
)
for _parameter in rules.PARAMETERS:
    absl_flags.DEFINE_integer(
        _parameter, None, settings.help_of(_parameter), lower_bound=1, flag_values=FLAGS
    )
absl_flags.DEFINE_integer(
    "epochs",
    None,
    "Use only this many epochs of each curve, as if training had ended there.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "validation_images",
    None,
    "Number of images that the validation accuracies were measured on. The fewer they are, the "
    "less do rules trust the accuracies. By default they are taken to be many.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "seed",
    ["0"],
    "Random seed of the draw of groups. With several seeds, such as 0,1,2, --groups groups are "
    "drawn for each seed and the results are averaged over all groups.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "exclude",
    [],
    "Names of models to leave out, separated by commas; * stands for any characters.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_boolean(
    "train_loss",
    True,
    "Let the rules use the training losses, where they were recorded.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_boolean(
    "peers",
    False,
    "Also compare the schedulers of Ray Tune and Optuna on the same groups, if these are "
    "installed.",
    flag_values=FLAGS,
)
common.define_format(FLAGS)


def run(flags: Any, arguments: list[str]) -> int:
    """Prints the comparison, or the audit, to stdout; 1 where an audit finds a difference."""
    common.no_arguments(arguments)
    if (flags.curves is None) == (flags.workdir is None):
        raise UserError("give either --curves=FILE.csv or --workdir=DIR")
    if flags.workdir is not None:
        if other := [name for name in FLAGS if name != "workdir" and flags[name].present]:
            raise UserError(f"--{other[0]} is for --curves: --workdir has recorded settings")
        return _audit(common.workdir(flags))
    rows = _compare(flags)
    print(_FORMATS[flags.format](rows), end="")
    return 0


def _audit(workdir: Path) -> int:
    with Ledger(workdir) as ledger:
        result = audit(read_record(ledger))
    if result.difference is not None:
        print(f"decisions on record differ from what the epochs give. {result.difference}")
        return 1
    print(
        f"all {result.decisions} decisions on record, in {result.groups} groups, follow from the "
        "epochs on record"
    )
    return 0


def _compare(flags: Any) -> list[dict[str, Any]]:
    for name in ("rules", "seed"):
        if not flags[name].value:
            raise UserError(f"--{name}= names none: leave it out for the default")
    curves = _curves(flags)
    epochs = len(curves[0].accuracies)
    timing = {name: getattr(flags, name) for name in rules.PARAMETERS}
    for name, value in timing.items():
        if value is not None and value > epochs:
            raise UserError(f"{name}={value}: the curves have {epochs} epochs")
        for rule in flags.rules if value is not None else ():
            rules.check_parameter(rule, name)
    images = flags.validation_images or inf
    players = {name: replay.player(name, **timing, images=images) for name in flags.rules}
    if flags.peers:
        from efficientnet_elite.search import peers

        players |= peers.peer_players()
    groups = [
        group
        for seed in _seeds(flags.seed)
        for group in replay.draw(curves, flags.groups, flags.group_size, seed)
    ]
    paper_rounds = min(
        flags.round_epochs or rules.find_rule("average").default_round(epochs), epochs
    )
    p_avg, p_spe = replay.agreement(groups, paper_rounds)
    from tqdm import tqdm

    rows = []
    with tqdm(total=len(players) * len(groups), delay=3, file=sys.stderr, leave=False) as bar:
        for name, player in players.items():
            bar.set_description_str(name, refresh=False)
            result = replay.play_all(name, player, groups, on_group=bar.update)
            rows.append(_row(result, p_avg, p_spe))
    return rows


def _curves(flags: Any) -> list[Curve]:
    path = Path(flags.curves).expanduser()
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            curves = replay.read_curves(lines, str(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file ({error})") from error
    curves = [c for c in curves if not any(fnmatchcase(c.model, p) for p in flags.exclude)]
    if not curves:
        raise UserError(f"--exclude={','.join(flags.exclude)} leaves no model of {path}")
    if not flags.train_loss:
        curves = [Curve(curve.model, curve.accuracies) for curve in curves]
    return replay.aligned(curves, flags.epochs)


def _seeds(values: list[str]) -> list[int]:
    try:
        return [int(value) for value in values]
    except ValueError:
        raise UserError(f"seed={','.join(values)}: use whole numbers, as in 0,1,2") from None


def _row(result: RuleResult, p_avg: float, p_spe: float) -> dict[str, Any]:
    figures: dict[str, Mean] = {
        "regret": result.regret,
        "within_0_3": result.near,
        "search_epochs": result.search_epochs,
        "total_epochs": result.total_epochs,
    }
    row: dict[str, Any] = {"rule": result.rule}
    for name, figure in figures.items():
        row[name] = figure.mean
        # A single group has no standard error, and JSON no NaN.
        row[f"{name}_se"] = figure.error if figure.error == figure.error else None
    return {**row, "too_close_to_call": result.close, "P_avg": p_avg, "P_spe": p_spe}


def _table(rows: list[dict[str, Any]]) -> str:
    def cell(row: dict[str, Any], name: str, form: str) -> str:
        error = row[f"{name}_se"]
        return f"{row[name]:{form}} ± " + ("?" if error is None else f"{error:{form}}")

    cells = [["rule", "regret", "within 0.3", "search epochs", "total epochs", "too close to call"]]
    for row in rows:
        close = row["too_close_to_call"]
        cells.append(
            [
                row["rule"],
                cell(row, "regret", ".2f"),
                cell(row, "within_0_3", ".1%"),
                cell(row, "search_epochs", ".0f"),
                cell(row, "total_epochs", ".0f"),
                "" if close is None else f"{close:.0%} of eliminations",
            ]
        )
    return common.table(cells) + (
        f"ranking of four equals the final one after a round: P_avg {rows[0]['P_avg']:.1%}, "
        f"P_spe {rows[0]['P_spe']:.1%} of rounds\n"
    )


_FORMATS = {"table": _table, "json": common.as_json, "csv": common.as_csv}
