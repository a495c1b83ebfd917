"""Conversion to TFLite and quantization to int8, with the remedies for what int8 costs."""
