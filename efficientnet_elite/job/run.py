"""The whole job: images, search, export, benchmark, report."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientnet_elite.benchmarks.host import cpu_name
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import automatic as choices
from efficientnet_elite.job import plan, starts
from efficientnet_elite.job.finishing import finish
from efficientnet_elite.job.results import Champion, champions_of
from efficientnet_elite.job.settings import setting_types
from efficientnet_elite.networks.families import user
from efficientnet_elite.training import class_weights

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData, SkippedImage
    from efficientnet_elite.search.budget import Pace


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
    automatic: bool = False,
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
      automatic: whether all settings that are not given are chosen by the images and this machine
        (`plan`).
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
    measure = Measurer(workdir / "metrics", config.metric_table)
    if recorded is None:
        if automatic:
            config = choices.sized(config, given, choices.ENOUGH_CANDIDATES)
        if hint := starts.install_hint(config.train.pretrained, kinds):
            on_message(hint)
        config = starts.begun(config, given, kinds)
        config = starts.on_this_machine(config, on_message, (engine or EngineConfig()).backend)
    else:
        config = starts.continued(config, given, recorded, kinds, workdir, automatic=automatic)

    def fit(
        config: SearchConfig, images: ImageData, pace_of: Callable[[SearchConfig], Pace]
    ) -> SearchConfig:
        if hint := class_weights.check(config.train.class_weights, images):
            on_message(hint)
        if not automatic:
            if images.channels == 1 and "data.channels" not in given:
                on_message(plan.GREY)
            return starts.fitted(config, given, images.sizes["train"])
        workers = None if engine is None else engine.workers
        config = choices.fitted_search(config, given, images, measure=measure, pace_of=pace_of)
        _show_plan(config, images, workers, on_message)
        return config

    champions = search_run.run(
        config,
        workdir,
        engine=engine,
        fit=fit,
        machine=cpu_name(),
        progress=progress,
        on_skipped=skip,
        on_message=on_message,
        measure=measure,
        quantize=int8_form,
    )
    if not champions:
        raise UserError(f"no candidate could be trained to the end: see {workdir}/ledger.sqlite")
    page, failure = None, None
    if export:
        exported = []
        try:
            exported = export_workdir.export_networks(
                workdir,
                again=False,
                trusted=user.modules_of(user.sources_of_pool(config.pool)),
                progress=progress,
            )
        except UserError as error:  # the champions that passed still get latencies and a report
            failure = error
        page = finish(
            workdir,
            changed=bool(exported or failure),
            on_message=on_message,
            on_latencies=on_latencies,
        )
    result = SearchResult(champions_of(workdir), page, workdir, tuple(skipped))
    if failure is not None:
        raise ExportError(str(failure), result) from failure
    return result


def _show_plan(
    config: SearchConfig, images: ImageData, workers: int | None, show: Callable[[str], None]
) -> None:
    for line in plan.lines(
        config,
        images=images.sizes["train"],
        classes=images.num_classes,
        networks=plan.networks_of_search(config),
        last=plan.time_of_search(config, workers),
    ):
        show(line)
