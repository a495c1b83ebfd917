"""Downloads files of pinned npm packages and checks their SHA-512 digests.

The program ``npm`` downloads them, so the user's registry, proxy, certificates and npm cache are
used. No code of a downloaded package is run.
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

TIMEOUT_SECONDS = 300.0  # enough for LiteRT.js (about 12 MB) on a slow connection


@dataclass(frozen=True)
class NpmPackage:
    """A pinned version of an npm package, and the files of it that are needed.

    Attributes:
      name, version: name and version in the npm registry.
      integrity: ``sha512-`` and the base64 digest of the package's archive, as in npm's lock files.
      files: paths of the needed files inside the package.
    """

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]


def fetch_packages(
    packages: Iterable[NpmPackage], *, timeout: float = TIMEOUT_SECONDS
) -> list[list[bytes]]:
    """Returns the contents of the needed files of each package.

    Args:
      packages: the packages.
      timeout: seconds that npm may take for each package.

    Returns:
      For each package the contents of its `NpmPackage.files`, in that order.

    Raises:
      UserError: npm is not installed, npm cannot download a package, or the digest of a package
        differs from the pinned one.
    """
    if not shutil.which("npm"):
        raise UserError("not installed: npm, which comes with Node.js")
    contents_of_packages = []
    for package in packages:
        archive = _download(package, timeout)
        _check_digest(archive, package)
        contents_of_packages.append(_extract_files(archive, package))
    return contents_of_packages


def _download(package: NpmPackage, timeout: float) -> bytes:
    """Returns the package's archive (.tgz) as ``npm pack`` downloads it."""
    spec = f"{package.name}@{package.version}"
    with tempfile.TemporaryDirectory() as folder:
        options = ("--prefer-offline", "--ignore-scripts", f"--pack-destination={folder}")
        try:
            process = subprocess.run(
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
        if process.returncode or len(archives) != 1:
            raise UserError(f"npm cannot fetch {spec}: {_reason(process.stderr.splitlines())}")
        return archives[0].read_bytes()


def _reason(lines: Sequence[str]) -> str:
    """Returns the line of npm's error output that says in words what went wrong."""
    errors = (re.sub(r"^npm (error|ERR!) ?", "", line) for line in lines if "npm warn" not in line)
    codes = re.compile(r"(code|syscall|errno|notarget In)\b| ")
    sentences = (error for error in errors if not codes.match(error))
    return next(filter(None, sentences), "it gives no reason")


def _check_digest(archive: bytes, package: NpmPackage) -> None:
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise UserError(
            f"npm fetched another {package.name} {package.version} than the expected one "
            f"(sha512-{digest[:12]}... instead of {package.integrity[:19]}...): check that "
            "`npm config get registry` names a registry that you trust"
        )


def _extract_files(archive: bytes, package: NpmPackage) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        contents = []
        for path in package.files:
            file = tar.extractfile(f"package/{path}")
            # The digest was checked, so a missing file is a mistake in `files`.
            assert file, f"{path} is no file of {package.name}"
            contents.append(file.read())
        return contents
