"""A line that somebody else says when this process is killed, and cannot say anything any more."""

import subprocess
from contextlib import suppress

SAY_UNLESS_TOLD = 'read -r word || printf "%s\\n" "$0" >&2'
"""A shell's: read a line from this process; without one, when the pipe closes, say the words."""


class LastWords:
    """Said on standard error by a process of its own, unless ``close`` comes before the end.

    Args:
        line: what is said.
    """

    def __init__(self, line: str) -> None:
        self._shell = subprocess.Popen(  # noqa: S603 - the line is an argument, not a command
            ["/bin/sh", "-c", SAY_UNLESS_TOLD, line],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a launcher kills the groups of its own processes
        )

    def close(self) -> None:
        """Nothing is to be said."""
        with suppress(OSError):
            self._shell.communicate(b"\n")
