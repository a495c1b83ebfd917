"""Speed of a search against plain Keras and KerasTuner: aggregate epochs a second.

    python -m benchmarks.studies.train_speed --candidates=4 --epochs=4

The same candidates are trained on the embedded digits by `search.run` with one worker and with
two, by a loop of `keras.Model.fit` (compile, RMSProp, validation every epoch, all cores), and by
KerasTuner's Hyperband where that is installed. The search trains the whole recipe (L2, averaged
weights, a checkpoint an epoch, the ledger) and eliminates nobody before the end. Hyperband decides
itself how many epochs it trains; they are counted. Each system runs in a process of its own, whose
imports are not counted; the start of worker processes is. Systems take turns, in both directions:
only the ratios mean something on a shared machine. A second table says where the time of the
searches went. Unlike `latency`, this needs the whole package and TensorFlow.
"""

from __future__ import annotations

import functools
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from absl import flags

from efficientnet_elite.benchmarks.studies import program
from efficientnet_elite.config import PRESETS, EngineConfig, SearchConfig
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.ledger import Ledger

FLAGS = flags.FlagValues()
flags.DEFINE_integer("candidates", 4, "Networks to train.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("epochs", 4, "Epochs a training.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("base_resolution", 32, "Input side at coefficient 1.", flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Of the choice of candidates.", flag_values=FLAGS)
flags.DEFINE_integer("turns", 1, "Runs of each system.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_list("workers", ["1", "2"], "Numbers of workers to search with.", flag_values=FLAGS)
flags.DEFINE_boolean("tuner", True, "Compare with KerasTuner, if installed.", flag_values=FLAGS)

_FIT, _TUNER = "Keras fit", "KerasTuner Hyperband"


@dataclass
class Cost:
    """What a system has done, and how long it took.

    Attributes:
      epochs: trained by all candidates together.
      seconds: on the clock.
      phases: seconds of all workers together by what they did.
    """

    epochs: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)

    def add(self, other: Cost) -> None:
        """Adds another run of the same system."""
        self.epochs += other.epochs
        self.seconds += other.seconds
        for name, seconds in other.phases.items():
            self.phases[name] = self.phases.get(name, 0.0) + seconds


class Stopwatch:
    """Seconds by phase; a phase within another stops the outer one's clock."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.phases: defaultdict[str, float] = defaultdict(float)
        self._clock, self._since = clock, clock()
        self._stack: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within this context the clock runs for ``name``."""
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def _switch(self) -> None:
        now = self._clock()
        if self._stack:
            self.phases[self._stack[-1]] += now - self._since
        self._since = now

    @contextmanager
    def watch(self, owner: Any, names: Sequence[str], phase: str) -> Iterator[None]:
        """A context in which calls of some functions of a class or module belong to a phase."""

        def watched(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                with self.phase(phase):
                    return function(*args, **kwargs)

            return call

        with ExitStack() as stack:
            for name in names:
                stack.enter_context(mock.patch.object(owner, name, watched(getattr(owner, name))))
            yield


def search_once(config: SearchConfig, workers: int, workdir: Path) -> Cost:
    """A search from its start to its end."""
    from efficientnet_elite.data.cache import ImageCache
    from efficientnet_elite.search import driver, run
    from efficientnet_elite.search.executors.pool import ProcessPool
    from efficientnet_elite.search.executors.protocol import OnEvent, Ready
    from efficientnet_elite.training.checkpoint import Checkpoint
    from efficientnet_elite.training.trainer import Trainer

    watch = Stopwatch()
    started = time.perf_counter()
    starts = 0.0
    wait = ProcessPool.wait

    def noting(pool: ProcessPool, on_event: OnEvent) -> None:
        def seen(slot: int, event: Any) -> None:
            nonlocal starts
            if isinstance(event, Ready):
                starts += time.perf_counter() - started
            on_event(slot, event)

        wait(pool, seen)

    recording = [name for name in vars(Ledger) if name.startswith("record_")]
    with ExitStack() as stack:
        for watched in (
            watch.watch(driver, ["drive"], "scheduling"),
            watch.watch(Ledger, recording, "ledger"),
            watch.watch(ImageCache, ["keep"], "decoding, resizing"),
            watch.watch(Trainer, ["__init__"], "graph building"),
            watch.watch(Trainer, ["_train_epoch"], "training"),
            watch.watch(Trainer, ["_accuracy"], "validation"),
            watch.watch(Checkpoint, ["save"], "checkpoints"),
            mock.patch.object(ProcessPool, "wait", noting),
        ):
            stack.enter_context(watched)
        with watch.phase("start, end"):
            engine = EngineConfig(workers=workers if workers > 1 else None)
            run.run(config, workdir, engine=engine, progress=False)
    seconds = time.perf_counter() - started
    with Ledger(workdir) as ledger:
        epochs = [epoch for trained in ledger.epochs().values() for epoch in trained]
        building = ledger.timings()["graph building"]
    phases: dict[str, float] = watch.phases
    if workers == 1:
        # The first step of a training instantiates its kernels: that is building, says the ledger.
        phases["training"] -= building - phases["graph building"]
        phases["graph building"] = building
    else:
        # What happens in workers is seen through the ledger alone.
        training = sum(epoch.seconds for epoch in epochs)
        phases = {
            "start of workers": starts,
            "graph building": building,
            "training, validation": training,
            "checkpoints, waiting": workers * seconds - starts - building - training,
        }
    return Cost(len(epochs), seconds, phases)


def fit_once(config: SearchConfig, specs: Sequence[ArchSpec]) -> Cost:
    """A plain loop over the candidates."""
    data = _data(config)
    started = time.perf_counter()
    for spec in specs:
        model, batches, steps, validation = _compiled(spec, config, data)
        model.fit(
            batches,
            epochs=config.train.epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            verbose=0,
        )
    return Cost(len(specs) * config.train.epochs, time.perf_counter() - started)


def tune_once(config: SearchConfig, specs: Sequence[ArchSpec], folder: Path) -> Cost:
    """Hyperband over the candidates as values of its only hyperparameter."""
    import keras
    import keras_tuner

    data, trained = _data(config), 0
    by_name = {spec.name: spec for spec in specs}

    class Counting(keras.callbacks.Callback):
        """Counts the epochs of all trials."""

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            nonlocal trained
            trained += 1

    class Candidates(keras_tuner.HyperModel):
        """A candidate and the images at its size."""

        def build(self, hp: Any) -> Any:
            spec = by_name[hp.Choice("candidate", list(by_name))]
            model, *self._inputs = _compiled(spec, config, data)
            return model

        def fit(self, hp: Any, model: Any, *args: Any, callbacks: Any, **kwargs: Any) -> Any:
            batches, steps, validation = self._inputs
            return model.fit(
                batches,
                steps_per_epoch=steps,
                validation_data=validation,
                callbacks=[*callbacks, Counting()],
                verbose=0,
                epochs=kwargs["epochs"],
                initial_epoch=kwargs["initial_epoch"],
            )

    tuner = keras_tuner.Hyperband(
        Candidates(),
        objective="val_accuracy",
        max_epochs=config.train.epochs,
        factor=2,
        seed=config.seed,
        directory=str(folder),
        project_name="tuner",
    )
    started = time.perf_counter()
    tuner.search(verbose=0)
    return Cost(trained, time.perf_counter() - started)


def _data(config: SearchConfig) -> Any:
    from efficientnet_elite import data as data_lib

    return data_lib.load(config.data, max_side=config.base_resolution * 3 // 2, progress=False)


def _compiled(spec: ArchSpec, config: SearchConfig, data: Any) -> tuple[Any, Any, int, Any]:
    """A network ready to fit, training batches, steps an epoch, validation batches."""
    import keras

    from efficientnet_elite import data as data_lib
    from efficientnet_elite.networks.build import build

    model = build(spec)
    model.compile(
        keras.optimizers.RMSprop(0.001, rho=0.9, momentum=0.9, epsilon=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    side, size = spec.resolution, config.train.batch_size
    batches, steps = data_lib.train_batches(data, resolution=side, batch_size=size, seed=0)
    validation = data_lib.eval_batches(
        data,
        "validation",
        resolution=side,
        batch_size=size,
        base_resolution=config.base_resolution,
    )
    return model, batches, steps, validation


def apart(function: Callable[..., Cost], *arguments: Any) -> Cost:
    """Calls a function in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answers, other_end = context.Pipe(duplex=False)
    # Not daemonic: a search starts processes of its own.
    process = context.Process(target=_answer, args=(other_end, function, arguments))
    process.start()
    other_end.close()
    try:
        cost: Cost = answers.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__} failed") from None
    finally:
        process.join()
    return cost


def _answer(pipe: Any, function: Callable[..., Cost], arguments: Sequence[Any]) -> None:
    from efficientnet_elite.search import run  # noqa: F401  # imports are not counted

    pipe.send(function(*arguments))


def main(argv: Sequence[str]) -> None:
    """Runs all systems in turns and prints the tables."""
    preset = PRESETS["quick"]()
    config = replace(
        preset,
        groups=1,
        max_candidates=FLAGS.candidates,
        round_epochs=FLAGS.epochs,
        rule="average",  # whose only cut is at the very end
        base_resolution=FLAGS.base_resolution,
        seed=FLAGS.seed,
        train=replace(preset.train, epochs=FLAGS.epochs),
    )
    searches = {f"search, workers={n}": int(n) for n in FLAGS.workers}
    systems = [_FIT, *searches]
    if FLAGS.tuner and find_spec("keras_tuner"):
        systems.append(_TUNER)
    costs = {system: Cost() for system in systems}
    specs = _specs(config)
    for turn in range(FLAGS.turns):
        for system in systems[:: -1 if turn % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                if system in searches:
                    cost = apart(search_once, config, searches[system], Path(folder))
                elif system == _FIT:
                    cost = apart(fit_once, config, specs)
                else:
                    cost = apart(tune_once, config, specs, Path(folder))
            costs[system].add(cost)
            print(f"{system}: {cost.epochs} epochs in {cost.seconds:.1f} s", flush=True)
    print("\n".join(["", ", ".join(spec.name for spec in specs), *_table(costs)]))


def _specs(config: SearchConfig) -> list[ArchSpec]:
    """The networks that the search will draw."""
    from efficientnet_elite.search import run

    return [candidate.spec for candidate in run.choose(config, classes=10).candidates]


def _table(costs: dict[str, Cost]) -> list[str]:
    plain = costs[_FIT].epochs / costs[_FIT].seconds
    lines = [f"{'':22} {'epochs':>7} {'seconds':>8} {'epochs/s':>9} {'x fit':>6}"]
    for system, cost in costs.items():
        rate = cost.epochs / cost.seconds
        lines.append(
            f"{system:22} {cost.epochs:7} {cost.seconds:8.1f} {rate:9.3f} {rate / plain:6.2f}"
        )
    for system, cost in costs.items():
        whole = sum(cost.phases.values())
        if whole:
            lines += ["", f"{system}: share of the workers' time"]
            largest_first = sorted(cost.phases.items(), key=lambda phase: -phase[1])
            lines += [f"  {n:22} {s:8.2f} s {s / whole:7.2%}" for n, s in largest_first]
    return lines


if __name__ == "__main__":
    main(program.parse(FLAGS, sys.argv))
