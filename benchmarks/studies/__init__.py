"""The programs behind the documents' figures. Not part of the wheel: run from a checkout."""
