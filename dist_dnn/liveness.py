"""Whether the process that writes a run is still there, by what it has left of itself in the run.

Only what can be known is said: by the lock on a run's folder and, in the same machine and the same
container as that process, by its number and the time it started at.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_dnn.storage import Folder


def own_process() -> dict[str, Any]:
    """What tells this process from all others, for ``status.json``.

    Returns:
        ``host``, and ``pid``; where there is a /proc, ``boot``, the machine's start, ``namespace``,
        in which the number is the process's, and ``started``, in ticks since that start.
    """
    found: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
    with suppress(OSError):
        found["boot"] = _boot()
        found["namespace"] = _namespace()
        found["started"] = _started(os.getpid())
    return found


def is_dead(folder: Folder, status: Mapping[str, Any]) -> bool | None:
    """Whether the process that wrote of itself that it runs is gone.

    Args:
        status: what ``status.json`` says. It is to be read again where the answer is True: the
            process may have ended in an orderly way since.

    Returns:
        None where it cannot be known from here.
    """
    is_locked = folder.is_locked()
    if is_locked:
        return False
    process = status.get("process")
    if not isinstance(process, Mapping):
        return None
    is_near = _is_near(process)
    if is_locked is False and (is_near or _was_started_anew(process)):
        return True
    return _is_gone(process) if is_near else None


def _is_near(process: Mapping[str, Any]) -> bool:
    """Whether the process had its number from those who number this one."""
    with suppress(OSError):
        return (process.get("boot"), process.get("namespace")) == (_boot(), _namespace())
    return False


def _was_started_anew(process: Mapping[str, Any]) -> bool:
    """Whether this is the machine that the process ran on, which was started since."""
    with suppress(OSError):
        before = process.get("boot")
        is_here = process.get("host") == socket.gethostname()
        return is_here and isinstance(before, str) and before != _boot()
    return False


def _is_gone(process: Mapping[str, Any]) -> bool | None:
    number = process.get("pid")
    if type(number) is not int or number < 1:
        return None
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    with suppress(OSError):  # /proc may hide the processes of others
        return _started(number) != process.get("started")
    return None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _started(process: int) -> int | None:
    """When a process was started; None where it has ended, and nobody has asked how."""
    state, *others = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return None if state == "Z" else int(others[18])
