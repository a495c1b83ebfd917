"""Training of one network: the trainer, tasks, scores, learning rate, checkpoints and results."""
