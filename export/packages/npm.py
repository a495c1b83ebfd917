"""Published JavaScript packages, in exactly the content that was reviewed.

``npm`` fetches them, so registry, proxy, certificates and cache are those that the user has
configured; what it has fetched once it takes from its cache. Nothing of a package is run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientnet_elite.errors import UserError

TIMEOUT_SECONDS = 300.0  # for some 12 MB


@dataclass(frozen=True)
class Package:
    """A pinned package.

    Attributes:
      name, version: as the registry has them.
      integrity: ``sha512-`` and the digest of its archive in base 64, as lock files have it.
      files: paths inside it that are wanted.
    """

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]


def missing() -> str | None:
    """Why nothing can be fetched here; None where it can."""
    return None if shutil.which("npm") else "not installed: npm, which comes with Node.js"


def fetch(packages: Iterable[Package], *, timeout: float = TIMEOUT_SECONDS) -> list[list[bytes]]:
    """The wanted files of packages, in the order of `Package.files`.

    Raises:
      UserError: npm is not installed, cannot fetch a package, or what came is another content.
    """
    if reason := missing():
        raise UserError(reason)
    fetched = []
    for package in packages:
        archive = _pack(package, timeout)
        _check(archive, package)
        fetched.append(_members(archive, package))
    return fetched


def _pack(package: Package, timeout: float) -> bytes:
    spec = f"{package.name}@{package.version}"
    with tempfile.TemporaryDirectory() as folder:
        options = ("--prefer-offline", "--ignore-scripts", f"--pack-destination={folder}")
        try:
            done = subprocess.run(
                ["npm", "pack", *options, spec],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"npm took longer than {timeout:g} s to fetch {spec}") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise UserError(f"npm cannot fetch {spec}: {_reason(done.stderr.splitlines())}")
        return archives[0].read_bytes()


def _reason(lines: Sequence[str]) -> str:
    """The sentence among npm's lines of error that is meant for people."""
    said = (re.sub(r"^npm (error|ERR!) ?", "", line) for line in lines if "npm warn" not in line)
    telling = (line for line in said if not re.match(r"(code|syscall|errno|notarget In)\b| ", line))
    return next(filter(None, telling), "it gives no reason")


def _check(archive: bytes, package: Package) -> None:
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise UserError(
            f"npm fetched another {package.name} {package.version} than the one this program knows "
            f"(sha512-{digest[:12]}... instead of {package.integrity[:19]}...): check which "
            "registry `npm config get registry` names"
        )


def _members(archive: bytes, package: Package) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        contents = []
        for path in package.files:
            file = tar.extractfile(f"package/{path}")
            assert file, f"{path} is no file of {package.name}"  # its content is known
            contents.append(file.read())
        return contents
