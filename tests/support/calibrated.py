"""Sidecars that say how sure a file's answers are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from efficientnet_elite.export import beside
from efficientnet_elite.export.confidence import Confidence


def calibrate(model: Path, confidence: Confidence) -> None:
    """Adds to the sidecar of a file, or writes one, as an export with a threshold does."""
    sidecar = beside.sidecar_of(model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    sidecar["files"] = {"this": {"file": model.name, "sha256": digest}}
    sidecar["confidence"] = {
        "temperature": confidence.temperature,
        "unknown": {"threshold": confidence.threshold},
    }
    model.with_name(f"{beside.network_name(model)}.json").write_text(json.dumps(sidecar))
