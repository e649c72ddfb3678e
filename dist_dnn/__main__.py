"""``dist-dnn``, ``python -m dist_dnn``: the command line, which a signal ends in one line."""

import sys
from collections.abc import Sequence

from dist_dnn import stopping
from dist_dnn.notices import complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a mistake, 128 + signal.
    """
    stopping.install()  # before what takes long to import
    try:
        from dist_dnn.front.cli import run

        return run(arguments)
    except stopping.Stopped as stopped:
        stopping.ignore()
        complain(stopped)
        return 128 + stopped.number
    finally:
        stopping.ignore()


if __name__ == "__main__":
    sys.exit(main())
