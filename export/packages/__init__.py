"""Packages around a `.tflite` file: Android, microcontrollers, the web, Ethos-U."""
