"""Frozen settings. Command-line flags become these at once; nothing below reads a flag.

Each field is described once, in its metadata. Help texts, configuration files, the page
docs/configuration.md and the classes' own documentation are made from that description.
"""

from efficientnet_elite.config.data import AUTO_CHANNELS, CROSSFIT, FOLDS, FORMER_NAMES, DataConfig
from efficientnet_elite.config.engine import BACKENDS, ENGINES, RAY_PATIENCE, EngineConfig
from efficientnet_elite.config.input_size import (
    InputSize,
    SizeLike,
    check_same_size,
    checked_size,
)
from efficientnet_elite.config.limits import Limits
from efficientnet_elite.config.search import (
    CALIBRATION_IMAGES,
    GROUPING_METHODS,
    PARTS,
    SELECT,
    SearchConfig,
    all_fields,
    unknown_fields,
)
from efficientnet_elite.config.training import (
    AUTO,
    BEFORE,
    DISTILLATIONS,
    FLOAT32,
    LAST,
    NONE,
    OPTIMIZERS,
    SCHEDULES,
    STAGES,
    WITHOUT_EFFECT,
    TrainConfig,
)

__all__ = [
    "AUTO",
    "AUTO_CHANNELS",
    "BACKENDS",
    "BEFORE",
    "CALIBRATION_IMAGES",
    "CROSSFIT",
    "DISTILLATIONS",
    "ENGINES",
    "FLOAT32",
    "FOLDS",
    "FORMER_NAMES",
    "GROUPING_METHODS",
    "LAST",
    "NONE",
    "OPTIMIZERS",
    "PARTS",
    "RAY_PATIENCE",
    "SCHEDULES",
    "SELECT",
    "STAGES",
    "WITHOUT_EFFECT",
    "DataConfig",
    "EngineConfig",
    "InputSize",
    "Limits",
    "SearchConfig",
    "SizeLike",
    "TrainConfig",
    "all_fields",
    "check_same_size",
    "checked_size",
    "unknown_fields",
]
