"""One arithmetic: what decides the bits of a machine's results, and one thread for the BLAS."""

import hashlib
import os
import platform
import socket
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

import dist_dnn

ONE_THREAD = {
    f"{library}_NUM_THREADS": "1"
    for library in ("OPENBLAS", "OMP", "MKL", "BLIS", "VECLIB_MAXIMUM")
}
"""Environment variables that keep each BLAS to one thread, when set before numpy is imported."""


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which the BLAS of this process uses one thread: more give other bits."""
    limits: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, user_api="blas")
    return limits


def quiet_overflow() -> AbstractContextManager[None]:
    """A context without numpy's warnings: what overflows is found by the results."""
    return np.errstate(over="ignore", invalid="ignore")


def blas_libraries(of_numpy: bool = False) -> list[dict[str, Any]]:
    """The BLAS libraries loaded: name, version, core (the kernels chosen) and threads.

    Args:
        of_numpy: leave out those of other packages. Nothing is left where NumPy brings none.
    """
    numpy = Path(np.__file__).resolve().parent
    homes = {numpy.with_name("numpy.libs"), numpy / ".libs", numpy / ".dylibs"}
    return [
        {
            "library": info.get("internal_api"),
            "version": info.get("version"),
            "core": info.get("architecture"),
            "threads": info.get("num_threads"),
        }
        for info in threadpoolctl.threadpool_info()
        if info.get("user_api") == "blas"
        if not of_numpy or Path(info["filepath"]).resolve().parent in homes
    ]


def probe() -> str:
    """A digest of fixed products, elementwise functions and a subnormal number.

    Two machines with the same digest can be expected to give the same bits.
    """
    numbers = np.arange(1, 1 + 67 * 129, dtype=np.float32)
    A = (numbers % 251 / 251 - 0.5).reshape(67, 129)
    B = (numbers % 241 / 241 - 0.5).reshape(129, 67)
    subnormal = np.float32(1e-38) * np.float32(0.01) * np.ones(17, np.float32)
    results = (A @ B, A.T @ A, A @ B[:, :1], np.exp(A * 20), np.tanh(A * 4), np.log1p(A), subnormal)
    digest = hashlib.sha256()
    for result in results:
        digest.update(np.ascontiguousarray(result).astype("<f4").tobytes())
    return digest.hexdigest()


def arithmetic() -> dict[str, Any]:
    """Where this process runs, and what decides its bits: the probe, the BLAS, the versions."""
    return {
        "host": socket.gethostname(),
        "probe": probe(),
        "blas": blas_libraries(of_numpy=True),
        "numpy": np.__version__,
        "dist_dnn": dist_dnn.__version__,
    }


_DECISIVE = ("blas", "dist_dnn", "numpy", "probe")


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """What first makes two machines compute other bits: its name and both values; None if nothing.

    Args:
        one, other: what ``arithmetic()`` says on both.
    """
    for name in _DECISIVE:
        if one[name] != other[name]:
            return name, one[name], other[name]
    return None


def environment() -> dict[str, Any]:
    """This machine and its software, for the record."""
    import pyarrow  # loaded already, unlike importlib.metadata, which knows its version too

    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "pyarrow": pyarrow.__version__,
        **arithmetic(),
        "blas": blas_libraries(),
    }
