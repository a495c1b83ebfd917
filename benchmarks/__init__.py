"""Measures the latency of TFLite models, on this machine or on a board.

This folder works on its own: copied to a board, it needs ``ai-edge-litert``, ``numpy`` and
``absl-py``, but nothing else of this project. Only the programs in ``studies`` need the whole
project.
"""
