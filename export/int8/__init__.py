"""Converts networks to TFLite, quantizes them to int8, and wins back accuracy lost in int8."""
