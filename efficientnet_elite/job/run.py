"""The whole job: images, search, export, benchmark, report."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientnet_elite import report
from efficientnet_elite.benchmarks.latency import cpu_name
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import starts
from efficientnet_elite.job.latencies import measure_champions
from efficientnet_elite.job.results import Champion, champions_of
from efficientnet_elite.job.settings import setting_types

if TYPE_CHECKING:
    from efficientnet_elite.data import SkippedImage


@dataclass(frozen=True)
class SearchResult:
    """The results of a search.

    Attributes:
      champions: one for each group that has one, heaviest group first.
      report: path of ``report.html``; None where export was turned off.
      workdir: the work directory.
      skipped: images that could not be used, with the reason.
    """

    champions: tuple[Champion, ...]
    report: Path | None
    workdir: Path
    skipped: tuple[SkippedImage, ...]


class ExportError(UserError):
    """Champions could not be exported; ``result`` holds those that could, and the report."""

    def __init__(self, message: str, result: SearchResult):
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type, tuple[str, SearchResult]]:
        """Both arguments, so that the error passes from one process to another."""
        return type(self), (str(self), self.result)


def _ignore(value: object) -> None:
    """Ignores its arguments."""


def search(
    config: SearchConfig,
    workdir: Path,
    *,
    given: Collection[str] | None = None,
    engine: EngineConfig | None = None,
    export: bool = True,
    progress: bool = True,
    on_message: Callable[[str], None] = _ignore,
    on_skipped: Callable[[SkippedImage], None] = _ignore,
    on_latencies: Callable[[str], None] = _ignore,
) -> SearchResult:
    """Searches, then exports, verifies and benchmarks the champions and writes the report.

    Everything lies in the work directory. The same call continues a search that was interrupted at
    any point, and repeats no step that is done.

    Args:
      config: settings of the search; to continue one they must be the same.
      workdir: the work directory; it is created where it is missing.
      given: dotted names of the settings that the user gave himself; by default all. Where networks
        start from pretrained weights, the others are replaced by those that suit them (`starts`).
      engine: where candidates are trained; by default one after the other in this process.
      export: whether to export, benchmark and report when the search is finished.
      progress: whether to show progress bars on stderr.
      on_message: gets a line about each thing that a user should know while it goes on.
      on_skipped: gets each image that cannot be used, as soon as it is known.
      on_latencies: gets the table of latencies as text when the champions were measured.

    Raises:
      UserError: wrong images or settings, a work directory of another search or one that is in use,
        or no candidate that could be trained to the end.
      ExportError: some champions could not be exported; all other steps are done.
    """
    from efficientnet_elite.export import workdir as export_workdir
    from efficientnet_elite.export.int8.quantizer import int8_form
    from efficientnet_elite.export.measure import Measurer
    from efficientnet_elite.search import run as search_run

    skipped: list[SkippedImage] = []

    def skip(image: SkippedImage) -> None:
        skipped.append(image)
        on_skipped(image)

    given = [*setting_types()] if given is None else given
    kinds = starts.kinds_of_pool(config.pool)
    recorded = search_run.recorded_config(workdir)
    if recorded is None:
        if hint := starts.install_hint(config.train.pretrained, kinds):
            on_message(hint)
        config = starts.begun(config, given, kinds)
    else:
        config = starts.continued(config, given, recorded, kinds, workdir)
    champions = search_run.run(
        config,
        workdir,
        engine=engine,
        fit=lambda config, images: starts.fitted(config, given, images),
        machine=cpu_name(),
        progress=progress,
        on_skipped=skip,
        on_message=on_message,
        measure=Measurer(workdir / "metrics", config.metric_table),
        quantize=int8_form,
    )
    if not champions:
        raise UserError(f"no candidate could be trained to the end: see {workdir}/ledger.sqlite")
    page, failure = None, None
    if export:
        exported = []
        try:
            exported = export_workdir.export_champions(workdir, again=False, progress=progress)
        except UserError as error:  # the champions that passed still get latencies and a report
            failure = error
        changed = bool(exported or failure)
        if changed or not (workdir / "benchmark.json").is_file():
            _benchmark(workdir, on_message, on_latencies)
        page = report.write_page(workdir)
    result = SearchResult(champions_of(workdir), page, workdir, tuple(skipped))
    if failure is not None:
        raise ExportError(str(failure), result) from failure
    return result


def _benchmark(
    workdir: Path, on_message: Callable[[str], None], on_latencies: Callable[[str], None]
) -> None:
    """Measures the champions' files, if there are any."""
    if not list((workdir / "export").glob("*/*.tflite")):
        return
    measurement = measure_champions(workdir)
    for fault in measurement.faults:
        on_message(fault)
    on_latencies(measurement.text)
