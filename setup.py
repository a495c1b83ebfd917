"""Distribution of efficientnet-elite.

`export/` and `benchmarks/` stand at the top of the repository and are installed under the package,
so that the wheel puts a single top-level name into site-packages.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "efficientnet_elite/__init__.py").read_text(), re.MULTILINE
)
assert VERSION, "efficientnet_elite/__init__.py carries no __version__"

setup(
    name="efficientnet-elite",
    version=VERSION.group(1),
    description="The best tiny image classifier for your data and device, found by Network "
    "Candidate Search, quantized to int8, exported to TFLite and verified.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
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
    package_data={
        "efficientnet_elite": ["py.typed"],
        "efficientnet_elite.export.packages": ["web_page/*"],
    },
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "ai-edge-litert>=2.1,<3",
        "flatbuffers>=24.3",
        "importlib-resources>=6.0",  # tensorflow-datasets imports it without asking for it
        "keras>=3.12,<4",
        "keras-cv>=0.9",  # for the full recipe's augmentation, which is yet to come
        "matplotlib>=3.8",
        "numpy>=2.0,<3",
        "pillow>=10.3",
        "scikit-learn>=1.4",
        "tensorflow>=2.20,<2.23",
        "tensorflow-datasets>=4.9.7",
        "tqdm>=4.66",
    ],
    extras_require={
        "dev": [
            "build>=1.2",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.12",
        ],
        "ethos-u": ["ethos-u-vela>=4"],
        "mediapipe": ["mediapipe>=1.2"],  # earlier ones want another NumPy and protobuf
        # Its wheels are pre-releases, for Linux on x86-64.
        "micro": ["tflite-micro>=0.dev0; sys_platform == 'linux' and platform_machine == 'x86_64'"],
        "peers": ["optuna>=3", "ray[tune]>=2.40"],
        "ray": ["ray>=2.40"],
    },
    entry_points={"console_scripts": ["elite = efficientnet_elite.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
