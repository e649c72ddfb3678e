"""Files that are whole or not there, and the one process that may write them."""

import fcntl
import glob
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import enumerate as threads
from threading import get_native_id
from time import monotonic, sleep

from dist_dnn.errors import InputError

LOOK_SECONDS = 0.2
"""How long those who only look whether a folder is locked may keep a process from locking it."""


def beside(path: Path) -> Path:
    """Where this thread makes a file or folder before it gets its name; says by which process."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{get_native_id()}.{os.getpid()}")


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A context that gives a place to write a file at, which then takes its name and place.

    Raises:
        OSError: it cannot be written; what was written is removed.
    """
    made = beside(path)
    try:
        yield made
        _sync(made)
        made.replace(path)
        _sync(path.parent)
    except OSError as error:
        error.filename = str(path)  # which says more than the place beside it
        raise
    finally:
        with suppress(OSError):  # on a disk that is read-only by now, say
            made.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with atomically(path) as made:
        made.write_bytes(content)


def append_line(path: Path, line: str) -> None:
    """Append a line whole or not at all, as far as this process lives.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            left = memoryview(f"{line}\n".encode())
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)
            raise


def remove_unfinished(folder: Path) -> None:
    """Remove what was begun ``beside`` files of a folder in which nobody else writes now."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.\d+\.\d+", path.name):
            with suppress(OSError):
                path.unlink()


def remove_orphan(folder: Path) -> None:
    """Remove what processes and threads of this machine that are gone had begun as a folder."""
    name, host = glob.escape(folder.name), glob.escape(socket.gethostname())
    for path in folder.parent.glob(f".{name}.{host}.*.*"):
        thread, process = path.name.split(".")[-2:]
        if thread.isdecimal() and process.isdecimal() and _is_gone(int(thread), int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_gone(thread: int, process: int) -> bool:
    if process == os.getpid():  # or an earlier process had the same number
        return thread not in {each.native_id for each in threads()} - {get_native_id()}
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def rename_folder(made: Path, path: Path) -> None:
    """Give a folder its name, on the disk too.

    Raises:
        OSError: it cannot be renamed.
    """
    made.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """See that what a file or folder holds is on the disk.

    Raises:
        OSError: it is not.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system can do it with folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process can have the same folder; ends with the process, too.

    Raises:
        InputError: another one has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor):
            raise InputError(
                f"{folder} is being written by another process: wait until it ends, or stop it"
            )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a folder, unless another process has it; where there are no locks, nothing is done."""
    end = monotonic() + LOOK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > end:
                return False
            sleep(LOOK_SECONDS / 10)
        except OSError:  # not every file system has locks
            return True
        else:
            return True


def is_locked(folder: Path) -> bool | None:
    """Whether a process has the folder as ``locked`` says; None where that cannot be known."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        # Others who look do not disturb, and a process that wants the folder waits for a moment.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(descriptor)
