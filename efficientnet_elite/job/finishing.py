"""What follows the exports of a search or of trainings: latencies, model cards, the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from efficientnet_elite import report
from efficientnet_elite.export import beside
from efficientnet_elite.job.latencies import measure_exported
from efficientnet_elite.report import card


def finish(
    workdir: Path,
    *,
    changed: bool,
    on_message: Callable[[str], None],
    on_latencies: Callable[[str], None],
) -> Path:
    """Measures what is exported, and writes model cards and the report; returns the page's path.

    Args:
      workdir: of a search or of trainings.
      changed: whether files have changed since the last measurement.
      on_message: gets a line about each file that cannot be measured.
      on_latencies: gets the table of latencies as text if they were measured.
    """
    is_measured = (workdir / "benchmark.json").is_file() and not changed
    if not is_measured and any((workdir / beside.FOLDER).glob("*/*.tflite")):
        measurement = measure_exported(workdir)
        for fault in measurement.faults:
            on_message(fault)
        on_latencies(measurement.text)
    else:
        card.write_all(workdir)
    return report.write_page(workdir)
