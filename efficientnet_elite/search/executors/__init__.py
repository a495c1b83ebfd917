"""Places to train: this process, a pool of processes, a Ray cluster (see `protocol`)."""
