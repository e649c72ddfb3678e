"""The arguments that several commands take."""

from typing import Any

from dist_dnn.front.parsing import number, seconds, whole_number


def add_run(parser: Any) -> None:
    """RUN."""
    parser.add_argument("run", metavar="RUN", help="a run directory, by path or URI")


def add_data(parser: Any) -> None:
    """DATA."""
    parser.add_argument("data", metavar="DATA", help="a file, a folder of files, or a URI")


def add_progress(parser: Any) -> None:
    """--progress."""
    parser.add_argument(
        "--progress",
        default="auto",
        choices=("auto", "bar", "lines", "none"),
        help="on standard error; auto is a bar on a terminal, else lines (default %(default)s)",
    )


def add_reach(parser: Any, workers: int) -> None:
    """How many workers there are, and how they are reached; ``workers`` unless that is given."""
    default = f"default {workers}" if workers else "default 0, of ray 2"
    group = parser.add_argument_group("workers (none of these changes a bit of the result)")
    group.add_argument(
        "--workers",
        type=whole_number,
        metavar="N",
        help="worker processes; 0 computes in the command's own process "
        f"({default}; not with mpi, whose ranks are the workers)",
    )
    parser.set_defaults(default_workers=workers)
    group.add_argument(
        "--backend",
        default="local",
        metavar="NAME",
        help="local: processes of this machine; ray: actors of a Ray cluster; mpi: the ranks that "
        "mpirun started (default %(default)s)",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="the Ray cluster to join (default: that of RAY_ADDRESS, or a private one)",
    )
    group.add_argument(
        "--cpus-per-worker",
        type=number,
        default=1.0,
        metavar="X",
        help="what Ray reserves for each worker; it computes on one (default 1)",
    )
    group.add_argument(
        "--start-timeout",
        type=seconds,
        default=120.0,
        metavar="SECONDS",
        help="in which Ray must have room for the workers and start them, or all ranks of mpi must "
        "start (default 120)",
    )
    parser.add_argument(
        "--allow-mixed-cpus",
        action="store_true",
        help="go on where workers' arithmetic differs: then the last bits depend on the workers",
    )
