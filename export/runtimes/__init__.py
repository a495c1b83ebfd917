"""The runtimes that devices use: each runs a `.tflite` file and returns its answers."""
