"""What ends a private Ray when its driver has: ``python -m workers.ray_keeper FOLDER DRIVER``.

Standard input is a pipe that the driver holds open, so that its end is noticed however it comes.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

END_SECONDS = 5.0
"""How long processes that were killed may take to be gone."""


def processes_of(folder: str, driver: int) -> Iterator[int]:
    """The processes that have files below the folder open: all that Ray started with it.

    Args:
        driver: the one that may live on.
    """
    proc = Path("/proc")
    for name in filter(str.isdecimal, os.listdir(proc) if proc.is_dir() else []):
        if int(name) != driver and _has_open(proc / name / "fd", folder):
            yield int(name)


def _has_open(descriptors: Path, folder: str) -> bool:
    with suppress(OSError):  # the process may be gone, or another user's
        for descriptor in descriptors.iterdir():
            with suppress(OSError):  # closed meanwhile
                if os.readlink(descriptor).startswith(f"{folder}/"):
                    return True
    return False


def main() -> None:
    """Wait for the driver's end, then end what is left of its Ray and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder, driver = sys.argv[1], int(sys.argv[2])
    sys.stdin.buffer.read()
    end = monotonic() + END_SECONDS
    while (left := list(processes_of(folder, driver))) and monotonic() < end:
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
