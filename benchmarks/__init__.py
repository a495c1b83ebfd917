"""Latency of TFLite models, on this machine or on a board.

The folder stands alone: copied to a device it needs ``ai-edge-litert``, ``numpy`` and ``absl-py``,
and nothing else of this project.
"""
