"""Training of one network: the trainer, its schedule, checkpoints and results."""
