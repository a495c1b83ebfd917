"""Compiles int8 networks to plain C, without an interpreter (``--target=c``).

`graph` reads the operators of a .tflite file, `simplify` turns functions of single values into
tables, `steps` makes calls of kernels from operators, `memory` places the activations, `sources`
writes the C files, and `package` does all of it. The kernels themselves are C files in
``kernels/``, and `arithmetic` is their integer arithmetic in Python.
"""
