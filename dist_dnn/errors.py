"""Bad news: a mistake of the user's, and what makes a run fail without one."""


class InputError(ValueError):
    """A mistake of the user's, said in one line: what is wrong, where, and what to do.

    The command line ends with exit status 2.
    """


class RunError(RuntimeError):
    """A run that failed through no mistake of the user's, said in one line.

    The command line ends with exit status 1.
    """


class Diverged(RunError):
    """A loss or a parameter became infinite or no number."""
