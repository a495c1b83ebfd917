"""The one exception a user is meant to see."""


class UserError(Exception):
    """A bad flag, file, image, data set or checkpoint.

    The message is one line that says what is wrong and what to do; the command line prints it
    without a traceback and exits with status 1.
    """
