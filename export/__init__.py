"""From a trained Keras model to verified TFLite files.

`convert` makes the files' bytes, `inspect` reads them, `runtime` runs them, `champion` does all
three, compares the results and writes everything to disk.
"""
