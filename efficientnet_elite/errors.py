"""`UserError`: the exception for mistakes that the user can correct."""

from __future__ import annotations

# What the extra `train` of pyproject.toml brings, by the names that are imported.
_OF_TRAINING = {
    *("h5py", "importlib_resources", "keras", "matplotlib", "scipy", "sklearn", "tensorflow"),
    *("tensorflow_datasets", "threadpoolctl", "yaml"),
}


class UserError(Exception):
    """Something that the user gave is wrong: a flag, file, image, data set or checkpoint.

    The message is one line that says what is wrong and what to do. The command line prints it
    without a traceback and exits with status 1.
    """


def as_user_error(error: ModuleNotFoundError) -> UserError | None:
    """What to install, where a package of the extra `train` is missing; None for other modules."""
    package = (error.name or "").partition(".")[0]
    if package not in _OF_TRAINING:
        return None
    return UserError(
        f"this needs the package {package}, which comes with what trains and exports: "
        'pip install "efficientnet-elite[train]"'
    )
