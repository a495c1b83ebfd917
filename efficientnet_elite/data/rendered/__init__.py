"""Photograph-like images that this project draws: scenes, objects, segmentation masks."""
