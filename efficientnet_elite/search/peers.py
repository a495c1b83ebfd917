"""Schedulers of Ray Tune and Optuna, played on recorded learning curves.

The real classes are given the curves epoch by epoch, as they are by the packages themselves.
Nothing is trained. Both packages are optional (``pip install efficientnet-elite[peers]``) and
imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.replay import Curve, GroupResult, Player


def peer_players() -> dict[str, Player]:
    """Name to player, for the packages that are installed; UserError where neither is."""
    players: dict[str, Player] = {}
    if find_spec("ray") is not None and find_spec("ray.tune") is not None:
        players |= _ray_players()
    if find_spec("optuna") is not None:
        players |= _optuna_players()
    if not players:
        raise UserError(
            "--peers needs Ray Tune or Optuna: pip install 'efficientnet-elite[peers]', "
            "or leave --peers out"
        )
    return players


def _ray_players() -> dict[str, Player]:
    from ray.tune.schedulers import ASHAScheduler

    def halving(grace: int, factor: int) -> Player:
        return _together(
            lambda epochs: ASHAScheduler(
                metric="accuracy",
                mode="max",
                max_t=epochs,
                grace_period=min(grace, epochs),
                reduction_factor=factor,
            )
        )

    return {"Ray Tune ASHA 10/2": halving(10, 2), "Ray Tune ASHA 1/4": halving(1, 4)}


def _together(make: Callable[[int], Any]) -> Player:
    """Plays a Tune scheduler with a worker a trial: all report epoch 1, then epoch 2, ..."""

    def play(group: Sequence[Curve]) -> GroupResult:
        epochs = len(group[0].accuracies)
        scheduler = make(epochs)
        # All that a scheduler of this kind looks at of a trial is its identity.
        trials = {curve.model: SimpleNamespace(trial_id=curve.model) for curve in group}
        for trial in trials.values():
            scheduler.on_trial_add(None, trial)
        racing, trained = list(group), dict[str, int]()
        for epoch in range(1, epochs + 1):
            for curve in list(racing):
                result = {"training_iteration": epoch, "accuracy": curve.accuracies[epoch - 1]}
                trained[curve.model] = epoch
                action = scheduler.on_trial_result(None, trials[curve.model], result)
                if action == scheduler.STOP or epoch == epochs:
                    scheduler.on_trial_complete(None, trials[curve.model], result)
                    racing.remove(curve)
        return _best(group, trained)

    return play


def _optuna_players() -> dict[str, Player]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruners = optuna.pruners
    makers: dict[str, Callable[[int], Any]] = {
        "Optuna successive halving 10/2": lambda epochs: pruners.SuccessiveHalvingPruner(
            min_resource=10, reduction_factor=2
        ),
        # By default the first five trials are never pruned: too many in a group of eight.
        "Optuna median 10": lambda epochs: pruners.MedianPruner(
            n_startup_trials=1, n_warmup_steps=10
        ),
        "Optuna Hyperband 10/3": lambda epochs: pruners.HyperbandPruner(
            min_resource=10, max_resource=epochs, reduction_factor=3
        ),
    }
    return {name: _in_turn(make) for name, make in makers.items()}


def _in_turn(make: Callable[[int], Any]) -> Player:
    """Plays an Optuna pruner as `Study.optimize` does by default: one trial after the other."""
    import optuna

    def play(group: Sequence[Curve]) -> GroupResult:
        sampler = optuna.samplers.RandomSampler(seed=0)
        pruner = make(len(group[0].accuracies))
        # Hyperband assigns a trial to a bracket by the study's name, else a random one.
        study = optuna.create_study(
            study_name="replay", direction="maximize", sampler=sampler, pruner=pruner
        )
        trained = {}
        for curve in group:
            trial = study.ask()
            state = optuna.trial.TrialState.COMPLETE
            for epoch, accuracy in enumerate(curve.accuracies, start=1):
                trained[curve.model] = epoch
                trial.report(accuracy, epoch)
                if epoch < len(curve.accuracies) and trial.should_prune():
                    state = optuna.trial.TrialState.PRUNED
                    break
            done = state == optuna.trial.TrialState.COMPLETE
            study.tell(trial, accuracy if done else None, state=state)
        return _best(group, trained)

    return play


def _best(group: Sequence[Curve], trained: dict[str, int]) -> GroupResult:
    """The trial with the best last accuracy, as both packages report it, trained to its end."""
    longest = max(trained.values())
    finalists = [curve for curve in group if trained[curve.model] == longest]
    chosen = max(finalists, key=lambda curve: curve.accuracies[longest - 1]).model
    return GroupResult(chosen, trained | {chosen: len(group[0].accuracies)}, trained[chosen])
