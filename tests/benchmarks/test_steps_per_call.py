"""The study of several steps in one call trains both ways and prints a row for each network."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_both_ways_are_measured():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.studies.steps_per_call"),
            *("--networks=elite9@32", "--batch_size=2", "--steps=2", "--turns=1", "--xla"),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    headings, *rows = done.stdout.splitlines()
    assert "2 steps a call" in headings
    (name, one, many, *saved, xla) = rows[-1].split()
    assert name == "elite9@32"
    assert float(one) > 0 < float(many) and float(xla) > 0
    assert float(saved[0]) == pytest.approx(100 * (1 - float(many) / float(one)), abs=0.5)
