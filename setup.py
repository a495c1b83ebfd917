"""The packages of the distribution; everything else about it stands in pyproject.toml.

`export/` and `benchmarks/` stand at the top of the repository and are installed under the package,
so that the wheel puts a single top-level name into site-packages.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["efficientnet_elite", "efficientnet_elite.*"]),
        "efficientnet_elite.benchmarks",  # without its studies, which are run from a checkout
        "efficientnet_elite.export",
        *(f"efficientnet_elite.export.{name}" for name in find_packages("export")),
    ],
    package_dir={
        "efficientnet_elite": "efficientnet_elite",
        "efficientnet_elite.export": "export",
        "efficientnet_elite.benchmarks": "benchmarks",
    },
)
