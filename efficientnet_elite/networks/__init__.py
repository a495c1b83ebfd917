"""Networks as data, and their Keras models: operators, blocks, families, names."""
