"""What a launcher of MPI processes (mpirun, mpiexec, srun) says in the environment of each."""

import os
import socket
import sys
import time
from typing import NamedTuple


class Launched(NamedTuple):
    """Attributes:
    launcher: whose variables were found, as messages name it.
    rank: of this process, as the launcher counts.
    ranks: how many processes it started together.
    """

    launcher: str
    rank: int
    ranks: int

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"


_VARIABLES = {
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "MPICH": ("PMI_RANK", "PMI_SIZE"),
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
}
"""The first that is there counts; Intel's MPI and others set MPICH's, and srun all of its own."""

LINGERING_SECONDS = 5.0
"""How long a rank that cannot start waits for the lowest to say so."""


def launched() -> Launched | None:
    """How this process was started; None when by no launcher that is known."""
    for launcher, names in _VARIABLES.items():
        try:
            rank, ranks = (int(os.environ[name]) for name in names)
        except (KeyError, ValueError):
            continue
        if launcher == "MPICH" and _is_srun(rank, ranks):
            launcher = "Slurm"
        return Launched(launcher, rank, ranks)
    return None


def _is_srun(rank: int, ranks: int) -> bool:
    """Whether MPICH's variables, with these values, are of ``srun --mpi=pmi2``."""
    own = [os.environ.get(name) for name in _VARIABLES["Slurm"]]
    return own == [str(rank), str(ranks)]


def is_lowest() -> bool:
    """Whether this process is rank 0, or started by no launcher."""
    found = launched()
    return found is None or found.rank == 0


def linger() -> Launched | None:
    """Where this rank ends before MPI has begun, let the lowest one end before.

    When any rank fails, a launcher may end the others, which might not have said why.

    Returns:
        How it was started, where the lowest rank did not end after all, as it would have done by
        itself; else None.
    """
    found = launched()
    if found is None or found.rank == 0 or "workers.mpi_team" in sys.modules:
        return None
    time.sleep(LINGERING_SECONDS)
    return found if found.launcher == "Open MPI" else None  # others let it outlive the lowest
