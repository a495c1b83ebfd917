"""Rewrites int8 files so that their first layers run patch by patch, see `device.patches`."""
