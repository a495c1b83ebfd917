"""Runs and verifies `.tflite` files in the runtimes that devices use."""
