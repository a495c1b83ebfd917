"""The comparison of training speeds: its clock, and one real, tiny run."""

import re
import subprocess
import sys

import pytest

from efficientnet_elite.benchmarks.studies.train_speed import Stopwatch, TrainingTime, table_lines


def test_a_phase_within_another_stops_the_outer_clock():
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0])
    watch = Stopwatch(clock=lambda: next(times))

    class Worker:
        def outer(self):
            self.inner()

        def inner(self):
            return None

    with (
        watch.watch(Worker, ["outer"], "building"),
        watch.watch(Worker, ["inner"], "saving"),
        watch.phase("rest"),  # from 1
    ):
        Worker().outer()  # from 3; inner from 6 to 10, then to 15; rest to 21
    assert watch.phases == {"rest": 2 + 6, "building": 3 + 5, "saving": 4}
    Worker().outer()  # watched no more
    assert sum(watch.phases.values()) == 20


def test_the_clock_runs_on_after_an_exception():
    times = iter([0.0, 0.0, 2.0, 5.0, 6.0])
    watch = Stopwatch(clock=lambda: next(times))
    with watch.phase("rest"), pytest.raises(ValueError), watch.phase("failing"):
        raise ValueError
    assert watch.phases == {"failing": 3, "rest": 3}


def test_ratios_are_of_epochs_a_second():
    times = {
        "Keras fit": TrainingTime(4, 8.0),
        "search": TrainingTime(6, 4.0, {"training": 3.0, "ledger": 1.0}),
    }
    _, fit, search, *rest = table_lines(times)
    assert fit.split()[-3:] == ["8.0", "0.500", "1.00"]
    assert search.split()[-3:] == ["4.0", "1.500", "3.00"]
    assert [line.split()[-1] for line in rest[2:]] == ["75.00%", "25.00%"]


@pytest.mark.slow
def test_all_systems_train_the_same_candidates():
    pytest.importorskip("keras_tuner")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.studies.train_speed",
            "--candidates=1",
            "--epochs=2",
            "--base_resolution=8",
            "--seed=290",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^([\w ,=]+): (\d+) epochs in", done.stdout, re.MULTILINE))
    tuner = int(found.pop("KerasTuner Hyperband"))
    assert found == {"Keras fit": "2", "search, workers=1": "2", "search, workers=2": "2"}
    assert tuner >= 1
    shares = [float(s) for s in re.findall(r"([\d.]+)%$", done.stdout, re.MULTILINE)]
    assert sum(shares) == pytest.approx(200, abs=1)  # every second of both searches is somewhere
