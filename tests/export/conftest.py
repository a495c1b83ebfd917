"""Fixtures of several test files on exports."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from efficientnet_elite.export.packages import web
from tests.support.web_files import FAKE_NPM, archive


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    """A folder with a fake npm and small packages that pass as those of `web`."""
    folder = tmp_path / "registry"
    folder.mkdir()
    program = folder / "npm"
    program.write_text(FAKE_NPM.format(python=sys.executable))
    program.chmod(0o755)
    known = []
    for package in web.PACKAGES:
        content = archive(package)
        (folder / package.name.rpartition("/")[2]).write_bytes(content)
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        known.append(replace(package, integrity=f"sha512-{digest}"))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(web, "PACKAGES", tuple(known))
    web.runtime_files.cache_clear()
    yield folder
    web.runtime_files.cache_clear()
