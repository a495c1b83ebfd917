"""Packages around a `.tflite` file for Android, microcontrollers, the web and Ethos-U."""
