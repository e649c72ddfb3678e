"""The switch between backends: a table, and an import when one is chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

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
    """

    backend: str = "local"
    workers: int = 2
    allow_mixed_cpus: bool = False


def _local(settings: Settings, shards: int) -> WorkerGroup:
    if settings.workers == 0:
        from workers.in_process import InProcessGroup

        return InProcessGroup(shards)
    from workers.local_processes import LocalGroup

    return LocalGroup(shards, settings.workers, settings.allow_mixed_cpus)


BACKENDS: dict[str, Callable[[Settings, int], WorkerGroup]] = {"local": _local}


def run(settings: Settings, shards: int, drive: Callable[[WorkerGroup], Result]) -> Result:
    """Call ``drive(group)`` in the process that drives, with one BLAS thread meanwhile.

    Raises:
        InputError: an unknown backend, fewer than 0 workers, or more workers than shards.
    """
    if settings.backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {settings.backend!r}")
    if settings.workers < 0:
        raise InputError(f"workers must be a whole number not below 0, not {settings.workers}")
    with one_blas_thread(), quiet_overflow(), BACKENDS[settings.backend](settings, shards) as group:
        return drive(group)
