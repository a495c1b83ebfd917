"""Latencies and instruction counts of models on several boards, in one table.

A file names the boards (`definitions`). Each is of a kind (`kinds`), whose module knows how to
measure there; the boards are measured together (`suite`), and what each gave is kept by itself
(`results`).
"""
