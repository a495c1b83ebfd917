"""Compares the training speed of a search with Keras and KerasTuner (docs/speed.md).

    python -m benchmarks.studies.train_speed --candidates=4 --epochs=4

Three systems train the same candidates on the embedded digits:

- a search with one worker and with two; it trains with the whole recipe (L2, averaged weights, a
  checkpoint after each epoch, the ledger) and eliminates no candidate before the last epoch;
- a loop of `keras.Model.fit` on all cores, with RMSProp and validation after each epoch;
- KerasTuner's Hyperband, if it is installed; it decides how many epochs it trains.

The program prints the epochs per second of all candidates together. Each system runs in its own
process. The time of imports is not included, but that of starting worker processes is. The systems
take turns, in alternating order: on a shared machine only the ratios are reliable. Further tables
show what the searches spent their time on.
"""

from __future__ import annotations

import functools
import multiprocessing
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

from efficientnet_elite.benchmarks.studies import command
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.recipes import PRESETS
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.ledger import Ledger

FLAGS = flags.FlagValues()
flags.DEFINE_integer("candidates", 4, "Number of networks.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
    "epochs", 4, "Number of epochs of each network.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "base_resolution", 32, "Input side in pixels at resolution coefficient 1.", flag_values=FLAGS
)
flags.DEFINE_integer("seed", 0, "Seed by which candidates are drawn.", flag_values=FLAGS)
flags.DEFINE_integer("turns", 1, "Number of runs of each system.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_list("workers", ["1", "2"], "Numbers of workers to search with.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "tuner", True, "Whether to compare with KerasTuner if it is installed.", flag_values=FLAGS
)

_FIT, _TUNER = "Keras fit", "KerasTuner Hyperband"


@dataclass
class TrainingTime:
    """How many epochs a system trained, and how long it took.

    Attributes:
      epochs: number of epochs of all candidates together.
      seconds: elapsed time.
      phases: name of a phase to its seconds, summed over all workers.
    """

    epochs: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)

    def add(self, other: TrainingTime) -> None:
        """Adds the epochs and seconds of another run of the same system."""
        self.epochs += other.epochs
        self.seconds += other.seconds
        for name, seconds in other.phases.items():
            self.phases[name] = self.phases.get(name, 0.0) + seconds


class Stopwatch:
    """Measures the seconds of phases. While an inner phase runs, the outer one's clock stops.

    Args:
      clock: returns the time in seconds.

    Attributes:
      phases: name of a phase to its seconds so far.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.phases: defaultdict[str, float] = defaultdict(float)
        self._clock, self._since = clock, clock()
        self._stack: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Returns a context in which the time counts for the phase `name`."""
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
        """Returns a context in which the time of certain functions counts for a phase.

        Args:
          owner: class or module with the functions.
          names: names of the functions.
          phase: name of the phase.
        """

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


def time_search(config: SearchConfig, workers: int, workdir: Path) -> TrainingTime:
    """Runs a search and measures its phases.

    Args:
      config: settings of the search.
      workers: number of workers; one trains in this process, several in processes of their own.
      workdir: new work directory.
    """
    from efficientnet_elite.data.cache import ImageCache
    from efficientnet_elite.search import driver, run
    from efficientnet_elite.search.executors.pool import ProcessPool
    from efficientnet_elite.search.executors.protocol import OnEvent, Ready
    from efficientnet_elite.training.checkpoint import Checkpoint
    from efficientnet_elite.training.trainer import Trainer

    watch = Stopwatch()
    started = time.perf_counter()
    worker_start_seconds = 0.0
    wait = ProcessPool.wait

    def wait_and_time_starts(pool: ProcessPool, on_event: OnEvent) -> None:
        def handle(slot: int, event: Any) -> None:
            nonlocal worker_start_seconds
            if isinstance(event, Ready):
                worker_start_seconds += time.perf_counter() - started
            on_event(slot, event)

        wait(pool, handle)

    ledger_writes = [name for name in vars(Ledger) if name.startswith("record_")]
    with ExitStack() as stack:
        for watched in (
            watch.watch(driver, ["drive"], "scheduling"),
            watch.watch(Ledger, ledger_writes, "ledger"),
            watch.watch(ImageCache, ["keep"], "decoding, resizing"),
            watch.watch(Trainer, ["__init__"], "graph building"),
            watch.watch(Trainer, ["_train_epoch"], "training"),
            watch.watch(Trainer, ["_tally"], "validation"),
            watch.watch(Checkpoint, ["save"], "checkpoints"),
            mock.patch.object(ProcessPool, "wait", wait_and_time_starts),
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
        # The first step of a training also builds TensorFlow's kernels. The ledger counts this time
        # as graph building, so it is moved from training to graph building here, too.
        phases["training"] -= building - phases["graph building"]
        phases["graph building"] = building
    else:
        # The phases in worker processes are known from the ledger only.
        training = sum(epoch.seconds for epoch in epochs)
        phases = {
            "start of workers": worker_start_seconds,
            "graph building": building,
            "training, validation": training,
            "checkpoints, waiting": workers * seconds - worker_start_seconds - building - training,
        }
    return TrainingTime(len(epochs), seconds, phases)


def time_keras_fit(config: SearchConfig, specs: Sequence[ArchSpec]) -> TrainingTime:
    """Trains the networks one after the other with `keras.Model.fit`."""
    data = _data(config)
    started = time.perf_counter()
    for spec in specs:
        model, batches, steps, validation = _compiled_model(spec, config, data)
        model.fit(
            batches,
            epochs=config.train.epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            verbose=0,
        )
    return TrainingTime(len(specs) * config.train.epochs, time.perf_counter() - started)


def time_hyperband(config: SearchConfig, specs: Sequence[ArchSpec], folder: Path) -> TrainingTime:
    """Runs KerasTuner's Hyperband; its only hyperparameter is which network to train."""
    import keras
    import keras_tuner

    data, trained = _data(config), 0
    by_name = {spec.name: spec for spec in specs}

    class EpochCounter(keras.callbacks.Callback):
        """Counts the epochs of all trials."""

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            nonlocal trained
            trained += 1

    class Candidates(keras_tuner.HyperModel):
        """Builds and trains the candidate that the tuner chooses."""

        def build(self, hp: Any) -> Any:
            spec = by_name[hp.Choice("candidate", list(by_name))]
            model, *self._inputs = _compiled_model(spec, config, data)
            return model

        def fit(self, hp: Any, model: Any, *args: Any, callbacks: Any, **kwargs: Any) -> Any:
            batches, steps, validation = self._inputs
            return model.fit(
                batches,
                steps_per_epoch=steps,
                validation_data=validation,
                callbacks=[*callbacks, EpochCounter()],
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
    return TrainingTime(trained, time.perf_counter() - started)


def _data(config: SearchConfig) -> Any:
    from efficientnet_elite import data as data_lib

    return data_lib.load(config.data, max_side=config.base_size.stored_side, progress=False)


def _compiled_model(spec: ArchSpec, config: SearchConfig, data: Any) -> tuple[Any, Any, int, Any]:
    """Returns a compiled network, training batches, steps per epoch and validation batches."""
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


def in_new_process(function: Callable[..., TrainingTime], *arguments: Any) -> TrainingTime:
    """Calls a function in a new process and returns its result.

    Raises:
      UserError: the process ended without a result; it has printed the reason to stderr.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    # The process is not daemonic, because daemonic processes cannot start the search's workers.
    process = context.Process(target=_call_and_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result: TrainingTime = receiver.recv()
    except EOFError:
        raise UserError(f"{function.__name__} failed") from None
    finally:
        process.join()
    return result


def _call_and_send(
    sender: Any, function: Callable[..., TrainingTime], arguments: Sequence[Any]
) -> None:
    # Import everything now, so that the time of imports is not measured.
    from efficientnet_elite.search import run  # noqa: F401

    sender.send(function(*arguments))


def main() -> None:
    """Runs all systems in turns and prints the tables to stdout."""
    preset = PRESETS["quick"]()
    config = replace(
        preset,
        groups=1,
        max_candidates=FLAGS.candidates,
        round_epochs=FLAGS.epochs,
        rule="average",  # with one round, its only elimination comes after the last epoch
        base_resolution=FLAGS.base_resolution,
        seed=FLAGS.seed,
        train=replace(preset.train, epochs=FLAGS.epochs),
    )
    searches = {f"search, workers={n}": int(n) for n in FLAGS.workers}
    systems = [_FIT, *searches]
    if FLAGS.tuner and find_spec("keras_tuner"):
        systems.append(_TUNER)
    times = {system: TrainingTime() for system in systems}
    specs = _specs(config)
    for turn in range(FLAGS.turns):
        for system in systems[:: -1 if turn % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                if system in searches:
                    result = in_new_process(time_search, config, searches[system], Path(folder))
                elif system == _FIT:
                    result = in_new_process(time_keras_fit, config, specs)
                else:
                    result = in_new_process(time_hyperband, config, specs, Path(folder))
            times[system].add(result)
            print(f"{system}: {result.epochs} epochs in {result.seconds:.1f} s", flush=True)
    print("\n".join(["", ", ".join(spec.name for spec in specs), *table_lines(times)]))


def _specs(config: SearchConfig) -> list[ArchSpec]:
    """Returns the networks that the search draws from the pool."""
    from efficientnet_elite.search import run

    return [candidate.spec for candidate in run.choose(config, classes=10).candidates]


def table_lines(times: dict[str, TrainingTime]) -> list[str]:
    """Returns the lines of the tables, from each system's name and its training time."""
    fit = times[_FIT]
    lines = [f"{'':22} {'epochs':>7} {'seconds':>8} {'epochs/s':>9} {'x fit':>6}"]
    for system, result in times.items():
        rate = result.epochs / result.seconds
        ratio = rate / (fit.epochs / fit.seconds)
        lines.append(
            f"{system:22} {result.epochs:7} {result.seconds:8.1f} {rate:9.3f} {ratio:6.2f}"
        )
    for system, result in times.items():
        total = sum(result.phases.values())
        if total:
            lines += ["", f"{system}: share of the workers' time"]
            longest_first = sorted(result.phases.items(), key=lambda phase: -phase[1])
            lines += [
                f"  {name:22} {seconds:8.2f} s {seconds / total:7.2%}"
                for name, seconds in longest_first
            ]
    return lines


if __name__ == "__main__":
    command.run(FLAGS, main)
