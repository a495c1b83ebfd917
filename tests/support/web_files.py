"""What the web package is made of in tests: a model with its labels, a fake npm."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from efficientnet_elite.export import formats
from efficientnet_elite.export.packages import npm
from tests.support import tiny_tflite

FRACTION = 0.875
LABELS = [*tiny_tflite.LABELS[:8], 'a "</script>" & b', "Äpfel 林檎"]


def archive(package: npm.NpmPackage) -> bytes:
    """What a registry would send for a package whose files hold their own names."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for path in package.files:
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(path)
            tar.addfile(member, io.BytesIO(path.encode()))
    return content.getvalue()


# Puts what lies beside it where npm would put what it fetched, and writes down what it was asked.
FAKE_NPM = """#!{python}
import pathlib, shutil, sys
here = pathlib.Path(__file__).parent
with (here / "asked").open("a") as file:
    print(*sys.argv[1:], file=file)
(to,) = (a.partition("=")[2] for a in sys.argv if a.startswith("--pack-destination="))
shutil.copy(here / sys.argv[-1].rpartition("@")[0].rpartition("/")[2], to + "/package.tgz")
"""


def model_file(folder: Path, form: formats.Format = formats.INT8) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"tiny.{form.name}.tflite"
    path.write_bytes(tiny_tflite.converted()[form])
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (folder / "tiny.json").write_text(json.dumps({"details": {"crop_fraction": FRACTION}}))
    return path
