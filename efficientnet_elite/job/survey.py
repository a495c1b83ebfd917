"""A look at a data set before anything is trained: `elite data`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from efficientnet_elite.config import SearchConfig
from efficientnet_elite.data import listing, survey
from efficientnet_elite.data.channels import looked_up
from efficientnet_elite.data.survey import Survey
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import automatic, settings, starts
from efficientnet_elite.job.request import search_request
from efficientnet_elite.report import survey_page
from efficientnet_elite.search.workdir import write_bytes

OPTIONS = (*settings.names_of("data"), "base_resolution", "input_size")


def survey_images(
    options: Mapping[str, Any],
    *,
    html: Path | None = None,
    sheet: int = 24,
    progress: bool = True,
) -> Survey:
    """Looks at all images of a data set, and writes a page about them.

    Args:
      options: values of `OPTIONS` by name; None for those that are not given. The data set is
        required.
      html: page to write; None for none.
      sheet: number of images in it as training sees them, for which TensorFlow is needed; 0 for
        none.
      progress: whether to show a progress bar on stderr.

    Raises:
      UserError: the data set is missing, or cannot be listed image by image.
    """
    if options.get("dataset") is None:
        raise UserError("name a folder of photographs, such as: elite data PHOTOS")
    # It groups what looks alike. Where it is missing, that is said before all images are read.
    import scipy.sparse  # noqa: F401

    request = search_request(options)
    images = listing.of_data_set(request.config.data)
    found = survey.survey(request.config.data.dataset, images, progress=progress)
    if html is not None:
        training, about = None, ""
        if sheet and any(facts is not None for facts in found.facts):
            config = replace(request.config, data=looked_up(request.config.data, images))
            config = automatic.sized(config, request.given, enough=1)
            # Crops and augmentation depend on what the networks would start from.
            config = starts.begun(config, request.given, starts.kinds_of_pool(config.pool))
            training, about = _training(config, found, sheet)
        write_bytes(html, survey_page.render(found, training, about).encode())
    return found


def _training(config: SearchConfig, found: Survey, count: int) -> tuple[Any, str]:
    """Images as training sees them and their labels; and a sentence on how they are made."""
    from efficientnet_elite.data.preview import training_images

    readable = [number for number, facts in enumerate(found.facts) if facts is not None]
    training = training_images(
        config.data,
        found.listing,
        readable,
        resolution=config.base_resolution,
        count=count,
        seed=config.data.seed,
    )
    return training, (
        f"Training images at {config.base_resolution} px as batches hold them, cropped, mirrored "
        "and augmented at random. If a class cannot be told from some of them, crops are too small "
        "(--min_area) or are mirrored that must not be (--noflip)."
    )
