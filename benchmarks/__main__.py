"""Runs the latency program: ``python -m benchmarks MODEL.tflite ...`` (see latency.py)."""

import sys

from .latency import main

sys.exit(main(sys.argv))
