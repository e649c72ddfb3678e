"""``dist-dnn``, ``python -m dist_dnn``: the command line, which a signal ends in one line."""

import sys
from collections.abc import Sequence

from dist_dnn import stopping
from dist_dnn.notices import complain, silence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a mistake, 128 + signal.
    """
    if _serves(sys.argv[1:] if arguments is None else arguments):
        silence()  # a launcher may end this process at any time
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


def _serves(arguments: Sequence[str]) -> bool:
    """Whether this is one of several processes that mpirun started, and not the first."""
    if "mpi" not in arguments and "--backend=mpi" not in arguments:
        return False
    from workers.launched import is_lowest

    return not is_lowest()


if __name__ == "__main__":
    sys.exit(main())
