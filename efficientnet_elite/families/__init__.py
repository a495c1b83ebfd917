"""Backbones: a stage table and a function from scaling coefficients to an `ArchSpec` each."""
