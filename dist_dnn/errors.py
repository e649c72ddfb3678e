"""The two kinds of bad news: a mistake of the user's, and a run that failed without one."""


class InputError(ValueError):
    """A mistake of the user's, said in one line: what is wrong, where, and what to do.

    The command line ends with exit status 2.
    """


class RunError(RuntimeError):
    """A run that failed through no mistake of the user's, said in one line.

    The command line ends with exit status 1.
    """
