"""Pretrained weights: where they come from, and which of them a smaller network takes over.

Nothing here needs Keras or downloads anything unless a function says so.
"""
