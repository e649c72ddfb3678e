"""The switch between backends: a table, and an import when one is chosen."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

from dist_dnn import stopping
from dist_dnn.arithmetic import one_blas_thread, quiet_overflow
from dist_dnn.errors import InputError
from workers.group import WorkerGroup

Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """How an experiment is run; only ``allow_mixed_cpus`` lets the result depend on it.

    Attributes:
        backend: a name in BACKENDS.
        workers: how many; 0 computes in the driver's own process.
        allow_mixed_cpus: go on where workers' arithmetic differs.
        max_failures: how often workers may be lost in one step.
        step_timeout: the seconds after which a silent worker is lost, unless the steps before it
            took a good part of that; None for the backend's own.
        address: of the Ray cluster to join; None: RAY_ADDRESS's, or a private one.
        cpus_per_worker: what Ray reserves for each.
        start_timeout: the seconds in which Ray must have room for the workers, and start them.
        name: of the run, in the names of Ray's actors.
    """

    backend: str = "local"
    workers: int = 2
    allow_mixed_cpus: bool = False
    max_failures: int = 3
    step_timeout: float | None = None
    address: str | None = None
    cpus_per_worker: float = 1.0
    start_timeout: float = 120.0
    name: str = "training"


def _local(settings: Settings, shards: int) -> WorkerGroup:
    if settings.workers == 0:
        from workers.in_process import InProcessGroup

        return InProcessGroup(shards)
    from workers.local_processes import LocalGroup

    return LocalGroup(
        shards,
        settings.workers,
        settings.allow_mixed_cpus,
        settings.max_failures,
        settings.step_timeout,
    )


def _ray(settings: Settings, shards: int) -> WorkerGroup:
    if settings.workers == 0:
        raise InputError("the ray backend needs workers: give --workers 1 or more")
    if find_spec("ray") is None:
        raise InputError("the ray backend needs Ray, which is not here: pip install '.[ray]'")
    from workers.ray_actors import RayGroup

    return RayGroup(
        shards,
        settings.workers,
        settings.allow_mixed_cpus,
        settings.max_failures,
        settings.step_timeout,
        address=settings.address,
        cpus_per_worker=settings.cpus_per_worker,
        start_timeout=settings.start_timeout,
        name=settings.name,
    )


BACKENDS: dict[str, Callable[[Settings, int], WorkerGroup]] = {"local": _local, "ray": _ray}


def run(settings: Settings, shards: int, drive: Callable[[WorkerGroup], Result]) -> Result:
    """Call ``drive(group)`` in the process that drives, with one BLAS thread meanwhile.

    Raises:
        InputError: a setting that cannot be used, or more workers than shards.
    """
    if settings.backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {settings.backend!r}")
    if settings.workers < 0:
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
    with (
        one_blas_thread(),
        quiet_overflow(),
        stopping.restored(),
        BACKENDS[settings.backend](settings, shards) as group,
    ):
        return drive(group)
