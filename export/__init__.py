"""From a trained Keras model to verified TFLite files.

`convert` makes the files' bytes, `inspect` reads them, `runtime` runs them, `champion` does all
three, compares the results and writes everything to disk. Called, `efficientnet_elite.export(...)`
exports champions: see `efficientnet_elite.job.api.export`.
"""

from efficientnet_elite.callable_rooms import make_callable

make_callable(__name__)
