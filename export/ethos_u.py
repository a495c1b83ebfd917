"""Cycles on an Arm Ethos-U, as Vela, its compiler, estimates them.

``pip install efficientnet-elite[ethos-u]``.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from efficientnet_elite.errors import UserError

ACCELERATOR = "ethos-u55-128"

_PROGRAM = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"


def check() -> None:
    """UserError where Vela is not installed."""
    if find_spec("ethosu") is None:
        raise UserError("Ethos-U cycles are estimated by Vela: pip install ethos-u-vela")


def cycles(model: Path) -> float:
    """Cycles of one inference of an int8 file on an Ethos-U55-128 (Vela's default memories).

    UserError where Vela is missing or cannot compile the model.
    """
    check()
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--accelerator-config={ACCELERATOR}", f"--output-dir={folder}", str(model)]
        command = [sys.executable, "-c", _PROGRAM, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        summaries = list(Path(folder).glob("*_summary_*.csv"))
        if done.returncode or not summaries:
            output = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise UserError(f"Vela cannot compile {model}: {output[-1] if output else 'no reason'}")
        with summaries[0].open() as file:
            (row,) = csv.DictReader(file)
    return float(row["cycles_total"])
