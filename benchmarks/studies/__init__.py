"""The programs behind the figures in the documents; README.md lists them.

They are no part of the wheel. Run them from a checkout: ``python -m benchmarks.studies.NAME``.
"""
