"""`UserError`: the exception for mistakes that the user can correct."""


class UserError(Exception):
    """Something that the user gave is wrong: a flag, file, image, data set or checkpoint.

    The message is one line that says what is wrong and what to do. The command line prints it
    without a traceback and exits with status 1.
    """
